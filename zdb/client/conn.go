package client

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"qsfs/zdb/resp"
)

// keepBuffer is the largest write buffer that a connection keeps for later.
const keepBuffer = 1 << 20

var errSilent = errors.New("no reply in time, connection given up")

// A conn is one connection. A writer goroutine sends what calls appended, a reader goroutine hands replies out in the
// order of the calls. Requests are copied, so a caller that gave up may reuse its bytes.
type conn struct {
	nc      net.Conn
	dec     *resp.Decoder
	address string
	timeout time.Duration
	maxBuf  int
	slots   chan struct{} // one per call in flight
	wake    chan struct{} // tells the writer that out has something, cap 1
	room    chan struct{} // tells one waiting caller that out has been taken, cap 1
	done    chan struct{} // closed when the connection broke
	heard   atomic.Int64  // when bytes last came, in ns since base
	base    time.Time

	mu    sync.Mutex
	out   []byte
	calls []*call // in flight, the oldest first
	err   error   // why it broke
}

// A call is a pipeline of requests and the replies that have come.
type call struct {
	want    int
	replies []resp.Value
	sent    time.Time
	done    chan struct{} // closed with the last reply, or with err
	err     error
}

func newConn(nc net.Conn, o Options) *conn {
	cn := &conn{
		nc: nc, address: o.Address, timeout: o.Timeout, maxBuf: o.MaxBuffered,
		slots: make(chan struct{}, o.MaxInFlight), wake: make(chan struct{}, 1), room: make(chan struct{}, 1),
		done: make(chan struct{}), base: time.Now(),
	}
	cn.dec = resp.NewDecoder(listener{cn}, o.Limits)
	return cn
}

// A listener notes when the peer was last heard.
type listener struct{ cn *conn }

func (l listener) Read(p []byte) (int, error) {
	n, err := l.cn.nc.Read(p)
	if n > 0 {
		l.cn.heard.Store(int64(time.Since(l.cn.base)))
	}
	return n, err
}

func (cn *conn) start(wg *sync.WaitGroup, drop func(*conn)) {
	wg.Go(cn.write)
	wg.Go(func() {
		cn.fail(cn.read())
		drop(cn)
	})
}

// load is how many calls are in flight; a broken connection is never idle.
func (cn *conn) load() int { return len(cn.slots) }

// fail breaks the connection, once: all calls in flight end with err.
func (cn *conn) fail(err error) {
	cn.mu.Lock()
	if cn.err != nil {
		cn.mu.Unlock()
		return
	}
	cn.err = err
	calls := cn.calls
	cn.calls, cn.out = nil, nil
	close(cn.done)
	cn.mu.Unlock()
	cn.nc.Close()
	for _, ca := range calls {
		ca.err = cn.connError("wait for reply", err)
		close(ca.done)
		<-cn.slots
	}
}

func (cn *conn) connError(op string, err error) error {
	if err == ErrClosed {
		return err
	}
	return &ConnError{Address: cn.address, Op: op, Err: err}
}

// do runs a pipeline. errNotSent means that nothing of it has left, so that it may go over another connection.
func (cn *conn) do(ctx context.Context, cmds []Command) ([]resp.Value, error) {
	ca, err := cn.enqueue(ctx, cmds)
	if err != nil {
		return nil, err
	}
	select {
	case <-ca.done:
		return ca.replies, ca.err
	case <-ctx.Done():
		cn.checkSilence()
		return nil, cn.connError("wait for reply", context.Cause(ctx))
	}
}

var errNotSent = errors.New("not sent")

func (cn *conn) enqueue(ctx context.Context, cmds []Command) (*call, error) {
	select {
	case cn.slots <- struct{}{}:
	case <-cn.done:
		return nil, errNotSent
	case <-ctx.Done():
		cn.checkSilence()
		return nil, cn.connError("wait for a turn", context.Cause(ctx))
	}
	size := 0
	for _, c := range cmds {
		size += resp.CommandSize(c...)
	}
	for {
		cn.mu.Lock()
		if cn.err != nil {
			cn.mu.Unlock()
			<-cn.slots
			return nil, errNotSent
		}
		if len(cn.out) == 0 || len(cn.out)+size <= cn.maxBuf {
			break
		}
		cn.mu.Unlock()
		select {
		case <-cn.room:
		case <-cn.done:
		case <-ctx.Done():
			<-cn.slots
			cn.checkSilence()
			return nil, cn.connError("wait for a turn", context.Cause(ctx))
		}
	}
	for _, c := range cmds {
		cn.out = resp.AppendCommand(cn.out, c...)
	}
	roomy := len(cn.out) < cn.maxBuf
	ca := &call{want: len(cmds), replies: make([]resp.Value, 0, len(cmds)), sent: time.Now(), done: make(chan struct{})}
	cn.calls = append(cn.calls, ca)
	cn.mu.Unlock()
	signal(cn.wake)
	if roomy {
		signal(cn.room) // room wakes one waiter; it passes the word on
	}
	return ca, nil
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// write is the writer goroutine. A Write that blocks ends when the connection is closed.
func (cn *conn) write() {
	var spare []byte
	for {
		select {
		case <-cn.wake:
		case <-cn.done:
			return
		}
		cn.mu.Lock()
		out := cn.out
		cn.out = spare[:0]
		cn.mu.Unlock()
		signal(cn.room)
		if len(out) > 0 {
			if _, err := cn.nc.Write(out); err != nil {
				cn.fail(err)
				return
			}
		}
		if spare = out; cap(spare) > keepBuffer {
			spare = nil
		}
	}
}

// read is the reader goroutine; it returns why the connection is of no more use.
func (cn *conn) read() error {
	for {
		v, err := cn.dec.Read()
		if err != nil {
			return err
		}
		cn.mu.Lock()
		if len(cn.calls) == 0 {
			cn.mu.Unlock()
			return &resp.ProtocolError{Text: "a reply that nothing asked for"}
		}
		ca := cn.calls[0]
		ca.replies = append(ca.replies, v)
		complete := len(ca.replies) == ca.want
		if complete {
			cn.calls[0] = nil
			cn.calls = cn.calls[1:]
		}
		cn.mu.Unlock()
		if complete {
			close(ca.done)
			<-cn.slots
		}
	}
}

// checkSilence gives the connection up when replies are due and nothing has come for half of the timeout. It runs when a
// caller loses patience; a caller that was merely cancelled early does not cost the others their connection.
func (cn *conn) checkSilence() {
	cn.mu.Lock()
	silent := false
	if len(cn.calls) > 0 {
		since := max(cn.calls[0].sent.Sub(cn.base), time.Duration(cn.heard.Load()))
		silent = time.Since(cn.base)-since >= cn.timeout/2
	}
	cn.mu.Unlock()
	if silent {
		cn.fail(errSilent)
	}
}

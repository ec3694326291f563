package server

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"qsfs/zdb"
	"qsfs/zdb/crashpoint"
	"qsfs/zdb/resp"
)

var errBehind = errors.New("client is too far behind")

const (
	// flushBytes is how much a chunk holds before it goes out although more commands are waiting.
	flushBytes = 128 << 10
	// writeStep is what one write deadline covers, so that a slow reader of a large value is not taken for a dead one.
	writeStep = 256 << 10
	// keepChunk is the largest buffer that is kept for later.
	keepChunk = 2 * flushBytes
)

// A promise is a reply that holds only if the log of the chunk's namespace is durable up to the chunk's sequence:
// that a value was stored, or a value that was read before it was durable.
type promise struct {
	from, to int
	failed   string // the error text that takes its place when it cannot be kept; "" lets it stand
}

// A chunk is a run of replies with the sequence that must be durable before they leave.
type chunk struct {
	buf      []byte
	promises []promise
	ns       *namespace
	seq      zdb.Seq // 0: nothing to wait for
	side     bool    // messages that are no replies; see inject
}

// An outbox holds the replies of one connection. The session fills a chunk and flushes it when its input is drained; a
// chunk without promises goes out at once, others wait in a short queue for the fsync that they share, while the session
// goes on with the next commands. So one fsync covers whatever was committed while the one before it ran, over all
// connections. Order is kept. The queue is bounded: a client that does not read stops being served, and is cut off when
// it takes nothing for the write timeout.
//
// Other sessions may inject messages that are no replies. They go between two replies, never into one that leaves piece
// by piece.
type outbox struct {
	nc      net.Conn
	ctx     context.Context // of the server; its end lets waiting for fsyncs end
	timeout time.Duration   // of a write
	limit   int             // bytes in queue
	sent    func(n int)     // told of bytes written

	cur chunk // the session's alone

	mu      sync.Mutex
	changed *sync.Cond // room in the queue, the writer idle, something to write
	queue   []chunk
	queued  int    // bytes of queue and of what the writer works on
	busy    bool   // the writer works on chunks it took, or the session itself is writing
	partial bool   // what was flushed last ended within a reply
	side    []byte // injected meanwhile
	running bool
	closed  bool
	err     error // the connection broke
	spare   chunk // emptied, for its memory

	deadline time.Time // of writes, as it was set last; whoever writes has it
}

func newOutbox(ctx context.Context, nc net.Conn, timeout time.Duration, limit int, sent func(int)) *outbox {
	o := &outbox{nc: nc, ctx: ctx, timeout: timeout, limit: limit, sent: sent}
	o.changed = sync.NewCond(&o.mu)
	return o
}

// promise says that what was appended since from needs ns durable up to seq.
func (o *outbox) promise(from int, ns *namespace, seq zdb.Seq, failed string) {
	if o.cur.seq == 0 {
		o.cur.ns = ns
	}
	o.cur.seq = max(o.cur.seq, seq)
	o.cur.promises = append(o.cur.promises, promise{from, len(o.cur.buf), failed})
}

// flush sends what has been collected, or hands it to the writer. partial says that it ends within a reply.
func (o *outbox) flush(partial bool) error {
	if len(o.cur.buf) == 0 && (partial || !o.partial) {
		return nil
	}
	o.mu.Lock()
	if o.err != nil {
		o.mu.Unlock()
		return o.err
	}
	if o.cur.seq == 0 && len(o.queue) == 0 && !o.busy {
		o.busy, o.partial = true, partial
		o.releaseSide()
		o.mu.Unlock()
		err := o.write(o.cur.buf)
		o.cur.buf = o.cur.buf[:0]
		if cap(o.cur.buf) > keepChunk {
			o.cur.buf = nil
		}
		o.mu.Lock()
		o.busy = false
		if err != nil && o.err == nil {
			o.err = err
		}
		if len(o.queue) > 0 {
			o.changed.Broadcast()
		}
		o.mu.Unlock()
		return err
	}
	defer o.mu.Unlock()
	o.start()
	for o.queued > 0 && o.queued+len(o.cur.buf) > o.limit && o.err == nil {
		o.changed.Wait()
	}
	if o.err != nil {
		return o.err
	}
	o.queue = append(o.queue, o.cur)
	o.queued += len(o.cur.buf)
	o.cur, o.spare = o.spare, chunk{}
	o.partial = partial
	o.releaseSide()
	o.changed.Broadcast()
	return nil
}

// start starts the writer. The caller holds mu.
func (o *outbox) start() {
	if !o.running {
		o.running = true
		go o.run()
	}
}

// inject sends a message that is no reply, from another session. It does not wait: when more than limit bytes have not
// been taken yet, the connection is cut off, and the error says so. A single larger message passes.
func (o *outbox) inject(message []byte, limit int) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.err != nil || o.closed {
		return nil
	}
	if waiting := o.queued + len(o.side); waiting > 0 && waiting+len(message) > limit {
		o.err = errBehind
		o.nc.Close()
		o.changed.Broadcast()
		return o.err
	}
	o.side = append(o.side, message...)
	o.releaseSide()
	return nil
}

// releaseSide queues injected messages when nothing is sent half. The caller holds mu.
func (o *outbox) releaseSide() {
	if o.partial || len(o.side) == 0 {
		return
	}
	o.queued += len(o.side)
	if n := len(o.queue); n > 0 && o.queue[n-1].side && len(o.queue[n-1].buf)+len(o.side) <= keepChunk {
		o.queue[n-1].buf = append(o.queue[n-1].buf, o.side...)
		o.side = o.side[:0]
	} else {
		o.queue = append(o.queue, chunk{buf: o.side, side: true})
		o.side = nil
	}
	o.start()
	o.changed.Broadcast()
}

// close sends what is left and waits for the writer. It does not close the connection. broken says that the last reply
// is not complete.
func (o *outbox) close(broken bool) error {
	err := o.flush(broken)
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed = true
	o.changed.Broadcast()
	for o.running {
		o.changed.Wait()
	}
	if err == nil {
		err = o.err
	}
	return err
}

// run is the writer goroutine.
func (o *outbox) run() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for {
		for o.err == nil && (o.busy || len(o.queue) == 0 && !o.closed) {
			o.changed.Wait()
		}
		if len(o.queue) == 0 || o.err != nil {
			o.running = false
			o.queue, o.queued, o.side = nil, 0, nil
			o.changed.Broadcast()
			return
		}
		chunks, bytes := o.take()
		o.busy = true
		o.mu.Unlock()
		err := o.send(chunks)
		o.mu.Lock()
		o.busy = false
		o.queued -= bytes
		if c := chunks[0]; cap(c.buf) <= keepChunk {
			o.spare = chunk{buf: c.buf[:0], promises: c.promises[:0]}
		}
		if err != nil && o.err == nil {
			o.err = err
			o.nc.Close() // wakes the session, which may be reading
		}
		o.changed.Broadcast()
	}
}

// take removes the chunks at the front of the queue that one fsync can serve.
func (o *outbox) take() (chunks []chunk, bytes int) {
	n := 0
	var ns *namespace
	for _, c := range o.queue {
		if c.seq != 0 && ns != nil && c.ns != ns {
			break
		}
		if c.seq != 0 {
			ns = c.ns
		}
		bytes += len(c.buf)
		n++
	}
	chunks = append(chunks, o.queue[:n]...)
	clear(o.queue[:n])
	o.queue = append(o.queue[:0], o.queue[n:]...)
	return chunks, bytes
}

// send makes the chunks' promises true and writes them.
func (o *outbox) send(chunks []chunk) error {
	var seq zdb.Seq
	var ns *namespace
	for _, c := range chunks {
		if c.seq > seq {
			seq, ns = c.seq, c.ns
		}
	}
	var failed error
	if ns != nil {
		failed = ns.syncTo(o.ctx, seq)
	}
	for _, c := range chunks {
		if failed != nil && c.seq != 0 {
			c.buf = c.broken()
		}
		if c.seq != 0 {
			crashpoint.Hit("zdb.server.reply.before")
		}
		if err := o.write(c.buf); err != nil {
			return err
		}
	}
	return nil
}

// broken is the chunk's text when its promises cannot be kept.
func (c *chunk) broken() []byte {
	out := make([]byte, 0, len(c.buf))
	at := 0
	for _, p := range c.promises {
		if p.failed == "" {
			continue
		}
		out = append(out, c.buf[at:p.from]...)
		out = resp.AppendError(out, p.failed)
		at = p.to
	}
	return append(out, c.buf[at:]...)
}

func (o *outbox) write(b []byte) error {
	for len(b) > 0 {
		step := b[:min(len(b), writeStep)]
		if err := o.extend(); err != nil {
			return err
		}
		n, err := o.nc.Write(step)
		o.sent(n)
		if err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

// extend gives the next write its time: the timeout and up to a quarter more, for to set a deadline costs as much as to
// execute a command.
func (o *outbox) extend() error {
	now := time.Now()
	if o.deadline.Sub(now) >= o.timeout {
		return nil
	}
	o.deadline = now.Add(o.timeout + o.timeout/4)
	return o.nc.SetWriteDeadline(o.deadline)
}

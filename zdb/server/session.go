package server

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"time"

	"qsfs/zdb"
	"qsfs/zdb/resp"
)

var (
	errHangUp   = errors.New("session ends")
	errDraining = errors.New("server is stopping")
)

// A session is one connection. Its goroutine reads, executes and answers commands one after the other; only the fsyncs
// of acknowledged writes are waited for elsewhere, in the outbox.
type session struct {
	srv *Server
	nc  net.Conn
	rd  *resp.Reader
	out *outbox

	ns        *namespace
	admin     bool
	writable  bool
	nonce     string   // of the last challenge; used once
	failures  int      // wrong passwords
	hangUp    bool     // close when the input is drained
	broken    bool     // close at once: the connection is gone, or a reply cannot be completed
	timed     bool     // a read deadline is set
	command   *command // being executed
	args      [][]byte
	announced bool      // the command was shown to those who watch
	number    int64     // of the connection
	waits     time.Time // for what others do, until then; the idle timeout begins after it

	reserved int64 // bytes of the namespace's quota, for the command that runs
	over     bool  // the namespace is at its limit; see mayGrow

	batch    *zdb.Batch // reused by writes
	sets     []write    // likewise; see gather
	turn     turn       // likewise; see session.commit
	joined   []*command // executed together with the command that runs
	together int        // how many SETs may be committed together; see heldFor
	scratch  []byte     // for comparing values
	commands int64      // executed and not yet published
	read     uint64     // bytes published
}

func newSession(srv *Server, nc net.Conn, number int64) *session {
	s := &session{srv: srv, nc: nc, number: number, ns: srv.lookup(defaultNamespace), batch: zdb.NewBatch(), together: togetherFirst}
	s.turn.done = make(chan struct{}, 1)
	s.admin = srv.rights.Load().open()
	s.writable = s.ns.set.Load().Password == nil
	s.rd = resp.NewReader(resp.Source{Reader: nc, BeforeRead: s.beforeRead, Buffers: srv.buffers}, resp.Limits{})
	s.out = newOutbox(srv.ctx, nc, srv.o.WriteTimeout, srv.o.MaxOutput, func(n int) { srv.stats.bytesOut.Add(int64(n)) })
	return s
}

// serve runs the session to its end.
func (s *session) serve() {
	defer s.rd.Close()
	whole := false
	defer func() {
		if !whole { // a panic, which ends the process
			s.srv.hooks.crashed()
		}
	}()
	s.converse()
	whole = true
}

func (s *session) converse() {
	if s.shakeHands() != nil {
		s.nc.Close()
		return
	}
	err := s.loop()
	var pe *resp.ProtocolError
	if errors.As(err, &pe) {
		s.out.cur.buf = resp.AppendError(s.out.cur.buf, pe.Text)
	}
	s.publish()
	s.srv.watch.leave(s)
	if s.broken {
		s.out.cur = chunk{} // half a reply
	}
	if s.out.close(s.broken) == nil && !s.broken {
		switch {
		case pe != nil, s.hangUp:
			linger(s.nc, lingerTime)
		case s.srv.draining.Load():
			linger(s.nc, lingerDraining)
		}
	}
	s.nc.Close()
}

func (s *session) loop() error {
	for {
		args, err := s.rd.ReadCommand()
		if err != nil {
			return err
		}
		s.execute(args)
		if s.broken {
			return errHangUp
		}
		if len(s.out.cur.buf) >= flushBytes {
			if err := s.flush(); err != nil {
				return err
			}
		}
	}
}

// beforeRead runs when all commands that have arrived are answered and the session is about to wait for more.
func (s *session) beforeRead(partial bool) error {
	if err := s.flush(); err != nil {
		return err
	}
	if s.hangUp {
		return errHangUp
	}
	idle := s.srv.o.IdleTimeout
	if partial || s.timed || idle > 0 { // an idle connection may stay, half a request may not
		var deadline time.Time
		switch {
		case partial:
			deadline = time.Now().Add(s.srv.o.RequestTimeout)
		case idle > 0:
			deadline = later(time.Now(), s.waits).Add(idle)
		}
		s.timed = partial || idle > 0
		if err := s.nc.SetReadDeadline(deadline); err != nil {
			return err
		}
	}
	if s.srv.draining.Load() { // after the deadline was set: draining sets one too
		return errDraining
	}
	return nil
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// flush publishes the counters first, so that a client which has its reply finds it counted.
func (s *session) flush() error {
	s.publish()
	return s.out.flush(false)
}

func (s *session) publish() {
	st := &s.srv.stats
	if s.commands > 0 {
		st.commands.Add(s.commands)
		s.commands = 0
	}
	if n := s.rd.BytesRead(); n != s.read {
		st.bytesIn.Add(int64(n - s.read))
		s.read = n
	}
}

// linger lets the peer read its last replies before the connection is reset for what it still sends.
func linger(nc net.Conn, most time.Duration) {
	if tc, ok := nc.(*tls.Conn); ok {
		if tc.CloseWrite() != nil { // says that this is the end, and leaves the socket open
			return
		}
		nc = tc.NetConn()
	}
	if half, ok := nc.(interface{ CloseWrite() error }); ok {
		if half.CloseWrite() != nil {
			return
		}
	}
	if nc.SetReadDeadline(time.Now().Add(most)) == nil {
		io.Copy(io.Discard, io.LimitReader(nc, lingerBytes))
	}
}

const (
	lingerTime     = 3 * time.Second
	lingerDraining = 200 * time.Millisecond
	lingerBytes    = 64 << 20 // they are thrown away; what counts is the time
)

// The reply helpers append to the current chunk.

func (s *session) fail(text string) { s.out.cur.buf = resp.AppendError(s.out.cur.buf, text) }

func (s *session) simple(text string) { s.out.cur.buf = resp.AppendSimple(s.out.cur.buf, text) }

func (s *session) ok() { s.simple("OK") }

func (s *session) integer(n int64) { s.out.cur.buf = resp.AppendInt(s.out.cur.buf, n) }

func (s *session) array(n int) { s.out.cur.buf = resp.AppendArray(s.out.cur.buf, n) }

func (s *session) bulk(p []byte) { s.out.cur.buf = resp.AppendBulk(s.out.cur.buf, p) }

func (s *session) text(p string) { s.out.cur.buf = resp.AppendBulkString(s.out.cur.buf, p) }

func (s *session) null() { s.out.cur.buf = resp.AppendNil(s.out.cur.buf) }

// promise says that the reply which began at from holds only once ns is durable up to seq; see outbox. With sync none
// nothing is promised.
func (s *session) promise(from int, seq zdb.Seq, failed string) {
	if s.srv.o.NoSync || uint64(seq) <= s.ns.durable.Load() {
		return
	}
	s.out.promise(from, s.ns, seq, failed)
}

// mark is where the next reply will begin.
func (s *session) mark() int { return len(s.out.cur.buf) }

package server

import (
	"errors"
	"slices"

	"qsfs/zdb"
	"qsfs/zdb/resp"
)

// streamStep is the largest value that is held as a whole. Larger ones are read and sent in pieces of that size, so that
// a client which takes its time costs one piece and not its value.
const streamStep = 256 << 10

// cmdGet is GET key → the value, or nil.
func cmdGet(s *session, args [][]byte) {
	if s.mayRead(args[1]) {
		s.value(args[1])
	}
}

// cmdMGet is MGET key… → an array of values, nils and errors.
func cmdMGet(s *session, args [][]byte) {
	for _, key := range args[1:] {
		if len(key) > maxKey {
			s.fail(errKeyLong)
			return
		}
	}
	if !s.readable() {
		return
	}
	s.array(len(args) - 1)
	for _, key := range args[1:] {
		if len(key) == 0 {
			s.null()
			continue
		}
		s.value(key)
		// Large answers leave piece by piece.
		if s.broken || s.mark() >= flushBytes && !s.flushed() {
			return
		}
	}
}

// value answers the value of key, nil, or an error.
func (s *session) value(key []byte) {
	eng := s.engine()
	if eng == nil {
		return
	}
	rest := s.lookUp(eng, key)
	// Not held while a large value goes out: the client may be slow, and somebody may want to remove the namespace.
	s.ns.release()
	s.stream(rest)
}

// A largeValue is left to stream, with its place held against compaction.
type largeValue struct {
	zdb.Entry
	hold *zdb.Hold
}

// lookUp answers the value of key, all but one that is too large to be held.
func (s *session) lookUp(eng *zdb.Namespace, key []byte) *largeValue {
	var hold *zdb.Hold
	for {
		e, err := s.ns.locate(s.srv.ctx, eng, key)
		large := err == nil && e.Location.Length > streamStep
		if large && hold != nil {
			return &largeValue{e, hold}
		}
		if err == nil && !large {
			err = s.entry(eng, e)
		}
		if hold == nil && (large || errors.Is(err, zdb.ErrSegment)) {
			// A place is safe from compaction when it was asked for under a hold.
			hold = eng.Hold()
			continue
		}
		if hold != nil {
			hold.Release()
		}
		switch {
		case errors.Is(err, zdb.ErrNotFound):
			from := s.mark()
			s.null()
			s.promise(from, s.ns.missSeq(eng), "")
		case err != nil:
			s.trouble("read", err)
			s.fail(errInternal)
		}
		return nil
	}
}

// entry answers the value of a located entry of up to streamStep bytes. On failure nothing is answered.
func (s *session) entry(eng *zdb.Namespace, e zdb.Entry) error {
	from, n := s.mark(), int(e.Location.Length)
	if e.Value != nil || n == 0 {
		s.bulk(e.Value)
	} else {
		buf := resp.AppendBulkHeader(s.out.cur.buf, n)
		at := len(buf)
		buf = slices.Grow(buf, n+2)[:at+n]
		if _, err := eng.ReadLocation(s.srv.ctx, e.Location, 0, buf[at:]); err != nil {
			s.out.cur.buf = buf[:from]
			return err
		}
		s.out.cur.buf = append(buf, '\r', '\n')
	}
	s.promise(from, e.Seq, errInternal)
	s.served(n)
	return nil
}

func (s *session) served(n int) {
	s.ns.gets.Add(1)
	s.ns.getBytes.Add(int64(n))
}

// stream answers a large value piece by piece. Its header cannot be taken back, so all that it promises is made true
// before, and a read that fails on the way ends the connection.
func (s *session) stream(e *largeValue) {
	if e == nil {
		return
	}
	defer e.hold.Release()
	if !s.srv.o.NoSync {
		if err := s.ns.syncTo(s.srv.ctx, e.Seq); err != nil {
			s.fail(errInternal)
			return
		}
	}
	n := int64(e.Location.Length)
	s.out.cur.buf = resp.AppendBulkHeader(s.out.cur.buf, int(n))
	for off := int64(0); off < n; off += streamStep {
		if !s.flushed() {
			return
		}
		if err := s.piece(e.Location, off, int(min(streamStep, n-off))); err != nil {
			s.trouble("read", err)
			s.broken = true
			return
		}
	}
	s.out.cur.buf = append(s.out.cur.buf, '\r', '\n')
	s.served(int(n))
}

// piece appends n bytes of the value at l.
func (s *session) piece(l zdb.Location, off int64, n int) error {
	eng, err := s.ns.acquire(s.srv.ctx)
	if err != nil {
		return err
	}
	defer s.ns.release()
	at := len(s.out.cur.buf)
	buf := slices.Grow(s.out.cur.buf, n)[:at+n]
	if _, err := eng.ReadLocation(s.srv.ctx, l, off, buf[at:]); err != nil {
		return err
	}
	s.out.cur.buf = buf
	return nil
}

// flushed flushes in the middle of a reply, and notes when the connection is gone.
func (s *session) flushed() bool {
	s.publish()
	if s.out.flush(true) != nil {
		s.broken = true
	}
	return !s.broken
}

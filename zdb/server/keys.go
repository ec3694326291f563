package server

import (
	"qsfs/zdb"
)

// mayRead answers the error when the key of a command is none, or the namespace does not let it be read.
func (s *session) mayRead(key []byte) bool {
	if len(key) > maxKey {
		s.fail(errKeyLong)
		return false
	}
	return s.readable()
}

// reading is what commands begin with that look up one key: engine, after mayRead.
func (s *session) reading(key []byte) *zdb.Namespace {
	if !s.mayRead(key) {
		return nil
	}
	return s.engine()
}

// about looks up the key of a command that answers from the index alone. found is called under the namespace; missing
// answers what there is to say of a key that does not exist. Both are promised.
func (s *session) about(key []byte, found func(eng *zdb.Namespace, e oldEntry), missing func()) {
	eng := s.reading(key)
	if eng == nil {
		return
	}
	defer s.ns.release()
	e, err := s.locate(eng, key)
	if err != nil {
		s.fail(errInternal)
		return
	}
	from := s.mark()
	if e.exists {
		found(eng, e)
		s.promise(from, e.Seq, errInternal)
	} else {
		missing()
		s.promise(from, s.ns.missSeq(eng), "")
	}
}

// cmdExists is EXISTS key → 1 or 0.
func cmdExists(s *session, args [][]byte) {
	s.about(args[1], func(*zdb.Namespace, oldEntry) { s.integer(1) }, func() { s.integer(0) })
}

// cmdLength is LENGTH key → the length of the value, or nil.
func cmdLength(s *session, args [][]byte) {
	s.about(args[1], func(_ *zdb.Namespace, e oldEntry) { s.integer(int64(e.Location.Length)) }, s.null)
}

// cmdKeyTime is KEYTIME key → the Unix time of the value, or nil.
func cmdKeyTime(s *session, args [][]byte) {
	s.about(args[1], func(_ *zdb.Namespace, e oldEntry) { s.integer(e.Time.Unix()) }, s.null)
}

// cmdKeyCur is KEYCUR key → the cursor with which SCAN and RSCAN go on behind the key.
func cmdKeyCur(s *session, args [][]byte) {
	key := args[1]
	s.about(key, func(eng *zdb.Namespace, e oldEntry) {
		s.bulk(makeCursor(eng, s.ns.inside(key), e.Location))
	}, func() { s.fail(errKeyNotFound) })
}

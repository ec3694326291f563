package server

import (
	"encoding/binary"
	"errors"
	"strconv"

	"qsfs/zdb"
)

// cmdHistory is HISTORY key [cursor] → the cursor of the version before, or nil, and time and value of this version: the
// present one without a cursor. A cursor is the sequence of a version, 8 bytes, opaque to clients.
func cmdHistory(s *session, args [][]byte) {
	if len(args) != 2 && len(args) != 3 || len(args[1]) > maxKey {
		s.fail(errArguments)
		return
	}
	var seq zdb.Seq
	if len(args) == 3 {
		if len(args[2]) != 8 {
			s.fail(errArguments)
			return
		}
		if seq = zdb.Seq(binary.LittleEndian.Uint64(args[2])); seq == 0 {
			s.fail(errNoHistory)
			return
		}
	}
	if !s.readable() {
		return
	}
	eng := s.engine()
	if eng == nil {
		return
	}
	rest := s.version(eng, args[1], seq)
	s.ns.release()
	s.stream(rest)
}

// version answers one version of a key, all but a value that is too large to be held.
func (s *session) version(eng *zdb.Namespace, key []byte, seq zdb.Seq) (rest *zdb.Entry) {
	e, err := s.ns.locate(s.srv.ctx, eng, key)
	from := s.mark()
	switch {
	case errors.Is(err, zdb.ErrNotFound):
		s.fail(errKeyNotFound)
		s.promise(from, s.ns.missSeq(eng), "")
		return nil
	case err != nil:
		s.trouble("read", err)
		s.fail(errInternal)
		return nil
	case seq != 0 && e.Seq != seq:
		s.fail(errHistory)
		return nil
	}
	s.array(3)
	s.null()
	s.text(strconv.FormatInt(e.Time.Unix(), 10))
	return s.entry(eng, e)
}

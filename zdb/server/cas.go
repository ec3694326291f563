package server

import (
	"time"

	"qsfs/zdb"
)

// cmdCAS is CAS key new [expected]: sets key to new if its value is expected, or, without expected, if it does not exist.
// → 1 when it was set or had that value already, else the present value, nil when there is none.
func cmdCAS(s *session, args [][]byte) {
	if !s.mayStore(args[1], args[2]) {
		return
	}
	if len(args[1]) == 0 { // new ids are for SET
		s.fail(errKeyNeeded)
		return
	}
	eng := s.engine()
	if eng == nil {
		return
	}
	rest := s.compareAndSet(eng, args)
	s.ns.release()
	s.stream(rest)
}

// compareAndSet answers, but for a present value that is too large to be held; see session.stream.
func (s *session) compareAndSet(eng *zdb.Namespace, args [][]byte) (rest *largeValue) {
	key, value := args[1], args[2]
	defer s.ns.lock(key).Unlock()
	defer s.announce()
	old, err := s.locate(eng, key)
	if err != nil {
		s.fail(errInternal)
		return nil
	}
	// An unreadable value is neither the expected one nor another.
	done, err := s.holds(eng, key, &old, value)
	expected := !old.exists && len(args) < 4
	if err == nil && len(args) == 4 {
		expected, err = s.holds(eng, key, &old, args[3])
	}
	from := s.mark()
	switch {
	case err != nil:
		s.trouble("read", err)
		s.fail(errInternal)
	case done:
		s.integer(1)
		s.promise(from, old.Seq, errWrite)
	case !expected && old.exists:
		return s.lookUp(eng, key)
	case !expected:
		s.null()
		s.promise(from, s.ns.missSeq(eng), errInternal)
	case old.exists && s.ns.set.Load().Worm:
		s.fail(errWorm)
	default:
		w := []write{{key: key, value: value, old: old}}
		seq := s.store(eng, w, time.Time{})
		if w[0].failed != "" {
			s.fail(w[0].failed)
			break
		}
		s.integer(1)
		s.promise(from, seq, errWrite)
	}
	return nil
}

package server

import (
	"encoding/binary"
	"slices"
	"strconv"

	"qsfs/zdb"
)

// cmdHistory is HISTORY key [cursor] → the cursor of the version before, or nil, and time and value of this version: the
// present one without a cursor. A cursor is the sequence of a version, 8 bytes, opaque to clients. Admins also see what a
// deleted key had.
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

// versions lists what the session may see of the past of a key, the newest version first: of a namespace with keep_last
// that many. Only admins see behind a delete, and what is kept for them alone; others find a new history after it.
func (s *session) versions(eng *zdb.Namespace, key []byte, seq zdb.Seq) ([]zdb.Version, error) {
	if s.ns.sequential() && len(key) != idSize || len(key) == 0 {
		return nil, nil
	}
	key = s.ns.inside(key)
	if s.admin {
		var before zdb.Seq
		if seq != 0 {
			before = seq + 1
		}
		list, err := eng.History(s.srv.ctx, key, before, historyStep)
		return slices.DeleteFunc(list, func(v zdb.Version) bool { return v.Deleted }), err
	}
	var list []zdb.Version // this one and the one before it
	left := max(eng.Retention().KeepLast, 1)
	err := eng.WalkHistory(s.srv.ctx, key, func(v zdb.Version) bool {
		if v.Deleted {
			return false
		}
		if len(list) > 0 || seq == 0 || v.Seq == seq {
			list = append(list, v)
		}
		left--
		return len(list) < 2 && left > 0
	})
	return list, err
}

// historyStep is enough to find a version and the one before it, each under a delete: no two deletes follow each other.
const historyStep = 4

// version answers one version of a key, all but a value that is too large to be held.
func (s *session) version(eng *zdb.Namespace, key []byte, seq zdb.Seq) *largeValue {
	hold := eng.Hold()
	list, err := s.versions(eng, key, seq)
	from := s.mark()
	switch {
	case err != nil:
	case seq == 0 && len(list) == 0:
		s.fail(errKeyNotFound)
		s.promise(from, s.ns.missSeq(eng), "")
	case len(list) == 0 || seq != 0 && list[0].Seq != seq:
		s.fail(errHistory)
	default:
		v := list[0]
		s.array(3)
		if len(list) > 1 {
			s.bulk(binary.LittleEndian.AppendUint64(nil, uint64(list[1].Seq)))
		} else {
			s.null()
		}
		s.text(strconv.FormatInt(v.Time.Unix(), 10))
		s.promise(from, v.Seq, "")
		e := zdb.Entry{Seq: v.Seq, Location: v.Location}
		if v.Location.Length > streamStep {
			return &largeValue{e, hold}
		}
		if err = s.entry(eng, e); err != nil {
			s.out.cur.buf = s.out.cur.buf[:from]
		}
	}
	hold.Release()
	if err != nil {
		s.trouble("read the history", err)
		s.fail(errInternal)
	}
	return nil
}

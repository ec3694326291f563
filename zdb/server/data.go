package server

import (
	"bytes"
	"errors"
	"strconv"
	"time"

	"qsfs/zdb"
)

// cmdSet is SET key value [timestamp] → the key, or nil when the key had that very value. SETX is the same.
func cmdSet(s *session, args [][]byte) {
	at, ok := s.timestamp(args, 3)
	if !ok || !s.mayStore(args[1], args[2]) {
		return
	}
	eng := s.engine()
	if eng == nil {
		return
	}
	defer s.ns.release()
	sets, held := s.gather(args, at)
	defer s.ns.unlockAll(&held)
	measured := len(sets) > 1 || s.together == 1
	var began time.Time
	if measured {
		began = time.Now()
	}
	for i := range sets {
		s.consider(eng, &sets[i])
	}
	seq := s.store(eng, sets, at)
	for i := range sets {
		w := &sets[i]
		from := s.mark()
		switch {
		case w.failed != "":
			s.fail(w.failed)
		case w.same:
			s.null()
			s.promise(from, w.old.Seq, errWrite) // the repeated write is an acknowledgement like the first
		default:
			s.bulk(w.key)
			s.promise(from, seq, errWrite)
		}
	}
	s.announceAll(sets)
	if measured {
		s.heldFor(len(sets), time.Since(began))
	}
	clear(sets) // they hold on to the memory of values
}

// consider finds out what becomes of a SET: w.failed, w.same, or neither when it is to be stored.
func (s *session) consider(eng *zdb.Namespace, w *write) {
	var err error
	if w.old, err = s.locate(eng, w.key); err != nil {
		w.failed = errWrite
		return
	}
	if w.old.exists && s.ns.set.Load().Worm {
		w.failed = errWorm
		return
	}
	same, err := s.holds(eng, w.key, &w.old, w.value)
	w.same = err == nil && same // what cannot be read is replaced
}

// timestamp reads the optional argument i, Unix seconds that only an admin may give. Unlike the original, which takes
// anything for a number, it refuses what is none. On failure it has answered.
func (s *session) timestamp(args [][]byte, i int) (at time.Time, ok bool) {
	if len(args) <= i {
		return at, true
	}
	if !s.admin {
		s.unauthorized()
		return at, false
	}
	sec, err := strconv.ParseUint(string(args[i]), 10, 32)
	if err != nil {
		s.fail(errTimestamp)
		return at, false
	}
	return time.Unix(int64(sec), 1), true // a nanosecond more: the engine takes 0 for now
}

// mayStore checks what SET and CAS have in common, up to the locks.
func (s *session) mayStore(key, value []byte) bool {
	if len(key) > maxKey {
		s.fail(errSetKeyLong)
		return false
	}
	if !s.mayWrite() {
		return false
	}
	if len(key) == 0 && !s.ns.sequential() {
		s.fail(errKeyNeeded)
		return false
	}
	s.mayGrow(key, value)
	return !s.broken
}

// An oldEntry is what a write finds in the place of its key.
type oldEntry struct {
	zdb.Entry // without the value
	exists    bool
}

func (o *oldEntry) payload() int64 {
	if !o.exists {
		return 0
	}
	return int64(o.Location.Length)
}

// locate looks the key up without its value. A failure is logged and counted.
func (s *session) locate(eng *zdb.Namespace, key []byte) (oldEntry, error) {
	e, err := s.ns.locate(s.srv.ctx, eng, key)
	switch {
	case err == nil:
		return oldEntry{e, true}, nil
	case errors.Is(err, zdb.ErrNotFound):
		return oldEntry{}, nil
	}
	s.trouble("look up a key", err)
	return oldEntry{}, err
}

// holds reports whether the entry of a key exists and has the given value. It reads only what has the right length.
func (s *session) holds(eng *zdb.Namespace, key []byte, e *oldEntry, value []byte) (bool, error) {
	if !e.exists || int(e.Location.Length) != len(value) {
		return false, nil
	}
	if e.Value != nil || len(value) == 0 {
		return bytes.Equal(e.Value, value), nil
	}
	if cap(s.scratch) < len(value) {
		s.scratch = make([]byte, len(value))
	}
	present := s.scratch[:len(value)]
	if cap(s.scratch) > keepChunk {
		s.scratch = nil
	}
	_, err := eng.ReadLocation(s.srv.ctx, e.Location, 0, present)
	if errors.Is(err, zdb.ErrSegment) { // compaction moved it
		hold := eng.Hold()
		defer hold.Release()
		var now zdb.Entry
		if now, err = s.ns.locate(s.srv.ctx, eng, key); err == nil {
			e.Entry = now
			_, err = eng.ReadLocation(s.srv.ctx, now.Location, 0, present)
		}
	}
	if err != nil {
		return false, err
	}
	return bytes.Equal(present, value), nil
}

// cmdDel is DEL key [timestamp] → OK.
func cmdDel(s *session, args [][]byte) {
	key := args[1]
	at, ok := s.timestamp(args, 2)
	if !ok {
		return
	}
	if len(key) > maxKey {
		s.fail(errKeyLong)
		return
	}
	if !s.mayWrite() {
		return
	}
	eng := s.engine()
	if eng == nil {
		return
	}
	n := s.ns
	defer n.release()
	defer n.lock(key).Unlock()
	defer s.announce()
	old, err := s.locate(eng, key)
	if err != nil {
		s.fail(errDelete)
		return
	}
	from := s.mark()
	if !old.exists {
		s.fail(errKeyNotFound)
		s.promise(from, n.missSeq(eng), errDelete) // a repeated delete is an acknowledgement too
		return
	}
	if n.set.Load().Worm {
		s.fail(errWormDelete)
		return
	}
	s.willDelete(key)
	s.batch.Reset()
	s.batch.Delete(n.inside(key))
	s.batch.SetTime(at)
	s.batch.UseReserve() // so that a full disk can be relieved
	n.deleting.Add(1)
	done, err := eng.Commit(s.srv.ctx, s.batch)
	if err == nil {
		raise(&n.lastDelete, uint64(done.Last))
	}
	n.deleting.Add(-1)
	if err != nil {
		s.trouble("delete", err)
		s.fail(errDelete)
		return
	}
	n.adjust(-1, key, -old.payload())
	n.dirty.mark(old.Location.Segment)
	s.ok()
	s.promise(from, done.Last, errDelete)
}

// cmdCheck is CHECK key → 1 when the entry verifies, 0 when it is damaged, −1 when it cannot be read, nil when it does
// not exist.
func cmdCheck(s *session, args [][]byte) {
	eng := s.reading(args[1])
	if eng == nil {
		return
	}
	defer s.ns.release()
	from := s.mark()
	e, err := s.ns.get(s.srv.ctx, eng, args[1])
	var damaged *zdb.CorruptionError
	switch {
	case err == nil:
		s.integer(1)
		s.promise(from, e.Seq, errInternal)
	case errors.Is(err, zdb.ErrNotFound):
		s.null()
		s.promise(from, s.ns.missSeq(eng), "")
	case errors.As(err, &damaged):
		s.trouble("check", err)
		s.integer(0)
	default:
		s.trouble("check", err)
		s.integer(-1)
	}
}

// cmdIncarnation is INCARNATION → 32 hex characters, drawn when the namespace was made. It can stand in a pipeline with
// reads and writes.
func cmdIncarnation(s *session, _ [][]byte) {
	eng := s.engine()
	if eng == nil {
		return
	}
	defer s.ns.release()
	s.text(incarnation(eng))
}

// cmdDBSize is DBSIZE → the number of keys.
func cmdDBSize(s *session, _ [][]byte) {
	if s.engine() == nil {
		return
	}
	defer s.ns.release()
	if err := s.ns.count.ready(s.srv.ctx); err != nil {
		s.trouble("count a namespace", err)
		s.fail(errInternal)
		return
	}
	s.integer(s.ns.entries.Load())
}

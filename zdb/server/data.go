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
	key, value := args[1], args[2]
	at, ok := s.timestamp(args, 3)
	if !ok || !s.mayStore(key, value) {
		return
	}
	eng := s.engine()
	if eng == nil {
		return
	}
	defer s.ns.release()
	defer s.ns.lock(key).Unlock()
	defer s.announce()
	old, ok := s.locate(eng, key, errWrite)
	if !ok {
		return
	}
	if old.exists && s.ns.set.Load().Worm {
		s.fail(errWorm)
		return
	}
	if same, err := s.holds(eng, key, &old, value); err == nil && same { // what cannot be read is replaced
		from := s.mark()
		s.null()
		s.promise(from, old.Seq, errWrite) // the repeated write is an acknowledgement like the first
		return
	}
	if stored, seq, ok := s.store(eng, key, value, old, at); ok {
		from := s.mark()
		s.bulk(stored)
		s.promise(from, seq, errWrite)
	}
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

// locate looks the key up without its value. On failure it has answered.
func (s *session) locate(eng *zdb.Namespace, key []byte, failed string) (oldEntry, bool) {
	e, err := s.ns.locate(s.srv.ctx, eng, key)
	switch {
	case err == nil:
		return oldEntry{e, true}, true
	case errors.Is(err, zdb.ErrNotFound):
		return oldEntry{}, true
	}
	s.trouble("look up a key", err)
	s.fail(failed)
	return oldEntry{}, false
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

// store commits a value under the key's lock, within the quota, and returns the key that it has. On failure it has
// answered.
func (s *session) store(eng *zdb.Namespace, key, value []byte, old oldEntry, at time.Time) (stored []byte, seq zdb.Seq, ok bool) {
	n := s.ns
	sequential := n.sequential()
	if sequential && !old.exists && len(key) > 0 {
		s.fail(errUpdateOnly)
		return nil, 0, false
	}
	delta := int64(len(value)) - old.payload()
	if limit := n.set.Load().MaxSize; limit > 0 {
		if err := n.count.ready(s.srv.ctx); err != nil {
			s.trouble("count a namespace", err)
			s.fail(errWrite)
			return nil, 0, false
		}
		if !s.fits(delta) || !n.reserve(delta, limit) {
			s.fail(errQuota)
			return nil, 0, false
		}
	} else {
		n.payload.Add(delta)
	}
	s.batch.Reset()
	s.batch.SetTime(at)
	var done zdb.Commit
	var err error
	if sequential {
		key, done, err = n.commitID(s.srv.ctx, eng, s.batch, key, value)
	} else {
		s.batch.Set(key, value)
		done, err = eng.Commit(s.srv.ctx, s.batch)
	}
	if err != nil {
		n.payload.Add(-delta)
		s.trouble("write", err)
		s.fail(errWrite)
		return nil, 0, false
	}
	if old.exists {
		n.dirty.mark(old.Location.Segment)
	} else {
		n.adjust(1, key, 0)
	}
	n.sets.Add(1)
	n.setBytes.Add(int64(len(value)))
	return key, done.Last, true
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
	old, ok := s.locate(eng, key, errDelete)
	if !ok {
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

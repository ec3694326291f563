package server

import (
	"qsfs/zdb"
)

// cmdKScan is KSCAN prefix → "0", and an array of all keys that begin with prefix. The array says its length first, so
// the keys are counted before they are sent, both from one snapshot; they leave piece by piece.
func cmdKScan(s *session, args [][]byte) {
	if s.ns.sequential() {
		s.fail(errModeRefuses)
		return
	}
	eng := s.engine()
	if eng == nil {
		return
	}
	it, err := eng.NewIter(s.srv.ctx, zdb.IterOptions{Lower: args[1], Upper: behindPrefix(args[1]), KeysOnly: true})
	seq := eng.Head().Seq
	// Not held while the keys go out: the client may be slow, and somebody may want to remove the namespace.
	s.ns.release()
	if err != nil {
		s.trouble("scan", err)
		s.fail(errInternal)
		return
	}
	defer it.Close()
	count := 0
	for ok := it.First(); ok; ok = it.Next() {
		count++
	}
	if err = it.Err(); err == nil && !s.srv.o.NoSync {
		// What is sent piece by piece cannot be taken back.
		err = s.ns.syncTo(s.srv.ctx, seq)
	}
	switch {
	case err != nil:
		s.trouble("scan", err)
		s.fail(errInternal)
		return
	case count == 0:
		s.fail(errNoMatch)
		return
	}
	s.array(2)
	s.text("0")
	s.array(count)
	for ok := it.First(); ok; ok = it.Next() {
		count--
		s.bulk(it.Key())
		if s.mark() >= flushBytes && !s.flushed() {
			return
		}
	}
	if err := it.Err(); err != nil || count != 0 {
		s.trouble("scan", err)
		s.broken = true
	}
}

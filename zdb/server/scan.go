package server

import (
	"bytes"
	"strconv"

	"qsfs/zdb"
)

const (
	// scanPage is how many entries SCAN answers at most, and PSCAN when it is not told.
	scanPage = 1000
	// scanPageMax is the most keys of one PSCAN.
	scanPageMax = 10000
)

// cmdScan is SCAN [cursor] → next cursor, and an array of (key, length, time) in the order of the keys; an error at the
// end. SCANX is the same.
func cmdScan(s *session, args [][]byte) { s.scan(args, false) }

// cmdRScan is RSCAN [cursor]: SCAN in the other direction.
func cmdRScan(s *session, args [][]byte) { s.scan(args, true) }

func (s *session) scan(args [][]byte, reverse bool) {
	if !s.readable() {
		return
	}
	eng := s.engine()
	if eng == nil {
		return
	}
	defer s.ns.release()
	o := zdb.IterOptions{KeysOnly: true, Reverse: reverse}
	if s.ns.sequential() {
		o.Lower = firstID
	}
	if len(args) > 1 {
		key, ok := parseCursor(eng, args[1])
		switch {
		case !ok:
			s.fail(errCursor)
			return
		case reverse:
			o.Upper = key
		default:
			o.Lower = after(key)
		}
	}
	page, ok := s.page(eng, o, scanPage)
	if !ok {
		return
	}
	from := s.mark()
	if n := len(page.entries); n == 0 {
		s.fail(errNoMore)
	} else {
		last := page.entries[n-1]
		s.array(2)
		s.bulk(makeCursor(eng, last.Key, last.Location))
		s.array(n)
		for _, e := range page.entries {
			s.array(3)
			s.bulk(s.ns.outside(e.Key))
			s.integer(int64(e.Location.Length))
			s.integer(e.Time.Unix())
		}
	}
	s.promise(from, page.seq, "")
}

// cmdPScan is PSCAN prefix [cursor] [count] → next cursor or nil, and an array of keys that begin with prefix, in their
// order. An empty cursor begins. The cursor is the last key answered.
func cmdPScan(s *session, args [][]byte) {
	if !s.readable() {
		return
	}
	if s.ns.sequential() {
		s.fail(errModeRefuses)
		return
	}
	prefix := args[1]
	lower, count := prefix, scanPage
	if len(args) > 2 && len(args[2]) > 0 {
		cursor := args[2]
		if len(cursor) > maxKey || !bytes.HasPrefix(cursor, prefix) {
			s.fail(errCursor)
			return
		}
		lower = after(cursor)
	}
	if len(args) > 3 {
		n, err := strconv.Atoi(string(args[3]))
		if err != nil || n < 1 {
			s.fail(errCount)
			return
		}
		count = min(n, scanPageMax)
	}
	eng := s.engine()
	if eng == nil {
		return
	}
	defer s.ns.release()
	// One more than asked for tells whether there is a next page.
	page, ok := s.page(eng, zdb.IterOptions{Lower: lower, Upper: behindPrefix(prefix), KeysOnly: true}, count+1)
	if !ok {
		return
	}
	from := s.mark()
	s.array(2)
	if len(page.entries) > count {
		page.entries = page.entries[:count]
		s.bulk(page.entries[count-1].Key)
	} else {
		s.null()
	}
	s.array(len(page.entries))
	for _, e := range page.entries {
		s.bulk(e.Key)
	}
	s.promise(from, page.seq, "")
}

// A page is a consistent piece of a scan.
type page struct {
	entries []zdb.Entry
	seq     zdb.Seq // all that the page shows is durable once the log is up to here
}

// page collects up to count entries. On failure it has answered.
func (s *session) page(eng *zdb.Namespace, o zdb.IterOptions, count int) (p page, ok bool) {
	it, err := eng.NewIter(s.srv.ctx, o)
	if err == nil {
		for ok := it.First(); ok && len(p.entries) < count && err == nil; ok = it.Next() {
			var e zdb.Entry
			e, err = it.Entry()
			e.Key = bytes.Clone(it.Key())
			p.entries = append(p.entries, e)
		}
		if err == nil {
			err = it.Err()
		}
		if cerr := it.Close(); err == nil {
			err = cerr
		}
	}
	if err != nil {
		s.trouble("scan", err)
		s.fail(errInternal)
		return p, false
	}
	p.seq = eng.Head().Seq
	return p, true
}

// after returns the smallest key above key.
func after(key []byte) []byte { return append(bytes.Clone(key), 0) }

// behindPrefix returns the smallest key above all that begin with prefix, nil when there is none.
func behindPrefix(prefix []byte) []byte {
	for i := len(prefix); i > 0; i-- {
		if prefix[i-1] != 0xff {
			upper := bytes.Clone(prefix[:i])
			upper[i-1]++
			return upper
		}
	}
	return nil
}

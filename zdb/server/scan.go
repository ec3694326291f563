package server

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"strconv"

	"qsfs/zdb"
)

const (
	// scanPage is how many entries SCAN answers at most, and PSCAN when it is not told.
	scanPage = 1000
	// scanPageMax is the most keys of one PSCAN.
	scanPageMax = 10000
)

// A cursor of SCAN is opaque to clients: a checksum and the last key seen. The checksum tells it from a key, which
// some take for a cursor.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

const cursorSum = 4

func makeCursor(key []byte) []byte {
	c := binary.LittleEndian.AppendUint32(make([]byte, 0, cursorSum+len(key)), crc32.Checksum(key, castagnoli))
	return append(c, key...)
}

func parseCursor(c []byte) (key []byte, ok bool) {
	if len(c) <= cursorSum || len(c) > cursorSum+maxKey {
		return nil, false
	}
	key = c[cursorSum:]
	return key, binary.LittleEndian.Uint32(c) == crc32.Checksum(key, castagnoli)
}

// cmdScan is SCAN [cursor] → next cursor, and an array of (key, length, time) in the order of the keys; an error at the
// end.
func cmdScan(s *session, args [][]byte) {
	if !s.readable() {
		return
	}
	var lower []byte
	if len(args) > 1 {
		key, ok := parseCursor(args[1])
		if !ok {
			s.fail(errCursor)
			return
		}
		lower = after(key)
	}
	page, ok := s.page(zdb.IterOptions{Lower: lower, KeysOnly: true}, scanPage)
	if !ok {
		return
	}
	if len(page.entries) == 0 {
		from := s.mark()
		s.fail(errNoMore)
		s.promise(from, page.seq, "")
		return
	}
	from := s.mark()
	s.array(2)
	s.bulk(makeCursor(page.entries[len(page.entries)-1].Key))
	s.array(len(page.entries))
	for _, e := range page.entries {
		s.array(3)
		s.bulk(e.Key)
		s.integer(int64(e.Location.Length))
		s.integer(e.Time.Unix())
	}
	s.promise(from, page.seq, "")
}

// cmdPScan is PSCAN prefix [cursor] [count] → next cursor or nil, and an array of keys that begin with prefix, in their
// order. An empty cursor begins. The cursor is the last key answered.
func cmdPScan(s *session, args [][]byte) {
	if !s.readable() {
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
	// One more than asked for tells whether there is a next page.
	page, ok := s.page(zdb.IterOptions{Lower: lower, Upper: behindPrefix(prefix), KeysOnly: true}, count+1)
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
func (s *session) page(o zdb.IterOptions, count int) (p page, ok bool) {
	eng := s.engine()
	if eng == nil {
		return p, false
	}
	defer s.ns.release()
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

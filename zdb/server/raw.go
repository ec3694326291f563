package server

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"strconv"
	"strings"
	"sync"

	"qsfs/zdb"
)

// DATA RAW counts offsets as the original's data files have them, so that its tools can walk a segment: the first record
// of each segment is at 28, and a record takes 18 bytes with its key and its value. Where the bytes lie in d<N> has
// nothing to do with that; see FORMAT.md of the engine.
const (
	rawFirst  = 28
	rawRecord = 18
)

// A rawReader remembers where the last walk over a segment was, so that the next record is at hand.
type rawReader struct {
	mu      sync.Mutex
	segment zdb.SegmentID
	batch   int64 // a batch of the segment begins here, 0 is the first
	at      int64 // the offset of its first record, as clients count
	before  int64 // that of the record before it
}

// A rawEntry is a record with the offset of the one before it.
type rawEntry struct {
	zdb.LogEntry
	before int64
}

var (
	errRawFound = errors.New("found")
	errRawPlace = errors.New("no record begins at this offset")
	errRawEnd   = errors.New("end of the segment")
)

// find returns the record at an offset of a segment.
func (r *rawReader) find(s *session, eng *zdb.Namespace, id zdb.SegmentID, off int64) (found rawEntry, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.segment != id || r.at == 0 || off < r.at {
		r.segment, r.batch, r.at, r.before = id, 0, rawFirst, 0
	}
	at, before := r.at, r.before
	err = eng.Entries(s.srv.ctx, id, r.batch, func(e zdb.LogEntry) error {
		if s.ns.sequential() && bytes.Equal(e.Key, nextIDKey) {
			return nil
		}
		switch {
		case at == off:
			found = rawEntry{e, before}
			found.Key, found.Value = bytes.Clone(e.Key), bytes.Clone(e.Value)
			return errRawFound
		case at > off:
			return errRawPlace
		}
		before = at
		at += rawRecord + int64(len(e.Key)) + int64(e.Location.Length)
		return nil
	}, func(end int64) error {
		r.batch, r.at, r.before = end, at, before
		return nil
	})
	switch {
	case err == errRawFound:
		return found, nil
	case err == nil && at <= off:
		return found, errRawEnd
	case err == nil:
		return found, errRawPlace
	}
	return found, err
}

// rawSum is the checksum of the original: CRC32C without the inversions at begin and end.
func rawSum(p []byte) uint32 { return ^crc32.Update(^uint32(0), castagnoli, p) }

// cmdData is DATA RAW segment offset → one record of the log, replaced or deleted ones and deletes included: key, offset
// of the record before, checksum, flags (1: a delete), time, value.
func cmdData(s *session, args [][]byte) {
	if !strings.EqualFold(string(args[1]), "RAW") {
		s.fail(errDataSub)
		return
	}
	if len(args) < 4 {
		s.fail(errMissing)
		return
	}
	id, err1 := strconv.ParseUint(string(args[2]), 10, 32)
	off, err2 := strconv.ParseInt(string(args[3]), 10, 64)
	if err1 != nil || err2 != nil {
		s.fail(errRequest)
		return
	}
	eng := s.engine()
	if eng == nil {
		return
	}
	defer s.ns.release()
	e, err := s.ns.raw.find(s, eng, zdb.SegmentID(id), off)
	if err == nil && !e.Deleted && len(e.Value) != int(e.Location.Length) {
		e.Value = make([]byte, e.Location.Length) // of a segment that is not here
		_, err = eng.ReadLocation(s.srv.ctx, e.Location, 0, e.Value)
	}
	switch {
	case err == errRawEnd:
		s.fail(errEOF)
		return
	case err == errRawPlace, errors.Is(err, zdb.ErrSegment):
		s.fail(errRequest)
		return
	case err != nil:
		s.trouble("read a record", err)
		s.fail(errUnexpected)
		return
	}
	from := s.mark()
	s.array(6)
	s.bulk(s.ns.outside(e.Key))
	s.integer(e.before)
	s.text(fmt.Sprintf("0x%08x", rawSum(e.Value)))
	if e.Deleted {
		s.integer(1)
	} else {
		s.integer(0)
	}
	s.integer(e.Time.Unix())
	s.bulk(e.Value)
	s.promise(from, e.Seq, errUnexpected)
}

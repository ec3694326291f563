package wal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"path/filepath"
	"slices"

	"qsfs/zdb/internal/vfs"
	"qsfs/zdb/segfile"
)

// The file that says which numbers no segment has: those that compaction removed, and those that were never
// given out. A number below the highest that is neither in it nor a segment is a segment that was lost.
const (
	gapsName  = "removed"
	gapsMagic = "QZDBGAPS"
	gapsFixed = 16 // magic, version, number of ranges
	gapsRange = 8
	maxGaps   = 1 << 24
)

// gaps is a set of segment numbers.
type gaps struct {
	ranges []gap // ascending, none touches the next
}

// gap is the numbers from first on, before end.
type gap struct{ first, end segfile.ID }

// has says whether a number is in the set.
func (g *gaps) has(id segfile.ID) bool {
	i, ok := slices.BinarySearchFunc(g.ranges, id, func(r gap, id segfile.ID) int {
		switch {
		case r.end <= id:
			return -1
		case r.first > id:
			return 1
		}
		return 0
	})
	return ok && i < len(g.ranges)
}

// end is the number behind the highest one in the set.
func (g *gaps) end() segfile.ID {
	if n := len(g.ranges); n > 0 {
		return g.ranges[n-1].end
	}
	return 0
}

// with gives the set with first up to, but without, end; g stays as it is.
func (g *gaps) with(first, end segfile.ID) gaps {
	var out []gap
	for _, r := range g.ranges {
		if r.end < first || r.first > end {
			out = append(out, r)
			continue
		}
		first, end = min(first, r.first), max(end, r.end)
	}
	at, _ := slices.BinarySearchFunc(out, first, func(r gap, id segfile.ID) int {
		if r.first < id {
			return -1
		}
		return 1
	})
	return gaps{slices.Insert(out, at, gap{first, end})}
}

func (g *gaps) append(b []byte) []byte {
	start := len(b)
	le := binary.LittleEndian
	b = append(b, gapsMagic...)
	b = append(b, segfile.Version, 0, 0, 0)
	b = le.AppendUint32(b, uint32(len(g.ranges)))
	for _, r := range g.ranges {
		b = le.AppendUint32(b, uint32(r.first))
		b = le.AppendUint32(b, uint32(r.end))
	}
	return le.AppendUint32(b, crc32.Checksum(b[start:], segfile.Castagnoli))
}

func parseGaps(p []byte) (g gaps, err error) {
	le := binary.LittleEndian
	if len(p) < gapsFixed+4 || string(p[:8]) != gapsMagic || p[8] != segfile.Version ||
		le.Uint32(p[len(p)-4:]) != crc32.Checksum(p[:len(p)-4], segfile.Castagnoli) {
		return g, fmt.Errorf("%w: list of removed segments", segfile.ErrFormat)
	}
	if n := int64(le.Uint32(p[12:])); n > maxGaps || int64(len(p)) != gapsFixed+n*gapsRange+4 {
		return g, fmt.Errorf("%w: length of the list of removed segments", segfile.ErrFormat)
	}
	for at := gapsFixed; at < len(p)-4; at += gapsRange {
		r := gap{segfile.ID(le.Uint32(p[at:])), segfile.ID(le.Uint32(p[at+4:]))}
		if r.first >= r.end || len(g.ranges) > 0 && r.first <= g.end() {
			return g, fmt.Errorf("%w: ranges of removed segments", segfile.ErrFormat)
		}
		g.ranges = append(g.ranges, r)
	}
	return g, nil
}

func (l *Log) gapsPath() string { return filepath.Join(l.o.DataDir, gapsName) }

// writeGaps records g, and only then is it in force.
func (l *Log) writeGaps(g gaps) error {
	if err := vfs.WriteFile(l.o.FS, l.gapsPath(), g.append(nil)); err != nil {
		return fmt.Errorf("record removed segments: %w", err)
	}
	l.mu.Lock()
	l.gaps = g
	l.mu.Unlock()
	return nil
}

// loadGaps reads the record, finishes removals that a crash interrupted, and finds out which segments are lost.
// Without a record, or with one that does not check, what is not there counts as removed: nothing says otherwise.
func (l *Log) loadGaps(have *files) error {
	var g gaps
	p, err := vfs.ReadFile(l.o.FS, l.gapsPath(), gapsFixed+maxGaps*gapsRange+4)
	known := err == nil
	if known {
		if g, err = parseGaps(p); err != nil {
			known = false
			l.o.Log.Warn("list of removed segments is damaged and is made again", "namespace", l.o.Namespace, "error", err)
		}
	} else if !errors.Is(err, vfs.ErrNotExist) {
		return err
	}
	l.gaps = g
	if err := l.finishRemovals(have); err != nil {
		return err
	}
	next := segfile.ID(0)
	for _, id := range have.ids() {
		if !known && id > next {
			g = g.with(next, id)
		}
		for ; known && next < id; next++ {
			if !g.has(next) {
				l.lost = append(l.lost, next)
			}
		}
		next = id + 1
	}
	if len(l.lost) > 0 {
		l.o.Log.Error("segments are missing", "namespace", l.o.Namespace, "first", l.lost[0], "segments", len(l.lost))
	}
	l.gaps, l.found.adopted = g, !known
	return nil
}

// adopt records what the log was found with where there was no record. It comes last: a log that cannot be
// opened is left as it is.
func (l *Log) adopt() error {
	if !l.found.adopted {
		return nil
	}
	l.mu.Lock()
	g := l.gaps
	l.mu.Unlock()
	return l.writeGaps(g)
}

// ids lists the segments of which there is any file.
func (f *files) ids() []segfile.ID {
	list := slices.Clone(f.index)
	for id := range f.data {
		list = append(list, id)
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// finishRemovals removes files of segments that are recorded as removed.
func (l *Log) finishRemovals(have *files) error {
	removed := 0
	for _, id := range have.ids() {
		if !l.gaps.has(id) {
			continue
		}
		if err := l.unlink(id); err != nil {
			return err
		}
		delete(have.data, id)
		have.index = slices.DeleteFunc(have.index, func(o segfile.ID) bool { return o == id })
		removed++
	}
	if removed == 0 {
		return nil
	}
	return l.syncDirs()
}

// unlink removes both files of a segment. d<N> goes first: an i<N> alone is a segment that is evicted.
func (l *Log) unlink(id segfile.ID) error {
	err := ignoreMissing(l.o.FS.Remove(l.dataPath(id)))
	if err == nil {
		err = ignoreMissing(l.o.FS.Remove(l.indexPath(id)))
	}
	if err != nil {
		return fmt.Errorf("remove segment %d: %w", id, err)
	}
	return nil
}

func (l *Log) syncDirs() error {
	for _, dir := range slices.Compact([]string{l.o.DataDir, l.o.IndexDir}) {
		if err := l.o.FS.SyncDir(dir); err != nil {
			return err
		}
	}
	return nil
}

// removed says whether a segment is one that is not there by right.
func (l *Log) removed(id segfile.ID) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.gaps.has(id)
}

// noteSkipped records the numbers that are left out before a new segment gets its own.
func (l *Log) noteSkipped(id segfile.ID) error {
	l.removeMu.Lock()
	defer l.removeMu.Unlock()
	l.mu.Lock()
	next := l.gaps.end()
	if n := len(l.order); n > 0 {
		next = max(next, l.order[n-1]+1)
	}
	g := l.gaps
	l.mu.Unlock()
	if id <= next {
		return nil
	}
	return l.writeGaps(g.with(next, id))
}

// Lost lists the segments of which neither file is there although nothing removed them.
func (l *Log) Lost() []segfile.ID {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.lost)
}

// AcceptLoss records a lost segment as removed: what only it held is given up.
func (l *Log) AcceptLoss(id segfile.ID) error {
	l.removeMu.Lock()
	defer l.removeMu.Unlock()
	l.mu.Lock()
	at := slices.Index(l.lost, id)
	g := l.gaps
	l.mu.Unlock()
	if at < 0 {
		return fmt.Errorf("%w: %d is not lost", ErrSegment, id)
	}
	if err := l.writeGaps(g.with(id, id+1)); err != nil {
		return err
	}
	l.mu.Lock()
	l.lost = slices.DeleteFunc(l.lost, func(o segfile.ID) bool { return o == id })
	l.mu.Unlock()
	return nil
}

// missing gives an error when a segment between two places is lost.
func (l *Log) missing(from, to segfile.ID) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, id := range l.lost {
		if from <= id && id <= to {
			return &segfile.MissingError{Namespace: l.o.Namespace, Segment: id, Err: errLost}
		}
	}
	return nil
}

var errLost = errors.New("neither d<N> nor i<N> is there, and it was never removed")

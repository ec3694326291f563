package clock

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"sync"
	"time"

	"qsfs/zdb/internal/vfs"
	"qsfs/zdb/segfile"
)

const (
	marksMagic   = "QZDBAGES"
	marksVersion = 2
	marksFixed   = 32 // magic, version, number of marks, life of the clock
	marksEach    = 24
	marksEach1   = 16 // of version 1, which does not say who wrote
	maxMarks     = 4096
	maxMarksFile = marksFixed + maxMarks*marksEach + 4
	// marksShare is the part of the time to keep by which something may be taken for younger than it is.
	marksShare = 1024
	// marksSave is how often the file is written at most.
	marksSave = time.Minute
)

// mark says that what is not above a sequence was written before a moment.
type mark struct {
	seq    segfile.Seq
	run    Run
	writer uint64 // who wrote the sequence; 0: it is not known
}

// Marks tell the age of what is in a log. The times in the log are those of the wall clock, which may have been wrong, and are not asked: what was
// there before the first mark is as old as that.
type Marks struct {
	c    *Clock
	path string

	mu    sync.Mutex
	list  []mark // ascending; appended to or replaced
	saved time.Time
	dirty bool

	fileMu sync.Mutex // held over saving
	failed failures
}

// OpenMarks goes on with the marks in a file, as far as they are of the clock's past and of the log, which ends at a sequence; writer tells who wrote one of it.
func (c *Clock) OpenMarks(path string, end segfile.Seq, writer func(segfile.Seq) uint64) *Marks {
	m := &Marks{c: c, path: path}
	p, err := vfs.ReadFile(c.fs, path, maxMarksFile)
	if errors.Is(err, vfs.ErrNotExist) {
		return m
	}
	var id ID
	var list []mark
	if err == nil {
		id, list, err = parseMarks(p)
	}
	if err != nil {
		c.log.Error("the ages are set aside: they are counted anew, what is kept for a time is kept longer", "file", path, "error", errors.Join(err, vfs.SetAside(c.fs, path)))
		return m
	}
	until, known := c.End(id)
	for n := len(list); known && n > 0; n-- {
		last := list[n-1]
		// Where the last one is of this log all are.
		if last.run <= until && last.seq <= end && (last.writer == 0 || last.writer == writer(last.seq)) {
			m.list = list[:n:n]
			break
		}
	}
	if len(m.list) < len(list) {
		c.log.Warn("ages were counted by another clock, or of another log: what is kept for a time is kept longer", "file", path, "marks", len(list), "left", len(m.list))
	}
	m.dirty = id != c.ID() // that life may be forgotten one day
	return m
}

// Note makes a mark if it is time to: what is not above the sequence that seq gives is written. It gives the ages as of now.
func (m *Marks) Note(keepFor time.Duration, seq func() segfile.Seq, writer func(segfile.Seq) uint64) Ages {
	m.c.Use()
	m.mu.Lock()
	written := seq() // before the clock
	v := m.c.Look()
	list := m.list
	if last := len(list) - 1; last < 0 || written > list[last].seq && time.Duration(v.Run-list[last].run) >= keepFor/marksShare {
		// Of what is too old anyway the newest mark is enough.
		for len(list) > 1 && v.Age(list[1].run) >= keepFor {
			list = list[1:]
		}
		if len(list) >= maxMarks {
			// Without every other one versions seem younger.
			thin := make([]mark, 0, maxMarks)
			for i := 0; i < len(list); i += 2 {
				thin = append(thin, list[i])
			}
			list = thin
		}
		m.list, m.dirty = append(list, mark{written, v.Run, writer(written)}), true
	}
	first := len(m.list) == 1 && m.dirty
	list = m.list
	m.mu.Unlock()
	if first {
		m.Save(false) // at once, but a full disk is not asked again each time
	}
	return Ages{v, list}
}

// Save writes the marks if there are new ones. What a crash loses makes versions seem younger.
func (m *Marks) Save(now bool) {
	m.fileMu.Lock()
	defer m.fileMu.Unlock()
	m.mu.Lock()
	list, due := m.list, m.dirty && (now || time.Since(m.saved) >= marksSave)
	m.dirty = m.dirty && !due
	m.mu.Unlock()
	if !due {
		return
	}
	last := Run(0)
	if n := len(list); n > 0 {
		last = list[n-1].run
	}
	m.c.SaveTo(last) // not to be behind the marks after a crash
	err := error(nil)
	known := m.c.Lasts() // else nobody knows this life after a crash, and the marks in the file are better
	if known {
		if err = vfs.WriteFile(m.c.fs, m.path, appendMarks(nil, m.c.ID(), list)); err == nil {
			m.failed = failures{}
		} else if m.failed.tell() {
			m.c.log.Warn("ages cannot be saved", "file", m.path, "error", err)
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.saved = time.Now()
	m.dirty = m.dirty || err != nil || !known
}

// Ages of what is in a log, at one moment.
type Ages struct {
	view View
	list []mark
}

// Of is how long ago a sequence was written, at least.
func (a *Ages) Of(seq segfile.Seq) time.Duration {
	i, _ := slices.BinarySearchFunc(a.list, seq, func(m mark, seq segfile.Seq) int {
		if m.seq < seq {
			return -1
		}
		return 1
	})
	if i == len(a.list) {
		return 0
	}
	return a.view.Age(a.list[i].run)
}

func appendMarks(b []byte, id ID, list []mark) []byte {
	start := len(b)
	le := binary.LittleEndian
	b = append(b, marksMagic...)
	b = append(b, marksVersion, 0, 0, 0)
	b = le.AppendUint32(b, uint32(len(list)))
	b = append(b, id[:]...)
	for _, m := range list {
		b = le.AppendUint64(b, uint64(m.seq))
		b = le.AppendUint64(b, uint64(m.run))
		b = le.AppendUint64(b, m.writer)
	}
	return le.AppendUint32(b, crc32.Checksum(b[start:], segfile.Castagnoli))
}

func parseMarks(p []byte) (id ID, list []mark, err error) {
	le := binary.LittleEndian
	if len(p) < marksFixed+4 || string(p[:8]) != marksMagic || p[8] < 1 || p[8] > marksVersion ||
		le.Uint32(p[len(p)-4:]) != crc32.Checksum(p[:len(p)-4], segfile.Castagnoli) {
		return id, nil, fmt.Errorf("%w: ages", segfile.ErrFormat)
	}
	each := int64(marksEach)
	if p[8] == 1 {
		each = marksEach1
	}
	if n := int64(le.Uint32(p[12:])); n > maxMarks || int64(len(p)) != marksFixed+n*each+4 {
		return id, nil, fmt.Errorf("%w: length of the ages", segfile.ErrFormat)
	}
	id = ID(p[16:])
	for p = p[marksFixed : len(p)-4]; len(p) > 0; p = p[each:] {
		m := mark{seq: segfile.Seq(le.Uint64(p)), run: Run(le.Uint64(p[8:]))}
		if each == marksEach {
			m.writer = le.Uint64(p[16:])
		}
		if n := len(list); m.run < 0 || m.run > maxRun || n > 0 && (m.seq <= list[n-1].seq || m.run < list[n-1].run) {
			return id, nil, fmt.Errorf("%w: marks of the ages", segfile.ErrFormat)
		}
		list = append(list, m)
	}
	return id, list, nil
}

package zdb

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"qsfs/zdb/internal/clock"
	"qsfs/zdb/internal/index"
	"qsfs/zdb/internal/vfs"
	"qsfs/zdb/segfile"
)

// The age of a version is measured from a mark: all up to a sequence was written before a moment of the clock's running time.
// The times in the log are those of the wall clock, which may have been wrong, and are not asked.
const (
	agesName  = "ages"
	agesMagic = "QZDBAGES"
	agesFixed = 32 // magic, version, number of marks, id of the clock
	agesEach  = 16
	maxAges   = 4096
	// agesShare is the part of KeepFor by which a version may be taken for younger than it is.
	agesShare = 1024
	// agesSave is how often the file is written at most.
	agesSave = time.Minute
)

// mark says that what is not above a sequence was written before a moment.
type mark struct {
	seq Seq
	run clock.Run
}

// ages of what is in the log. Nothing is known of what came before the first mark, but that it did.
type ages struct {
	mu    sync.Mutex
	marks []mark // ascending; appended to or replaced
	saved time.Time
	dirty bool

	fileMu sync.Mutex // held over saving
}

func appendAges(b []byte, id [16]byte, marks []mark) []byte {
	start := len(b)
	le := binary.LittleEndian
	b = append(b, agesMagic...)
	b = append(b, segfile.Version, 0, 0, 0)
	b = le.AppendUint32(b, uint32(len(marks)))
	b = append(b, id[:]...)
	for _, m := range marks {
		b = le.AppendUint64(b, uint64(m.seq))
		b = le.AppendUint64(b, uint64(m.run))
	}
	return le.AppendUint32(b, crc32.Checksum(b[start:], segfile.Castagnoli))
}

func parseAges(p []byte) (id [16]byte, marks []mark, err error) {
	le := binary.LittleEndian
	if len(p) < agesFixed+4 || string(p[:8]) != agesMagic || p[8] != segfile.Version ||
		le.Uint32(p[len(p)-4:]) != crc32.Checksum(p[:len(p)-4], segfile.Castagnoli) {
		return id, nil, fmt.Errorf("%w: ages", segfile.ErrFormat)
	}
	if n := int64(le.Uint32(p[12:])); n > maxAges || int64(len(p)) != agesFixed+n*agesEach+4 {
		return id, nil, fmt.Errorf("%w: length of the ages", segfile.ErrFormat)
	}
	copy(id[:], p[16:])
	for at := agesFixed; at < len(p)-4; at += agesEach {
		m := mark{Seq(le.Uint64(p[at:])), clock.Run(le.Uint64(p[at+8:]))}
		if n := len(marks); n > 0 && (m.seq <= marks[n-1].seq || m.run < marks[n-1].run) {
			return id, nil, fmt.Errorf("%w: marks of the ages", segfile.ErrFormat)
		}
		marks = append(marks, m)
	}
	return id, marks, nil
}

func (n *Namespace) agesPath() string { return filepath.Join(n.dataDir, agesName) }

// readAges takes the marks over that were made by the same clock. Without them ages are counted anew.
func (n *Namespace) readAges() error {
	p, err := vfs.ReadFile(n.db.o.FS, n.agesPath(), agesFixed+maxAges*agesEach+4)
	if errors.Is(err, vfs.ErrNotExist) {
		return nil
	}
	var id [16]byte
	var marks []mark
	if err == nil {
		id, marks, err = parseAges(p)
	}
	switch {
	case errors.Is(err, segfile.ErrFormat):
		n.logger.Error("ages are counted anew", "namespace", n.name, "file", n.agesPath(), "error", err)
		return nil
	case err != nil:
		return err
	case id != n.db.clock.ID():
		n.logger.Warn("ages are counted anew: another clock made them", "namespace", n.name)
		return nil
	}
	if len(marks) > 0 {
		n.db.clock.Reached(marks[len(marks)-1].run)
	}
	n.ages.marks = marks
	return nil
}

// cutAges leaves out marks of what the log does not hold: it was put back to an earlier day, and what it holds next was not
// written then.
func (n *Namespace) cutAges() {
	a, end := &n.ages, n.log.Head().Seq
	a.mu.Lock()
	defer a.mu.Unlock()
	i := slices.IndexFunc(a.marks, func(m mark) bool { return m.seq > end })
	if i < 0 {
		return
	}
	n.logger.Warn("the log ends before what ages were counted of", "namespace", n.name, "end", end)
	a.marks, a.dirty = slices.Clone(a.marks[:i]), true
}

// age makes a mark if it is time to, and gives the marks and the clock.
func (n *Namespace) age(keepFor time.Duration) ([]mark, clock.View) {
	n.db.clock.Use()
	a := &n.ages
	a.mu.Lock()
	durable := n.log.Durable().Seq // before the clock
	v := n.db.clock.Look()
	list := a.marks
	if last := len(list) - 1; last < 0 || durable > list[last].seq && time.Duration(v.Run-list[last].run) >= keepFor/agesShare {
		// Of what is too old anyway the newest mark is enough.
		for len(list) > 1 && v.Now()-v.Time(list[1].run) >= keepFor {
			list = list[1:]
		}
		if len(list) >= maxAges {
			// Without every other one versions seem younger.
			thin := make([]mark, 0, maxAges)
			for i := 0; i < len(list); i += 2 {
				thin = append(thin, list[i])
			}
			list = thin
		}
		a.marks, a.dirty = append(list, mark{durable, v.Run}), true
	}
	first := len(a.marks) == 1 && a.dirty
	list = a.marks
	a.mu.Unlock()
	if first {
		n.saveAges(false) // at once, but a full disk is not asked again each time
	}
	return list, v
}

// saveAges writes the marks if there are new ones. What a crash loses makes versions seem younger.
func (n *Namespace) saveAges(now bool) {
	a := &n.ages
	a.fileMu.Lock()
	defer a.fileMu.Unlock()
	a.mu.Lock()
	list, due := a.marks, a.dirty && (now || time.Since(a.saved) >= agesSave)
	a.dirty = a.dirty && !due
	a.mu.Unlock()
	if !due {
		return
	}
	n.db.clock.Save(true) // not to be behind the marks after a crash
	err := vfs.WriteFile(n.db.o.FS, n.agesPath(), appendAges(nil, n.db.clock.ID(), list))
	a.mu.Lock()
	defer a.mu.Unlock()
	a.saved = time.Now()
	if err != nil {
		a.dirty = true
		n.logger.Warn("ages cannot be saved", "namespace", n.name, "error", err)
	}
}

// supersededAt says on the clock's scale when next superseded what is below it, or later.
func (n *Namespace) supersededAt(marks []mark, v clock.View, keepFor time.Duration) func(next *index.Version) int64 {
	return func(next *index.Version) int64 {
		i, _ := slices.BinarySearchFunc(marks, next.Seq, func(m mark, seq Seq) int {
			if m.seq < seq {
				return -1
			}
			return 1
		})
		if i == len(marks) {
			return int64(v.Now())
		}
		at := v.Time(marks[i].run)
		if i > 0 {
			return int64(at)
		}
		// From before ages were counted there is the wall clock only. It is not believed for a day, for it may be wrong just now.
		wall := next.Time
		if next.Given {
			wall = n.log.WrittenBefore(next.Seq)
		}
		return int64(min(at, max(time.Duration(wall), at-keepFor+clock.Patience)))
	}
}

package cache

import (
	"container/list"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Segment names the segment that a stripe is of.
type Segment struct {
	Namespace string
	ID        uint32
}

// String gives "namespace/17".
func (s Segment) String() string { return s.Namespace + "/" + strconv.FormatUint(uint64(s.ID), 10) }

// Options of a Cache.
type Options struct {
	// Limit is the most bytes that stripes may take; Put drops the coldest ones to stay below it.
	// SetLimit changes it.
	Limit int64
	// Log gets what does not verify; nil discards.
	Log *slog.Logger
	// Now is the clock of last uses; nil is time.Now.
	Now func() time.Time
}

// Cache is a directory of stripes. It is safe for concurrent use, and one process owns it.
type Cache struct {
	dir string
	log *slog.Logger
	now func() time.Time

	mu       sync.Mutex
	limit    int64
	size     int64
	lru      *list.List // of *stripe, coldest first
	segments map[Segment][]*stripe
	serial   uint64 // of temporary names
	stats    Stats
}

// stripe is an entry; the fields but used never change.
type stripe struct {
	seg            Segment
	offset, length int64
	used           time.Time
	elem           *list.Element // nil once it is dropped
}

func (s *stripe) end() int64 { return s.offset + s.length }

// Stats counts since Open, but for Bytes and Stripes, which are of now.
type Stats struct {
	Bytes   int64
	Stripes int
	Hits    int64 // reads answered
	Misses  int64
	Damaged int64 // entries that did not verify
	Dropped int64 // entries that made room
}

const tmpPrefix = "tmp-"

// Open reads the directory, which is made if need be. Files that are not whole stripes are removed.
func Open(dir string, o Options) (*Cache, error) {
	c := &Cache{
		dir: dir, log: o.Log, now: o.Now, limit: o.Limit,
		lru: list.New(), segments: make(map[Segment][]*stripe),
	}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	if c.now == nil {
		c.now = time.Now
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make stripe cache: %w", err)
	}
	found, err := c.scan()
	if err != nil {
		return nil, fmt.Errorf("read stripe cache: %w", err)
	}
	slices.SortFunc(found, func(a, b *stripe) int { return a.used.Compare(b.used) })
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range found {
		c.addLocked(s)
	}
	c.trimLocked(c.limit)
	return c, nil
}

// scan lists the stripes on disk. Time of last use is lost with the process; time of writing is the
// best that is left.
func (c *Cache) scan() ([]*stripe, error) {
	var out []*stripe
	err := filepath.WalkDir(c.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		s := c.inspect(path)
		if s == nil {
			return os.Remove(path)
		}
		out = append(out, s)
		return nil
	})
	return out, err
}

// inspect gives the entry of a file, nil if it is none.
func (c *Cache) inspect(path string) *stripe {
	rel, err := filepath.Rel(c.dir, path)
	if err != nil {
		return nil
	}
	parts := strings.Split(rel, string(filepath.Separator))
	if len(parts) != 3 {
		return nil
	}
	id, err := strconv.ParseUint(parts[1], 10, 32)
	if err != nil {
		return nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return nil
	}
	offset, length, err := readHeader(f, fi.Size())
	if err != nil || parts[2] != strconv.FormatInt(offset, 10) {
		return nil
	}
	return &stripe{seg: Segment{parts[0], uint32(id)}, offset: offset, length: length, used: fi.ModTime()}
}

func (c *Cache) path(seg Segment, offset int64) string {
	return filepath.Join(c.dir, seg.Namespace, strconv.FormatUint(uint64(seg.ID), 10), strconv.FormatInt(offset, 10))
}

// addLocked enters s as the warmest. Entries of a segment are kept in order and do not overlap: what s overlaps goes.
func (c *Cache) addLocked(s *stripe) {
	for _, old := range slices.Clone(c.segments[s.seg]) {
		if old.offset < s.end() && s.offset < old.end() {
			c.forgetLocked(old, old.offset != s.offset)
		}
	}
	list := c.segments[s.seg]
	i := sort.Search(len(list), func(i int) bool { return list[i].offset > s.offset })
	c.segments[s.seg] = slices.Insert(list, i, s)
	s.elem = c.lru.PushBack(s)
	c.size += fileSize(s.length)
}

// forgetLocked drops an entry, and its file unless another one has taken its name.
func (c *Cache) forgetLocked(s *stripe, remove bool) {
	if s.elem == nil {
		return
	}
	c.lru.Remove(s.elem)
	s.elem = nil
	c.size -= fileSize(s.length)
	list := c.segments[s.seg]
	if i := slices.Index(list, s); i >= 0 {
		list = slices.Delete(list, i, i+1)
	}
	path := c.path(s.seg, s.offset)
	if remove {
		// Whoever reads it has it open; a file that stays behind is found at the next Open.
		_ = os.Remove(path)
	}
	if len(list) == 0 {
		delete(c.segments, s.seg)
		_ = os.Remove(filepath.Dir(path)) // fails when it is not empty, which is right
		return
	}
	c.segments[s.seg] = list
}

func (c *Cache) findLocked(seg Segment, off int64) *stripe {
	list := c.segments[seg]
	i := sort.Search(len(list), func(i int) bool { return list[i].end() > off })
	if i < len(list) && list[i].offset <= off {
		return list[i]
	}
	return nil
}

// ReadAt fills the front of p from the stripe that holds byte off, as far as that stripe goes. It
// gives 0 when there is none, or none that verifies.
func (c *Cache) ReadAt(seg Segment, off int64, p []byte) int {
	if len(p) == 0 {
		return 0
	}
	c.mu.Lock()
	s := c.findLocked(seg, off)
	if s == nil {
		c.stats.Misses++
		c.mu.Unlock()
		return 0
	}
	s.used = c.now()
	c.lru.MoveToBack(s.elem)
	c.mu.Unlock()

	n := int(min(int64(len(p)), s.end()-off))
	err := c.readFile(s, off-s.offset, p[:n])
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil {
		c.stats.Hits++
		return n
	}
	c.stats.Misses++
	if s.elem != nil { // not dropped while it was being read
		c.stats.Damaged++
		c.forgetLocked(s, true)
		c.log.Warn("a cached stripe does not verify, it will be fetched again", "segment", seg.String(), "offset", s.offset, "err", err)
	}
	return 0
}

func (c *Cache) readFile(s *stripe, at int64, p []byte) error {
	f, err := os.Open(c.path(s.seg, s.offset))
	if err != nil {
		return err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	offset, length, err := readHeader(f, fi.Size())
	if err != nil {
		return err
	}
	if offset != s.offset || length != s.length {
		return errDamaged
	}
	return readRange(f, length, at, p)
}

// Put keeps a stripe. An error (a full disk) loses nothing: the stripe is just not kept.
func (c *Cache) Put(seg Segment, offset int64, data []byte) error {
	if len(data) == 0 || int64(len(data)) > maxStripe || offset < 0 || strings.ContainsRune(seg.Namespace, filepath.Separator) {
		return errors.New("not a stripe")
	}
	need := fileSize(int64(len(data)))
	c.mu.Lock()
	if need > c.limit {
		c.mu.Unlock()
		return nil // a budget of nothing keeps nothing
	}
	c.trimLocked(c.limit - need)
	c.serial++
	tmp := filepath.Join(c.dir, tmpPrefix+strconv.FormatUint(c.serial, 10))
	c.mu.Unlock()

	if err := writeStripe(tmp, offset, data); err != nil {
		_ = os.Remove(tmp)
		return fmt.Errorf("keep stripe: %w", err)
	}
	path := c.path(seg, offset)
	// The names on disk and the entries change together, so this I/O is under the lock: two calls
	// that touch directories only.
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		_ = os.Remove(tmp)
		return fmt.Errorf("keep stripe: %w", err)
	}
	if err := os.Rename(tmp, path); err != nil {
		_ = os.Remove(tmp)
		return fmt.Errorf("keep stripe: %w", err)
	}
	c.addLocked(&stripe{seg: seg, offset: offset, length: int64(len(data)), used: c.now()})
	c.trimLocked(c.limit)
	return nil
}

// SetLimit changes the budget and drops what does not fit.
func (c *Cache) SetLimit(n int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.limit = max(n, 0)
	c.trimLocked(c.limit)
}

// Clear drops everything, and gives how many bytes that were.
func (c *Cache) Clear() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.size
	c.trimLocked(0)
	return n
}

func (c *Cache) trimLocked(limit int64) {
	for c.size > limit {
		front := c.lru.Front()
		if front == nil {
			return
		}
		c.stats.Dropped++
		c.forgetLocked(front.Value.(*stripe), true)
	}
}

// Size is what the stripes take on disk.
func (c *Cache) Size() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.size
}

// Coldest is when the least recently used stripe was used, and how large it is; false if there is none.
func (c *Cache) Coldest() (time.Time, int64, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	front := c.lru.Front()
	if front == nil {
		return time.Time{}, 0, false
	}
	s := front.Value.(*stripe)
	return s.used, fileSize(s.length), true
}

// DropColdest drops the least recently used stripe.
func (c *Cache) DropColdest() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if front := c.lru.Front(); front != nil {
		c.stats.Dropped++
		c.forgetLocked(front.Value.(*stripe), true)
	}
}

// Stats counts what happened.
func (c *Cache) Stats() Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	st := c.stats
	st.Bytes, st.Stripes = c.size, c.lru.Len()
	return st
}

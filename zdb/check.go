package zdb

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"qsfs/zdb/internal/index"
	"qsfs/zdb/internal/vfs"
	"qsfs/zdb/internal/wal"
)

// CheckOptions of a Check.
type CheckOptions struct {
	// Repair brings damaged ranges back through Options.Fetch, writes damaged i<N> again from their d<N> and rebuilds an
	// index that differs from the log, unless something in the log stays damaged: the index may then know more. What cannot be
	// brought back stays as it is and is named.
	Repair bool
	// RateBytes is how many bytes are read per second at most; 0 is no bound.
	RateBytes int64
	// Progress is told what is being done, about ten times a second. It must not block.
	Progress func(CheckProgress)
}

// CheckProgress says how far a check has come.
type CheckProgress struct {
	Step    string // "log": the files of the segments; "index": the index against the log
	Segment SegmentID
	// Done of Total: bytes of the log, or passes over the index.
	Done, Total int64
}

// Finding is something that is not as it should be.
type Finding struct {
	File           string
	Offset, Length int64 // Length 0: up to the end, or not known; both 0: the file as a whole
	What           string
	// Done says what Repair did about it; empty: it is as it was found.
	Done string
	// Keys of the entries that are concerned, the first of Entries, where that is known.
	Keys    [][]byte
	Entries int64
}

// CheckResult is what a check has read and found.
type CheckResult struct {
	Segments int64
	Missing  int64 // segments whose d<N> is not on this machine: of them only i<N> was read
	Batches  int64
	Entries  int64
	Bytes    int64 // read of d<N> and i<N>
	Keys     int64 // of the index
	Findings []Finding
	// More counts the findings beyond the first 1000.
	More int64
	// Unrepaired counts the findings about which nothing was done.
	Unrepaired int64
	// IndexSkipped says why the index was not compared with the log; empty: it was.
	IndexSkipped string
}

// Clean says that nothing was found.
func (r *CheckResult) Clean() bool { return len(r.Findings) == 0 }

const (
	maxFindings   = 1000
	progressEvery = 100 * time.Millisecond
)

// checker collects what a check finds.
type checker struct {
	o        CheckOptions
	r        CheckResult
	total    int64
	done     int64
	started  time.Time
	reported time.Time
}

func newChecker(o CheckOptions) *checker { return &checker{o: o, started: time.Now()} }

func (c *checker) found(f Finding) {
	if f.Done == "" {
		c.r.Unrepaired++
	}
	if len(c.r.Findings) >= maxFindings {
		c.r.More++
		return
	}
	c.r.Findings = append(c.r.Findings, f)
}

func (c *checker) fromLog(f wal.Finding) {
	c.found(Finding{
		File: f.File, Offset: f.Offset, Length: f.Length, What: f.What.Error(), Done: f.Done, Keys: f.Keys, Entries: f.Entries,
	})
}

// take waits until n more bytes may be read.
func (c *checker) take(ctx context.Context, id SegmentID, n int64) error {
	c.done += n
	c.progress("log", id, min(c.done, c.total), c.total)
	if c.o.RateBytes <= 0 {
		return ctx.Err()
	}
	due := time.Duration(float64(c.done) / float64(c.o.RateBytes) * float64(time.Second))
	wait := due - time.Since(c.started)
	if wait <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (c *checker) progress(step string, id SegmentID, done, total int64) {
	if now := time.Now(); c.o.Progress != nil && (done == total || now.Sub(c.reported) >= progressEvery) {
		c.reported = now
		c.o.Progress(CheckProgress{Step: step, Segment: id, Done: done, Total: total})
	}
}

// log reads all files of the log again.
func (c *checker) log(ctx context.Context, l *wal.Log) error {
	for _, s := range l.Segments() {
		c.total += s.IndexSize
		if s.Local {
			c.total += s.Length
		}
	}
	a := wal.Audit{Repair: c.o.Repair, Take: c.take, Found: c.fromLog}
	err := a.Run(ctx, l)
	c.r.Segments, c.r.Missing, c.r.Batches, c.r.Entries, c.r.Bytes = a.Segments, a.Missing, a.Batches, a.Entries, a.Bytes
	return err
}

// Check reads the namespace's files up to what is durable and compares them with each other, while others go on
// reading and writing: every sum in every d<N>, the chain of headers, i<N> against d<N>, the index against the log in
// both directions, and the live bytes. It returns an error only when it could not go on; what it finds is in the result.
func (n *Namespace) Check(ctx context.Context, o CheckOptions) (CheckResult, error) {
	defer n.db.working()()
	c := newChecker(o)
	if n.isClosed() {
		return c.r, n.public(ErrClosed)
	}
	if err := errors.Join(n.checkIdentity(c), n.checkKeep(c)); err != nil {
		return c.r, n.public(err)
	}
	if err := c.log(ctx, n.log); err != nil {
		return c.r, n.public(err)
	}
	return c.r, n.public(n.checkIndex(ctx, c))
}

// checkIdentity compares the incarnation on the disk with the one that is in use.
func (n *Namespace) checkIdentity(c *checker) error {
	path := filepath.Join(n.dataDir, identityName)
	inc, err := readIdentity(n.db.o.FS, path)
	if err == nil && inc == n.incarnation {
		return nil
	}
	f := Finding{File: path, Length: identitySize, What: "the incarnation is not the one in use"}
	if err != nil {
		f.What = err.Error()
	}
	if c.o.Repair {
		if err := writeIdentity(n.db.o.FS, path, n.incarnation); err != nil {
			return err
		}
		f.Done = "written again"
	}
	c.found(f)
	return nil
}

// checkKeep compares the record of retention and pins with what is in force.
func (n *Namespace) checkKeep(c *checker) error {
	n.keep.fileMu.Lock()
	defer n.keep.fileMu.Unlock()
	want := appendKeep(nil, n.keep.record())
	p, err := readKeepFile(n.db.o.FS, n.keepPath())
	if err != nil || bytes.Equal(p, want) || p == nil && len(n.Pins()) == 0 && n.Retention() == (Retention{}) {
		return err
	}
	f := Finding{File: n.keepPath(), What: "the record of what is kept is not what is in force"}
	if c.o.Repair {
		if err := n.writeKeep(n.keep.record()); err != nil {
			return err
		}
		f.Done = "written again"
	}
	c.found(f)
	return nil
}

// readKeepFile gives nil where there is none.
func readKeepFile(fs vfs.FS, path string) ([]byte, error) {
	p, err := vfs.ReadFile(fs, path, keepFixed+maxPins*keepPin+4)
	if errors.Is(err, vfs.ErrNotExist) {
		return nil, nil
	}
	return p, err
}

// checkRecords reads the small files of a namespace that nobody has open.
func (c *checker) checkRecords(fs vfs.FS, dir string) error {
	path := filepath.Join(dir, identityName)
	if _, err := readIdentity(fs, path); err != nil {
		// The next opening draws another one, as whoever counts on the old one must see.
		c.found(Finding{File: path, Length: identitySize, What: err.Error()})
	}
	path = filepath.Join(dir, keepName)
	p, err := readKeepFile(fs, path)
	if err != nil || p == nil {
		return err
	}
	if _, err := parseKeep(p); err != nil {
		c.found(Finding{File: path, What: err.Error()})
	}
	return nil
}

// Check checks a namespace that nobody has open, without opening it: ErrLocked says that somebody has. Nothing is
// changed but what Repair changes, and Badger's own files, which Badger writes to whenever they are opened.
func Check(ctx context.Context, o Options, namespace string, co CheckOptions) (CheckResult, error) {
	c := newChecker(co)
	err := offline(o, namespace, func(o Options, dir string) error {
		lo := surveyOptions(o, namespace, dir)
		if err := c.checkRecords(o.FS, lo.DataDir); err != nil {
			return err
		}
		l, err := wal.Survey(ctx, lo)
		if err != nil {
			return err
		}
		if err := c.log(ctx, l); err != nil {
			return err
		}
		if len(c.r.Findings) > 0 && c.o.Repair {
			if l, err = wal.Survey(ctx, lo); err != nil { // of what is there now
				return err
			}
		}
		return c.closedIndex(ctx, l, lo, o)
	})
	if err != nil {
		err = fmt.Errorf("check namespace %s: %w", namespace, err)
	}
	return c.r, err
}

// offline calls fn with the options completed, the namespace's directory and the lock of the data directory.
func offline(o Options, namespace string, fn func(o Options, dir string) error) (err error) {
	if err := o.complete(); err != nil {
		return err
	}
	dir, err := dirName(namespace)
	if err != nil {
		return err
	}
	if info, err := o.FS.Stat(filepath.Join(o.DataDir, dir)); err != nil {
		return err
	} else if !info.IsDir {
		return fmt.Errorf("%s is no directory", filepath.Join(o.DataDir, dir))
	}
	lock, err := o.FS.Lock(filepath.Join(o.DataDir, ".lock"))
	if err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	return fn(o, dir)
}

func surveyOptions(o Options, namespace, dir string) wal.Options {
	return wal.Options{
		FS: o.FS, DataDir: filepath.Join(o.DataDir, dir), IndexDir: filepath.Join(o.IndexDir, dir), Namespace: namespace,
		Fetch: o.Fetch, FetchTimeout: o.FetchTimeout, Handles: wal.NewHandles(o.FS, 1), Log: o.Log,
	}
}

// closedIndex compares the index of a namespace that nobody has open with its log.
func (c *checker) closedIndex(ctx context.Context, l *wal.Log, lo wal.Options, o Options) error {
	parent := filepath.Join(lo.IndexDir, badgerDir)
	dir, err := newestIndex(parent)
	if err != nil {
		return err
	}
	if dir == "" {
		c.r.IndexSkipped = "there is none; the next opening builds it"
		return nil
	}
	before, repair := len(c.r.Findings), c.mayRebuild()
	x, err := index.Open(dir, o.Log)
	if err == nil {
		err = c.compareClosed(ctx, l, x)
		if rerr := x.Retire(false); err == nil {
			err = rerr
		}
	}
	if errors.Is(err, index.ErrBroken) {
		c.found(Finding{File: dir, What: err.Error()})
		err = nil
	}
	if err != nil || len(c.r.Findings) == before || !repair {
		return err
	}
	if err := os.RemoveAll(parent); err != nil {
		return err
	}
	c.repaired(before, "dropped: the next opening builds the index again from the log")
	return nil
}

func (c *checker) compareClosed(ctx context.Context, l *wal.Log, x *index.Index) error {
	at, known := x.Applied()
	if !known {
		c.r.IndexSkipped = "it is not complete; the next opening builds it"
		return nil
	}
	inc, _, ok := l.Locate(at.Segment)
	if !ok || inc != at.Incarnation {
		return fmt.Errorf("%w: it has seen a segment %d that the log does not have", index.ErrBroken, at.Segment)
	}
	snap := x.Snapshot()
	defer snap.Close()
	return c.compare(ctx, l, x, snap, stateOf(x))
}

// newestIndex names the directory of the index that counts, or none.
func newestIndex(parent string) (string, error) {
	entries, err := os.ReadDir(parent)
	if errors.Is(err, os.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	var all []uint64
	for _, e := range entries {
		if g, err := strconv.ParseUint(e.Name(), 10, 64); err == nil && e.IsDir() {
			all = append(all, g)
		}
	}
	if len(all) == 0 {
		return "", nil
	}
	return filepath.Join(parent, strconv.FormatUint(slices.Max(all), 10)), nil
}

// mayRebuild says whether the index may be dropped: it may know more than a log that stays damaged.
func (c *checker) mayRebuild() bool { return c.o.Repair && c.r.Unrepaired == 0 }

// repaired says of the findings from the given one on what was done about them.
func (c *checker) repaired(from int, done string) {
	for i := from; i < len(c.r.Findings); i++ {
		if f := &c.r.Findings[i]; f.Done == "" {
			f.Done = done
			c.r.Unrepaired--
		}
	}
	if len(c.r.Findings) >= maxFindings {
		c.r.Unrepaired -= min(c.r.Unrepaired, c.r.More)
	}
}

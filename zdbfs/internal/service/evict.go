package service

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"qsfs/zdb"
	"qsfs/zdbfs/internal/cache"
	"qsfs/zdbfs/internal/control"
	"qsfs/zstor/client"
)

const (
	// Eviction begins above highWater of the budget and ends below lowWater.
	highWater, lowWater = 0.90, 0.80
	// askAgain is how long a refusal of zstor stands before it is asked again.
	askAgain = 10 * time.Second
	// diskReserve is what must stay free on the disk under the state directory, whatever the budget.
	diskReserve = 512 << 20
)

// evictor keeps the local data segments and the fetched stripes within one budget.
type evictor struct {
	zstor  *client.Client
	data   *zdb.Namespace
	cache  *cache.Cache
	dir    string // the data directory of the namespace
	budget int64
	// emergency allows to ask for segments that are above the floor but not complete, before writes
	// would be refused.
	emergency bool
	pressure  *pressure
	// receipt says whether there is a valid receipt for all of the segment.
	receipt func(state string, s zdb.SegmentInfo) error
	state   string
	log     *slog.Logger

	runMu sync.Mutex // one pass at a time

	mu       sync.Mutex
	receipts map[zdb.SegmentID]time.Time // modification times of those that were read and are valid
	refused  map[zdb.SegmentID]time.Time // when zstor said no
	problem  string
	last     usage
}

// usage is where the local bytes are.
type usage struct {
	budget      int64
	segments    int
	localSealed int
	evicted     int
	local       int64 // bytes of local data segments
	undispersed int64 // of those without a receipt
	stripes     int64
	candidates  []zdb.SegmentInfo // local, sealed, with a receipt
}

func (u usage) used() int64 { return u.local + u.stripes }

// measure looks at what is here.
func (e *evictor) measure() usage {
	u := usage{stripes: e.cache.Size()}
	for _, s := range e.data.Segments() {
		u.segments++
		if !s.Local {
			u.evicted++
			continue
		}
		u.local += s.Size
		if !s.Sealed {
			u.undispersed += s.Length
			continue
		}
		u.localSealed++
		if e.hasReceipt(s) {
			u.candidates = append(u.candidates, s)
		} else {
			u.undispersed += s.Size
		}
	}
	u.budget = e.limit(u)
	e.mu.Lock()
	e.last = u
	e.mu.Unlock()
	return u
}

// limit is the budget, or less when others have filled the disk.
func (e *evictor) limit(u usage) int64 {
	var st unix.Statfs_t
	if err := unix.Statfs(e.dir, &st); err != nil {
		return e.budget
	}
	free := int64(st.Bavail) * st.Bsize
	reserve := int64(min(uint64(diskReserve), st.Blocks*uint64(st.Bsize)/8))
	return max(min(e.budget, u.used()+free-reserve), 0)
}

// hasReceipt says whether a valid receipt for all of d<N> is there.
func (e *evictor) hasReceipt(s zdb.SegmentInfo) bool {
	path := filepath.Join(e.dir, "r"+strconv.FormatUint(uint64(s.ID), 10))
	fi, err := os.Stat(path)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			e.log.Warn("a receipt cannot be read, its segment is kept", "segment", uint32(s.ID), "err", err)
		}
		return false
	}
	e.mu.Lock()
	known, ok := e.receipts[s.ID]
	e.mu.Unlock()
	if ok && known.Equal(fi.ModTime()) {
		return true
	}
	if err := e.receipt(e.state, s); err != nil {
		e.log.Warn("a receipt is not valid, its segment is kept", "segment", uint32(s.ID), "err", err)
		return false
	}
	e.mu.Lock()
	e.receipts[s.ID] = fi.ModTime()
	e.mu.Unlock()
	return true
}

// pass measures, evicts if need be, and feeds the pressure.
func (e *evictor) pass(ctx context.Context, age time.Duration) {
	e.runMu.Lock()
	defer e.runMu.Unlock()
	u := e.measure()
	e.cache.SetLimit(max(int64(highWater*float64(u.budget))-u.local, u.budget/20))
	problem := ""
	if u.above(highWater) {
		// Told early: writers need not wait for the answers of zstor.
		e.pressure.update(u.budget, u.undispersed, age)
		problem = e.reduce(ctx, u)
		u = e.measure()
	}
	e.setProblem(problem)
	pinned := u.undispersed
	if problem != "" {
		pinned = u.local // whatever the reason, it does not go
	}
	e.pressure.update(u.budget, pinned, age)
}

func (u usage) above(share float64) bool { return float64(u.used()) > share*float64(u.budget) }

// reduce drops the coldest of segments and stripes until lowWater is met, or gives the reason why it
// is not. Segments that are safe but not at full strength go only when writes would suffer otherwise.
func (e *evictor) reduce(ctx context.Context, u usage) (problem string) {
	target := int64(lowWater * float64(u.budget))
	local, left, problem := e.reduceTo(ctx, u.local, e.byAge(u.candidates), target, false)
	if problem != "" && e.emergency && float64(local) > highWater*float64(u.budget) {
		_, _, problem = e.reduceTo(ctx, local, left, target, true)
	}
	return problem
}

// reduceTo goes through a queue once. It gives the local bytes that are left and what stayed.
func (e *evictor) reduceTo(ctx context.Context, local int64, queue []candidate, target int64, emergency bool) (int64, []candidate, string) {
	var left []candidate
	refusal := "what is left is not dispersed yet"
	for local+e.cache.Size() > target {
		if ctx.Err() != nil {
			return local, append(left, queue...), ctx.Err().Error()
		}
		used, _, ok := e.cache.Coldest()
		switch {
		case len(queue) > 0 && (!ok || queue[0].used.Before(used)):
			c := queue[0]
			queue = queue[1:]
			if reason := e.evict(ctx, c.SegmentInfo, emergency); reason != "" {
				refusal = reason
				left = append(left, c)
				continue
			}
			local -= c.Size
		case ok:
			e.cache.DropColdest()
		default:
			return local, left, refusal
		}
	}
	return local, left, ""
}

// candidate is a segment with the time of its last use.
type candidate struct {
	zdb.SegmentInfo
	used time.Time
}

// byAge sorts coldest first. The disk's own times of access say when a segment was read last; where
// they are not kept, the time of writing counts.
func (e *evictor) byAge(segs []zdb.SegmentInfo) []candidate {
	out := make([]candidate, 0, len(segs))
	for _, s := range segs {
		c := candidate{SegmentInfo: s}
		var st unix.Stat_t
		if err := unix.Stat(e.path(s.ID), &st); err == nil {
			c.used = time.Unix(st.Mtim.Unix())
			if a := time.Unix(st.Atim.Unix()); a.After(c.used) {
				c.used = a
			}
		}
		out = append(out, c)
	}
	slices.SortFunc(out, func(a, b candidate) int {
		return cmp.Or(a.used.Compare(b.used), cmp.Compare(a.ID, b.ID))
	})
	return out
}

func (e *evictor) path(id zdb.SegmentID) string {
	return filepath.Join(e.dir, "d"+strconv.FormatUint(uint64(id), 10))
}

// evict asks zstor and removes the segment, or gives the reason why not.
func (e *evictor) evict(ctx context.Context, s zdb.SegmentInfo, emergency bool) string {
	e.mu.Lock()
	t, no := e.refused[s.ID]
	e.mu.Unlock()
	if no && !emergency && time.Since(t) < askAgain {
		return "zstor does not agree yet"
	}
	reason := e.consent(ctx, s.ID, emergency)
	if reason == "" {
		if err := e.data.Evict(ctx, s.ID); err != nil {
			reason = fmt.Sprintf("segment %d: %v", uint32(s.ID), err)
			e.log.Warn("a segment was not evicted", "segment", uint32(s.ID), "err", err)
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if reason != "" {
		e.refused[s.ID] = time.Now()
		return reason
	}
	delete(e.refused, s.ID)
	delete(e.receipts, s.ID)
	e.log.Debug("segment evicted", "segment", uint32(s.ID), "bytes", s.Size)
	return ""
}

// consent asks zstor whether the nodes that hold the segment are well right now. A receipt alone says
// only that they once were.
func (e *evictor) consent(ctx context.Context, id zdb.SegmentID, emergency bool) string {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	r, err := e.zstor.Evict(ctx, client.EvictRequest{Namespace: client.NamespaceData, Segment: uint32(id), Emergency: emergency})
	switch {
	case err != nil:
		return err.Error()
	case !r.OK && r.Reason == "":
		return "zstor does not agree"
	case !r.OK:
		return r.Reason
	}
	return ""
}

// all evicts every sealed segment that may go, and every stripe.
func (e *evictor) all(ctx context.Context) (control.EvictReply, error) {
	e.runMu.Lock()
	defer e.runMu.Unlock()
	out := control.EvictReply{Kept: make(map[string]string)}
	u := e.measure()
	e.mu.Lock()
	clear(e.refused) // somebody asks: so do we
	e.mu.Unlock()
	for _, s := range e.byAge(u.candidates) {
		if err := ctx.Err(); err != nil {
			return out, err
		}
		if reason := e.evict(ctx, s.SegmentInfo, false); reason != "" {
			out.Kept[e.name(s.ID)] = reason
			continue
		}
		out.Evicted++
		out.Bytes += s.Size
	}
	for _, s := range e.data.Segments() {
		if s.Local && s.Sealed && out.Kept[e.name(s.ID)] == "" {
			out.Kept[e.name(s.ID)] = "it has no receipt yet"
		}
	}
	out.Bytes += e.cache.Clear()
	e.measure()
	return out, nil
}

func (e *evictor) name(id zdb.SegmentID) string {
	return fmt.Sprintf("%s/%d", client.NamespaceData, uint32(id))
}

func (e *evictor) setProblem(p string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if p != "" && e.problem == "" {
		e.log.Warn("the local cache is over its budget and nothing can be evicted", "reason", p)
	}
	e.problem = p
}

// status fills in what the last pass saw.
func (e *evictor) status() control.Cache {
	e.mu.Lock()
	u, problem := e.last, e.problem
	e.mu.Unlock()
	st, ns := e.cache.Stats(), e.data.Stats()
	return control.Cache{
		Budget: u.budget, Used: u.local + st.Bytes, SegmentBytes: u.local, StripeBytes: st.Bytes,
		Undispersed: u.undispersed, Segments: u.segments, LocalSealed: u.localSealed, Evicted: u.evicted,
		Hits: st.Hits, Misses: st.Misses, FetchedBytes: int64(ns.FetchedBytes), DamagedStripe: st.Damaged,
		Throttled: e.pressure.slowing(), Full: e.pressure.full(), Problem: problem,
	}
}

// checkReceipt reads a receipt and compares it with the segment.
func checkReceipt(state string, s zdb.SegmentInfo) error {
	r, err := client.ReadReceipt(state, client.NamespaceData, uint32(s.ID))
	if err != nil {
		return err
	}
	if r.Length != s.Length {
		return fmt.Errorf("it is for %d bytes, the segment has %d", r.Length, s.Length)
	}
	return nil
}

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
	// buffered is what was let in and is in no segment yet.
	buffered func() int64
	// receipt reads the receipt of a segment; one that is not for all of it is an error.
	receipt receiptFunc
	state   string
	log     *slog.Logger

	runMu sync.Mutex // one pass at a time

	mu       sync.Mutex
	receipts map[zdb.SegmentID]known // the valid ones
	refused  map[zdb.SegmentID]refusal
	weak     int // segments that went in an emergency
	problem  string
	last     usage
}

// receiptFunc says whether the segment is dispersed at full strength, all of it confirmed, or only enough of it for an
// emergency.
type receiptFunc func(state string, s zdb.SegmentInfo) (full bool, err error)

// known is a receipt that was read, with its time of modification.
type known struct {
	mod  time.Time
	full bool
}

// refusal is what zstor said no with.
type refusal struct {
	at        time.Time
	emergency bool // to this question
	spare     int
	reason    string
}

// usage is where the local bytes are.
type usage struct {
	budget      int64
	segments    int
	localSealed int
	evicted     int
	local       int64 // bytes of local data segments
	undispersed int64 // of those that cannot go, whatever the nodes say
	weak        int64 // the part of undispersed that is dispersed, though not at full strength
	buffered    int64 // bytes on their way into a segment
	stripes     int64
	allPinned   bool              // the pressure was told so of all that is local
	candidates  []zdb.SegmentInfo // local, sealed, with a receipt that suffices
}

func (u usage) used() int64 { return u.local + u.stripes }

// measure looks at what is here.
func (e *evictor) measure() usage {
	// What is in memory first: counted twice is better than not at all.
	u := usage{buffered: e.buffered(), stripes: e.cache.Size()}
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
		found, full := e.hasReceipt(s)
		switch {
		case full, found && e.emergency:
			u.candidates = append(u.candidates, s)
		case found:
			u.weak += s.Size
			u.undispersed += s.Size
		default:
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

// hasReceipt says whether a valid receipt for all of d<N> is there, and whether it is for full strength.
func (e *evictor) hasReceipt(s zdb.SegmentInfo) (found, full bool) {
	path := filepath.Join(e.dir, "r"+strconv.FormatUint(uint64(s.ID), 10))
	fi, err := os.Stat(path)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			e.log.Warn("a receipt cannot be read, its segment is kept", "segment", uint32(s.ID), "err", err)
		}
		return false, false
	}
	e.mu.Lock()
	k, ok := e.receipts[s.ID]
	e.mu.Unlock()
	if ok && k.mod.Equal(fi.ModTime()) {
		return true, k.full
	}
	full, err = e.receipt(e.state, s)
	if err != nil {
		e.log.Warn("a receipt is not valid, its segment is kept", "segment", uint32(s.ID), "err", err)
		return false, false
	}
	e.mu.Lock()
	e.receipts[s.ID] = known{fi.ModTime(), full}
	e.mu.Unlock()
	return true, full
}

// pass measures, evicts if need be, and feeds the pressure.
func (e *evictor) pass(ctx context.Context, age time.Duration) {
	e.runMu.Lock()
	defer e.runMu.Unlock()
	u := e.measure()
	e.cache.SetLimit(max(int64(highWater*float64(u.budget))-u.local, u.budget/20))
	problem := ""
	if u.above(highWater) {
		// Told early: writers need not wait for the answers of zstor. What did not go in the last pass is not expected to.
		pinned := u.undispersed
		u.allPinned = e.hasProblem()
		if u.allPinned {
			pinned = u.local
		}
		e.pressure.update(u.budget, pinned+u.buffered, age)
		problem = e.reduce(ctx, u)
		u = e.measure()
	}
	e.setProblem(problem)
	pinned := u.undispersed
	if problem != "" {
		pinned = u.local // whatever the reason, it does not go
	}
	e.pressure.update(u.budget, pinned+u.buffered, age)
}

func (u usage) above(share float64) bool { return float64(u.used()) > share*float64(u.budget) }

// reduce drops the coldest of segments and stripes until lowWater is met, or gives the reason why it
// is not. Segments that are safe but not at full strength go only when writes would suffer otherwise.
func (e *evictor) reduce(ctx context.Context, u usage) (problem string) {
	target := int64(lowWater * float64(u.budget))
	local, left, problem := e.reduceTo(ctx, u, u.local, e.byAge(u.candidates), target, false)
	if problem != "" && e.emergency && ctx.Err() == nil && float64(local) > highWater*float64(u.budget) {
		e.bestFirst(left)
		_, _, problem = e.reduceTo(ctx, u, local, left, target, true)
	}
	if problem == notDispersed && u.weak > 0 {
		problem = fmt.Sprintf(`%s of what is left are not at full strength, and evict = "full" keeps them`, control.Bytes(u.weak))
	}
	return problem
}

// notDispersed is the reason when there is nothing that zstor could be asked for.
const notDispersed = "what is left is not dispersed yet"

// bestFirst sorts those that zstor refused: first what has the most shards beyond those that a read needs, then the coldest,
// in which order they are.
func (e *evictor) bestFirst(queue []candidate) {
	e.mu.Lock()
	defer e.mu.Unlock()
	slices.SortStableFunc(queue, func(a, b candidate) int {
		return cmp.Compare(e.refused[b.ID].spare, e.refused[a.ID].spare)
	})
}

// reduceTo goes through a queue once. It gives the local bytes that are left and what stayed.
func (e *evictor) reduceTo(ctx context.Context, u usage, local int64, queue []candidate, target int64, emergency bool) (int64, []candidate, string) {
	var left []candidate
	why := notDispersed
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
				why = reason
				left = append(left, c)
				continue
			}
			local -= c.Size
			counted := int64(0)
			if u.allPinned {
				counted = c.Size // there is room now, and the next segment may take zstor a while
			}
			e.pressure.evicted(counted)
		case ok:
			e.cache.DropColdest()
		default:
			return local, left, why
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
	r, no := e.refused[s.ID]
	e.mu.Unlock()
	if no && (!emergency || r.emergency) && time.Since(r.at) < askAgain {
		return r.reason
	}
	r = e.consent(ctx, s.ID, emergency)
	if r.reason == "" {
		if err := e.data.Evict(ctx, s.ID); err != nil {
			r.reason = fmt.Sprintf("segment %d: %v", uint32(s.ID), err)
			e.log.Warn("a segment was not evicted", "segment", uint32(s.ID), "err", err)
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if r.reason != "" {
		e.refused[s.ID] = r
		return r.reason
	}
	delete(e.refused, s.ID)
	delete(e.receipts, s.ID)
	if !emergency {
		e.log.Debug("segment evicted", "segment", uint32(s.ID), "bytes", s.Size)
		return ""
	}
	e.weak++
	e.log.Warn("a segment was evicted that is not at full strength: the cache is full", "segment", uint32(s.ID), "bytes", s.Size, "spare_shards", r.spare)
	return ""
}

// consent asks zstor whether the nodes that hold the segment are well right now. A receipt alone says
// only that they once were. A refusal without a reason is consent.
func (e *evictor) consent(ctx context.Context, id zdb.SegmentID, emergency bool) refusal {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	r, err := e.zstor.Evict(ctx, client.EvictRequest{Namespace: client.NamespaceData, Segment: uint32(id), Emergency: emergency})
	out := refusal{at: time.Now(), emergency: emergency, spare: r.Spare}
	switch {
	case err != nil:
		out.reason = err.Error()
	case !r.OK && r.Reason == "":
		out.reason = "zstor does not agree"
	case !r.OK:
		out.reason = r.Reason
	}
	return out
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
			if found, _ := e.hasReceipt(s); found {
				out.Kept[e.name(s.ID)] = "it is not at full strength"
			}
		}
	}
	out.Bytes += e.cache.Clear()
	e.measure()
	return out, nil
}

func (e *evictor) name(id zdb.SegmentID) string {
	return fmt.Sprintf("%s/%d", client.NamespaceData, uint32(id))
}

func (e *evictor) hasProblem() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.problem != ""
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
	u, problem, weak := e.last, e.problem, e.weak
	e.mu.Unlock()
	st, ns := e.cache.Stats(), e.data.Stats()
	return control.Cache{
		Budget: u.budget, Used: u.local + st.Bytes, SegmentBytes: u.local, StripeBytes: st.Bytes,
		Undispersed: u.undispersed, Segments: u.segments, LocalSealed: u.localSealed, Evicted: u.evicted, EvictedWeak: weak,
		Hits: st.Hits, Misses: st.Misses, FetchedBytes: int64(ns.FetchedBytes), DamagedStripe: st.Damaged,
		Throttled: e.pressure.slowing(), Full: e.pressure.full(), Problem: problem,
	}
}

// checkReceipt reads a receipt and compares it with the segment. What is not confirmed does not count as full: zstor does
// not let it go either.
func checkReceipt(state string, s zdb.SegmentInfo) (full bool, err error) {
	r, err := client.ReadReceipt(state, client.NamespaceData, uint32(s.ID))
	if err != nil {
		return false, err
	}
	if r.Length != s.Length {
		return false, fmt.Errorf("it is for %d bytes, the segment has %d", r.Length, s.Length)
	}
	return r.Full && r.Confirmed, nil
}

package zstor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"qsfs/zstor/client"
	"qsfs/zstor/internal/backend"
	"qsfs/zstor/internal/placement"
	"qsfs/zstor/internal/record"
	"qsfs/zstor/internal/watch"
)

// staleStatus is the age at which what was seen of the metadata nodes is looked at again.
const staleStatus = 10 * time.Second

// Status answers first whether the data is safe right now, then gives the facts.
func (s *Store) Status(ctx context.Context) (*client.Status, error) {
	s.mu.Lock()
	old := time.Since(s.metaTime) > staleStatus
	s.mu.Unlock()
	if old {
		s.lookSoon(ctx)
	}
	s.lookAtNodes()
	st := &client.Status{Time: time.Now()}
	s.statusOwn(st)
	s.statusNodes(st)
	s.statusObjects(st)
	s.statusPending(st)
	s.statusLosses(st)
	st.Memory = client.Memory{Budget: s.budget.Total(), Used: s.budget.Used()}
	r := &s.mover.Reads
	st.Reads = client.ReadStats{
		Stripes: r.Stripes.Load(), Bytes: r.Bytes.Load(), Shards: r.Shards.Load(),
		Hedged: r.Hedged.Load(), Failed: r.Failed.Load(), Damaged: r.Damaged.Load(),
	}
	judgeSafety(st)
	return st, nil
}

// lookSoon looks at the metadata nodes, and waits for them only as long as nobody notices: nodes that accept and never
// answer take seconds. What they say late is in the next status.
func (s *Store) lookSoon(ctx context.Context) {
	done := make(chan struct{})
	if s.looking.CompareAndSwap(false, true) {
		s.wg.Go(func() {
			defer s.looking.Store(false)
			defer close(done)
			s.metaStatus(s.life)
		})
	}
	select {
	case <-done:
	case <-ctx.Done():
	case <-time.After(100 * time.Millisecond):
	}
}

func (s *Store) statusOwn(st *client.Status) {
	c := s.cfg
	st.Policy = client.Policy{
		MinimalShards: c.MinimalShards, ExpectedShards: c.ExpectedShards, RedundantGroups: c.RedundantGroups,
		RedundantNodes: c.RedundantNodes, MinSecrecy: c.QSFS.MinSecrecy, SyncInterval: c.QSFS.SyncInterval,
	}
	if f := c.FallbackPolicy(); f != nil {
		st.Policy.Fallback = placement.Policy{K: f.K, N: f.N}.String()
	}
	st.Owner = s.ownerNow()
	s.mu.Lock()
	defer s.mu.Unlock()
	st.Formatted = s.role != roleNone
	st.Owner.Recovering = s.role == roleRecovering
	if a := s.att; a != nil {
		st.Attached, st.Verdict, st.Reason = true, a.verdict, a.reason
	}
	if s.fenced != nil {
		st.Verdict, st.Reason = client.Fenced, s.fenced.Error()
		if by := s.metaSeen.FencedBy; by != nil {
			st.TakenBy = by.Epoch
		}
	}
	if s.cut != nil {
		st.Cut = client.CutStatus{
			Epoch: s.cut.Epoch, Number: s.cut.Number, Time: s.cut.Time, Age: time.Since(s.cut.Time),
			Meta: fromHead(s.cut.Meta), Data: fromHead(s.cut.Data), Took: s.cutTook,
		}
		for i := range s.cut.Tails {
			st.Objects.Pieces += len(s.cut.Tails[i].Pieces)
		}
	}
	if s.problem != nil {
		st.LastError, st.LastErrorTime = s.problem.Error(), s.problems
		st.Pending.Problem = st.LastError
	}
	st.Pending.Rate = int64(s.rate.perSec)
}

func (s *Store) statusNodes(st *client.Status) {
	renewed, _ := s.doubts.renewed()
	for _, id := range s.order {
		p := s.peers[id]
		h := p.Health()
		n := client.NodeStatus{
			ID: id, Group: p.Group(), Role: "data", Up: h.Up, Latency: h.Latency, Free: h.Info.Free,
			Durable: p.Durability().String(), Counts: h.Up, Failures: h.Failures, NoSync: h.Info.NoSync,
		}
		if left, ok := renewed[id]; ok {
			n.Renewed, n.Unchecked = true, left
		}
		if !h.Up {
			n.DownFor = time.Since(h.Since)
			if h.Last != nil {
				n.Error = h.Last.Error()
			}
		}
		st.Nodes = append(st.Nodes, n)
	}
	for _, g := range s.cfg.Groups {
		gs := client.GroupStatus{Name: g.Name, All: len(g.Backends)}
		for _, b := range g.Backends {
			if s.peers[b.ID()].Up() {
				gs.Up++
			}
		}
		st.Groups = append(st.Groups, gs)
	}
	s.mu.Lock()
	q := s.metaSeen
	s.mu.Unlock()
	for _, m := range q.Nodes {
		n := client.NodeStatus{ID: m.ID, Group: m.Group, Role: "metadata", Up: m.Err == nil || m.Complete, Counts: m.Counts}
		if m.Err != nil {
			n.Error = m.Err.Error()
			n.NoSync = errors.Is(m.Err, backend.ErrVolatile)
			n.Up = !errors.Is(m.Err, backend.ErrDown) && !errors.Is(m.Err, context.DeadlineExceeded)
		}
		st.Nodes = append(st.Nodes, n)
	}
	st.Quorum = client.QuorumStatus{Nodes: q.M, Write: q.W, Read: q.R, Countable: q.Counting}
	if q.Counting < q.W {
		st.Quorum.Problem = fmt.Sprintf("%d of %d metadata nodes count, %d are needed to write and %d to read", q.Counting, q.M, q.W, q.R)
	}
}

func (s *Store) statusObjects(st *client.Status) {
	s.mu.Lock()
	total := 0
	if s.ledger != nil {
		total = s.ledger.Len()
		for _, ref := range s.ledger.Live() {
			st.Objects.Bytes += ref.DataLen + ref.IndexLen
		}
	}
	s.mu.Unlock()
	_, doubted := s.doubts.renewed()
	for _, o := range s.objects.all() {
		m := o.manifest()
		switch {
		case m.Fallback:
			st.Objects.Fallback++
		case !full(m) || doubted[m.Object]:
			st.Objects.Degraded++
		case !confirmed(m):
			st.Objects.Unconfirmed++
		default:
			continue
		}
		delete(doubted, m.Object)
		total--
	}
	for object := range doubted {
		if _, ok := segmentOf(object); ok {
			st.Objects.Degraded++
			total--
		}
	}
	_, files := s.intents.keptFiles()
	for _, k := range files {
		if k.short {
			st.Objects.Degraded++
		} else {
			st.Objects.Unconfirmed++
		}
	}
	st.Objects.Unknown = s.doubts.unknown()
	unknown := min(st.Objects.Unknown, max(total, 0))
	st.Objects.Unconfirmed += unknown
	total -= unknown
	for k := range s.lostNow() {
		st.Objects.Lost++
		if !s.isLocal(k) {
			st.Objects.Gone++
		}
	}
	st.Objects.Full = max(total, 0)
	st.Objects.Undeleted = s.intents.count()
}

func (s *Store) statusPending(st *client.Status) {
	p := &st.Pending
	p.Bytes = s.pendingBytes()
	for _, ns := range []string{nsData, nsMeta} {
		sealed, err := watch.Sealed(s.state, ns)
		if err != nil {
			continue // the directory is not there yet
		}
		for _, n := range sealed {
			if _, listed, known := s.lookup(segmentKey{Namespace: ns, Segment: n}); known && !listed {
				p.Segments++
			}
		}
	}
	s.mu.Lock()
	if a := s.att; a != nil && !a.since.IsZero() {
		p.Since, p.Age = a.since, time.Since(a.since)
	}
	s.mu.Unlock()
	if p.Bytes > 0 && p.Rate > 0 && p.Problem == "" {
		p.ETA = time.Duration(float64(p.Bytes) / float64(p.Rate) * float64(time.Second))
	}
}

// pendingBytes is what was announced and no acknowledged cut covers.
func (s *Store) pendingBytes() int64 {
	s.mu.Lock()
	a, cut := s.att, s.cut
	var meta, data record.Head
	if a != nil {
		meta, data = a.meta, a.data
	}
	s.mu.Unlock()
	if a == nil {
		return 0
	}
	var cutMeta, cutData record.Head
	if cut != nil {
		cutMeta, cutData = cut.Meta, cut.Data
	}
	return s.between(nsMeta, cutMeta, meta, cut == nil) + s.between(nsData, cutData, data, cut == nil)
}

// between counts the bytes of a log from one head to another.
func (s *Store) between(ns string, from, to record.Head, all bool) int64 {
	if all {
		from = record.Head{}
	}
	if !before(from, to) {
		return 0
	}
	if from.Segment == to.Segment {
		return to.Offset - from.Offset
	}
	n := to.Offset - from.Offset
	for seg := from.Segment; seg < to.Segment; seg++ {
		if fi, err := os.Stat(s.dataPath(segmentKey{Namespace: ns, Segment: seg})); err == nil {
			n += fi.Size()
		}
	}
	return max(n, 0)
}

// statusLosses says how much more may be lost of the data that is dispersed: the least over the
// objects as they are, counting the nodes that answer now.
func (s *Store) statusLosses(st *client.Status) {
	renewed, doubted := s.doubts.renewed()
	holding := slices.DeleteFunc(slices.Clone(s.order), func(id string) bool { return renewed[id] > 0 })
	worst := func(k int, live []int, nodes []string) {
		l := placement.Survivable(k, live)
		st.SurvivableNodes, st.SurvivableGroups = min(st.SurvivableNodes, l.Shards), min(st.SurvivableGroups, l.Groups)
		if l.Shards < 0 && (st.Read.Needed == 0 || l.Shards < st.Read.Answer-st.Read.Needed) {
			st.Read = client.ReadStatus{Needed: k, Answer: k + l.Shards}
			for _, id := range nodes {
				if !s.peers[id].Up() {
					st.Read.Missing = append(st.Read.Missing, id)
				}
			}
		}
	}
	st.SurvivableNodes, st.SurvivableGroups = len(s.order), len(s.order)
	worst(s.cfg.MinimalShards, s.capped(s.livePerGroup(holding)), s.order)
	for _, o := range s.objects.all() {
		m := o.manifest()
		var nodes []string
		for _, h := range m.Nodes {
			if h.State >= record.Stored && h.State != record.GivenUp && s.peers[h.Node] != nil && !(doubted[m.Object] && renewed[h.Node] > 0) {
				nodes = append(nodes, h.Node)
			}
		}
		worst(int(m.K), s.livePerGroup(nodes), nodes)
	}
	st.SurvivableNodes, st.SurvivableGroups = max(st.SurvivableNodes, 0), max(st.SurvivableGroups, 0)
	if st.Cut.Time.IsZero() {
		st.Read = client.ReadStatus{} // there is nothing to read
	}
}

// livePerGroup counts the nodes of a list that are up, by group.
func (s *Store) livePerGroup(nodes []string) []int {
	out := make([]int, len(s.cfg.Groups))
	for gi, g := range s.cfg.Groups {
		for _, b := range g.Backends {
			if slices.Contains(nodes, b.ID()) && s.peers[b.ID()].Up() {
				out[gi]++
			}
		}
	}
	return out
}

// capped lowers the counts to what one object of n shards has at most: with more nodes than n, an
// object lies on some of them only.
func (s *Store) capped(live []int) []int {
	counts, _, ok := placement.Counts(s.cfg.Policy(), s.groupSizes())
	if !ok {
		return live
	}
	for i := range live {
		live[i] = min(live[i], counts[i])
	}
	return live
}

func (s *Store) groupSizes() []int {
	out := make([]int, len(s.cfg.Groups))
	for i, g := range s.cfg.Groups {
		out[i] = len(g.Backends)
	}
	return out
}

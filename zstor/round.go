package zstor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"qsfs/zdb/crashpoint"
	"qsfs/zstor/client"
	"qsfs/zstor/internal/record"
	"qsfs/zstor/internal/watch"
)

const (
	// segmentsAtOnce bounds the sealed segments that ship side by side.
	segmentsAtOnce = 3
	// sealWait is how long a round waits for i<N> of a segment that is complete already.
	sealWait = 5 * time.Second
)

// target is what a round ships up to.
type target struct {
	session    uint64
	meta, data record.Head
	urgent     bool
	owed       int64 // the cuts asked for by forceRound that this one is
}

// runRounds ships every sync interval, and at once when somebody waits.
func (s *Store) runRounds() {
	tick := time.NewTicker(s.cfg.QSFS.SyncInterval)
	defer tick.Stop()
	for {
		select {
		case <-s.life.Done():
			return
		case <-s.kickRound:
		case <-tick.C:
		}
		if !s.due() {
			continue
		}
		if err := s.round(s.life); err != nil && s.life.Err() == nil {
			s.log.Warn("round failed", "error", err)
			s.pause(time.Second)
		}
	}
}

// retry wakes the round loop.
func (s *Store) retry() { kick(s.kickRound) }

func (s *Store) pause(d time.Duration) {
	select {
	case <-s.life.Done():
	case <-time.After(d):
	}
}

// due decides whether there is something to cut. A change is never too small to ship: only the mount
// knows whether an fsync asked for it.
func (s *Store) due() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.att
	if a == nil || s.fenced != nil || s.role != roleOwner {
		return false
	}
	if a.verdict == client.Unverified {
		return true // the round compares first
	}
	if a.verdict != client.Verified || !a.announced {
		return false
	}
	if s.coversLocked(a) {
		return s.owed > s.paid || s.cut != nil && time.Since(s.cut.Time) >= s.o.IdleCut
	}
	return true
}

// dirty reports whether something announced is not covered yet.
func (s *Store) dirty() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.att != nil && s.att.verdict == client.Verified && s.fenced == nil && !s.coversLocked(s.att)
}

// round ships everything up to the heads announced when it begins, and cuts.
func (s *Store) round(ctx context.Context) error {
	if err := s.roundMu.lockCtx(ctx); err != nil {
		return err
	}
	defer s.roundMu.unlock()
	s.rounding.Store(true)
	defer s.rounding.Store(false)
	start := time.Now()
	t, err := s.aim(ctx)
	if err == nil && t != nil {
		err = s.shipAndCut(ctx, t, start)
	}
	s.noteFenced(err)
	s.mu.Lock()
	defer s.mu.Unlock()
	if t != nil || err != nil {
		s.rounds++
	}
	if err != nil && ctx.Err() == nil {
		s.problem, s.problems = err, time.Now()
	} else if err == nil {
		s.problem = nil
	}
	close(s.cutDone)
	s.cutDone = make(chan struct{})
	return err
}

// aim takes the target; nil when there is nothing to do.
func (s *Store) aim(ctx context.Context) (*target, error) {
	s.mu.Lock()
	a := s.att
	again := a != nil && s.fenced == nil && a.verdict == client.Unverified
	s.mu.Unlock()
	if again {
		s.verify(ctx, a)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if a == nil || s.fenced != nil {
		return nil, nil
	}
	if a.verdict == client.Unverified {
		return nil, errors.New(a.reason)
	}
	if a.verdict != client.Verified || s.att != a {
		return nil, nil
	}
	t := &target{session: a.req.Session, meta: a.meta, data: a.data, urgent: a.urgent, owed: s.owed}
	a.urgent = false
	t.meta.Session, _ = sessionAt(a.req, t.meta.Seq)
	return t, nil
}

func (s *Store) shipAndCut(ctx context.Context, t *target, start time.Time) error {
	var tails []record.Tail
	var fresh []*segment
	// Data first: every metadata batch that ships has the data that it needs.
	for _, ns := range []struct {
		name string
		head record.Head
	}{{nsData, t.data}, {nsMeta, t.meta}} {
		segs, held, err := s.shipSealed(ctx, ns.name, ns.head.Segment)
		if err != nil {
			return err
		}
		fresh = append(fresh, segs...)
		tails = append(tails, held...)
		tail, err := s.segment(record.SegmentKey{Namespace: ns.name, Segment: ns.head.Segment}).shipTail(ctx, ns.head)
		if err != nil {
			return fmt.Errorf("ship tail of %s: %w", ns.name, err)
		}
		if tail != nil {
			tails = append(tails, *tail)
		}
	}
	return s.publish(ctx, t, fresh, tails, start)
}

// shipSealed brings every sealed segment below the head to the floor, and returns those that the
// newest cut does not name yet, or names with another generation. What would take long, and whose tail
// lacks little, the cut holds by that tail; its upload goes on beside the rounds.
func (s *Store) shipSealed(ctx context.Context, ns string, below uint32) (fresh []*segment, held []record.Tail, err error) {
	todo, err := s.sealedBelow(ctx, ns, below)
	if err != nil {
		return nil, nil, err
	}
	var segs []*segment
	for _, k := range todo {
		g := s.segment(k)
		if len(held) < heldAtOnce {
			t, err := g.hold(ctx)
			if err != nil {
				return nil, nil, err
			}
			if t != nil {
				held = append(held, *t)
				continue
			}
		}
		segs = append(segs, g)
	}
	if len(held) > 0 {
		s.watch.Kick()
	}
	grp, gctx := errgroup.WithContext(ctx)
	grp.SetLimit(segmentsAtOnce)
	for _, g := range segs {
		grp.Go(func() error {
			if gctx.Err() != nil {
				return nil // another one cannot be shipped; those under way go on, or they would begin again
			}
			g.needed.Add(1)
			defer g.needed.Add(-1)
			return g.ship(ctx)
		})
	}
	if err := grp.Wait(); err != nil {
		return nil, nil, err
	}
	return slices.DeleteFunc(segs, func(g *segment) bool { return !g.shipped() }), held, nil
}

// sealedBelow lists the segments below the head that are not in the ledger. A segment whose d<N> is
// complete but whose i<N> is still being written is waited for.
func (s *Store) sealedBelow(ctx context.Context, ns string, below uint32) ([]record.SegmentKey, error) {
	deadline := time.Now().Add(sealWait)
	for {
		sealed, err := watch.Sealed(s.state, ns)
		if err != nil {
			return nil, err
		}
		local, err := watch.Local(s.state, ns)
		if err != nil {
			return nil, err
		}
		isSealed := map[uint32]bool{}
		var out []record.SegmentKey
		for _, n := range sealed {
			isSealed[n] = true
			k := record.SegmentKey{Namespace: ns, Segment: n}
			if n < below && s.wanted(k) {
				out = append(out, k)
			}
		}
		missing := false
		for _, n := range local {
			missing = missing || n < below && !isSealed[n]
		}
		if !missing {
			return out, nil
		}
		if time.Now().After(deadline) {
			return nil, fmt.Errorf("a segment of %s below %d is not sealed", ns, below)
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// wanted reports whether a sealed segment still has to enter a cut: it is in none, or it was
// shipped again since.
func (s *Store) wanted(k record.SegmentKey) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ledger == nil || !s.ledger.Has(k) {
		return true
	}
	// What is being encoded anew is no business of a round before it is shipped: a cut names it already.
	g := s.segments[k]
	return g != nil && g.shipped()
}

// publish writes the cut and, once it is acknowledged, draws the consequences.
func (s *Store) publish(ctx context.Context, t *target, fresh []*segment, tails []record.Tail, start time.Time) error {
	if err := s.rebase(ctx); err != nil {
		s.log.Warn("no new base", "error", err)
	}
	cut := &record.Cut{Time: time.Now().UTC(), Session: t.session, Meta: t.meta, Data: t.data, Tails: tails}
	if err := s.condemnReplaced(ctx, fresh); err != nil {
		return err
	}
	s.mu.Lock()
	for _, g := range fresh {
		m := g.obj.manifest()
		s.ledger.Add(record.SegmentRef{SegmentKey: g.key, Generation: m.Generation, DataLen: m.DataLen, IndexLen: m.IndexLen})
	}
	s.ledger.Fill(cut)
	s.mu.Unlock()
	crashpoint.Hit("zstor.cut.before")
	if _, err := s.set.PublishCut(ctx, cut); err != nil {
		return err
	}
	crashpoint.Hit("zstor.cut.put")
	s.acknowledged(ctx, cut, t, fresh, start)
	crashpoint.Hit("zstor.cut.after")
	return nil
}

// condemnReplaced puts the generations that others take the place of back on record, so that they
// are deleted once the cut without them is acknowledged.
func (s *Store) condemnReplaced(ctx context.Context, fresh []*segment) error {
	for _, g := range fresh {
		ref, listed, _ := s.lookup(g.key)
		if !listed || ref.Generation == g.obj.manifest().Generation {
			continue
		}
		old, _, err := s.readManifest(ctx, segmentObject(g.key), ref.Generation)
		if errors.Is(err, client.ErrDamaged) {
			s.log.Warn("what is replaced has no manifest: its shards are left to a sweep", "segment", segmentObject(g.key))
			continue
		}
		if err != nil {
			return err
		}
		s.intents.condemn(old)
	}
	return nil
}

// acknowledged draws the consequences of a cut that W metadata nodes have.
func (s *Store) acknowledged(ctx context.Context, cut *record.Cut, t *target, fresh []*segment, start time.Time) {
	s.mu.Lock()
	s.rate.add(s.mover.Written.Load(), time.Since(start))
	s.cut, s.cutTook, s.paid = cut, time.Since(start), t.owed
	if a := s.att; a != nil && a.req.Session == t.session {
		if s.coversLocked(a) {
			a.since = time.Time{}
		} else {
			a.since = start // what was announced before the round began is in the cut
		}
	}
	s.mu.Unlock()
	for _, g := range fresh {
		s.forget(g)
	}
	if err := s.saveCutNote(); err != nil {
		s.log.Warn("cannot note the newest cut", "error", err)
	}
	for _, g := range fresh {
		s.entered(g)
	}
	s.doubtRenewed(s.newBase)
	s.newBase = nil
	s.bury(cut)
	s.tellDataNodes(ctx, cut)
	s.log.Debug("cut", "cut", cut.ID().String(), "took", time.Since(start), "segments", len(fresh))
	kick(s.kickWork)
}

// entered handles a sealed segment that stands in an acknowledged cut for the first time.
func (s *Store) entered(g *segment) {
	g.lockSoon()
	defer g.mu.Unlock()
	o := g.obj
	g.setTail(nil)
	o.mu.Lock()
	o.inCut = true
	id := o.man.Generation
	o.mu.Unlock()
	s.intents.release(g.gen)
	s.intents.settled(id)
	s.doubtRenewed(g.gen)
	if err := s.writeReceipt(o); err != nil {
		s.log.Error("cannot write a receipt", "segment", segmentObject(g.key), "error", err)
	}
}

// bury marks every generation on record that the cut does not name and nobody builds on.
func (s *Store) bury(cut *record.Cut) {
	live := map[record.Generation]bool{}
	eachOfTails(cut, func(id record.Generation) { live[id] = true })
	if cut.Base != nil {
		live[cut.Base.Manifest.Generation] = true
	}
	var rooted []record.Generation
	s.intents.bury(func(e record.IntentEntry) bool {
		if live[e.Generation] {
			return true
		}
		if k, ok := segmentOf(e.Object); ok && segmentObject(k) == e.Object {
			if ref, listed, _ := s.lookup(k); listed && ref.Generation == e.Generation {
				rooted = append(rooted, e.Generation)
				return true
			}
		}
		return false
	})
	for _, id := range rooted {
		s.intents.settled(id)
	}
}

// tellDataNodes puts the head of the cut on every data node that is up: hiding the newest cut then
// takes all of them.
func (s *Store) tellDataNodes(ctx context.Context, cut *record.Cut) {
	value, err := s.sealer.SealHead(record.CutHead{ID: cut.ID(), Time: cut.Time})
	if err != nil {
		s.log.Error("cannot seal the head of a cut", "error", err)
		return
	}
	name := s.sealer.HeadName(s.sealer.KeyEpoch())
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	var grp errgroup.Group
	for _, id := range s.order {
		grp.Go(func() error {
			if err := s.peers[id].Put(ctx, name, value); err != nil {
				s.log.Debug("node does not know the newest cut", "node", id, "error", err)
			}
			return nil
		})
	}
	_ = grp.Wait() // no error comes out: a node that is away hears of the next cut
}

// rebase disperses a new base when the changes since the last one have become many.
func (s *Store) rebase(ctx context.Context) error {
	s.mu.Lock()
	due := s.ledger.Due()
	var base *record.Base
	if due {
		id := record.CutID{}
		if s.cut != nil {
			id = s.cut.ID()
		}
		base = s.ledger.Snapshot(id.Epoch, id.Number)
	}
	s.mu.Unlock()
	if !due {
		return nil
	}
	encoded, err := base.Encode()
	if err != nil {
		return err
	}
	object := fmt.Sprintf("%s%d.%d", basePrefix, base.Epoch, base.Number)
	gen, man, err := s.putBytes(ctx, object, int64(len(encoded)), func(p []byte, off int64) error {
		copy(p, encoded[off:])
		return nil
	})
	if err != nil {
		return err
	}
	s.mu.Lock()
	err = s.ledger.Rebase(base, s.sealer.NewBaseRef(base, encoded, *man))
	s.mu.Unlock()
	s.newBase = gen
	s.intents.anywhere(gen)
	// The base that is replaced was adopted or released; this one is live with the cut that follows.
	s.intents.release(gen)
	return err
}

// runUploads ships sealed segments as soon as the watcher sees them, ahead of their round.
func (s *Store) runUploads() {
	said := "" // a problem that stays is said once
	for {
		select {
		case <-s.life.Done():
			return
		case <-s.watch.C():
		}
		if !s.shipping() {
			continue
		}
		for _, ns := range []string{nsData, nsMeta} {
			if err := s.uploadSealed(ns); err != nil && s.life.Err() == nil {
				s.noteFenced(err)
				if err.Error() != said {
					s.log.Info("upload waits", "namespace", ns, "error", err)
				}
				said = err.Error()
			}
		}
	}
}

func (s *Store) shipping() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.att != nil && s.att.verdict == client.Verified && s.fenced == nil && s.role == roleOwner && s.ledger != nil
}

func (s *Store) uploadSealed(ns string) error {
	sealed, err := watch.Sealed(s.state, ns)
	if err != nil {
		return err
	}
	var grp errgroup.Group // an upload that fails ends no other: they would begin again in new generations
	grp.SetLimit(segmentsAtOnce)
	for _, n := range sealed {
		k := record.SegmentKey{Namespace: ns, Segment: n}
		if _, listed, known := s.lookup(k); listed || !known {
			continue
		}
		if _, err := os.Stat(s.dataPath(k)); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		grp.Go(func() error {
			g := s.segment(k)
			err := g.ship(s.life)
			if err == nil && g.held() && g.shipped() {
				s.forceRound() // nothing else may come that would make the object take the place of the tail
			}
			return err
		})
	}
	return grp.Wait()
}

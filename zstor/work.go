package zstor

import (
	"context"
	"errors"
	"io/fs"
	"strings"
	"time"

	"qsfs/zdb/crashpoint"
	"qsfs/zstor/client"
	"qsfs/zstor/internal/quorum"
	"qsfs/zstor/internal/record"
)

// prunedCuts is how many superseded cuts stay on the metadata nodes.
const prunedCuts = 8

// runWork completes objects and deletes what is dead, after each cut, when a node comes back, and
// from time to time.
func (s *Store) runWork() {
	tick := time.NewTicker(2 * time.Second)
	defer tick.Stop()
	for {
		select {
		case <-s.life.Done():
			return
		case <-s.kickWork:
		case <-tick.C:
		}
		if !s.working() {
			continue
		}
		for _, f := range []func(context.Context) error{s.complete, s.completeFiles, s.deleteDead, s.replaceFallbacks, s.replaceLost} {
			if err := f(s.life); err != nil && s.life.Err() == nil {
				s.noteFenced(err)
				s.log.Info("background work goes on later", "error", err)
			}
		}
	}
}

// working reports whether this process owns the filesystem and knows its newest cut.
func (s *Store) working() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.role == roleOwner && s.fenced == nil && s.ledger != nil
}

// deleteDead removes the shards of dead generations from the nodes that are up. Before the first
// byte goes, the epoch is asked for: whoever was fenced deletes nothing.
func (s *Store) deleteDead(ctx context.Context) error {
	graves := s.intents.graves()
	work := false
	for _, e := range graves {
		for _, h := range e.Nodes {
			p := s.peers[h.Node]
			work = work || p == nil || p.Up() || !e.offered(h)
		}
	}
	if !work {
		return nil
	}
	if err := s.set.Verify(ctx); err != nil {
		return err
	}
	var errs []error
	for _, e := range graves {
		if e.adopted && !e.outlived && strings.HasPrefix(e.Object, filePrefix) {
			ok, err := s.outlive(ctx, e)
			if !ok {
				errs = append(errs, err)
				continue
			}
			e.outlived = true
		}
		var done []string
		for _, h := range e.Nodes {
			p := s.peers[h.Node]
			switch {
			case p == nil || !e.offered(h):
				done = append(done, h.Node) // a removed node's content is its owner's business
			case p.Up():
				crashpoint.Hit("zstor.delete.before")
				if err := s.mover.DeleteHolding(ctx, &e.IntentEntry, h); err != nil {
					errs = append(errs, err)
				} else {
					done = append(done, h.Node)
				}
			}
		}
		if e.manifest && len(done) == len(e.Nodes) {
			if err := s.deleteManifest(ctx, e); err != nil {
				errs = append(errs, err)
				continue
			}
		}
		s.intents.deleted(e.Generation, done)
	}
	return errors.Join(errs...)
}

// deleteManifest takes the manifest of a dead generation off the record. Of an earlier process's generation it is not
// known whether there is one; then there is nothing to hide.
func (s *Store) deleteManifest(ctx context.Context, e *intentEntry) error {
	object := record.ManifestObject(e.Object, e.Generation)
	if e.adopted {
		if _, err := s.set.Newest(ctx, record.KindManifest, object); errors.Is(err, quorum.ErrNotFound) {
			return nil
		}
	}
	if _, err := s.set.Tombstone(ctx, record.KindManifest, object, record.Version{}); err != nil {
		return err
	}
	s.chores.deleted(object, s.tombstoneGrace())
	return nil
}

// offered reports whether a holder may have anything of the generation. Of an earlier process's
// generations nothing is known, so everything is assumed.
func (e *intentEntry) offered(h record.Holding) bool {
	return e.gen == nil || e.wide || e.gen.Offered(int(h.Index))
}

// replaceFallbacks ships segments anew whose copy is stored under the fallback, as soon as the main
// policy can be placed again and while the local copy is still there: one at a time, so that what it replaces is
// deleted, and other work done, before the next one. One that fails waits, and holds up no other.
func (s *Store) replaceFallbacks(context.Context) error {
	if !s.mainPossible() {
		return nil
	}
	for _, o := range s.objects.all() {
		o.mu.Lock()
		again := o.man.Fallback && o.inCut && !time.Now().Before(o.anew)
		o.mu.Unlock()
		if !again {
			continue
		}
		if !s.isLocal(o.key) {
			s.abandonAnew(o.key)
			continue
		}
		err := s.encodeAnew(o.key)
		if err == nil || s.life.Err() != nil {
			kick(s.kickWork)
			return err
		}
		s.log.Info("a segment stays under the fallback for now", "object", segmentObject(o.key), "error", err)
		o.mu.Lock()
		o.anew = time.Now().Add(time.Minute)
		o.mu.Unlock()
	}
	return nil
}

// encodeAnew ships a segment that a cut names in a new generation, under the main policy.
func (s *Store) encodeAnew(k segmentKey) error {
	if !s.mainPossible() || !s.shipping() {
		return nil
	}
	s.log.Info("encoding anew", "object", segmentObject(k))
	g := s.segmentAnew(k)
	if err := g.ship(s.life); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			g.abandon() // it was evicted: what the cut names is all there is
		}
		return err
	}
	s.forceRound()
	return nil
}

// abandonAnew gives up what an attempt to ship a segment anew has left in the table.
func (s *Store) abandonAnew(k segmentKey) {
	s.mu.Lock()
	g := s.segments[k]
	s.mu.Unlock()
	if g != nil && !g.shipped() {
		g.abandon()
	}
}

// abandon gives up a segment that a cut names and that was to be shipped anew.
func (g *segment) abandon() {
	g.up.Lock()
	defer g.up.Unlock()
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.obj == nil {
		g.s.forget(g)
		g.restart()
	}
}

// forceRound asks for a cut although nothing new was announced. It stays asked for until a round that begins later is
// acknowledged, which shippedSince tells.
func (s *Store) forceRound() (owed int64) {
	s.mu.Lock()
	s.owed++
	owed = s.owed
	s.mu.Unlock()
	s.retry()
	return owed
}

func (s *Store) shippedSince(owed int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.paid >= owed
}

// complete goes on with incomplete objects: missing shards are rebuilt on nodes that are back,
// unconfirmed ones read back when it is time.
func (s *Store) complete(ctx context.Context) error {
	var errs []error
	for _, o := range s.objects.all() {
		if ctx.Err() != nil {
			break
		}
		o.mu.Lock()
		wait := !o.inCut || time.Now().Before(o.next)
		o.mu.Unlock()
		if wait {
			continue
		}
		if err := s.completeObject(ctx, o); err != nil {
			errs = append(errs, err)
			o.mu.Lock()
			o.tries++
			o.next = time.Now().Add(min(time.Second<<min(o.tries, 6), time.Minute))
			o.mu.Unlock()
		}
	}
	return errors.Join(errs...)
}

func (s *Store) completeObject(ctx context.Context, o *object) error {
	next, err := s.bringForward(ctx, o, o.manifest())
	if next != nil {
		v, put := s.putManifest(ctx, next)
		if put != nil {
			return errors.Join(err, put)
		}
		o.mu.Lock()
		o.man, o.version = next, v
		o.mu.Unlock()
		s.chores.superseded(record.ManifestObject(next.Object, next.Generation))
		if full(next) {
			s.log.Info("object is complete", "object", next.Object)
		}
	}
	return errors.Join(err, s.writeReceipt(o))
}

// bringForward does what can be done for an object on the nodes that are up, and gives its new manifest, which is not on
// record yet; nil when nothing has changed. There may be one beside an error.
func (s *Store) bringForward(ctx context.Context, o *object, m *record.Manifest) (*record.Manifest, error) {
	next := *m
	next.Nodes = append([]record.Holding(nil), m.Nodes...)
	changed := false
	var errs []error
	for i, h := range m.Nodes {
		p := s.peers[h.Node]
		if p == nil || !p.Up() {
			continue
		}
		state, err := s.completeHolding(ctx, o, m, h)
		errs = append(errs, err)
		if state > h.State && h.State != record.GivenUp {
			next.Nodes[i].State, changed = state, true
		}
	}
	if !changed {
		return nil, errors.Join(errs...)
	}
	return &next, errors.Join(errs...)
}

// completeHolding brings one index of an object forward and returns its new state.
func (s *Store) completeHolding(ctx context.Context, o *object, m *record.Manifest, h record.Holding) (record.HoldState, error) {
	switch h.State {
	case record.Offered:
		if err := s.restoreIndex(ctx, o, m, int(h.Index)); err != nil {
			return h.State, err
		}
		o.mu.Lock()
		o.stored = time.Now()
		o.mu.Unlock()
		if s.peers[h.Node].Durability().OnAck() {
			return record.Confirmed, nil
		}
		return record.Stored, nil
	case record.Stored:
		return s.confirmIndex(ctx, o, m, h)
	}
	return h.State, nil
}

// restoreIndex puts every shard of an index on its node that the node lacks.
func (s *Store) restoreIndex(ctx context.Context, o *object, m *record.Manifest, index int) error {
	missing, err := s.missingOf(ctx, o, m, index)
	if err != nil {
		return err
	}
	if err := s.remake(ctx, m, index, missing); err != nil {
		return err
	}
	if o.gen != nil {
		for _, stripe := range missing {
			o.gen.Restored(index, stripe)
		}
	}
	return nil
}

func (s *Store) missingOf(ctx context.Context, o *object, m *record.Manifest, index int) ([]uint32, error) {
	if o.gen != nil && o.gen.ID() == m.Generation && len(o.gen.Renewed()) == 0 {
		return o.gen.MissingOf(index), nil
	}
	absent, claimed, err := s.claims(ctx, m, index)
	if err != nil {
		return nil, err
	}
	// What the node claims was offered to it by a process that is gone, and perhaps never acknowledged:
	// only its bytes show that it is there.
	bad, err := s.notGood(ctx, m, index, claimed)
	return append(absent, bad...), err
}

// confirmIndex reads the shards of an unconfirmed index back, once it is time.
func (s *Store) confirmIndex(ctx context.Context, o *object, m *record.Manifest, h record.Holding) (record.HoldState, error) {
	d := s.peers[h.Node].Durability()
	if d.OnAck() {
		return record.Confirmed, nil
	}
	wait := s.cfg.QSFS.ConfirmAfter
	if !d.Unconfirmed {
		wait = d.After
	}
	o.mu.Lock()
	early := time.Since(o.stored) < wait
	o.mu.Unlock()
	if early {
		return h.State, nil
	}
	// A node that promises nothing is read back. One that promises to be durable by now keeps its word, unless it crashed before:
	// then it does not even claim to have what it lost.
	bad, claimed, err := s.claims(ctx, m, int(h.Index))
	if err == nil && d.Unconfirmed {
		var lost []uint32
		lost, err = s.notGood(ctx, m, int(h.Index), claimed)
		bad = append(bad, lost...)
	}
	if err != nil {
		return h.State, err
	}
	if len(bad) > 0 { // confirmed when what is made again has had its time, too
		s.log.Warn("acknowledged shards were not kept", "node", h.Node, "object", m.Object, "shards", len(bad))
		if err := s.remake(ctx, m, int(h.Index), bad); err != nil {
			return h.State, err
		}
		o.mu.Lock()
		o.stored = time.Now()
		o.mu.Unlock()
		return h.State, nil
	}
	return record.Confirmed, nil
}

// runMaintenance looks at the metadata nodes: it rebuilds those that were wiped or are new, notices
// another owner, keeps the records tidy, and makes a missing comparison good.
func (s *Store) runMaintenance() {
	tick := time.NewTicker(s.o.Maintain)
	defer tick.Stop()
	s.metaStatus(s.life) // a status does not wait for it
	var compare struct {
		next  time.Time
		pause time.Duration
	}
	for n := 1; ; n++ {
		select {
		case <-s.life.Done():
			return
		case <-tick.C:
		}
		s.mu.Lock()
		owner := s.role == roleOwner && s.fenced == nil
		s.mu.Unlock()
		st := s.metaStatus(s.life)
		if !owner {
			continue
		}
		if st.FencedBy != nil {
			// One node that shows another owner is no proof: ask for a quorum.
			s.noteFenced(s.set.Verify(s.life))
		}
		if st.Unseen() && !time.Now().Before(compare.next) {
			if err := s.set.FindLagging(s.life); err != nil && s.life.Err() == nil {
				s.noteFenced(err)
				s.log.Info("the metadata nodes are compared later", "error", err)
				compare.pause = min(max(2*compare.pause, s.o.Maintain), 10*time.Minute)
				compare.next = time.Now().Add(compare.pause)
			} else {
				compare.pause = 0
				st = s.metaStatus(s.life)
			}
		}
		for _, i := range st.NeedsRebuild() {
			if _, err := s.set.RebuildNode(s.life, i); err != nil && s.life.Err() == nil {
				s.noteFenced(err)
				s.log.Warn("a metadata node could not be rebuilt", "node", st.Nodes[i].ID, "error", err)
			}
		}
		if st.CanWrite && s.shipping() && n%4 == 0 {
			s.tidy(s.life)
		}
	}
}

// tidy removes superseded records. What fails is tried again, and holds up nothing else: the end of a tombstone needs
// all metadata nodes, most others do not.
func (s *Store) tidy(ctx context.Context) {
	for _, f := range []func(context.Context) error{s.intents.tidy, s.pruneCuts, s.pruneManifests, s.intents.forgetOld, s.forgetManifests} {
		if err := f(ctx); err != nil && ctx.Err() == nil && !errors.Is(err, quorum.ErrNotFound) {
			s.noteFenced(err)
			s.log.Debug("records are tidied later", "error", err)
		}
	}
}

func (s *Store) pruneCuts(ctx context.Context) error {
	_, err := s.set.Prune(ctx, record.KindCut, record.CutObject, prunedCuts)
	return err
}

// findIncomplete looks through the sealed segments that the cut names and that have no valid and
// full receipt: their objects are at the floor, and wait to be completed.
func (s *Store) findIncomplete(ctx context.Context) error {
	for _, ns := range []string{nsData, nsMeta} {
		todo, err := s.withoutReceipt(ns)
		if err != nil {
			return err
		}
		for _, k := range todo {
			ref, listed, _ := s.lookup(k)
			if !listed {
				continue // not dispersed yet: the next round's business
			}
			m, v, err := s.readManifest(ctx, segmentObject(k), ref.Generation)
			if err != nil {
				if errors.Is(err, client.ErrDamaged) {
					s.noteLost(k, ref.Generation, err)
					continue
				}
				return err
			}
			o := s.objects.add(k, m, v, nil)
			o.mu.Lock()
			o.inCut = true
			o.mu.Unlock()
		}
	}
	kick(s.kickWork)
	return nil
}

// loadIncomplete is findIncomplete as the last step of loading a cut: if it fails, the cut does not count as loaded, and
// the next comparison loads it again.
func (s *Store) loadIncomplete(ctx context.Context) error {
	err := s.findIncomplete(ctx)
	if err != nil {
		s.mu.Lock()
		s.ledger = nil
		s.mu.Unlock()
	}
	return err
}

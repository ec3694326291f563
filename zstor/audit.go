package zstor

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"qsfs/zdb/crashpoint"
	"qsfs/zstor/client"
	"qsfs/zstor/internal/record"
	"qsfs/zstor/internal/transfer"
)

// runAudits looks at what is in doubt, and makes again what is missing.
func (s *Store) runAudits() {
	tick := time.NewTicker(s.o.ProbeEvery)
	defer tick.Stop()
	for {
		select {
		case <-s.life.Done():
			return
		case <-s.kickAudit:
		case <-tick.C:
		}
		if !s.working() {
			continue
		}
		s.lookAtNodes()
		s.noteEntries()
		for node, d := range s.inDoubt() {
			if p := s.peers[node]; p.Up() {
				s.audit(s.life, node, d)
			}
		}
	}
}

// audit goes once through what is in doubt on a node.
func (s *Store) audit(ctx context.Context, node string, d *doubt) {
	failed, said := false, false
	for _, object := range s.doubts.open(node, d) {
		if ctx.Err() != nil || !s.peers[node].Up() {
			return // it begins again when the node is back
		}
		again, err := s.auditObject(ctx, node, d, object)
		if err != nil && ctx.Err() == nil && !said {
			s.log.Info("an object is looked at later", "node", node, "object", object, "error", err)
			said = true
		}
		s.doubts.mu.Lock()
		switch {
		case err != nil:
			failed = true
		case again:
			failed = true
			if _, ok := d.items[object]; ok && d.items[object].IsZero() {
				d.items[object] = time.Now()
			}
		default:
			delete(d.items, object)
		}
		s.doubts.mu.Unlock()
	}
	s.doubts.mu.Lock()
	if failed {
		d.next = time.Now().Add(min(s.o.ProbeEvery<<min(d.tries, 8), time.Minute))
		d.tries++
	}
	s.doubts.mu.Unlock()
	s.trust(node, d)
}

// auditObject looks at one object on one node. again: something has to be read back before it is well.
func (s *Store) auditObject(ctx context.Context, node string, d *doubt, object string) (again bool, err error) {
	switch object {
	case everyFile:
		return s.auditFiles(ctx, node, d)
	case theTails:
		return false, s.tailsAnew(d)
	}
	m, unpin, err := s.pinManifest(ctx, object)
	if err != nil || m == nil {
		return false, err
	}
	defer unpin()
	s.doubts.mu.Lock()
	made := d.items[object]
	s.doubts.mu.Unlock()
	again, err = s.auditHolding(ctx, node, d, m, made)
	if k, ok := segmentOf(object); ok {
		switch {
		case errors.Is(err, transfer.ErrDamaged):
			s.noteLost(k, m.Generation, err)
		case err == nil:
			s.foundAgain(k, m.Generation)
		}
	}
	return again, err
}

// weakenTails has all tails shipped anew: a node has lost what it held of them. It gives the generations that the
// newest cut's tails stand on.
func (s *Store) weakenTails() map[record.Generation]bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, g := range s.segments {
		g.weak.Store(true)
	}
	out := map[record.Generation]bool{}
	eachOfTails(s.cut, func(id record.Generation) { out[id] = true })
	return out
}

// tailsAnew is done when an acknowledged cut, of a round that began after the doubt, stands on none of the generations
// that the node may have lost something of. A long tail takes more than one round.
func (s *Store) tailsAnew(d *doubt) error {
	if !s.shippedSince(d.owed) && s.hasTails() {
		return errors.New("the tails are shipped anew with the next round")
	}
	s.mu.Lock()
	weak := false
	eachOfTails(s.cut, func(id record.Generation) { weak = weak || d.tails[id] })
	var table []*segment
	for _, g := range s.segments {
		table = append(table, g)
	}
	s.mu.Unlock()
	for _, g := range table {
		weak = weak || g.standsOnRenewed()
	}
	if weak {
		return errors.New("the whole stripes of a tail are made up for")
	}
	return nil
}

func (s *Store) hasTails() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cut != nil && len(s.cut.Tails) > 0
}

// eachOfTails gives every generation that the tails of a cut stand on.
func eachOfTails(cut *record.Cut, f func(record.Generation)) {
	if cut == nil {
		return
	}
	for i := range cut.Tails {
		cut.Tails[i].Generations(f)
	}
}

// pinManifest finds the manifest of an object, whose generation is not deleted before unpin: a shard that is made again
// after the others were deleted would lie there for ever. nil when it is not dispersed any more.
func (s *Store) pinManifest(ctx context.Context, object string) (_ *record.Manifest, unpin func(), _ error) {
	m, err := s.doubtedManifest(ctx, object)
	if err != nil || m == nil {
		return nil, nil, err
	}
	unpin = s.intents.pin(m.Generation)
	now, err := s.doubtedManifest(ctx, object)
	if err == nil && now != nil && now.Generation != m.Generation {
		err = errors.New("it was encoded anew just now")
	}
	if err != nil || now == nil {
		unpin()
		return nil, nil, err
	}
	return m, unpin, nil
}

// doubtedManifest finds the manifest of an object; nil when it is not dispersed any more.
func (s *Store) doubtedManifest(ctx context.Context, object string) (*record.Manifest, error) {
	if strings.HasPrefix(object, filePrefix) {
		return s.manifestOfFile(ctx, object)
	}
	if strings.HasPrefix(object, basePrefix) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.cut == nil || s.cut.Base == nil || s.cut.Base.Manifest.Object != object {
			return nil, nil
		}
		m := s.cut.Base.Manifest
		return &m, nil
	}
	k, ok := segmentOf(object)
	if !ok {
		return nil, nil
	}
	ref, listed, known := s.lookup(k)
	if known && !listed {
		return nil, nil
	}
	m, err := s.manifestOf(ctx, k)
	if err == nil && m.Generation != ref.Generation {
		m, _, err = s.readManifest(ctx, object, ref.Generation) // another one waits for its cut
	}
	if errors.Is(err, client.ErrDamaged) {
		s.noteLost(k, ref.Generation, err)
	}
	return m, err
}

// auditFiles looks at every file that was stored by name.
func (s *Store) auditFiles(ctx context.Context, node string, d *doubt) (again bool, err error) {
	l, err := s.set.List(ctx, record.KindManifest)
	if err != nil {
		return false, err
	}
	s.doubts.mu.Lock()
	made := d.items[everyFile]
	s.doubts.mu.Unlock()
	var errs []error
	for _, r := range l.Records {
		if !strings.HasPrefix(r.Object, filePrefix) {
			continue
		}
		m, unpin, err := s.pinManifest(ctx, r.Object)
		if err == nil && m != nil {
			var more bool
			more, err = s.auditHolding(ctx, node, d, m, made)
			again = again || more
			unpin()
		}
		errs = append(errs, err)
	}
	return again, errors.Join(errs...)
}

// auditHolding looks at what a node should hold of an object: what it does not claim to have is made again, byte for
// byte, from k others. What it claims is read back: all of it on a node that is another one than it was, or that
// promises nothing by its acknowledgement; of a node of which nothing was known one stripe, and all when that one is not good. made is when
// something was made again earlier that only counts once it was read.
func (s *Store) auditHolding(ctx context.Context, node string, d *doubt, m *record.Manifest, made time.Time) (again bool, err error) {
	for _, h := range m.Nodes {
		if h.Node != node || h.State == record.GivenUp {
			continue
		}
		p := s.peers[node]
		onAck := p.Durability().OnAck()
		if !made.IsZero() && !onAck && time.Since(made) < s.confirmAfter(node) {
			return true, nil
		}
		absent, claimed, err := s.claims(ctx, m, int(h.Index))
		if err != nil {
			return false, err
		}
		every := !d.sample || !onAck || !made.IsZero()
		var bad []uint32
		if !every && len(claimed) > 0 {
			bad, err = s.notGood(ctx, m, int(h.Index), []uint32{claimed[rand.IntN(len(claimed))]})
			every = len(bad) > 0
		}
		if every && err == nil {
			bad, err = s.notGood(ctx, m, int(h.Index), claimed)
		}
		if err != nil {
			return false, err
		}
		if h.State == record.Confirmed && len(absent)+len(bad) > 0 {
			s.lacks(node, d)
		}
		if err := s.remake(ctx, m, int(h.Index), append(absent, bad...)); err != nil {
			return false, err
		}
		again = again || len(bad) > 0 || !onAck && len(absent) > 0
	}
	return again, nil
}

// confirmAfter is how long after an acknowledgement the shards of a node count, or may be read back.
func (s *Store) confirmAfter(node string) time.Duration {
	if d := s.peers[node].Durability(); !d.Unconfirmed {
		return d.After
	}
	return s.cfg.QSFS.ConfirmAfter
}

// claims asks a node which stripes of an index it has.
func (s *Store) claims(ctx context.Context, m *record.Manifest, index int) (absent, claimed []uint32, err error) {
	stripes := make([]uint32, m.DataStripes+m.IndexStripes)
	for i := range stripes {
		stripes[i] = uint32(i)
	}
	absent, err = s.mover.Claimed(ctx, m, index, stripes)
	lacks := map[uint32]bool{}
	for _, stripe := range absent {
		lacks[stripe] = true
	}
	return absent, slices.DeleteFunc(stripes, func(x uint32) bool { return lacks[x] }), err
}

// notGood reads shards back and lists those that are not what they should be.
func (s *Store) notGood(ctx context.Context, m *record.Manifest, index int, stripes []uint32) ([]uint32, error) {
	var mu sync.Mutex
	var bad []uint32
	grp, ctx := errgroup.WithContext(ctx)
	grp.SetLimit(stripesAtOnce)
	for _, stripe := range stripes {
		grp.Go(func() error {
			state, err := s.mover.Verify(ctx, m, index, stripe)
			if err != nil || state == transfer.ShardGood {
				return err
			}
			s.log.Warn("a shard that its node claims to hold is not good", "object", m.Object, "stripe", stripe, "index", index, "state", state.String())
			mu.Lock()
			defer mu.Unlock()
			bad = append(bad, stripe)
			return nil
		})
	}
	err := grp.Wait()
	slices.Sort(bad)
	return bad, err
}

// remake makes shards of one index again.
func (s *Store) remake(ctx context.Context, m *record.Manifest, index int, stripes []uint32) error {
	grp, ctx := errgroup.WithContext(ctx)
	grp.SetLimit(stripesAtOnce)
	for _, stripe := range stripes {
		grp.Go(func() error {
			_, err := s.mover.RebuildStripe(ctx, m, stripe, []int{index})
			crashpoint.Hit("zstor.audit.shard")
			return err
		})
	}
	return grp.Wait()
}

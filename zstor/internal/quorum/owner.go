package quorum

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"qsfs/zstor/internal/record"
)

// An Outcome is what Recover and TakeOver found and did.
type Outcome struct {
	Owner    record.Owner
	Cut      *record.Cut // the cut as published again: (epoch, 0); nil when the filesystem never made one
	Answered int         // metadata nodes whose answers counted when the newest cut was read
	Of       int
	Resumed  bool // a recovery that was broken off goes on with its noted epoch and cut
}

// Recover makes this Set the owner for a recovery on an empty machine: it claims, reads the newest cut over the nodes
// that show the claim, publishes that cut again as (e+1, 0), and only then notes epoch, id and cut. Killed and run
// again it goes on with what it noted, without a claim; if it was fenced meanwhile it claims and reads anew.
//
// Recover refuses with ErrInUse when the note is that of a working filesystem. When all has been restored the caller
// calls FinishRecovery.
func (s *Set) Recover(ctx context.Context) (Outcome, error) {
	note, err := s.o.Notebook.Load()
	switch {
	case errors.Is(err, ErrNoNote):
		return s.claimAndRead(ctx, nil, nil, nil)
	case err != nil:
		return Outcome{}, err
	case !note.Recovering:
		return Outcome{}, fmt.Errorf("recover: %w (%v)", ErrInUse, note.Owner)
	}
	out, err := s.resumeRecovery(ctx, note)
	if errors.Is(err, ErrFenced) {
		s.log.Warn("recovery was fenced meanwhile, starting anew", "err", err)
		s.disown()
		if !s.keeps(ruleFencedReadsAnew) {
			return s.claimAndRead(ctx, nil, nil, &note)
		}
		return s.claimAndRead(ctx, nil, nil, nil)
	}
	return out, err
}

func (s *Set) resumeRecovery(ctx context.Context, note Note) (Outcome, error) {
	if err := s.start(note); err != nil {
		return Outcome{}, err
	}
	if err := s.Verify(ctx); err != nil {
		return Outcome{}, err
	}
	out := Outcome{Owner: note.Owner, Of: len(s.nodes), Resumed: true}
	if note.Last.IsZero() {
		return out, nil
	}
	f, err := s.version(ctx, record.KindCut, record.CutObject, note.LastVersion)
	if err != nil {
		return Outcome{}, fmt.Errorf("read noted cut %v: %w", note.Last, err)
	}
	if out.Cut, err = s.sealer.DecodeCut(f.KeyEpoch, f.Body); err != nil {
		return Outcome{}, err
	}
	if out.Cut.ID() != note.Last {
		return Outcome{}, fmt.Errorf("noted cut %v: %w: found %v", note.Last, record.ErrDamaged, out.Cut.ID())
	}
	out.Answered = 1
	return out, nil
}

// FinishRecovery notes that the recovered state is now a working filesystem.
func (s *Set) FinishRecovery() error {
	return s.editNote(func(n *Note) { n.Recovering, n.LastVersion = false, record.Version{} })
}

// TakeOver makes this Set the owner for an old machine that comes back with its own state: it claims, then reads,
// and goes on only if the newest cut is this state's own last one. A look before the claim spares the present owner
// a useless fencing. Otherwise the error is a *StaleError. After an error the Set is the owner that its note names, as
// after Resume; the takeover can be tried again.
func (s *Set) TakeOver(ctx context.Context) (Outcome, error) {
	note, err := s.o.Notebook.Load()
	if err != nil {
		return Outcome{}, err
	}
	own := note.Own()
	f, err := s.find(ctx, record.KindCut, record.CutObject, record.Owner{}, nil)
	if err == nil {
		if cut, err := s.sealer.DecodeCut(f.KeyEpoch, f.Body); err != nil {
			return Outcome{}, err
		} else if !s.ownCut(own, cut) {
			return Outcome{}, &StaleError{Newest: cut, Own: own}
		}
	} else if !errors.Is(err, ErrNotFound) {
		return Outcome{}, err
	}
	out, err := s.takeOverAsFound(ctx)
	if err != nil {
		// The note still names the old owner: whether the claim has fenced it shows with its next acknowledgement.
		if _, back := s.Resume(); back != nil {
			return Outcome{}, errors.Join(err, fmt.Errorf("go back to the noted owner: %w", back))
		}
		return Outcome{}, err
	}
	return out, nil
}

// takeOverAsFound is the part of a takeover during which this Set is no owner.
func (s *Set) takeOverAsFound(ctx context.Context) (Outcome, error) {
	s.disown()
	note, err := s.o.Notebook.Load() // nobody changes it from here on
	if err != nil {
		return Outcome{}, err
	}
	own := note.Own()
	if own == nil {
		own = []record.CutID{}
	}
	return s.claimAndRead(ctx, own, &note, nil)
}

func (s *Set) ownCut(own []record.CutID, cut *record.Cut) bool {
	return slices.Contains(own, cut.ID()) || !s.keeps(ruleTakeOverCompares)
}

// claimAndRead is the common part: own is nil for a recovery, which takes whatever cut is the newest, and old is the
// note of a takeover. instead is only for tests that break the rule to read anew.
func (s *Set) claimAndRead(ctx context.Context, own []record.CutID, old, instead *Note) (Outcome, error) {
	var early Found
	var earlyErr error
	if !s.keeps(ruleClaimFirst) {
		early, earlyErr = s.find(ctx, record.KindCut, record.CutObject, record.Owner{}, nil)
	}
	owner, err := s.claim(ctx)
	if err != nil {
		return Outcome{}, err
	}
	value, err := s.sealer.SealOwner(owner)
	if err != nil {
		return Outcome{}, err
	}
	// No write-back: to publish the cut again does the same, and more.
	f, err := s.find(ctx, record.KindCut, record.CutObject, owner, value)
	if !s.keeps(ruleClaimFirst) {
		f, err = early, earlyErr
	}
	out := Outcome{Owner: owner, Answered: f.Answered, Of: len(s.nodes)}
	note := Note{Owner: owner, Recovering: own == nil}
	switch {
	case errors.Is(err, ErrNotFound):
		if len(own) > 0 && s.keeps(ruleTakeOverCompares) {
			return Outcome{}, fmt.Errorf("this state made cut %v, but the metadata nodes hold none: %w", own[len(own)-1], ErrStale)
		}
		return out, s.adopt(note)
	case err != nil:
		return Outcome{}, err
	}
	if instead != nil {
		if f, err = s.version(ctx, record.KindCut, record.CutObject, instead.LastVersion); err != nil {
			return Outcome{}, err
		}
	}
	cut, err := s.sealer.DecodeCut(f.KeyEpoch, f.Body)
	if err != nil {
		return Outcome{}, err
	}
	if own != nil && s.keeps(ruleTakeOverRereads) && !s.ownCut(own, cut) {
		return Outcome{}, &StaleError{Newest: cut, Own: own, Claimed: true}
	}
	if out.Cut, err = s.publishAgain(ctx, cut, &note, old, f.Version); err != nil {
		return Outcome{}, err
	}
	return out, nil
}

// publishAgain is a new owner's first act: the cut it found becomes (e+1, 0), on W nodes, before anything is noted.
// So no late message of the old owner can become the newest cut, and a cut that was found on few nodes is on enough.
//
// A takeover notes the new cut as pending in its old note first. Or one that ended before it noted its new epoch would
// find its own cut to be a stranger's, and its state, which lacks nothing, to be stale for ever.
func (s *Set) publishAgain(ctx context.Context, found *record.Cut, note, old *Note, at record.Version) (*record.Cut, error) {
	again := *found
	again.Epoch, again.Number, again.Origin, again.MAC = note.Owner.Epoch, 0, found.ID(), [32]byte{}
	body, err := s.sealer.EncodeCut(&again)
	if err != nil {
		return nil, err
	}
	note.Last, note.LastVersion = again.ID(), at
	if s.keeps(ruleRepublish) {
		if old != nil {
			n := old.clone()
			n.addPending(again.ID())
			if err := s.renote(n); err != nil {
				return nil, fmt.Errorf("note cut %v: %w", again.ID(), err)
			}
		}
		// Counter 0 of the new epoch is for this one record. If this run ends before the note is written, the next
		// one claims a new epoch, so it cannot be used again.
		r := record.Record{
			Kind: record.KindCut, Object: record.CutObject, Body: body,
			Version: record.Version{Epoch: note.Owner.Epoch, Counter: 0, Rand: s.random64()},
		}
		name, sealed, err := s.sealer.Seal(r)
		if err != nil {
			return nil, err
		}
		value, err := s.sealer.SealOwner(note.Owner)
		if err != nil {
			return nil, err
		}
		if err := s.send(ctx, "publish the newest cut again", name[:], sealed, note.Owner, value); err != nil {
			return nil, err
		}
		note.LastVersion = r.Version
	} else {
		again = *found
		note.Last = found.ID()
	}
	if !note.Recovering {
		note.LastVersion = record.Version{}
	}
	return &again, s.adopt(*note)
}

// adopt saves the note of a new owner and starts to act as it.
func (s *Set) adopt(n Note) error {
	n.Reserved = 1 // 0 was for the republished cut
	if err := s.o.Notebook.Save(n); err != nil {
		return err
	}
	return s.start(n)
}

// Resume makes this Set the owner that its note names, after a restart. It asks nobody: whether the owner was fenced
// shows with the first acknowledgement, or by Verify. ErrNoNote means that a takeover is needed.
func (s *Set) Resume() (Note, error) {
	note, err := s.o.Notebook.Load()
	if err != nil {
		return Note{}, err
	}
	if !s.keeps(ruleCountersReserved) {
		note.Reserved = 1
	}
	return note, s.start(note)
}

// editNote changes the note durably.
func (s *Set) editNote(edit func(*Note)) error {
	s.noteMu.lock()
	defer s.noteMu.unlock()
	if !s.loaded {
		return ErrNotOwner
	}
	n := s.note.clone()
	edit(&n)
	if err := s.renote(n); err != nil {
		return err
	}
	s.note = n
	return nil
}

// LastCut is the newest cut that this owner knows to be acknowledged; zero when there is none.
func (s *Set) LastCut() record.CutID {
	s.noteMu.lock()
	defer s.noteMu.unlock()
	return s.note.Last
}

// PublishCut gives the cut its epoch and number, notes it as pending, and writes it to W nodes. When it returns nil
// the cut is acknowledged: any later recovery finds it or a newer one. A cut that failed is not sent again: the next
// one has a higher number. One cut at a time.
func (s *Set) PublishCut(ctx context.Context, c *record.Cut) (record.Version, error) {
	body, err := s.noteCut(c)
	if err != nil {
		return record.Version{}, err
	}
	v, err := s.Put(ctx, record.KindCut, record.CutObject, body)
	if err != nil {
		return record.Version{}, fmt.Errorf("publish cut %v: %w", c.ID(), err)
	}
	// In memory only: the next cut's note carries it, and until then the pending one is as good.
	s.noteMu.lock()
	defer s.noteMu.unlock()
	s.note.Last, s.note.Pending = c.ID(), nil
	return v, nil
}

// noteCut numbers and encodes the cut and notes it before anything of it is sent.
func (s *Set) noteCut(c *record.Cut) ([]byte, error) {
	s.noteMu.lock()
	defer s.noteMu.unlock()
	if !s.loaded {
		return nil, ErrNotOwner
	}
	n := s.note.clone()
	if n.Recovering {
		return nil, errors.New("publish cut: the recovery is not finished")
	}
	c.Epoch, c.Number, c.Origin = n.Owner.Epoch, 1, record.CutID{}
	for _, id := range n.Own() {
		if id.Epoch == c.Epoch {
			c.Number = max(c.Number, id.Number+1)
		}
	}
	body, err := s.sealer.EncodeCut(c)
	if err != nil {
		return nil, err
	}
	n.addPending(c.ID())
	if err := s.renote(n); err != nil {
		return nil, fmt.Errorf("note cut %v: %w", c.ID(), err)
	}
	s.note = n
	return body, nil
}

// NewestCut reads the newest cut, as Newest does. ErrNotFound means that there was never one.
func (s *Set) NewestCut(ctx context.Context) (*record.Cut, Found, error) {
	f, err := s.Newest(ctx, record.KindCut, record.CutObject)
	if err != nil {
		return nil, f, err
	}
	c, err := s.sealer.DecodeCut(f.KeyEpoch, f.Body)
	return c, f, err
}

package zstor

import (
	"context"
	"errors"
	"fmt"
	"time"

	"qsfs/zstor/client"
	"qsfs/zstor/internal/quorum"
	"qsfs/zstor/internal/record"
	"qsfs/zstor/internal/watch"

	"qsfs/zdb/crashpoint"
)

// Format makes empty metadata nodes ready and this state directory the owner of the first epoch.
func (s *Store) Format(ctx context.Context) (client.Owner, error) {
	s.roundMu.lock()
	defer s.roundMu.unlock()
	s.verifyMu.lock()
	defer s.verifyMu.unlock()
	if err := s.mayRecover(); errors.Is(err, ErrNotEmpty) {
		return client.Owner{}, fmt.Errorf("%w: %w", client.ErrFormatted, err)
	} else if err != nil {
		return client.Owner{}, err
	}
	s.mu.Lock()
	role := s.role
	s.mu.Unlock()
	if role != roleNone {
		return client.Owner{}, fmt.Errorf("%w: %s owns one already", client.ErrFormatted, s.state)
	}
	if _, err := s.set.Format(ctx); err != nil {
		switch {
		case errors.Is(err, quorum.ErrNotEmpty):
			return client.Owner{}, fmt.Errorf("%w: %w", client.ErrFormatted, err)
		case errors.Is(err, quorum.ErrQuorum):
			return client.Owner{}, fmt.Errorf("%w: all metadata nodes must be up for a format: %w", client.ErrUnavailable, err)
		}
		return client.Owner{}, err
	}
	s.mu.Lock()
	s.role, s.cut, s.ledger = roleOwner, nil, record.NewLedger()
	s.mu.Unlock()
	s.lookAtNodes() // while nothing is dispersed there is nothing to doubt
	s.metaStatus(ctx)
	return s.ownerNow(), nil
}

// Takeover claims the epoch for an old machine that comes back with its own state, and goes on only
// if the newest cut is this state's own last one.
func (s *Store) Takeover(ctx context.Context) (client.TakeoverReply, error) {
	s.roundMu.lock()
	defer s.roundMu.unlock()
	s.verifyMu.lock()
	defer s.verifyMu.unlock()
	s.mu.Lock()
	recovering := s.role == roleRecovering
	s.mu.Unlock()
	if recovering {
		return client.TakeoverReply{}, s.wantOwner()
	}
	out, err := s.set.TakeOver(ctx)
	var stale *quorum.StaleError
	switch {
	case errors.As(err, &stale), errors.Is(err, quorum.ErrStale):
		s.lostOwnership()
		return client.TakeoverReply{Verdict: client.Stale, Reason: err.Error()}, nil
	case errors.Is(err, quorum.ErrNoNote):
		return client.TakeoverReply{}, fmt.Errorf("%w: %s never owned this filesystem: recover into an empty state directory", client.ErrStale, s.state)
	case err != nil:
		s.lostOwnership() // or nothing could be verified any more, until the next start
		return client.TakeoverReply{}, recoverError(err)
	}
	crashpoint.Hit("zstor.claim.raised")
	s.own(nil, nil) // if the rest fails, the next comparison reads everything
	ledger := record.NewLedger()
	if out.Cut != nil {
		if ledger, err = s.loadLedger(ctx, out.Cut); err != nil {
			return client.TakeoverReply{}, err
		}
	}
	if err := s.adoptIntents(ctx); err != nil {
		return client.TakeoverReply{}, err
	}
	s.own(out.Cut, ledger)
	if err := errors.Join(s.loadIncomplete(ctx), s.saveCutNote()); err != nil {
		return client.TakeoverReply{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return client.TakeoverReply{Verdict: client.Verified, Owner: s.ownerNow(), Cut: s.cutNoteLocked()}, nil
}

// own makes this process the owner that continues a cut. Whoever is attached attaches again.
func (s *Store) own(cut *record.Cut, ledger *record.Ledger) {
	s.adoptCut(cut, ledger)
	s.mu.Lock()
	s.role, s.fenced, s.att, s.problem = roleOwner, nil, nil, nil
	s.mu.Unlock()
}

// lostOwnership is the end of a takeover that found a newer cut: the noted owner is fenced.
func (s *Store) lostOwnership() {
	if _, err := s.set.Resume(); err != nil {
		s.log.Warn("cannot go back to the noted owner", "error", err)
	}
	s.mu.Lock()
	s.att = nil
	s.mu.Unlock()
}

// Flush ships everything announced so far and waits until what can be completed is complete.
func (s *Store) Flush(ctx context.Context, progress func(client.Progress)) error {
	if err := s.wantOwner(); err != nil {
		return err
	}
	s.mu.Lock()
	a := s.att
	var want *attachment
	if a != nil {
		want = &attachment{req: a.req, meta: a.meta, data: a.data}
		a.urgent = true
	}
	s.mu.Unlock()
	if want == nil {
		return fmt.Errorf("%w: no filesystem is mounted from %s", client.ErrNotAttached, s.state)
	}
	s.retry()
	start := s.pendingBytes()
	for {
		s.mu.Lock()
		done, covered := s.cutDone, coversHeads(s.cut, want.meta, want.data)
		s.mu.Unlock()
		left := s.pendingBytes()
		start = max(start, left)
		progress(client.Progress{Phase: "ship", Bytes: start - left, BytesTotal: start, Message: s.flushMessage()})
		if covered {
			return s.flushObjects(ctx, progress)
		}
		if err := s.refusal(want.req.Session); err != nil {
			return err
		}
		select {
		case <-done:
		case <-time.After(500 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("%w: %s", client.ErrUnavailable, s.problemText())
		}
	}
}

func (s *Store) flushMessage() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.problem != nil {
		return s.problem.Error()
	}
	return ""
}

// flushObjects waits while incomplete objects get forward; those whose nodes are away stay behind.
func (s *Store) flushObjects(ctx context.Context, progress func(client.Progress)) error {
	total := int64(len(s.objects.all()))
	kick(s.kickWork)
	for quiet := 0; quiet < 4; {
		left := int64(0)
		for _, o := range s.objects.all() {
			if s.canComplete(o.manifest()) {
				left++
			}
		}
		progress(client.Progress{Phase: "complete", Items: max(total-left, 0), ItemsTotal: total})
		if left == 0 {
			return nil
		}
		before := left
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(250 * time.Millisecond):
		}
		if left == before {
			quiet++
		}
	}
	return nil
}

// canComplete reports whether some missing shard's node is up.
func (s *Store) canComplete(m *record.Manifest) bool {
	for _, h := range m.Nodes {
		if p := s.peers[h.Node]; h.State == record.Offered && p != nil && p.Up() {
			return true
		}
	}
	return false
}

// localSegments reports whether the state directory holds anything of a filesystem.
func (s *Store) localSegments() (bool, error) {
	for _, ns := range []string{nsData, nsMeta} {
		for _, list := range []func(string, string) ([]uint32, error){watch.Local, watch.Sealed} {
			n, err := list(s.state, ns)
			if err != nil {
				return false, err
			}
			if len(n) > 0 {
				return true, nil
			}
		}
	}
	return false, nil
}

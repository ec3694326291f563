package zstor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"qsfs/zstor/client"
	"qsfs/zstor/internal/quorum"
	"qsfs/zstor/internal/record"
)

// attachment is the opened state directory that ships, and what it announced.
type attachment struct {
	req     client.AttachRequest
	verdict client.Verdict
	reason  string

	meta, data record.Head // newest announced
	announced  bool        // heads were announced, or verified with the attach
	urgent     bool
	since      time.Time // when the oldest head that no cut covers was announced; zero: all covered
}

// Attach compares the local state with the newest cut. Nothing ships before it says verified.
func (s *Store) Attach(ctx context.Context, r client.AttachRequest) (client.AttachReply, error) {
	if err := checkAttach(r); err != nil {
		return client.AttachReply{}, err
	}
	if err := s.wantOwner(); err != nil {
		return client.AttachReply{}, err
	}
	a := &attachment{req: r, meta: toHead(r.Meta), data: toHead(r.Data)}
	s.mu.Lock()
	s.att = a
	s.mu.Unlock()
	s.verify(ctx, a)
	return s.attachReply(a), nil
}

func checkAttach(r client.AttachRequest) error {
	if r.Session == 0 || r.Meta.Offset < 0 || r.Data.Offset < 0 {
		return fmt.Errorf("%w: an attach needs a session and heads", client.ErrBadRequest)
	}
	if !slices.IsSortedFunc(r.Sessions, func(a, b client.SessionStart) int {
		if a.FirstSeq < b.FirstSeq {
			return -1
		}
		return 1
	}) {
		return fmt.Errorf("%w: the sessions are not in order", client.ErrBadRequest)
	}
	return nil
}

// wantOwner refuses what only an owner can do.
func (s *Store) wantOwner() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch s.role {
	case roleOwner:
		return nil
	case roleRecovering:
		return fmt.Errorf("%w: a recovery into %s is not complete: run it again, it goes on where it stopped", client.ErrStale, s.state)
	}
	return fmt.Errorf("%w: %s owns no filesystem: format the nodes for a new one, or recover the one they hold", client.ErrUnformatted, s.state)
}

func (s *Store) attachReply(a *attachment) client.AttachReply {
	s.mu.Lock()
	defer s.mu.Unlock()
	return client.AttachReply{
		Verdict: a.verdict, Reason: a.reason, Owner: s.ownerNow(), Cut: s.cutNoteLocked(), SyncInterval: s.cfg.QSFS.SyncInterval,
	}
}

func (s *Store) ownerNow() client.Owner {
	o, ok := s.set.Owner()
	if !ok {
		return client.Owner{}
	}
	return client.Owner{Epoch: o.Epoch, ID: o.ID.String(), Since: o.Time, Host: o.Host}
}

// verify judges an attachment. A round that runs for an earlier session may go on meanwhile: what it
// ships was durable, so the state that is attached now holds it too.
func (s *Store) verify(ctx context.Context, a *attachment) {
	if err := s.verifyMu.lockCtx(ctx); err != nil {
		s.mu.Lock()
		a.verdict, a.reason = client.Unverified, "another comparison is under way"
		s.mu.Unlock()
		return
	}
	defer s.verifyMu.unlock()
	verdict, reason := s.judge(ctx, a)
	s.mu.Lock()
	a.verdict, a.reason = verdict, reason
	if verdict == client.Verified {
		a.announced = true
		if !s.coversLocked(a) && a.since.IsZero() {
			a.since = time.Now()
		}
	}
	s.mu.Unlock()
	s.log.Info("compared the local state with the newest cut", "verdict", verdict, "reason", reason)
	if verdict == client.Verified {
		kick(s.kickWork)
		s.retry()
	}
}

func (s *Store) judge(ctx context.Context, a *attachment) (client.Verdict, string) {
	if err := s.loadCut(ctx); err != nil {
		return s.verdictOf(err)
	}
	owner, _ := s.set.Owner()
	if a.req.Epoch != owner.Epoch {
		return client.Stale, fmt.Sprintf("the state was opened for epoch %d, this machine owns epoch %d: open it again", a.req.Epoch, owner.Epoch)
	}
	s.mu.Lock()
	cut := s.cut
	s.mu.Unlock()
	if cut == nil {
		return client.Verified, ""
	}
	if reason := compare(cut, a); reason != "" {
		return client.Stale, fmt.Sprintf("cut %v of %s is not part of this state (%s): recover into an empty state directory, then salvage what is only here", cut.ID(), cut.Time.Format(time.RFC3339), reason)
	}
	return client.Verified, ""
}

// verdictOf turns a failure to read the newest cut into a verdict.
func (s *Store) verdictOf(err error) (client.Verdict, string) {
	if s.noteFenced(err) {
		return client.Fenced, err.Error()
	}
	return client.Unverified, err.Error()
}

// compare says why a state does not continue a cut; empty when it does. A state that was rolled
// back has lower heads, or, after it wrote on, another session where the cut ended.
func compare(cut *record.Cut, a *attachment) string {
	if a.meta.Seq < cut.Meta.Seq {
		return fmt.Sprintf("its metadata ends at %s, the cut at %s", seq(a.meta.Seq), seq(cut.Meta.Seq))
	}
	if a.data.Seq < cut.Data.Seq {
		return fmt.Sprintf("its data ends at %s, the cut at %s", seq(a.data.Seq), seq(cut.Data.Seq))
	}
	if cut.Meta.Seq&(1<<48-1) == 0 {
		return "" // the log was empty
	}
	session, known := sessionAt(a.req, cut.Meta.Seq)
	if !known {
		return "its history does not reach back to the cut"
	}
	if session != cut.Meta.Session {
		return "another session wrote where the cut ended: this machine was rolled back"
	}
	return ""
}

func seq(v uint64) string { return fmt.Sprintf("e%d.%d", v>>48, v&(1<<48-1)) }

// sessionAt finds who wrote a sequence of zdbfs-meta.
func sessionAt(r client.AttachRequest, seq uint64) (uint64, bool) {
	if seq > r.Meta.Seq {
		return r.Session, true // written after the attach
	}
	for _, x := range slices.Backward(r.Sessions) {
		if x.FirstSeq <= seq {
			return x.Session, true
		}
	}
	return 0, false
}

// loadCut reads the newest cut, its base and the open intents, once per ownership. The caller
// holds verifyMu.
func (s *Store) loadCut(ctx context.Context) error {
	if err := s.set.Verify(ctx); err != nil {
		return err
	}
	s.mu.Lock()
	loaded := s.ledger != nil
	s.mu.Unlock()
	if loaded {
		return nil
	}
	cut, _, err := s.set.NewestCut(ctx)
	if err != nil && !errors.Is(err, quorum.ErrNotFound) {
		return err
	}
	ledger := record.NewLedger()
	if cut != nil {
		if ledger, err = s.loadLedger(ctx, cut); err != nil {
			return err
		}
	}
	if err := s.adoptIntents(ctx); err != nil {
		return err
	}
	s.adoptCut(cut, ledger)
	return s.loadIncomplete(ctx)
}

func (s *Store) loadLedger(ctx context.Context, cut *record.Cut) (*record.Ledger, error) {
	if cut.Base == nil {
		return record.LoadLedger(cut, nil)
	}
	encoded, err := s.readBytes(ctx, &cut.Base.Manifest)
	if err != nil {
		return nil, fmt.Errorf("read base: %w", err)
	}
	base, err := s.sealer.OpenBase(cut.Base, encoded)
	if err != nil {
		return nil, err
	}
	return record.LoadLedger(cut, base)
}

// adoptIntents takes over what earlier processes had on record. A file whose manifest was written
// before the process ended is rooted; it is no left-over.
func (s *Store) adoptIntents(ctx context.Context) error {
	if err := s.intents.adopt(ctx); err != nil {
		return fmt.Errorf("read intents: %w", err)
	}
	for _, e := range s.intents.ofFiles() {
		f, err := s.set.Newest(ctx, record.KindManifest, e.Object)
		if errors.Is(err, quorum.ErrNotFound) {
			continue
		}
		if err != nil {
			return fmt.Errorf("read manifest of %s: %w", e.Object, err)
		}
		m, err := record.DecodeManifest(f.Body)
		if err != nil {
			return err
		}
		if m.Generation == e.Generation {
			s.rooted(m)
		}
	}
	return nil
}

// adoptCut makes a cut the one that this process continues.
func (s *Store) adoptCut(cut *record.Cut, ledger *record.Ledger) {
	s.intents.releaseAll()
	s.mu.Lock()
	s.cut, s.ledger = cut, ledger
	clear(s.segments) // an upload that is under way finds out when it is done
	if ledger != nil {
		s.adoptTailsLocked(cut)
	}
	clear(s.lost)
	s.objects.clear()
	s.mu.Unlock()
	s.doubts.reset() // the live set is another
	kick(s.kickAudit)
}

// Heads takes an announcement. With Wait it returns when an acknowledged cut covers the heads.
func (s *Store) Heads(ctx context.Context, r client.HeadsRequest) (client.HeadsReply, error) {
	want, err := s.announce(r)
	if err != nil {
		return client.HeadsReply{}, err
	}
	if r.Urgent || r.Wait {
		s.retry()
	}
	if !r.Wait {
		return s.headsReply(), nil
	}
	for {
		s.mu.Lock()
		done, covered := s.cutDone, s.att != nil && s.att.req.Session == r.Session && coversHeads(s.cut, want.meta, want.data)
		s.mu.Unlock()
		if covered {
			return s.headsReply(), nil
		}
		if err := s.refusal(r.Session); err != nil {
			return client.HeadsReply{}, err
		}
		select {
		case <-done:
		case <-ctx.Done():
			return client.HeadsReply{}, fmt.Errorf("%w: not dispersed in time: %s", client.ErrUnavailable, s.problemText())
		case <-s.life.Done():
			return client.HeadsReply{}, fmt.Errorf("%w: the daemon stops", client.ErrUnavailable)
		}
	}
}

// announce notes heads; they only rise.
func (s *Store) announce(r client.HeadsRequest) (*attachment, error) {
	if err := s.refusal(r.Session); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.att
	if a == nil || a.req.Session != r.Session {
		return nil, client.ErrNotAttached
	}
	meta, data := toHead(r.Meta), toHead(r.Data)
	if meta.Seq < a.meta.Seq || data.Seq < a.data.Seq || before(meta, a.meta) || before(data, a.data) {
		// A late announcement: what came since covers it.
		return &attachment{meta: meta, data: data}, nil
	}
	if meta != a.meta || data != a.data || !a.announced {
		a.meta, a.data, a.announced = meta, data, true
		if a.since.IsZero() && !s.coversLocked(a) {
			a.since = time.Now()
		}
	}
	a.urgent = a.urgent || r.Urgent || r.Wait
	return &attachment{meta: meta, data: data}, nil
}

// before compares positions in one log.
func before(a, b record.Head) bool {
	return a.Segment < b.Segment || a.Segment == b.Segment && a.Offset < b.Offset
}

// refusal says why a session may not announce; nil when it may.
func (s *Store) refusal(session uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.fenced != nil:
		return fmt.Errorf("%w: %w", client.ErrFenced, s.fenced)
	case s.att == nil || s.att.req.Session != session:
		return client.ErrNotAttached
	case s.att.verdict == client.Stale:
		return fmt.Errorf("%w: %s", client.ErrStale, s.att.reason)
	}
	return nil
}

func (s *Store) headsReply() client.HeadsReply {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := client.HeadsReply{Covered: true}
	if s.cut != nil {
		out.Cut, out.Meta, out.Data = s.cut.Number, fromHead(s.cut.Meta), fromHead(s.cut.Data)
	}
	if a := s.att; a != nil {
		out.Verdict = a.verdict
		out.Covered = s.coversLocked(a)
		if !a.since.IsZero() {
			out.Age = time.Since(a.since)
		}
		if a.verdict != client.Verified {
			out.Problem = a.reason
		}
	}
	if s.problem != nil {
		out.Problem = s.problem.Error()
	}
	return out
}

func (s *Store) coversLocked(a *attachment) bool { return coversHeads(s.cut, a.meta, a.data) }

// coversHeads reports whether a cut reaches at least as far as the heads.
func coversHeads(c *record.Cut, meta, data record.Head) bool {
	if c == nil {
		return meta.Seq == 0 && data.Seq == 0
	}
	return !before(c.Meta, meta) && !before(c.Data, data)
}

func (s *Store) problemText() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.problem != nil:
		return s.problem.Error()
	case s.att != nil && s.att.verdict != client.Verified:
		return s.att.reason
	}
	return "the nodes are slow"
}

// noteFenced remembers that another owner was seen; it reports whether err says so. What was begun as an owner that
// this process is not any more, and is told that its own takeover or recovery has fenced it, says nothing.
func (s *Store) noteFenced(err error) bool {
	var f *quorum.FencedError
	if !errors.As(err, &f) {
		return false
	}
	if o, ok := s.set.Owner(); !ok || !o.Same(f.Mine) {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fenced == nil {
		s.log.Error("another machine has taken over: nothing is acknowledged any more", "error", err)
		s.fenced = err
	}
	if s.att != nil {
		s.att.verdict, s.att.reason = client.Fenced, err.Error()
	}
	close(s.cutDone)
	s.cutDone = make(chan struct{})
	return true
}

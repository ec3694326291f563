package service

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"qsfs/zdb"
	"qsfs/zdbfs"
	"qsfs/zdbfs/internal/exit"
	"qsfs/zstor/client"
)

// callTimeout bounds one call to zstor that asks for no waiting.
const callTimeout = 15 * time.Second

// link keeps zstor informed of what is durable here, and this process of what is safe there.
type link struct {
	zstor *client.Client
	eng   *engine
	fs    *zdbfs.FS
	st    *state
	every time.Duration
	log   *slog.Logger
	// stopWriting is called once, with the reason, when this machine may not write any more.
	stopWriting func(reason string)

	promiseMu                  sync.Mutex // held over the write of the note; never with mu
	promisedMeta, promisedData uint64     // sequences in the note

	mu       sync.Mutex
	attached bool
	verdict  client.Verdict
	reason   string // of the verdict
	problem  string // why shipping does not succeed right now
	stopped  bool   // stopWriting was called
	cut      uint64
	cutMeta  client.Head
	cutData  client.Head
	looked   time.Time // when the heads were looked at last
	waiting  []sample  // heads that no cut covers, oldest first
	syncErr  error
	lastBeat time.Time

	wg     sync.WaitGroup
	cancel context.CancelFunc
}

// sample is a head, and a time before which nothing of it was written that an earlier sample does not have.
type sample struct {
	at         time.Time
	meta, data uint64 // sequences
}

// maxSamples bounds link.waiting.
const maxSamples = 1024

// attach compares this state with the newest cut. A state that must not be written to comes back as
// an error with its exit code; an answer that is not to be had leaves the link unverified.
func (l *link) attach(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	meta, data := l.eng.heads()
	if err := l.promise(meta, data); err != nil {
		return err
	}
	reply, err := l.zstor.Attach(ctx, l.eng.attachRequest(l.st.owner.Epoch, meta, data))
	if err != nil {
		return l.attachFailed(err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	before := l.verdict
	l.verdict, l.reason = reply.Verdict, reply.Reason
	l.attached = true
	switch reply.Verdict {
	case client.Verified:
		l.problem = ""
		if c := reply.Cut; c != nil {
			l.coverLocked(c.Number, c.Meta, c.Data)
		}
		if before == client.Unverified {
			l.log.Info("the local state is the newest: shipping begins")
		}
		return nil
	case client.Unverified:
		return nil
	case client.Fenced:
		return exit.Errorf(exit.Stale, "another machine has taken over this filesystem (%s); to take it back run: zdbfs mount --take-over; to follow it run: zdbfs recover", reply.Reason)
	default:
		return exit.Errorf(exit.Stale, "the local state is not the newest (%s); bring it up to date with: zdbfs recover (what is here is put aside, not removed)", reply.Reason)
	}
}

func (l *link) attachFailed(err error) error {
	l.mu.Lock()
	l.attached = false
	if l.verdict != client.Verified {
		l.verdict, l.reason = client.Unverified, err.Error()
	}
	l.problem = err.Error()
	l.mu.Unlock()
	switch {
	case errors.Is(err, client.ErrPassword):
		return exit.Errorf(exit.Password, "%w; correct the password in the configuration", err)
	case errors.Is(err, client.ErrFenced):
		return exit.Errorf(exit.Stale, "another machine has taken over this filesystem (%w); to take it back run: zdbfs mount --take-over; to follow it run: zdbfs recover", err)
	case errors.Is(err, client.ErrStale):
		return exit.Errorf(exit.Stale, "the local state is not the newest (%w); bring it up to date with: zdbfs recover (what is here is put aside, not removed)", err)
	case errors.Is(err, client.ErrUnformatted):
		return exit.Errorf(exit.Stale, "the metadata nodes hold no filesystem but this state directory does (%w); check prefix and addresses of the metadata nodes in the configuration", err)
	}
	return exit.Errorf(exit.Unreachable, "zstor cannot compare the local state with the nodes: %w", err)
}

// promise notes heads on the local disk before zstor hears of them.
func (l *link) promise(meta, data client.Head) error {
	l.promiseMu.Lock()
	defer l.promiseMu.Unlock()
	if meta.Seq <= l.promisedMeta && data.Seq <= l.promisedData {
		return nil
	}
	if err := l.st.writeAnnounced(meta, data); err != nil {
		l.mu.Lock()
		l.problem = err.Error()
		l.mu.Unlock()
		return err
	}
	l.promisedMeta, l.promisedData = meta.Seq, data.Seq
	return nil
}

// start begins the loop.
func (l *link) start() {
	ctx, cancel := context.WithCancel(context.Background())
	l.cancel = cancel
	l.wg.Go(func() { l.run(ctx) })
}

// stop ends the loop; nothing is announced after it but by ship.
func (l *link) stop() {
	l.cancel()
	l.wg.Wait()
}

func (l *link) run(ctx context.Context) {
	tick := time.NewTicker(l.every)
	defer tick.Stop()
	for {
		l.round(ctx)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// round makes what is written durable and announces it.
func (l *link) round(ctx context.Context) {
	l.mu.Lock()
	l.lastBeat = time.Now()
	l.mu.Unlock()
	if err := l.sync(ctx); err != nil && ctx.Err() == nil {
		l.log.Error("written data cannot be made durable on the local disk", "err", err)
	}
	l.look()
	meta, data := l.eng.heads()
	if l.isStopped() {
		return
	}
	if !l.isAttached() {
		if err := l.attach(ctx); err != nil && exit.Of(err) == exit.Stale {
			l.forbid(err.Error())
			return
		}
		if !l.isAttached() {
			return
		}
	}
	if err := l.promise(meta, data); err != nil {
		l.log.Error("nothing is shipped", "err", err)
		return
	}
	callCtx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	reply, err := l.zstor.Heads(callCtx, client.HeadsRequest{Session: l.eng.db.Session(), Meta: meta, Data: data})
	l.heard(ctx, reply, err)
}

// sync makes what is in memory durable. The error is kept for the status.
func (l *link) sync(ctx context.Context) error {
	err := l.fs.Sync(ctx)
	if err == nil {
		err = l.eng.err()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.syncErr = err
	return err
}

// heard takes in the answer to an announcement.
func (l *link) heard(ctx context.Context, reply client.HeadsReply, err error) {
	switch {
	case err == nil:
	case ctx.Err() != nil:
		return
	case errors.Is(err, client.ErrFenced), errors.Is(err, client.ErrStale):
		l.forbid(err.Error())
		return
	default:
		l.mu.Lock()
		if errors.Is(err, client.ErrNotAttached) || errors.Is(err, client.ErrDown) {
			l.attached = false // a daemon that was restarted knows nothing of us
		}
		l.problem = err.Error()
		l.mu.Unlock()
		return
	}
	l.mu.Lock()
	l.problem = reply.Problem
	if reply.Verdict != "" {
		l.verdict = reply.Verdict
	}
	if reply.Verdict == client.Verified && (reply.Cut != l.cut || reply.Meta.Seq != l.cutMeta.Seq || reply.Data.Seq != l.cutData.Seq) {
		l.coverLocked(reply.Cut, reply.Meta, reply.Data)
	}
	l.mu.Unlock()
	if reply.Verdict == client.Fenced || reply.Verdict == client.Stale {
		reason := reply.Problem
		if reason == "" {
			reason = "zstor says that this state is " + string(reply.Verdict)
		}
		l.forbid(reason)
	}
}

// coverLocked notes that a cut covers these heads.
func (l *link) coverLocked(cut uint64, meta, data client.Head) {
	l.cut, l.cutMeta, l.cutData = cut, meta, data
	l.fs.Covered(zdb.Seq(meta.Seq)) // what was deleted up to there can go
	for len(l.waiting) > 0 && l.waiting[0].meta <= meta.Seq && l.waiting[0].data <= data.Seq {
		l.waiting = l.waiting[1:]
	}
}

// look remembers the ends of the logs, durable or not, as long as no cut covers them. What is new was written since the last
// look, so that is its age: rather too old than too young.
func (l *link) look() {
	meta, data := uint64(l.eng.meta.Head().Seq), uint64(l.eng.data.Head().Seq)
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	at := l.looked
	if at.IsZero() {
		at = now
	}
	l.looked = now
	if meta <= l.cutMeta.Seq && data <= l.cutData.Seq {
		return
	}
	n := len(l.waiting)
	switch {
	case n > 0 && l.waiting[n-1].meta >= meta && l.waiting[n-1].data >= data:
	case n == maxSamples:
		l.waiting[n-1].meta, l.waiting[n-1].data = meta, data
	default:
		l.waiting = append(l.waiting, sample{at, meta, data})
	}
}

// forbid ends writing for good.
func (l *link) forbid(reason string) {
	l.mu.Lock()
	first := !l.stopped
	l.stopped = true
	if l.verdict == client.Verified || l.verdict == client.Unverified {
		l.verdict = client.Stale
	}
	l.reason, l.problem = reason, reason
	l.mu.Unlock()
	if first {
		l.log.Error("the mount is read-only from now on", "reason", reason)
		l.stopWriting(reason)
	}
}

// since is when the oldest change in the logs that no cut covers was written, or a little earlier; false if there is none.
func (l *link) since() (time.Time, bool) {
	l.look()
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.waiting) == 0 {
		return time.Time{}, false
	}
	return l.waiting[0].at, true
}

func (l *link) isAttached() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.attached
}

func (l *link) isStopped() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.stopped
}

// uncovered is how many bytes of the logs no cut covers.
func (l *link) uncovered() int64 {
	l.mu.Lock()
	meta, data := l.cutMeta, l.cutData
	l.mu.Unlock()
	return behind(l.eng.meta, meta) + behind(l.eng.data, data)
}

// ship makes everything durable here and waits until a cut covers it.
func (l *link) ship(ctx context.Context) (uint64, error) {
	if err := l.sync(ctx); err != nil {
		return 0, fmt.Errorf("sync locally: %w", err)
	}
	l.look()
	meta, data := l.eng.heads()
	for wait := 100 * time.Millisecond; ; wait = min(2*wait, 2*time.Second) {
		cut, err := l.shipOnce(ctx, meta, data)
		if err == nil || ctx.Err() != nil || exit.Of(err) == exit.Stale {
			return cut, err
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return 0, err
		case <-timer.C:
		}
	}
}

func (l *link) shipOnce(ctx context.Context, meta, data client.Head) (uint64, error) {
	if l.isStopped() {
		return 0, exit.Errorf(exit.Stale, "nothing is shipped: %s", l.state().reason)
	}
	if !l.isAttached() {
		if err := l.attach(ctx); err != nil {
			if exit.Of(err) == exit.Stale {
				l.forbid(err.Error())
			}
			return 0, err
		}
	}
	if err := l.promise(meta, data); err != nil {
		return 0, err
	}
	reply, err := l.zstor.Heads(ctx, client.HeadsRequest{Session: l.eng.db.Session(), Meta: meta, Data: data, Urgent: true, Wait: true})
	l.heard(ctx, reply, err)
	switch {
	case errors.Is(err, client.ErrFenced), errors.Is(err, client.ErrStale):
		return 0, exit.Errorf(exit.Stale, "nothing is shipped: %w", err)
	case err != nil:
		return 0, fmt.Errorf("ship: %w", err)
	case !reply.Covered:
		why := reply.Problem
		if why == "" {
			why = "no cut covers it yet"
		}
		return 0, fmt.Errorf("ship: %s", why)
	}
	return reply.Cut, nil
}

// linkState is a copy of what the link knows.
type linkState struct {
	verdict          client.Verdict
	reason, problem  string
	stopped          bool
	cut              uint64
	cutMeta, cutData client.Head
	syncErr          error
	lastBeat         time.Time
}

func (l *link) state() linkState {
	l.mu.Lock()
	defer l.mu.Unlock()
	return linkState{
		verdict: l.verdict, reason: l.reason, problem: l.problem, stopped: l.stopped,
		cut: l.cut, cutMeta: l.cutMeta, cutData: l.cutData, syncErr: l.syncErr, lastBeat: l.lastBeat,
	}
}

package service

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"qsfs/zdb"
	"qsfs/zdbfs"
	"qsfs/zdbfs/bazil"
	"qsfs/zdbfs/internal/cache"
	"qsfs/zdbfs/internal/control"
	"qsfs/zdbfs/internal/exit"
	"qsfs/zstor/client"
	"qsfs/zstor/config"
)

// Options of Run.
type Options struct {
	Config *config.Config
	// TakeOver claims the filesystem before this machine writes.
	TakeOver bool
	// StopTimeout bounds how long a stop waits for the nodes to have everything (2 min).
	StopTimeout time.Duration
	// ZstorWait is how long a start waits for a zstor that does not answer yet (5 s).
	ZstorWait time.Duration
	Log       *slog.Logger
	// Notify tells the service manager; nil: nobody.
	Notify func(state string)

	// For tests.
	receipt  receiptFunc
	patience patience
}

// patience is how long a stop waits for the users of the mount.
type patience struct{ unmount, drain time.Duration }

// Service is a running mount.
type Service struct {
	cfg *config.Config
	opt Options
	log *slog.Logger

	zstor    *client.Client
	state    *state
	cache    *cache.Cache
	fetcher  *cache.Fetcher
	eng      *engine
	pressure *pressure
	capacity *capacity
	fs       *zdbfs.FS
	link     *link
	evictor  *evictor
	mount    *bazil.Mount
	// transport carries the filesystem to the kernel.
	transport string
	control   *control.Server
	started   time.Time

	readOnly atomic.Pointer[string]
	stopOnce sync.Once
	stopping chan struct{}
	// dispersed is set by a stop after which nothing is on this machine alone.
	dispersed bool
	loops     sync.WaitGroup
	cancel    context.CancelFunc // of the loops

	watchdog       sync.WaitGroup
	cancelWatchdog context.CancelFunc
}

// Run mounts, serves until ctx ends, the filesystem is unmounted, or `zdbfs umount` asks, and stops in order.
func Run(ctx context.Context, o Options) error {
	if o.StopTimeout == 0 {
		o.StopTimeout = 2 * time.Minute
	}
	if o.ZstorWait == 0 {
		o.ZstorWait = 5 * time.Second
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Notify == nil {
		o.Notify = func(string) {}
	}
	if o.patience == (patience{}) {
		o.patience = patience{unmountPatience, drainPatience}
	}
	if o.receipt == nil {
		o.receipt = checkReceipt
	}
	s := &Service{
		cfg: o.Config, opt: o, log: o.Log, started: time.Now(), stopping: make(chan struct{}),
		zstor: client.New(o.Config.Socket),
	}
	defer s.zstor.Close()
	if err := s.open(ctx); err != nil {
		err = errors.Join(err, s.close(context.Background()))
		if ctx.Err() != nil && errors.Is(err, context.Canceled) {
			s.log.Info("stopped before the mount was made")
			return nil
		}
		return err
	}
	s.startLoops()
	s.opt.Notify("READY=1\nSTATUS=mounted at " + s.mount.Dir())
	s.log.Info("mounted", "dir", s.mount.Dir(), "transport", s.transport, "state", s.state.dir, "epoch", s.state.owner.Epoch, "verdict", s.link.state().verdict)
	select {
	case <-ctx.Done():
	case <-s.stopping:
	case <-s.mount.Done():
	}
	return s.stop()
}

// open does everything up to the mount. What it has opened when it fails is closed by close.
func (s *Service) open(ctx context.Context) error {
	if _, _, err := s.cfg.CheckKey(); err != nil {
		return keyError(err)
	}
	var err error
	if s.state, err = openState(s.cfg.QSFS.State); err != nil {
		return err
	}
	socket := filepath.Join(s.cfg.SocketDir(), control.SocketName)
	if err := control.Free(socket); err != nil {
		return err
	}
	if s.transport, err = transport(s.cfg.QSFS.Transport); err != nil {
		return err
	}
	dir, err := bazil.PrepareMountPoint(s.cfg.QSFS.Mount)
	if err != nil {
		return exit.Errorf(exit.MountPoint, "%w", err)
	}
	if err := s.own(ctx); err != nil {
		return err
	}
	if err := s.extending(func() error { return s.openStorage(ctx) }); err != nil {
		return err
	}
	if err := s.extending(func() error { return s.openCore(ctx) }); err != nil {
		return err
	}
	if err := s.compare(ctx); err != nil {
		return err
	}
	s.evictor.pass(ctx, 0)
	if err := s.state.expectWrites(); err != nil {
		return err
	}
	s.mount, err = bazil.New(s.fs, dir, bazil.Options{
		DirectWrites: s.pressure.tight, Log: s.log, RemoteSync: s.remoteSync(),
	})
	if err != nil {
		return exit.Errorf(exit.MountPoint, "%w", err)
	}
	if reason := s.readOnly.Load(); reason != nil {
		s.mount.SetReadOnly()
	}
	s.control, err = control.Listen(socket, s, s.log)
	return err
}

// transport chooses how the filesystem is carried to the kernel. One is built in.
func transport(configured string) (string, error) {
	switch configured {
	case config.TransportAuto, config.TransportBazil:
		return config.TransportBazil, nil
	}
	return "", exit.Errorf(exit.Usage, "qsfs.transport %q is not built into this program; use %q or %q", configured, config.TransportAuto, config.TransportBazil)
}

// own makes sure that this machine owns the filesystem, as far as it is known here.
func (s *Service) own(ctx context.Context) error {
	empty, err := s.state.empty()
	if err != nil {
		return err
	}
	switch {
	case s.opt.TakeOver:
		if empty && !s.state.owned {
			return exit.Errorf(exit.Stale, "there is nothing here to take over with; run: zdbfs recover")
		}
		return s.takeOver(ctx)
	case s.state.owned && s.state.owner.Recovering:
		return exit.Errorf(exit.Stale, "a recovery into %s has begun and is not complete; run zdbfs recover again, it goes on where it was", s.state.dir)
	case s.state.owned:
		return nil
	case !empty:
		return exit.Errorf(exit.Damaged, "%s holds a filesystem but not the note of who owns it; run: zdbfs recover (what is here is put aside, not removed)", s.state.dir)
	}
	return s.format(ctx)
}

// format makes the nodes ready for a filesystem that begins here.
func (s *Service) format(ctx context.Context) error {
	if err := s.state.dropAnnounced(); err != nil {
		return err
	}
	var owner client.Owner
	err := s.retryZstor(ctx, func(ctx context.Context) error {
		var err error
		owner, err = s.zstor.Format(ctx)
		return err
	})
	switch {
	case err == nil:
	case errors.Is(err, client.ErrFormatted):
		return exit.Errorf(exit.Stale, "the nodes hold a filesystem already and %s is empty; to get it back run: zdbfs recover", s.state.dir)
	case errors.Is(err, client.ErrPassword):
		return exit.Errorf(exit.Password, "%w; correct the password in the configuration", err)
	default:
		return exit.Errorf(exit.Unreachable, "a first mount needs the nodes: %w", err)
	}
	s.log.Info("a new filesystem begins", "epoch", owner.Epoch)
	return s.state.readNotes()
}

// takeOver claims the epoch and goes on only if nothing newer than this state is on the nodes.
func (s *Service) takeOver(ctx context.Context) error {
	var reply client.TakeoverReply
	err := s.retryZstor(ctx, func(ctx context.Context) error {
		var err error
		reply, err = s.zstor.Takeover(ctx)
		return err
	})
	switch {
	case err == nil:
	case errors.Is(err, client.ErrPassword):
		return exit.Errorf(exit.Password, "%w; correct the password in the configuration", err)
	case errors.Is(err, client.ErrStale):
		return exit.Errorf(exit.Stale, "another machine has written since (%w); follow it with: zdbfs recover (what is here is put aside, not removed)", err)
	default:
		return exit.Errorf(exit.Unreachable, "taking over needs the metadata nodes: %w", err)
	}
	if reply.Verdict != client.Verified {
		return exit.Errorf(exit.Stale, "another machine has written since (%s); follow it with: zdbfs recover (what is here is put aside, not removed)", reply.Reason)
	}
	s.log.Info("taken over", "epoch", reply.Owner.Epoch)
	return s.state.readNotes()
}

// retryZstor calls f until zstor answers or the wait for it is over.
func (s *Service) retryZstor(ctx context.Context, f func(context.Context) error) error {
	deadline := time.Now().Add(s.opt.ZstorWait)
	for {
		callCtx, cancel := context.WithTimeout(ctx, time.Minute)
		err := f(callCtx)
		cancel()
		if !errors.Is(err, client.ErrDown) || time.Now().After(deadline) || ctx.Err() != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(200 * time.Millisecond):
		}
	}
}

func (s *Service) openStorage(ctx context.Context) error {
	var err error
	q := &s.cfg.QSFS
	if s.cache, err = cache.Open(s.state.path(cacheDir), cache.Options{Limit: int64(q.CacheSize), Log: s.log}); err != nil {
		return err
	}
	s.fetcher = cache.NewFetcher(s.cache, stripeSource{s.zstor}, cache.FetcherOptions{
		Timeout:    q.FetchTimeout,
		StripeHint: int64(s.cfg.SliceSize(s.cfg.MinimalShards)) * int64(s.cfg.MinimalShards),
		Log:        s.log,
	})
	s.eng, err = openEngine(ctx, s.cfg, s.state, fetchFunc(s.fetcher), s.log)
	return err
}

func (s *Service) openCore(ctx context.Context) error {
	q := &s.cfg.QSFS
	s.pressure = newPressure(q.MaxUnshippedAge)
	// An active segment of each size must fit, or writers would wait for what cannot leave.
	budget := max(int64(q.CacheSize), 4*int64(q.SegmentSizeData))
	s.pressure.update(budget, 0, 0)
	s.capacity = newCapacity(func() int64 { return s.eng.data.Stats().LiveBytes })
	var err error
	s.fs, err = zdbfs.Open(ctx, zdbfs.Options{
		Meta: s.eng.meta, Data: s.eng.data,
		FlushInterval: q.FlushInterval,
		Capacity:      s.capacity.room,
		Slack:         kernelSlack,
		Admit:         s.pressure.admit,
		Log:           s.log,
	})
	if err != nil {
		return fmt.Errorf("open the filesystem: %w", err)
	}
	s.evictor = &evictor{
		zstor: s.zstor, data: s.eng.data, cache: s.cache, budget: budget,
		dir: s.state.path(dataDir, client.NamespaceData), emergency: q.Evict != config.EvictFull,
		pressure: s.pressure, buffered: s.fs.Buffered, receipt: s.opt.receipt, state: s.state.dir, log: s.log,
		receipts: make(map[zdb.SegmentID]known), refused: make(map[zdb.SegmentID]refusal),
	}
	s.link = &link{
		zstor: s.zstor, eng: s.eng, fs: s.fs, st: s.state, every: max(q.SyncInterval/2, 50*time.Millisecond),
		log: s.log, verdict: client.Unverified, reason: "not compared with the nodes yet", stopWriting: s.makeReadOnly,
	}
	if c := s.state.cut; c != nil {
		s.link.cut, s.link.cutMeta, s.link.cutData = c.Number, c.Meta, c.Data
	}
	return nil
}

// compare asks zstor whether this state is the newest. Only an answer forbids the mount; that there
// is none does so if the configuration says that it must.
func (s *Service) compare(ctx context.Context) error {
	deadline := time.Now().Add(s.opt.ZstorWait)
	for {
		err := s.link.attach(ctx)
		if err == nil {
			break
		}
		if exit.Of(err) != exit.Unreachable {
			return err
		}
		if time.Now().After(deadline) || !errors.Is(err, client.ErrDown) {
			if !s.cfg.QSFS.OfflineMount {
				return exit.Errorf(exit.Unreachable, `%w; offline_mount = "no" forbids to mount without the nodes`, err)
			}
			s.log.Warn("mounting on local data alone, not verified", "reason", err)
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(200 * time.Millisecond):
		}
	}
	if st := s.link.state(); st.verdict == client.Unverified {
		if !s.cfg.QSFS.OfflineMount {
			return exit.Errorf(exit.Unreachable, `the local state cannot be compared with the nodes (%s); offline_mount = "no" forbids to mount without them`, st.reason)
		}
		s.log.Warn("mounting on local data alone, not verified", "reason", st.reason)
	}
	return nil
}

// makeReadOnly is told by the link that this machine may not write any more.
func (s *Service) makeReadOnly(reason string) {
	s.readOnly.Store(&reason)
	if s.mount != nil {
		s.mount.SetReadOnly()
	}
	s.opt.Notify("STATUS=read-only: " + reason)
}

// remoteSync gives the transport what an fsync waits for besides the local disk; nil for nothing.
func (s *Service) remoteSync() func(context.Context) error {
	if s.cfg.QSFS.Sync != config.SyncRemote {
		return nil
	}
	return func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, s.cfg.QSFS.MaxUnshippedAge)
		defer cancel()
		_, err := s.link.ship(ctx)
		if err != nil {
			s.log.Warn("an fsync that waits for the nodes failed, its data stays pending", "err", err)
		}
		return err
	}
}

func keyError(err error) error {
	return exit.Errorf(exit.Key, "%w", err)
}

// controlGrace is how long calls on the control socket may go on while everything ends.
const controlGrace = 2 * time.Second

// close closes what is open, in the order in which one needs the other. It is for a start that failed
// and for the end of stop.
func (s *Service) close(ctx context.Context) error {
	var errs []error
	add := func(step string, err error) {
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", step, err))
		}
	}
	if s.control != nil {
		grace, cancel := context.WithTimeout(ctx, controlGrace)
		add("close the control socket", s.control.Close(grace))
		cancel()
	}
	if s.mount != nil {
		select {
		case <-s.mount.Done():
			add("end the mount", s.mount.Close())
		default:
			// Its requests fail from now on; the kernel ends it with this process.
			add("end the mount", s.mount.Abort())
		}
	}
	if s.fetcher != nil {
		s.fetcher.Close() // reads that wait for nodes end now
	}
	if s.fs != nil {
		add("close the filesystem", s.fs.Close(ctx))
	}
	if s.eng != nil {
		add("close the engine", s.eng.close())
	}
	if s.dispersed && len(errs) == 0 {
		add("note that everything is dispersed", s.state.allDispersed())
	}
	if s.state != nil {
		add("unlock the state", s.state.close())
	}
	return errors.Join(errs...)
}

package service

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"qsfs/zdbfs"
	"qsfs/zdbfs/internal/cache"
	"qsfs/zdbfs/internal/exit"
	"qsfs/zstor/client"
	"qsfs/zstor/config"
)

// RecoverOptions of Recover.
type RecoverOptions struct {
	Config     *config.Config
	ConfigPath string // for a zstor that is started for the duration
	Progress   func(client.Progress)
	Log        *slog.Logger
}

// Recovered says what a recovery came to.
type Recovered struct {
	Cut   *client.CutNote
	Owner client.Owner
	// Aside is where an older state of this machine was put; empty if there was none.
	Aside string
	Files int64
}

// Recover brings the filesystem into the state directory from the nodes, with nothing but the
// configuration and the key. It can be killed and run again.
func Recover(ctx context.Context, o RecoverOptions) (*Recovered, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if _, _, err := o.Config.CheckKey(); err != nil {
		return nil, keyError(err)
	}
	st, err := openState(o.Config.QSFS.State)
	if err != nil {
		return nil, err
	}
	defer st.close()
	z := client.New(o.Config.Socket)
	defer z.Close()
	daemon, err := ensureZstor(ctx, z, o.ConfigPath, o.Log)
	if err != nil {
		return nil, err
	}
	defer func() { daemon.stop() }()

	out := &Recovered{}
	if move, err := mustMove(ctx, o, st, z); err != nil {
		return nil, err
	} else if move {
		// A daemon of our own starts again on the empty directory; one that was there before notices
		// by the call that follows.
		daemon.stop()
		if out.Aside, err = st.putAside(time.Now()); err != nil {
			return nil, err
		}
		if daemon, err = ensureZstor(ctx, z, o.ConfigPath, o.Log); err != nil {
			return nil, err
		}
	}
	if err := st.dropAnnounced(); err != nil {
		return nil, err
	}
	if err := z.Recover(ctx, o.Progress); err != nil {
		return nil, recoverError(err)
	}
	if err := st.readNotes(); err != nil {
		return nil, err
	}
	if o.Progress != nil {
		o.Progress(client.Progress{Phase: "verify", Message: "opening what was recovered"})
	}
	out.Owner, out.Cut = st.owner, st.cut
	if out.Files, err = verify(ctx, o, st, z); err != nil {
		return nil, err
	}
	return out, nil
}

// mustMove says whether what lies in the state directory is in the way of a recovery. A state that is
// the newest is not recovered over.
func mustMove(ctx context.Context, o RecoverOptions, st *state, z *client.Client) (bool, error) {
	empty, err := st.empty()
	switch {
	case err != nil:
		return false, err
	case st.owned && st.owner.Recovering, !st.owned && empty:
		return false, nil
	case !st.owned || empty:
		return true, nil
	}
	err = probe(ctx, o, st, z)
	switch exit.Of(err) {
	case exit.OK:
		return false, exit.Errorf(exit.Usage, "the local state is the newest there is, nothing needs to be recovered; run: zdbfs mount")
	case exit.Stale:
		o.Log.Info("the local state is put aside", "reason", err)
		return true, nil
	case exit.Damaged:
		o.Log.Warn("the local state cannot be opened and is put aside", "reason", err)
		return true, nil
	}
	return false, err
}

// probe opens what is here and compares it with the nodes; nil if it is the newest.
func probe(ctx context.Context, o RecoverOptions, st *state, z *client.Client) error {
	eng, closeAll, err := openForReading(ctx, o.Config, st, z, o.Log)
	if err != nil {
		return err
	}
	defer closeAll()
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	meta, data := eng.heads()
	if err := st.writeAnnounced(meta, data); err != nil {
		return err
	}
	r, err := z.Attach(ctx, eng.attachRequest(st.owner.Epoch, meta, data))
	switch {
	case errors.Is(err, client.ErrFenced), errors.Is(err, client.ErrStale):
		return exit.Errorf(exit.Stale, "%w", err)
	case err != nil:
		return recoverError(err)
	case r.Verdict == client.Verified:
		return nil
	case r.Verdict == client.Unverified:
		return exit.Errorf(exit.Unreachable, "the local state cannot be compared with the nodes (%s), so it is left alone; bring metadata nodes back and run this again", r.Reason)
	}
	return exit.Errorf(exit.Stale, "%s", r.Reason)
}

// openForReading opens the engine of a state with its way to the nodes, and gives what closes it.
func openForReading(ctx context.Context, cfg *config.Config, st *state, z *client.Client, log *slog.Logger) (*engine, func() error, error) {
	c, err := cache.Open(st.path(cacheDir), cache.Options{Limit: int64(cfg.QSFS.CacheSize), Log: log})
	if err != nil {
		return nil, nil, err
	}
	f := cache.NewFetcher(c, stripeSource{z}, cache.FetcherOptions{Timeout: cfg.QSFS.FetchTimeout, Log: log})
	eng, err := openEngine(ctx, cfg, st, fetchFunc(f), log)
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	return eng, func() error { f.Close(); return eng.close() }, nil
}

// verify opens the recovered filesystem once, as a mount will, and reads all of its metadata.
func verify(ctx context.Context, o RecoverOptions, st *state, z *client.Client) (files int64, err error) {
	fail := func(err error) (int64, error) {
		return 0, exit.Errorf(exit.Damaged, "the recovered state does not open: %w; it is left as it is, run zdbfs recover again", err)
	}
	eng, closeAll, err := openForReading(ctx, o.Config, st, z, o.Log)
	if err != nil {
		return fail(err)
	}
	defer func() { err = errors.Join(err, closeAll()) }()
	fs, err := zdbfs.Open(ctx, zdbfs.Options{Meta: eng.meta, Data: eng.data, Log: o.Log})
	if err != nil {
		return fail(err)
	}
	defer func() { err = errors.Join(err, fs.Close(ctx)) }()
	r, err := fs.Check(ctx)
	if err != nil {
		return fail(fmt.Errorf("check: %w", err))
	}
	if n := len(r.Problems); n > 0 {
		return 0, exit.Errorf(exit.Damaged, "the filesystem was recovered, but %d things in it do not fit together, the first: %s; it can be mounted: zdbfs mount", n, r.Problems[0])
	}
	return r.Inodes, nil
}

func recoverError(err error) error {
	switch {
	case errors.Is(err, client.ErrPassword):
		return exit.Errorf(exit.Password, "%w; correct the password in the configuration", err)
	case errors.Is(err, client.ErrUnformatted):
		return exit.Errorf(exit.Stale, "the nodes hold no filesystem (%w); check the prefix, the addresses and the key", err)
	case errors.Is(err, client.ErrFenced):
		return exit.Errorf(exit.Stale, "another machine has taken over in the meantime (%w); run zdbfs recover again if this one is to have it", err)
	case errors.Is(err, client.ErrBusy):
		return exit.Errorf(exit.InUse, "zstor is busy (%w); run zdbfs recover again", err)
	case errors.Is(err, client.ErrDamaged):
		return exit.Errorf(exit.Damaged, "recover: %w", err)
	case errors.Is(err, client.ErrUnavailable), errors.Is(err, client.ErrDown):
		return exit.Errorf(exit.Unreachable, "recover: %w; what is done so far is kept, run it again", err)
	}
	return fmt.Errorf("recover: %w", err)
}

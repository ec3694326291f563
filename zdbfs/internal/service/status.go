package service

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"qsfs/zdb"
	"qsfs/zdbfs/internal/control"
	"qsfs/zdbfs/internal/exit"
	"qsfs/zstor/client"
)

// Status implements control.Service.
func (s *Service) Status(ctx context.Context) *control.Status {
	meta, data := s.eng.heads()
	ls := s.link.state()
	out := &control.Status{Time: time.Now(), Cache: s.evictor.status()}
	out.Mount = control.Mount{
		Running: true, Dir: s.mount.Dir(), Transport: s.transport, State: s.state.dir, PID: os.Getpid(), Started: s.started,
		Epoch: s.state.owner.Epoch, Session: fmt.Sprintf("%016x", s.eng.db.Session()),
		Verdict: ls.verdict, ReadOnly: ls.stopped, Meta: &meta, Data: &data, CutMeta: &ls.cutMeta, CutData: &ls.cutData,
	}
	if ls.verdict != client.Verified {
		out.Mount.Reason = ls.reason
	}
	if st, err := s.fs.Statfs(ctx); err == nil {
		out.Mount.Files = int64(st.Files - st.Ffree)
	}
	ms, ds := s.eng.meta.Stats(), s.eng.data.Stats()
	// Memory first: what moves into the log meanwhile counts twice rather than not at all.
	memory, oldest := s.fs.Unflushed()
	out.AtRisk = control.AtRisk{Bytes: memory + s.link.uncovered(), Unsynced: memory + ms.Unsynced + ds.Unsynced}
	if t, ok := s.link.since(); ok && (oldest.IsZero() || t.Before(oldest)) {
		oldest = t
	}
	if !oldest.IsZero() {
		out.AtRisk.Since, out.AtRisk.Age = oldest, time.Since(oldest)
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	zst, err := s.zstor.Status(ctx)
	if err != nil {
		out.ZstorError = err.Error()
	} else {
		out.Zstor = zst
		out.AtRisk.ETA = zst.Pending.ETA
	}
	s.judge(out, ls)
	return out
}

// judge gives the word: the worst of what the mount and zstor know.
func (s *Service) judge(out *control.Status, ls linkState) {
	risk := fmt.Sprintf("%s %s only on this machine", control.Bytes(out.AtRisk.Bytes), isOrAre(out.AtRisk.Bytes))
	if out.AtRisk.Age > 0 {
		risk += ", the oldest for " + control.Ago(out.AtRisk.Age)
	}
	switch {
	case ls.stopped:
		out.Word = client.Stopped
		out.Answer = "No: this machine does not write any more: " + ls.reason
		out.Advice = append(out.Advice, "follow the newest state with: zdbfs recover (what is here is put aside; zdbfs salvage copies files from it)")
	case ls.syncErr != nil:
		out.Word = client.AtRisk
		out.Answer = "No: written data cannot be made durable on the local disk: " + ls.syncErr.Error()
		out.Advice = append(out.Advice, "look at the disk under "+s.state.dir+", then restart qsfs-zdbfs")
	case out.Zstor == nil:
		out.Word = client.AtRisk
		out.Answer = "No: zstor does not answer, so nothing is dispersed; " + risk
		out.Advice = append(out.Advice, "start it: systemctl start qsfs-zstor (or zstor daemon --config …)")
		if out.AtRisk.Bytes == 0 {
			out.Word, out.Answer = client.Offline, "Unknown: zstor does not answer; everything written so far was dispersed"
		}
	case ls.verdict != client.Verified:
		out.Word = client.Offline
		out.Answer = "Unknown: the local state is not verified against the nodes (" + ls.reason + "); " + risk
		out.Advice = append(out.Advice, out.Zstor.Advice...)
	default:
		s.judgeZstor(out, ls, risk)
	}
	if out.Cache.Problem != "" {
		out.Advice = append(out.Advice, "the local cache is over its budget and cannot shrink: "+out.Cache.Problem)
	}
	out.Safe = out.Word == client.Safe || out.Word == client.Shipping
}

func (s *Service) judgeZstor(out *control.Status, ls linkState, risk string) {
	z := out.Zstor
	out.Advice = append(out.Advice, z.Advice...)
	late := s.cfg.QSFS.MaxUnshippedAge > 0 && out.AtRisk.Age > s.cfg.QSFS.MaxUnshippedAge
	switch {
	case z.Safety != client.Safe && z.Safety != client.Shipping:
		out.Word, out.Answer = z.Safety, z.Headline
		if out.AtRisk.Bytes > 0 {
			out.Answer = strings.TrimSuffix(out.Answer, ".") + "; " + risk
		}
	case late:
		out.Word, out.Answer = client.AtRisk, "No: "+risk
		if ls.problem != "" {
			out.Answer += " (" + ls.problem + ")"
		}
	case out.AtRisk.Bytes > 0 || out.AtRisk.Unsynced > 0:
		out.Word = client.Shipping
		out.Answer = "Yes, but for what was just written: " + risk
	default:
		out.Word, out.Answer = client.Safe, "Yes: everything is dispersed"
	}
}

func isOrAre(n int64) string {
	if n == 1 {
		return "is"
	}
	return "are"
}

// Evict implements control.Service.
func (s *Service) Evict(ctx context.Context, r control.EvictRequest) (control.EvictReply, error) {
	if r.All {
		return s.evictor.all(ctx)
	}
	before := s.evictor.measure()
	s.evictor.pass(ctx, 0)
	after := s.evictor.measure()
	return control.EvictReply{Evicted: after.evicted - before.evicted, Bytes: max(before.used()-after.used(), 0)}, nil
}

// Sync implements control.Service.
func (s *Service) Sync(ctx context.Context, r control.SyncRequest) (control.SyncReply, error) {
	if err := s.link.sync(ctx); err != nil {
		return control.SyncReply{}, fmt.Errorf("sync: %w", err)
	}
	if r.Seal {
		if _, err := s.eng.data.Seal(ctx); err != nil && !errors.Is(err, zdb.ErrEmpty) {
			return control.SyncReply{}, fmt.Errorf("seal: %w", err)
		}
	}
	if !r.Remote {
		return control.SyncReply{}, nil
	}
	cut, err := s.link.ship(ctx)
	if err != nil && exit.Of(err) == exit.Internal {
		err = exit.Errorf(exit.Unreachable, "%w", err)
	}
	return control.SyncReply{Cut: cut}, err
}

// Check implements control.Service.
func (s *Service) Check(ctx context.Context) (control.CheckReply, error) {
	r, err := s.fs.Check(ctx)
	if err != nil {
		return control.CheckReply{}, fmt.Errorf("check: %w", err)
	}
	return control.CheckReply{
		Inodes: r.Inodes, Dirents: r.Dirents, Extents: r.Extents, Blobs: r.Blobs, Orphans: r.Orphans,
		Bytes: r.Bytes, Problems: r.Problems,
	}, nil
}

package server

import (
	"context"
	"encoding/json"
	"strconv"
	"strings"
	"sync"

	"qsfs/zdb"
	"qsfs/zdb/client"
)

// A task is long work on a namespace that an admin asked for with TASK; one at a time.
type task struct {
	mu      sync.Mutex
	state   client.TaskState
	stopped bool
	cancel  context.CancelFunc
	wg      sync.WaitGroup
}

// cmdTask checks files and builds indexes while the server goes on:
//
//	TASK ns CHECK [REPAIR]     → OK, it has begun
//	TASK ns REINDEX [segment]  → OK, it has begun
//	TASK ns STATUS             → client.TaskState as JSON
func cmdTask(s *session, args [][]byte) {
	n := s.srv.kept(string(args[1]))
	if n == nil {
		s.fail(errNoNamespace)
		return
	}
	option := ""
	if len(args) == 4 {
		option = strings.ToUpper(string(args[3]))
	}
	var run func(ctx context.Context, eng *zdb.Namespace) error
	sub := strings.ToUpper(string(args[2]))
	name := "check"
	switch {
	case sub == "STATUS" && option == "":
		raw, err := json.Marshal(n.task.status())
		if err != nil {
			s.srv.trouble("show a task", n.name, err)
			s.fail(errInternal)
			return
		}
		s.bulk(raw)
		return
	case sub == "CHECK" && (option == "" || option == "REPAIR"):
		run = func(ctx context.Context, eng *zdb.Namespace) error { return n.task.check(ctx, n, eng, option != "") }
	case sub == "REINDEX":
		name = "rebuild-index"
		run = func(ctx context.Context, eng *zdb.Namespace) error { return eng.RebuildIndex(ctx) }
		if option != "" {
			id, err := strconv.ParseUint(option, 10, 32)
			if err != nil {
				s.fail(errTask)
				return
			}
			run = func(ctx context.Context, eng *zdb.Namespace) error {
				return eng.RebuildIndexSegment(ctx, zdb.SegmentID(id))
			}
		}
	default:
		s.fail(errTask)
		return
	}
	eng, err := n.acquire(s.srv.ctx)
	if err != nil {
		s.srv.trouble(name, n.name, err)
		s.fail(errInternal)
		return
	}
	begun := n.task.start(n, eng, name, run)
	n.release()
	if !begun {
		s.fail(errTaskBusy)
		return
	}
	s.ok()
}

// start begins a task unless there is one.
func (t *task) start(n *namespace, eng *zdb.Namespace, name string, run func(context.Context, *zdb.Namespace) error) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.state.Running || t.stopped {
		return false
	}
	var ctx context.Context
	ctx, t.cancel = context.WithCancel(n.srv.ctx)
	t.state = client.TaskState{Task: name, Running: true}
	t.wg.Go(func() {
		err := run(ctx, eng)
		if err != nil {
			n.srv.trouble(name, n.name, err)
		} else {
			n.srv.log.Info("task is done", "task", name, "namespace", n.name)
		}
		t.mu.Lock()
		defer t.mu.Unlock()
		t.state.Running = false
		if err != nil {
			t.state.Error = err.Error()
		}
		t.cancel()
	})
	return true
}

func (t *task) status() client.TaskState {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.state
}

func (t *task) check(ctx context.Context, n *namespace, eng *zdb.Namespace, repair bool) error {
	res, err := eng.Check(ctx, zdb.CheckOptions{Repair: repair, Progress: func(p zdb.CheckProgress) {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.state.Step, t.state.Done, t.state.Total = p.Step, p.Done, p.Total
	}})
	if err != nil {
		return err
	}
	report := CheckReport(n.name, &res)
	for _, f := range report.Findings {
		n.srv.log.Error("check found damage", "namespace", n.name, "file", f.File, "offset", f.Offset, "what", f.What, "done", f.Done)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.state.Check = &report
	return nil
}

// CheckReport puts what a check of the engine found in the form in which it is shown.
func CheckReport(namespace string, r *zdb.CheckResult) client.CheckReport {
	report := client.CheckReport{
		Namespace: namespace, Segments: r.Segments, Missing: r.Missing, Batches: r.Batches, Entries: r.Entries, Bytes: r.Bytes, Keys: r.Keys,
		Findings: []client.CheckFinding{}, More: r.More, Unrepaired: r.Unrepaired, IndexSkipped: r.IndexSkipped,
	}
	for _, f := range r.Findings {
		report.Findings = append(report.Findings, client.CheckFinding(f))
	}
	return report
}

// stop ends it, before the engine's namespace is closed.
func (t *task) stop() {
	t.mu.Lock()
	t.stopped = true
	if t.cancel != nil {
		t.cancel()
	}
	t.mu.Unlock()
	t.wg.Wait()
}

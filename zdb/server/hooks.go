package server

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"slices"
	"sync"
	"time"
)

// The events that a hook program is told of, by these names.
const (
	hookInit      = "namespaces-init"
	hookReady     = "ready"
	hookCreated   = "namespace-created"
	hookUpdated   = "namespace-updated"
	hookDeleted   = "namespace-deleted"
	hookReloaded  = "namespace-reloaded"
	hookJumpIndex = "jump-index"
	hookJumpData  = "jump-data"
	hookMissing   = "missing-data"
	hookClosing   = "namespace-closing"
	hookClose     = "close"
	hookCrash     = "crash"
)

const (
	// hooksAtOnce bounds the programs that run for events that nobody waits for; hooksPending those that wait for their turn.
	hooksAtOnce  = 16
	hooksPending = 1024
	// hookKept is how long HOOKS shows a program after its end.
	hookKept = 300 * time.Second
	// hookGoodbye bounds how long a server that stops waits for its hooks. They are not ended then, only left.
	hookGoodbye = 10 * time.Second
)

// hookFailed is the status of a program that could not be started.
const hookFailed = 127

// hooks runs a program for events: program, event, instance, arguments. Most events are only told, in the order in which
// they happened; nobody waits for the program. Events where its answer matters run it at once and wait.
type hooks struct {
	program, instance string
	log               *slog.Logger
	goodbye           time.Duration // see hookGoodbye

	queue chan hookEvent
	slots chan struct{}
	done  chan struct{} // the queue is worked off
	left  chan struct{} // programs are still running, and no more are started

	mu     sync.Mutex
	recent []*hookRun
	closed bool
	wg     sync.WaitGroup // programs that nobody waits for
}

// A hookEvent is an event on its way to the program. It is looked at when its turn comes.
type hookEvent struct {
	name string
	args func() []string
	then func(status int) // may be nil
}

// A hookRun is a program that runs or ran.
type hookRun struct {
	name         string
	args         []string
	pid          int
	began, ended time.Time
	status       int
}

// newHooks returns hooks, which do nothing when there is no program.
func newHooks(program, instance string, log *slog.Logger) *hooks {
	h := &hooks{program: program, instance: instance, log: log, goodbye: hookGoodbye, done: make(chan struct{}), left: make(chan struct{})}
	if program == "" {
		close(h.done)
		return h
	}
	h.queue = make(chan hookEvent, hooksPending)
	h.slots = make(chan struct{}, hooksAtOnce)
	go h.dispatch()
	return h
}

func (h *hooks) enabled() bool { return h.program != "" }

// tell tells the program of an event without waiting. An event too many is lost, and logged.
func (h *hooks) tell(name string, args ...string) {
	h.later(hookEvent{name: name, args: func() []string { return args }})
}

func (h *hooks) later(e hookEvent) {
	if !h.enabled() {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return
	}
	select {
	case h.queue <- e:
	default:
		h.log.Error("too many hooks are waiting, an event is lost", "event", e.name)
	}
}

func (h *hooks) dispatch() {
	defer close(h.done)
	for e := range h.queue {
		select {
		case h.slots <- struct{}{}:
		case <-h.left:
		}
		if h.isLeft() {
			continue // nobody is there any more whom it would tell of
		}
		r, cmd, err := h.start(context.Background(), e.name, e.args())
		h.wg.Go(func() {
			status := h.wait(r, cmd, err)
			<-h.slots
			if e.then != nil {
				e.then(status)
			}
		})
	}
}

// ask runs the program and returns its status when it has ended. ctx ends it early.
func (h *hooks) ask(ctx context.Context, name string, args ...string) (status int) {
	if !h.enabled() {
		return 0
	}
	return h.wait(h.start(ctx, name, args))
}

func (h *hooks) start(ctx context.Context, name string, args []string) (*hookRun, *exec.Cmd, error) {
	cmd := exec.CommandContext(ctx, h.program, append([]string{name, h.instance}, args...)...)
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	r := &hookRun{name: name, args: args, began: time.Now()}
	err := cmd.Start()
	if err == nil {
		r.pid = cmd.Process.Pid
	}
	h.mu.Lock()
	h.recent = append(h.currentLocked(), r)
	h.mu.Unlock()
	return r, cmd, err
}

func (h *hooks) wait(r *hookRun, cmd *exec.Cmd, err error) int {
	status := hookFailed
	if err == nil {
		err = cmd.Wait()
		status = cmd.ProcessState.ExitCode() // −1 when a signal ended it
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			err = nil
		}
	}
	if err != nil {
		h.log.Error("hook", "event", r.name, "program", h.program, "err", err)
	} else if status != 0 {
		h.log.Warn("hook failed", "event", r.name, "status", status)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	r.ended, r.status = time.Now(), status
	return status
}

// currentLocked returns what HOOKS shows.
func (h *hooks) currentLocked() []*hookRun {
	return slices.DeleteFunc(h.recent, func(r *hookRun) bool { return !r.ended.IsZero() && time.Since(r.ended) > hookKept })
}

// snapshot copies what HOOKS shows.
func (h *hooks) snapshot() []hookRun {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.recent = h.currentLocked()
	list := make([]hookRun, 0, len(h.recent))
	for _, r := range h.recent {
		list = append(list, *r)
	}
	return list
}

// close takes no more events and waits a while for those on their way.
func (h *hooks) close() {
	h.mu.Lock()
	if !h.closed && h.enabled() {
		close(h.queue)
	}
	h.closed = true
	h.mu.Unlock()
	ended := make(chan struct{})
	go func() {
		<-h.done
		h.wg.Wait()
		close(ended)
	}()
	select {
	case <-ended:
	case <-time.After(h.goodbye):
		h.log.Warn("hooks are still running, leaving them")
		close(h.left)
	}
}

func (h *hooks) isLeft() bool {
	select {
	case <-h.left:
		return true
	default:
		return false
	}
}

// crashed starts the program for the last time: the process is about to die of a fault of ours.
func (h *hooks) crashed() {
	if h.enabled() {
		exec.Command(h.program, hookCrash, h.instance).Start()
	}
}

// cmdHooks is HOOKS → the programs that run, and those that ended in the last five minutes.
func cmdHooks(s *session, _ [][]byte) {
	list := s.srv.hooks.snapshot()
	s.array(len(list))
	for _, r := range list {
		s.array(6)
		s.text(r.name)
		s.array(len(r.args))
		for _, a := range r.args {
			s.text(a)
		}
		s.integer(int64(r.pid))
		s.integer(r.began.Unix())
		if r.ended.IsZero() {
			s.integer(0)
		} else {
			s.integer(r.ended.Unix())
		}
		s.integer(int64(r.status))
	}
}

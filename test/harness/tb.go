package harness

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// TB is the part of testing.TB that the harness needs; Program offers it to programs that are not tests.
type TB interface {
	Helper()
	Logf(format string, args ...any)
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
	Failed() bool
	Cleanup(func())
	Context() context.Context
}

// Program is a TB for main packages: Fatalf ends the program after all cleanups have run.
type Program struct {
	ctx context.Context

	mu       sync.Mutex
	failed   bool
	cleanups []func()
}

// RunProgram runs body with a Program and gives the exit code. The context ends at SIGINT or SIGTERM.
func RunProgram(body func(p *Program)) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	p := &Program{ctx: ctx}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer p.runCleanups()
		body(p)
	}()
	<-done
	if p.Failed() {
		return 1
	}
	return 0
}

// Helper does nothing; it is there for TB.
func (p *Program) Helper() {}

// Logf prints to stderr.
func (p *Program) Logf(format string, args ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", args...)
}

// Errorf prints and remembers the failure.
func (p *Program) Errorf(format string, args ...any) {
	p.Logf(format, args...)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.failed = true
}

// Fatalf prints, remembers the failure and ends the body.
func (p *Program) Fatalf(format string, args ...any) {
	p.Errorf(format, args...)
	runtime.Goexit()
}

// Failed reports whether Errorf or Fatalf was called.
func (p *Program) Failed() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.failed
}

// Cleanup runs f when the body has ended, last registered first.
func (p *Program) Cleanup(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cleanups = append(p.cleanups, f)
}

// Context ends when the user asks the program to stop.
func (p *Program) Context() context.Context { return p.ctx }

func (p *Program) runCleanups() {
	for {
		p.mu.Lock()
		n := len(p.cleanups)
		if n == 0 {
			p.mu.Unlock()
			return
		}
		f := p.cleanups[n-1]
		p.cleanups = p.cleanups[:n-1]
		p.mu.Unlock()
		f()
	}
}

// Eventually waits until ok answers true, and fails with what and the last reason after the limit.
func Eventually(t TB, limit time.Duration, what string, ok func() (bool, string)) {
	t.Helper()
	if reason, good := waitFor(limit, ok); !good {
		t.Fatalf("waited %v for %s: %s", limit, what, reason)
	}
}

func waitFor(limit time.Duration, ok func() (bool, string)) (string, bool) {
	end := time.Now().Add(limit)
	pause := 5 * time.Millisecond
	for {
		good, reason := ok()
		if good {
			return "", true
		}
		if time.Now().After(end) {
			return reason, false
		}
		time.Sleep(pause)
		pause = min(2*pause, 200*time.Millisecond)
	}
}

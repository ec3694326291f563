package server

import (
	"net"
	"sync"
	"time"
)

const (
	// maxFailures is how many wrong passwords end a connection; each makes it wait before the next answer.
	maxFailures = 10
	// freeGuesses is how many wrong passwords an address has free within guessMemory. Beyond them its attempts, over all
	// its connections, go at the pace of one in each AuthDelay, and those that would wait longer than guessWait are refused
	// unseen. So an address that guesses also slows the honest clients behind it, while they log in and at no other time.
	freeGuesses = 3 * maxFailures
	guessMemory = time.Minute
	guessWait   = 2 * time.Second
	// guessAddresses bounds what is remembered.
	guessAddresses = 4096
)

// guesses remembers which addresses sent wrong passwords.
type guesses struct {
	mu sync.Mutex
	of map[string]*guesser
}

type guesser struct {
	failures int
	last     time.Time
	next     time.Time // when the next attempt may be looked at
}

// admit returns how long an attempt from the address has to wait; ok false is: too long.
func (g *guesses) admit(from string, now time.Time, pace time.Duration) (wait time.Duration, ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	a := g.of[from]
	switch {
	case a == nil:
		return 0, true
	case now.Sub(a.last) > guessMemory:
		delete(g.of, from)
		return 0, true
	case a.failures < freeGuesses:
		return 0, true
	}
	if a.next.Before(now) {
		a.next = now
	}
	if wait = a.next.Sub(now); wait > guessWait {
		return 0, false
	}
	a.next = a.next.Add(pace)
	return wait, true
}

func (g *guesses) failed(from string, now time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	a := g.of[from]
	if a == nil {
		if len(g.of) >= guessAddresses {
			for old, o := range g.of {
				if now.Sub(o.last) > guessMemory {
					delete(g.of, old)
				}
			}
			if len(g.of) >= guessAddresses { // an attacker with that many addresses is not stopped by this
				clear(g.of)
			}
		}
		a = &guesser{}
		g.of[from] = a
	}
	a.failures++
	a.last = now
}

// peer is the address without its port; all clients of a unix socket are one.
func (s *session) peer() string {
	if host, _, err := net.SplitHostPort(s.nc.RemoteAddr().String()); err == nil {
		return host
	}
	return "local"
}

// mayGuess lets an attempt with a password through, perhaps later; or it has answered.
func (s *session) mayGuess() bool {
	wait, ok := s.srv.guesses.admit(s.peer(), time.Now(), s.srv.o.AuthDelay)
	if ok && wait > 0 {
		ok = s.pause(wait)
	}
	if !ok {
		s.fail(errGuesses)
		s.hangUp = true
	}
	return ok
}

// pause sends what was answered before, which does not wait with it.
func (s *session) pause(d time.Duration) bool {
	if !s.flushed() {
		return false
	}
	select {
	case <-time.After(d):
	case <-s.srv.ctx.Done():
	}
	return true
}

// deny answers a wrong password, later each time. Only this connection waits.
func (s *session) deny() {
	s.failures++
	s.srv.guesses.failed(s.peer(), time.Now())
	s.srv.stats.denied.Add(1)
	if !s.pause(time.Duration(s.failures) * s.srv.o.AuthDelay) {
		return
	}
	if s.failures >= maxFailures {
		s.fail(errGuesses)
		s.hangUp = true
		return
	}
	s.fail(errDenied)
}

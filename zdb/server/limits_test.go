package server

import (
	"strings"
	"testing"
	"time"

	"qsfs/zdb/client"
)

func TestIdleTimeout(t *testing.T) {
	ts := start(t, func(o *Options) { o.IdleTimeout = 300 * time.Millisecond })
	busy, idle := ts.dial(), ts.dial()
	idle.want("+PONG", "PING")
	for range 8 {
		time.Sleep(100 * time.Millisecond)
		busy.want("+PONG", "PING")
	}
	idle.closed()
	busy.want("+PONG", "PING")
}

// An address that guessed too often is paced over all its connections, and is let go when it stops.
func TestGuesses(t *testing.T) {
	g := guesses{of: map[string]*guesser{}}
	now := time.Unix(1000, 0)
	const pace = 50 * time.Millisecond
	for range freeGuesses {
		if wait, ok := g.admit("a", now, pace); wait != 0 || !ok {
			t.Fatalf("a free guess waits %v, %v", wait, ok)
		}
		g.failed("a", now)
	}
	admitted := 0
	for range 1000 { // at once, as from many connections
		if _, ok := g.admit("a", now, pace); ok {
			admitted++
		}
	}
	if want := int(guessWait/pace) + 1; admitted != want {
		t.Errorf("%d attempts admitted at once, want %d", admitted, want)
	}
	if wait, ok := g.admit("b", now, pace); wait != 0 || !ok {
		t.Errorf("another address waits %v, %v", wait, ok)
	}
	if wait, ok := g.admit("a", now.Add(guessMemory+time.Second), pace); wait != 0 || !ok {
		t.Errorf("after a while it still waits %v, %v", wait, ok)
	}
	for i := range 3 * guessAddresses {
		g.failed(strings.Repeat("x", 1+i%7)+time.Duration(i).String(), now)
	}
	if len(g.of) > guessAddresses {
		t.Errorf("%d addresses are remembered", len(g.of))
	}
}

func TestGuessesOverConnections(t *testing.T) {
	t.Parallel()
	ts := start(t, func(o *Options) { o.AuthDelay = time.Millisecond })
	for range 4 {
		w := ts.dial()
		for i := range maxFailures {
			got := w.do("AUTH", "wrong")
			if got != "-"+errDenied && got != "-"+errGuesses {
				t.Fatalf("guess %d: %s", i, got)
			}
			if got == "-"+errGuesses {
				break
			}
		}
		w.closed()
	}
	if ts.stats.denied.Load() < freeGuesses {
		t.Errorf("%d wrong passwords counted", ts.stats.denied.Load())
	}
	// The right password gets in, at the pace of the address.
	ts.adminWire()
}

func TestAdminHash(t *testing.T) {
	t.Parallel()
	hash, err := HashPassword(adminPassword)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(hash, adminPassword) {
		t.Fatal("the hash shows the password")
	}
	ts := start(t, func(o *Options) { o.Admin, o.Protect = client.Secret(hash), true })
	w := ts.dial()
	nonce := func() string { return strings.TrimPrefix(w.do("AUTH", "SECURE", "CHALLENGE"), "+") }
	w.want("-"+errSecureNotKnown, "AUTH", "SECURE", challengeResponse(nonce(), adminPassword))
	w.want("-"+errDenied, "AUTH", hash) // the hash is not the password
	w.want("-"+errPermission, "NSNEW", "ns")
	w.want("-"+errReadOnly, "SET", "k", "v")
	w.want("+OK", "AUTH", adminPassword)
	w.want("+OK", "NSNEW", "ns")
	w.want("+OK", "SELECT", "default", adminPassword)
	w.want(`"k"`, "SET", "k", "v")
	w.want("+OK", "AUTH", "SECURE", challengeResponse(nonce(), adminPassword))

	// Another password, while the server runs.
	if err := ts.SetAdmin("new"); err != nil {
		t.Fatal(err)
	}
	w = ts.dial()
	w.want("-"+errDenied, "AUTH", adminPassword)
	w.want("-"+errDenied, "SELECT", "default", adminPassword)
	w.want("+OK", "AUTH", "new")
	w.want("+OK", "SELECT", "default", "new")
	if err := ts.SetAdmin(""); err == nil {
		t.Error("the admin password was taken away")
	}
	for _, bad := range []string{hashMark, hashMark + "v=19$m=1,t=1,p=1$AAAA$AAAA", hashMark + "v=19$m=99999999,t=1,p=1$AAAAAAAAAAAAAAAA$" + strings.Repeat("A", 43), strings.Repeat("x", 129)} {
		if err := ts.SetAdmin(client.Secret(bad)); err == nil {
			t.Errorf("%.40q was taken as an admin password", bad)
		}
	}
}

func TestDefaultMaxSize(t *testing.T) {
	t.Parallel()
	ts := start(t, func(o *Options) { o.MaxSize = 10 })
	w := ts.adminWire()
	w.want(`"k"`, "SET", "k", "0123456789")
	w.want("-"+errQuota, "SET", "l", "x")
	w.want("+OK", "NSSET", "default", "lock", "1") // saves the settings, and not the limit of the command line
	ts.o.MaxSize = 0
	ts.reopen()
	w = ts.adminWire()
	w.want("+OK", "NSSET", "default", "lock", "0")
	w.want(`"l"`, "SET", "l", "x")
}

func TestRotate(t *testing.T) {
	t.Parallel()
	ts := start(t, func(o *Options) { o.Rotate = 50 * time.Millisecond })
	w := ts.adminWire()
	w.want("+OK", "NSNEW", "ns")
	segment := func() int { return int(ts.lookup("ns").eng.Load().Head().Segment) }
	time.Sleep(200 * time.Millisecond)
	if got := segment(); got != 0 {
		t.Errorf("an empty segment was sealed: %d", got)
	}
	w.want("+OK", "SELECT", "ns")
	w.want(`"k"`, "SET", "k", "v")
	eventually(t, "the seal", func() bool { return segment() == 1 })
	w.want(`"v"`, "GET", "k")
	time.Sleep(200 * time.Millisecond)
	if got := segment(); got != 1 {
		t.Errorf("a segment without entries was sealed: %d", got)
	}
}

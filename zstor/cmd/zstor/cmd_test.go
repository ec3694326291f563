package main

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"qsfs/zstor"
	"qsfs/zstor/client"
	"qsfs/zstor/config"
)

func TestExitCodes(t *testing.T) {
	for _, c := range []struct {
		err  error
		want int
	}{
		{errors.New("something"), exitInternal},
		{&usageError{errors.New("flag")}, exitUsage},
		{fmt.Errorf("load: %w", config.Errors{}), exitUsage},
		{fmt.Errorf("load: %w", config.ErrKeyWrong), exitKey},
		{errors.Join(errors.New("x"), fmt.Errorf("node: %w", zstor.ErrPassword)), exitPassword},
		{zstor.ErrInUse, exitInUse},
		{client.ErrFenced, exitStale},
		{client.ErrStale, exitStale},
		{client.ErrDamaged, exitDamaged},
		{client.ErrDown, exitUnreachable},
		{client.ErrUnavailable, exitUnreachable},
		{client.ErrDegraded, exitUnsafe},
		{&unsafeError{client.AtRisk}, exitUnsafe},
	} {
		if got := exitCode(c.err); got != c.want {
			t.Errorf("%v: got %d, want %d", c.err, got, c.want)
		}
	}
}

func TestWrongCommandLines(t *testing.T) {
	for _, args := range [][]string{{}, {"frobnicate"}, {"store"}, {"status", "x"}, {"status", "--frobnicate"}} {
		root := newRoot()
		root.SetArgs(args)
		root.SetOut(&bytes.Buffer{})
		if err := root.Execute(); exitCode(err) != exitUsage {
			t.Errorf("%q: got %v", args, err)
		}
	}
}

func TestListenReplacesOnlyADeadSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sub", "s")
	l, err := listen(path)
	if err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", st.Mode(), err)
	}
	if _, err := listen(path); !errors.Is(err, zstor.ErrInUse) {
		t.Errorf("a second daemon: got %v", err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l, err = listen(path)
	if err != nil {
		t.Fatalf("a left-over socket: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestStatusText(t *testing.T) {
	st := &client.Status{
		Safety: client.AtRisk, Headline: "3.0 KiB are only on this machine.", Advice: []string{"Bring back: n1."},
		Nodes: []client.NodeStatus{{ID: "n1", Group: "a", Role: "data", Error: "refused"}, {ID: "n2", Role: "data", Up: true, Durable: "on-ack"}},
	}
	var b bytes.Buffer
	if err := printStatus(&b, st); err != nil {
		t.Fatal(err)
	}
	first, _, _ := strings.Cut(b.String(), "\n")
	if first != "AT RISK: 3.0 KiB are only on this machine." {
		t.Errorf("the verdict comes first: got %q", first)
	}
	for _, want := range []string{"→ Bring back: n1.", "refused", "n2"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is missing in\n%s", want, b.String())
		}
	}
}

func TestPlanText(t *testing.T) {
	c := config.Default()
	c.MinimalShards, c.ExpectedShards, c.RedundantGroups = 4, 6, 1
	for _, g := range []string{"a", "b", "c"} {
		c.Groups = append(c.Groups, config.Group{Name: g, Backends: make([]config.Backend, 2)})
	}
	c.QSFS.Fallback = &config.Fallback{MinimalShards: 3, ExpectedShards: 4}
	c.QSFS.MinSecrecy = 3
	c.Meta.Backends, c.Meta.WriteQuorum, c.Meta.ReadQuorum = make([]config.Backend, 6), 4, 3
	var b bytes.Buffer
	if err := runPlan(c, &b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"4-of-6, 50 %", "any 2 nodes, or of any 1 group", "to read with all keys: 4 nodes, or 2 groups", "lowest k of any data   3"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is missing in\n%s", want, b.String())
		}
	}
}

package service

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"qsfs/zdbfs/internal/exit"
	"qsfs/zstor/client"
)

// copyTree copies a directory of plain files.
func copyTree(t *testing.T, from, to string) {
	t.Helper()
	must(t, os.CopyFS(to, os.DirFS(from)))
}

// nodesHold makes the fake give back the state as it is now, without its data segments that are
// dispersed: those come by stripe.
func (m *machine) nodesHold() {
	m.t.Helper()
	backup := filepath.Join(m.base, "backup-"+time.Now().Format("150405.000"))
	for _, d := range []string{dataDir, indexDir} {
		copyTree(m.t, filepath.Join(m.state, d), filepath.Join(backup, d))
	}
	m.z.with(func() {
		for id := range m.z.stash {
			_ = os.Remove(filepath.Join(backup, dataDir, client.NamespaceData, "d"+itoa(id)))
		}
		cut := m.z.cut
		m.z.recover = func() error {
			for _, d := range []string{dataDir, indexDir} {
				if err := os.CopyFS(filepath.Join(m.state, d), os.DirFS(filepath.Join(backup, d))); err != nil {
					return err
				}
			}
			_, err := m.z.own(client.Owner{Epoch: 5, ID: "recovered", Since: time.Now()})
			m.z.cut = cut
			m.z.fencedBy, m.z.verdict = "", client.Verified
			return err
		}
	})
}

func itoa(id uint32) string {
	var b []byte
	for ; id > 0 || len(b) == 0; id /= 10 {
		b = append(b, byte('0'+id%10))
	}
	slices.Reverse(b)
	return string(b)
}

func (m *machine) recover(t *testing.T) (*Recovered, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	return Recover(ctx, RecoverOptions{Config: m.loadConfig(), ConfigPath: m.config})
}

// TestRecover: into an empty directory; over a stale state, which is put aside; not over the newest.
func TestRecover(t *testing.T) {
	m := newMachine(t, `segment_size_data = "1MiB"`)
	m.mount()
	data := pattern(6, 5<<20)
	writeSynced(t, m.path("f"), data)
	m.ship()
	m.stop()
	m.nodesHold()

	if _, err := m.recover(t); exit.Of(err) != exit.Usage || !strings.Contains(err.Error(), "newest") {
		t.Errorf("recover over the newest state: %v", err)
	}

	// The machine writes on, and is then told that it is stale.
	m.mount()
	writeSynced(t, m.path("after"), []byte("only here"))
	m.z.with(func() { m.z.problem = "the nodes are away" })
	time.Sleep(500 * time.Millisecond)
	writeSynced(t, m.path("f"), []byte("changed"))
	m.kill()
	m.z.with(func() { m.z.problem, m.z.verdict = "", client.Stale })
	r, err := m.recover(t)
	if err != nil {
		t.Fatal(err)
	}
	if r.Aside == "" || r.Owner.Epoch != 5 || r.Files < 2 {
		t.Errorf("recovered %+v", r)
	}
	m.mount()
	wantFile(t, m.path("f"), data)
	if st := m.status(); st.Mount.Epoch != 5 {
		t.Errorf("epoch %d", st.Mount.Epoch)
	}
	var df unix.Statfs_t
	must(t, unix.Statfs(m.dir, &df))
	if used := df.Files - df.Ffree; used != 2 {
		t.Errorf("df -i shows %d files, want f and the root", used)
	}
	m.stop()

	// What was put aside is whole.
	to := filepath.Join(m.base, "salvaged")
	var found []string
	n, err := Salvage(context.Background(), SalvageOptions{Config: m.loadConfig(), To: to, Found: func(f Salvaged, err error) {
		if err != nil {
			t.Errorf("%s: %v", f.Path, err)
		}
		found = append(found, f.Path)
	}})
	slices.Sort(found)
	if err != nil || n != 2 || !slices.Equal(found, []string{"after", "f"}) {
		t.Errorf("salvaged %d %q, %v", n, found, err)
	}
	wantFile(t, filepath.Join(to, "after"), []byte("only here"))
	wantFile(t, filepath.Join(to, "f"), []byte("changed"))

	// An empty machine.
	must(t, os.RemoveAll(m.state))
	must(t, os.Mkdir(m.state, 0o700))
	m.refused(exit.Stale, "zdbfs recover") // the nodes hold a filesystem
	if r, err = m.recover(t); err != nil || r.Aside != "" {
		t.Fatalf("into an empty directory: %+v, %v", r, err)
	}
	m.mount()
	wantFile(t, m.path("f"), data)
	m.stop()
}

// TestRecoverFailures: each keeps what is there and says what to do.
func TestRecoverFailures(t *testing.T) {
	m := newMachine(t)
	m.z.with(func() { m.z.recover = func() error { return errors.New("too few nodes") } })
	if _, err := m.recover(t); exit.Of(err) != exit.Unreachable || !strings.Contains(err.Error(), "run it again") {
		t.Errorf("too few nodes: %v", err)
	}
	m.mount()
	writeSynced(t, m.path("f"), []byte("x"))
	if _, err := m.recover(t); exit.Of(err) != exit.InUse {
		t.Errorf("over a running mount: %v", err)
	}
	m.stop()
	m.z.with(func() { m.z.verdict = client.Unverified })
	if _, err := m.recover(t); exit.Of(err) != exit.Unreachable {
		t.Errorf("a state that cannot be compared: %v", err)
	}
	m.z.with(func() { m.z.verdict = client.Verified })
	m.mount()
	wantFile(t, m.path("f"), []byte("x"))
	m.stop()
	if _, err := Salvage(context.Background(), SalvageOptions{Config: m.loadConfig(), Found: func(Salvaged, error) {}}); exit.Of(err) != exit.Usage {
		t.Errorf("salvage of nothing: %v", err)
	}
	must(t, os.Chmod(filepath.Join(m.base, "key"), 0o644))
	if _, err := m.recover(t); exit.Of(err) != exit.Key {
		t.Errorf("a key that others can read: %v", err)
	}
}

// TestPutAsideGoesOn: a move that was interrupted ends in one directory.
func TestPutAsideGoesOn(t *testing.T) {
	dir := t.TempDir()
	st, err := openState(dir)
	must(t, err)
	defer st.close()
	for _, n := range moved {
		must(t, os.WriteFile(st.path(n), []byte("{}"), 0o600))
	}
	half, err := st.asideFor(time.Now())
	must(t, err)
	must(t, os.Rename(st.path(cacheDir), filepath.Join(half, cacheDir)))
	got, err := st.putAside(time.Now().Add(time.Hour))
	must(t, err)
	if got != half {
		t.Errorf("went on in %s, not in %s", got, half)
	}
	for _, n := range moved {
		if _, err := os.Stat(filepath.Join(half, n)); err != nil {
			t.Error(err)
		}
	}
	if st.owned {
		t.Error("the owner note is still known")
	}
	again, err := st.putAside(time.Now().Add(2 * time.Hour))
	if err != nil || again == half {
		t.Errorf("a second move went to %s, %v", again, err)
	}
}

// TestAnnouncedIsKept: what zstor was told of is bound to its place in the log, also when nothing else
// on the disk witnesses that it was durable.
func TestAnnouncedIsKept(t *testing.T) {
	m := newMachine(t)
	m.mount()
	var heads []client.Head
	for i := range 5 {
		writeSynced(t, m.path("f"), pattern(byte(i), 3000))
		m.ship()
		m.kill() // before the log is idle and marks what was synced
		m.z.with(func() { heads = append(heads, m.z.cut.Meta) })
		// zstor's own note of the cut comes too late.
		must(t, os.Remove(filepath.Join(m.state, client.CutFile)))
		m.mount()
		st := m.status()
		if h := heads[i]; st.Mount.Meta.Segment < h.Segment {
			t.Errorf("round %d: log ends in segment %d, a cut is of %d", i, st.Mount.Meta.Segment, h.Segment)
		}
	}
	m.stop()
	// Each head that was in a cut must still be the head of the session that wrote it.
	st, err := openState(m.state)
	must(t, err)
	defer st.close()
	eng, err := openEngine(t.Context(), m.loadConfig(), st, nil, slog.New(slog.DiscardHandler))
	must(t, err)
	defer eng.close()
	meta, data := eng.heads()
	r := eng.attachRequest(st.owner.Epoch, meta, data)
	for i, h := range heads {
		var owner uint64
		for _, s := range r.Sessions {
			if s.FirstSeq <= h.Seq {
				owner = s.Session
			}
		}
		if owner != h.Session {
			t.Errorf("round %d: sequence %d belongs to session %x, the cut says %x", i, h.Seq, owner, h.Session)
		}
	}
}

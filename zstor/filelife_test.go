package zstor

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"qsfs/zstor/client"
	"qsfs/zstor/internal/record"
)

// storeBytes stores a file by name.
func (m *machine) storeBytes(name string, b []byte) {
	m.t.Helper()
	path := filepath.Join(m.t.TempDir(), "f")
	m.must(os.WriteFile(path, b, 0o600))
	if err := m.store.StoreFile(m.t.Context(), client.FileRequest{Name: name, Path: path, Replace: true}, quiet); err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) fileIsFull(name string) bool {
	m.t.Helper()
	man, err := m.store.fileManifest(m.t.Context(), name)
	m.must(err)
	return full(man) && confirmed(man)
}

// shardsOf counts what a node holds of an object.
func (m *machine) shardsOf(man *record.Manifest, node int) (n int) {
	m.t.Helper()
	all := m.nodes[node].Snapshot()
	for _, h := range man.Nodes {
		if h.Node != m.store.order[node] {
			continue
		}
		for _, name := range m.shardNames(man, int(h.Index)) {
			if _, ok := all[name]; ok {
				n++
			}
		}
	}
	return n
}

// wantComplete waits until a file is complete, and nothing more is to be done for it.
func (m *machine) wantComplete(name string, node int) {
	m.t.Helper()
	m.eventually(name+" is complete", func() bool { return m.fileIsFull(name) })
	man, err := m.store.fileManifest(m.t.Context(), name)
	m.must(err)
	if got, want := m.shardsOf(man, node), int(man.DataStripes+man.IndexStripes); got != want {
		m.t.Errorf("the node holds %d shards of %s, want %d", got, name, want)
	}
	m.eventually("nothing is kept on record for it", func() bool {
		entries, _ := m.store.intents.keptFiles()
		return len(entries) == 0
	})
}

// TestFilesAreCompleted: what a file lacks on a node that was away is made when the node is back, by this process, by the
// next, and by another machine.
func TestFilesAreCompleted(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.machine().start().format().mustMount()
	a.fs.write(nsMeta, 1)
	a.mustShip()
	content := bytes.Repeat([]byte("0123456789abcdef"), 5000)
	away := func() {
		w.nodes[5].SetDown(true)
		a.eventually("the node is away", func() bool { return !a.store.peers[a.store.order[5]].Up() })
	}
	away()
	a.storeBytes("first", content)
	if a.fileIsFull("first") {
		t.Fatal("it is complete without the node")
	}
	if st := a.status(); st.Objects.Degraded == 0 || st.Safety != client.Degraded {
		t.Errorf("status: %d degraded, %s", st.Objects.Degraded, st.Safety)
	}
	a.fs.write(nsMeta, 1)
	a.mustShip() // a cut does not bury it
	w.nodes[5].SetDown(false)
	a.wantComplete("first", 5)

	away()
	a.storeBytes("second", content)
	a.kill()
	a.start().mustMount()
	a.fs.write(nsMeta, 1)
	a.mustShip()
	w.nodes[5].SetDown(false)
	a.wantComplete("second", 5)

	away()
	a.storeBytes("third", content)
	a.kill()
	b := w.recover().mustMount()
	b.fs.write(nsMeta, 1)
	b.mustShip()
	w.nodes[5].SetDown(false)
	b.wantComplete("third", 5)
	w.nodes[0].SetDown(true)
	w.nodes[1].SetDown(true)
	for _, name := range []string{"first", "second", "third"} {
		out := filepath.Join(t.TempDir(), "out")
		if err := b.store.RetrieveFile(t.Context(), client.FileRequest{Name: name, Path: out}, quiet); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got, err := os.ReadFile(out); err != nil || !bytes.Equal(got, content) {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
	}
	w.neverTwo()
}

// TestIncompleteFileIsReplaced: nothing of it is left, neither of what it had nor of what was made later.
func TestIncompleteFileIsReplaced(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.machine().start().format().mustMount()
	a.fs.write(nsMeta, 1)
	a.mustShip()
	w.nodes[5].SetDown(true)
	a.eventually("the node is away", func() bool { return !a.store.peers[a.store.order[5]].Up() })
	a.storeBytes("f", bytes.Repeat([]byte("old "), 20000))
	a.storeBytes("f", bytes.Repeat([]byte("new!"), 15000)) // incomplete, too
	w.nodes[5].SetDown(false)
	a.wantComplete("f", 5)
	a.storeBytes("f", bytes.Repeat([]byte("last"), 10000))
	a.wantComplete("f", 5)
	man, err := a.store.fileManifest(t.Context(), "f")
	a.must(err)
	stripes := int(man.DataStripes + man.IndexStripes)
	a.eventually("what was replaced is deleted", func() bool {
		most := a.named() + stripes + 1 // and the head of the cut
		for _, n := range w.nodes {
			if n.Len() > most {
				return false
			}
		}
		return a.store.intents.count() == 0
	})
	for i := range w.nodes {
		if got := a.shardsOf(man, i); got != stripes {
			t.Errorf("node %d holds %d shards of the file, want %d", i, got, stripes)
		}
	}
}

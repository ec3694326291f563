package test

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"qsfs/test/harness"
	"qsfs/zstor/client"
)

// TestDiskFilledByAnother: another process takes the last block of the disk that holds the state, in the middle of writes,
// again and again. Nothing that was promised is lost, deletes work, zdbfs restarts at most once a time, and when there is room
// again, writing goes on.
func TestDiskFilledByAnother(t *testing.T) {
	disk := harness.NewSmallDisk(t, 900<<20)
	c := harness.Start(t, harness.Options{State: disk.Dir + "/state"})
	f := c.Front
	w := newWriting(t, f.Path("tree"), 51)
	if err := os.Mkdir(f.Path("tree"), 0o700); err != nil {
		t.Fatal(err)
	}
	for round := range rounds(3, 20) {
		for i := range 40 {
			writeSynced(t, f.Path("old", fmt.Sprint(i)), make([]byte, 8<<10))
		}
		w.start()
		w.waitAcks(20, time.Minute)
		filler := disk.Fill()
		restarts := 0
		w.waitRefused(t, f, &restarts)

		for i := range 40 {
			if err := removePatiently(f, &restarts, f.Path("old", fmt.Sprint(i))); err != nil {
				t.Errorf("round %d: a delete on a full disk: %v", round, err)
			}
		}
		if err := os.Remove(filler); err != nil {
			t.Fatal(err)
		}
		keepUp(t, f, &restarts)
		if restarts > 1 {
			t.Errorf("round %d: zdbfs ended %d times", round, restarts)
		}
		harness.Eventually(t, 30*time.Second, "writing to work with room again", func() (bool, string) {
			err := trySynced(f.Path("probe"), []byte("room"))
			return err == nil, errString(err)
		})
		// What the kernel holds of a write that was refused must go before the tree is compared.
		f.Unmount()
		f.Mount()
		w.check(f.Path("tree"))
		if left, err := os.ReadDir(f.Path("old")); err != nil || len(left) != 0 {
			t.Errorf("round %d: %d deleted files are there again, %v", round, len(left), err)
		}
		w.start()
		w.waitAcks(20, time.Minute)
		if err := w.pause(); err != nil {
			t.Fatalf("round %d: with room again: %v", round, err)
		}
	}
	f.WaitStatus(shipLimit, "attached", func(s *client.Status) bool { return s.Verdict == client.Verified })
	f.Ship(shipLimit)
	w.check(f.Path("tree"))
}

// waitRefused waits until the running writer is refused, and mounts again if zdbfs dies meanwhile.
func (w *writing) waitRefused(t *testing.T, f *harness.Front, restarts *int) {
	t.Helper()
	select {
	case err := <-w.done:
		if !errors.Is(err, syscall.ENOSPC) && !errors.Is(err, syscall.EIO) && !errors.Is(err, syscall.ENOTCONN) &&
			!errors.Is(err, syscall.ECONNABORTED) && !errors.Is(err, syscall.EROFS) {
			t.Errorf("a write on a full disk: %v", err)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("thirty seconds of writing on a full disk, and no refusal: the writer hangs, or writes into nothing")
	}
	keepUp(t, f, restarts)
}

// keepUp mounts again when zdbfs has ended, as systemd would.
func keepUp(t *testing.T, f *harness.Front, restarts *int) {
	t.Helper()
	for !f.Zdbfs.Alive() || !f.Mounted() {
		if *restarts++; *restarts > 5 {
			t.Fatalf("a restart loop:\n%s", f.Zdbfs.Log())
		}
		f.Zdbfs.Kill9()
		f.StartMount()
		mountedOrDead(t, f)
	}
}

// removePatiently removes a file; it tries again after a restart of zdbfs.
func removePatiently(f *harness.Front, restarts *int, path string) error {
	err := os.Remove(path)
	for try := 0; try < 5 && err != nil && !errors.Is(err, os.ErrNotExist) && !f.Zdbfs.Alive(); try++ {
		*restarts++
		f.StartMount()
		f.WaitMount()
		err = os.Remove(path)
	}
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// TestNodeDiskFilledByAnother: another process takes the last block of the disk of a node. What empties a namespace works there, and
// holds over a kill; with the room that it gave, the node takes writes again.
func TestNodeDiskFilledByAnother(t *testing.T) {
	disk := harness.NewSmallDisk(t, 300<<20)
	c := harness.New(t, harness.Options{NodeDir: func(i int) string {
		if i == 0 {
			return disk.Dir + "/node"
		}
		return fmt.Sprintf("%s/unused%d", disk.Dir, i)
	}})
	node := c.Nodes[0]
	node.Up()
	node.MakeNamespaces()
	selected := func(ns string) *harness.Conn {
		conn, err := harness.Dial(node.Address)
		if err == nil {
			_, err = conn.Do("SELECT", ns, node.Password)
		}
		if err != nil {
			t.Fatal(err)
		}
		return conn
	}
	value := strings.Repeat("0123456789abcdef", 16<<10)
	// The reserve, and room for the index of the namespace that is empty then, must be among what is freed.
	for ns, values := range map[string]int{harness.DataNamespace: 200, harness.MetaNamespace: 10} {
		conn := selected(ns)
		for i := range values {
			if _, err := conn.Do("SET", fmt.Sprint("old ", i), value); err != nil {
				t.Fatalf("fill %s: %v", ns, err)
			}
		}
		conn.Close()
	}
	admin := node.Admin()
	defer admin.Close()
	for _, empty := range []struct {
		ns  string
		how func(*harness.Conn) error
	}{
		{harness.DataNamespace, func(conn *harness.Conn) error { _, err := conn.Do("FLUSH"); return err }},
		{harness.MetaNamespace, func(*harness.Conn) error { _, err := admin.Do("NSDEL", harness.MetaNamespace); return err }},
	} {
		conn := selected(empty.ns)
		defer conn.Close()
		filler := disk.Fill()
		if _, err := conn.Do("SET", "new", "value"); err == nil {
			t.Fatal("the disk is not full")
		}
		if _, err := admin.Do("NSNEW", "new"); err == nil {
			t.Fatal("the disk has room for another list of namespaces")
		}
		if err := empty.how(conn); err != nil {
			t.Errorf("%s cannot be emptied on a full disk: %v", empty.ns, err)
		}
		if empty.ns == harness.DataNamespace {
			harness.Eventually(t, 30*time.Second, "a write where room was made", func() (bool, string) {
				_, err := conn.Do("SET", "new", "value")
				return err == nil, errString(err)
			})
		}
		if err := os.Remove(filler); err != nil {
			t.Fatal(err)
		}
	}
	node.Kill9()
	node.Up()
	if got := node.Keys(); got != 1 {
		t.Errorf("%d keys in the namespace that was emptied and has one", got)
	}
	conn := node.Admin()
	defer conn.Close()
	if _, err := conn.Do("NSINFO", harness.MetaNamespace); err == nil {
		t.Error("the namespace that was removed is there again")
	}
}

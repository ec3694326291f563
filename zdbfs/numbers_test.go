package zdbfs

import (
	"testing"
	"time"
)

// Statfs answers while a reservation of numbers waits for its commit.
func TestStatfsDuringReserve(t *testing.T) {
	f := newTestFS(t)
	before, err := f.Statfs(ctx)
	f.want(err, nil)
	reserved, answered := false, true
	f.meta.before = func(*batch) {
		if f.numbers.mu.TryLock() { // the file's own batch
			f.numbers.mu.Unlock()
			return
		}
		reserved = true
		done := make(chan error, 1)
		go func() {
			_, err := f.Statfs(ctx)
			done <- err
		}()
		select {
		case err := <-done:
			f.want(err, nil)
		case <-time.After(5 * time.Second):
			answered = false
		}
	}
	_, err = f.Mknod(ctx, alice, RootIno, "n", 0o100644, 0, 0)
	f.want(err, nil)
	if !reserved {
		t.Fatal("nothing was reserved: the test is void")
	}
	if !answered {
		t.Error("Statfs waits for a commit")
	}
	after, err := f.Statfs(ctx)
	f.want(err, nil)
	if got, want := after.Ffree, before.Ffree-1; got != want {
		t.Errorf("%d files free, want %d", got, want)
	}
}

package bazil

import (
	"context"
	"fmt"
	"os"
	"syscall"
	"testing"
	"time"
)

// A failed remote sync is EIO: the reason may hold the number of a socket's error, which fsync(2) does
// not have.
func TestRemoteErrno(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	for _, err := range []error{
		fmt.Errorf("zstor: %w", &os.SyscallError{Syscall: "connect", Err: syscall.ENOENT}),
		fmt.Errorf("zstor: %w", &os.SyscallError{Syscall: "connect", Err: syscall.ECONNREFUSED}),
		context.DeadlineExceeded,
	} {
		if got := remoteErrno(ctx, err); got != syscall.EIO {
			t.Errorf("%v: %v", err, got)
		}
	}
	if err := remoteErrno(ctx, nil); err != nil {
		t.Error(err)
	}
	cancel()
	if got := remoteErrno(ctx, ctx.Err()); got != syscall.EINTR {
		t.Errorf("given up: %v", got)
	}
}

// TestHeldWritesAreSmall: hundreds of small writes that wait for room hold about the memory of their data, and lose none of it.
func TestHeldWritesAreSmall(t *testing.T) {
	const pages, page = 400, 4096
	f := mountFS(t)
	p := f.path("pages")
	file, err := os.Create(p)
	must(t, err)
	defer file.Close()
	f.ask("full on")
	f.ask("hold on")
	want := make([]byte, 2*pages*page)
	for i := range pages {
		at := 2 * i * page // apart, so that each is a request of its own
		copy(want[at:], pattern(uint64(i), page))
		_, err := file.WriteAt(want[at:at+page], int64(at))
		must(t, err)
	}
	synced := make(chan error, 1)
	go func() { synced <- file.Sync() }()
	var held, before, heap int
	for deadline := time.Now().Add(30 * time.Second); held < pages && time.Now().Before(deadline); {
		_, err := fmt.Sscan(f.ask("held"), &held, &heap)
		must(t, err)
		if before == 0 {
			before = heap
		}
	}
	t.Logf("%d writes are held up, %d bytes of memory are in use", held, heap)
	if held < pages {
		t.Errorf("%d of %d writes are held up: too few to tell", held, pages)
	}
	if limit := 24 << 20; heap > limit {
		t.Errorf("%d writes of %d bytes that wait hold %d bytes of memory, more than %d", held, page, heap, limit)
	}
	f.ask("hold off")
	must(t, <-synced)
	f.ask("full off")
	must(t, file.Close())
	f.restart()
	want = want[:len(want)-page] // the last page is the end of the file
	wantFile(t, p, want)
}

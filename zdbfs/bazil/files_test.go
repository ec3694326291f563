package bazil

import (
	"context"
	"fmt"
	"os"
	"syscall"
	"testing"
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

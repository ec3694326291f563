package bazil

import (
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// asUser runs f in a thread with another user's rights. The thread ends with it.
func asUser(t *testing.T, id int, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlocked: the thread is thrown away
		// The system calls themselves: the library's wrappers change all threads.
		for _, c := range [][4]uintptr{
			{unix.SYS_SETGROUPS, 0, 0, 0},
			{unix.SYS_SETRESGID, uintptr(id), uintptr(id), uintptr(id)},
			{unix.SYS_SETRESUID, uintptr(id), uintptr(id), uintptr(id)},
		} {
			if _, _, e := unix.RawSyscall(c[0], c[1], c[2], c[3]); e != 0 {
				t.Errorf("become user %d: %v", id, e)
				return
			}
		}
		f()
	}()
	<-done
}

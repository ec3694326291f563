package server

import (
	"testing"
	"testing/synctest"

	"qsfs/zdb/internal/vfs"
)

// A check that began before the password was changed ends after it: from then on the new one counts and the old one
// does not.
func TestPasswordChangedDuringCheck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		srv := &Server{fs: vfs.OS, spares: spares{fs: vfs.OS, dir: dir}, o: Options{DataDir: dir}, hashing: make(hashing, 1), namespaces: map[string]*namespace{}}
		n := srv.add("ns", &settings{Password: srv.hashing.newHash("old")})
		srv.hashing <- struct{}{} // others are being checked
		var admitted bool
		go func() { admitted = n.verify("old") }()
		synctest.Wait()
		fresh, clear := make(hashing, 1).newHash("new"), "new"
		if err := srv.changeSettings(n, func(set *settings) { set.Password = fresh }, &clear); err != nil {
			t.Fatal(err)
		}
		<-srv.hashing
		synctest.Wait()
		if !admitted {
			t.Error("the check of what was the password when it began failed")
		}
		if n.verify("old") {
			t.Error("the old password is accepted")
		}
		if !n.verify("new") {
			t.Error("the new password is refused")
		}
	})
}

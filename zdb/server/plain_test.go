package server

import (
	"testing"

	"qsfs/zdb"
)

// TestNoHistoryOfNextID: each write of a sequential namespace changes the next id. With keep_deleted no version of that is kept, in a
// namespace that became sequential and in one that is opened again.
func TestNoHistoryOfNextID(t *testing.T) {
	t.Parallel()
	ts := start(t, nil)
	w := ts.adminWire()
	w.want("+OK", "NSNEW", "ids")
	w.want("+OK", "NSSET", "ids", "mode", "seq")
	w.want("+OK", "NSSET", "ids", "keep_deleted", "30d")
	w.want("+OK", "NSSET", "ids", "keep_last", "5")
	w.want("+OK", "SELECT", "ids")
	check := func(when string, want int64) {
		t.Helper()
		eng, err := ts.lookup("ids").acquire(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer ts.lookup("ids").release()
		if _, err := eng.Compact(t.Context(), zdb.CompactOptions{}); err != nil {
			t.Fatal(err)
		}
		if got := eng.Stats().Versions; got != want {
			t.Errorf("%s: %d versions are kept, want %d", when, got, want)
		}
	}
	for n := range uint64(50) {
		w.want(quoted(n), "SET", "", "value")
	}
	check("after distinct ids", 0)
	ts.reopen()
	w = ts.adminWire()
	w.want("+OK", "SELECT", "ids")
	for n := range uint64(20) {
		w.want(quoted(50+n), "SET", "", "value")
	}
	check("after opening it again", 0)
	w.want(quoted(3), "SET", id(3), "other")
	w.want("+OK", "DEL", id(4))
	check("after an update and a delete", 3) // two values, and the delete that is a version itself
}

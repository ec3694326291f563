package server

import (
	"fmt"
	"strings"
	"testing"
)

// Who has the password of a namespace may delete a key, write rubbish and delete that too, as often as he likes: the admin finds
// every value, one behind the other.
func TestHistoryOverManyDeletes(t *testing.T) {
	t.Parallel()
	ts := start(t, nil)
	w, admin := ts.dial(), ts.adminWire()
	keepLast(t, ts, 20)
	for _, v := range []string{"one", "two", "three"} {
		w.want(`"k"`, "SET", "k", v)
		w.want("+OK", "DEL", "k")
	}
	if got := fmt.Sprint(admin.history("k")); got != "[three two one]" {
		t.Errorf("history of a key that was deleted three times: %s", got)
	}
	w.want(`"k"`, "SET", "k", "four")
	if got := fmt.Sprint(admin.history("k")); got != "[four three two one]" {
		t.Errorf("history of a key that came again: %s", got)
	}
}

// A page of KEPT KEYS holds nothing but keys with the prefix.
func TestKeptKeysCursor(t *testing.T) {
	t.Parallel()
	ts := start(t, nil)
	w, admin := ts.dial(), ts.adminWire()
	keepLast(t, ts, 5)
	for _, key := range []string{"a1", "a2", "b1", "b2"} {
		w.play([]step{do(`"`+key+`"`, "SET", key, "v"), do("+OK", "DEL", key)})
	}
	admin.want("-"+errCursor, "KEPT", "KEYS", "default", "b", "a1")
	if got := admin.do("KEPT", "KEYS", "default", "b", "b1"); !strings.HasPrefix(got, `[nil [["b2" `) {
		t.Errorf("behind b1: %s", got)
	}
}

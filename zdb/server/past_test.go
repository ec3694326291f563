package server

import (
	"fmt"
	"testing"
)

// Who has the password of a namespace may delete a key, write rubbish and delete that too, as often as he likes: the admin finds
// every value, one behind the other.
func TestHistoryOverManyDeletes(t *testing.T) {
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

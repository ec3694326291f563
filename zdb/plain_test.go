package zdb

import (
	"fmt"
	"testing"
	"time"
)

// TestPlain: of a key without history nothing is kept but what a pin needs, and what was kept of it before goes.
func TestPlain(t *testing.T) {
	r := newRig(t)
	r.ns.Retention = &Retention{KeepLast: 5, KeepFor: time.Hour}
	n := r.open()
	write := func(v string) {
		for i := range 100 {
			put(t, n, "next", fmt.Sprint(v, i), "key", fmt.Sprint(v, i))
			if i%40 == 0 {
				if err := n.apply(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	count := func(when string, want int64, keys map[string]int) {
		t.Helper()
		if err := n.apply(t.Context()); err != nil {
			t.Fatal(err)
		}
		for key, want := range keys {
			if list, err := n.History(t.Context(), []byte(key), 0, 1000); err != nil || len(list) != want {
				t.Errorf("%s: %d versions of %s are listed, want %d; %v", when, len(list), key, want, err)
			}
		}
		for more := true; more; { // the index is open by now
			var err error
			if more, err = n.sweepIfDue(); err != nil {
				t.Fatal(err)
			}
		}
		if got := n.Stats().Versions; got != want {
			t.Errorf("%s: %d versions are kept, want %d", when, got, want)
		}
		if res, err := n.Check(t.Context(), CheckOptions{}); err != nil || !res.Clean() {
			t.Errorf("%s: %+v, %v", when, res, err)
		}
	}
	write("old")
	count("as any key", 198, map[string]int{"next": 100, "key": 100})
	r.close()
	r.ns.Plain = []byte("next")
	n = r.open()
	count("after the store was opened by one who knows", 99, map[string]int{"next": 1, "key": 100})
	write("new")
	pin, err := n.Pin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	write("behind")
	count("with a pin", 299+1, map[string]int{"next": 2, "key": 300})
	if e, err := n.GetAt(t.Context(), []byte("next"), pin); err != nil || string(e.Value) != "new99" {
		t.Errorf("at the pin: %q, %v", e.Value, err)
	}
	if err := n.RebuildIndex(t.Context()); err != nil {
		t.Fatal(err)
	}
	count("after a rebuild", 299+1, map[string]int{"next": 2, "key": 300})
	n.SetPlain(nil)
	write("last")
	count("as any key again", 399+101, map[string]int{"next": 102, "key": 400})
}

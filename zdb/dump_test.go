package zdb

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

func dumpText(t *testing.T, r *rig, closed bool) string {
	t.Helper()
	var b strings.Builder
	entries := func(yield func(DumpEntry, error) bool) {
		if closed {
			Dump(t.Context(), r.o, "ns")(yield)
		} else {
			r.n.Dump(t.Context())(yield)
		}
	}
	for e, err := range entries {
		if err != nil {
			t.Fatal(err)
		}
		var missing *MissingError
		var bad *CorruptionError
		fmt.Fprintf(&b, "d%d %s", e.Segment, e.Key)
		switch {
		case e.Deleted:
			b.WriteString(" deleted")
		case errors.As(e.Damaged, &missing):
			b.WriteString(" missing")
		case errors.As(e.Damaged, &bad):
			b.WriteString(" damaged")
		case e.Damaged != nil:
			t.Fatal(e.Damaged)
		case len(e.Value) < 10:
			fmt.Fprintf(&b, "=%s", e.Value)
		}
		if e.Moved {
			fmt.Fprintf(&b, " %v %d", e.Seq, e.Time.UnixNano())
		}
		if e.Damaged == nil && (e.Session == 0 || e.Batch < 256) {
			t.Errorf("entry %+v", e)
		}
		b.WriteString("; ")
	}
	return b.String()
}

// TestDump gives everything in order, marked where it cannot be read.
func TestDump(t *testing.T) {
	r := checked(t)
	whole := "d0 a=first; d0 b; d0 gone=x; d0 a=second; d1 gone deleted; d1 c=third; d2 d=fourth; "
	if got := dumpText(t, r, false); got != whole {
		t.Errorf("open: %q", got)
	}
	for e, err := range r.n.Dump(t.Context()) { // and it may be left
		if err != nil || string(e.Key) != "a" {
			t.Fatal(e, err)
		}
		break
	}
	r.close()
	if got := dumpText(t, r, true); got != whole {
		t.Errorf("closed: %q", got)
	}
	d := r.read("d0")
	d[300] ^= 1
	r.overwrite("d0", d)
	if err := r.mem.Remove(r.path("d1")); err != nil {
		t.Fatal(err)
	}
	want := "d0 a damaged; d0 b damaged; d0 gone damaged; d0 a=second; d1 gone deleted; d1 c missing; d2 d=fourth; "
	if got := dumpText(t, r, true); got != want {
		t.Errorf("damaged: %q", got)
	}
	r.open()
	if got := dumpText(t, r, false); got != want {
		t.Errorf("damaged and open: %q", got)
	}
	r.close()
	i := r.read("i0")
	i[100] ^= 1
	r.overwrite("i0", i)
	if got := dumpText(t, r, true); !strings.HasPrefix(got, "d0  damaged; d0 a=second; d1") {
		t.Errorf("without i0: %q", got)
	}
}

package zstor

import (
	"strings"
	"testing"
	"time"

	"qsfs/zstor/client"
)

// TestStatusDoesNotWait: metadata nodes that accept and never answer hold up rounds, but not the one
// who asks what is going on.
func TestStatusDoesNotWait(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.machine().start().format().mustMount()
	a.fs.write(nsData, 5)
	a.mustShip()
	for _, m := range w.metas[:3] {
		m.SetDelay(time.Hour)
	}
	var st *client.Status
	for end := time.Now().Add(4 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		a.fs.write(nsMeta, 1)
		if _, err := a.store.Heads(t.Context(), client.HeadsRequest{Session: a.fs.session, Meta: a.fs.head(nsMeta), Data: a.fs.head(nsData)}); err != nil {
			t.Fatal(err)
		}
		a.store.mu.Lock()
		a.store.metaTime = time.Time{} // what was seen of them is old
		a.store.mu.Unlock()
		start := time.Now()
		var err error
		if st, err = a.store.Status(t.Context()); err != nil {
			t.Fatal(err)
		}
		if d := time.Since(start); d > time.Second {
			t.Fatalf("status took %v", d)
		}
	}
	if st.Pending.Age < 2*time.Second || st.Pending.Bytes == 0 {
		t.Errorf("nothing was held up: %d bytes for %v", st.Pending.Bytes, st.Pending.Age)
	}
}

// TestStatusSaysThatReadsFail: with fewer nodes than a read needs, that is what status says first.
func TestStatusSaysThatReadsFail(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.machine().start().format().mustMount()
	a.fill()
	a.mustShip()
	a.receipts()
	w.group(1, true)
	w.nodes[0].SetDown(true)
	var st *client.Status
	w.eventually("three nodes are seen down", func() bool {
		var err error
		if st, err = a.store.Status(t.Context()); err != nil {
			t.Fatal(err)
		}
		return st.Read.Answer == 3
	})
	if st.Safety != client.AtRisk || !strings.HasPrefix(st.Headline, "Dispersed data cannot be read: 3 of the 4 nodes that reading needs answer.") {
		t.Errorf("%s: %s", st.Safety, st.Headline)
	}
	if want := "Bring back at least 1 of: " + a.store.order[0] + ", " + a.store.order[2] + ", " + a.store.order[3] + "."; len(st.Advice) == 0 || st.Advice[0] != want {
		t.Errorf("advice %q, want %q first", st.Advice, want)
	}
	w.nodes[0].SetDown(false)
	w.group(1, false)
	w.eventually("all is safe again", func() bool {
		st, err := a.store.Status(t.Context())
		return err == nil && st.Safety == client.Safe && st.Read.Needed == 0
	})
}

package zstor

import (
	"testing"
	"time"

	"qsfs/zstor/internal/record"
	"qsfs/zstor/internal/transfer"
)

// TestIntentOutgrowsARecord: deletions that wait for long outgrow a record: shipping goes on, and the next process knows them all.
func TestIntentOutgrowsARecord(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.machine().start().format()
	b := a.store.intents
	nodes := make([]record.Holding, 20)
	for i := range nodes {
		nodes[i] = record.Holding{Index: uint16(i), Node: string(rune('a'+i)) + "storage17.example.org:9900/qsfs-data", State: record.Offered}
	}
	const waiting = 900 // more than two records hold
	b.mu.Lock()
	for i := range waiting {
		g := record.Generation{byte(i), byte(i >> 8)}
		b.entries[g] = &intentEntry{since: time.Now(), IntentEntry: record.IntentEntry{
			Object: "zdbfs-meta/5/1234567", Generation: g, K: 16, N: 20, KeyEpoch: 1, Nodes: nodes,
		}}
		if i%2 == 0 { // a file that waits for a node
			b.entries[g].kept, b.entries[g].inUse = &keptFile{}, true
		}
	}
	b.mu.Unlock()
	g, err := a.store.mover.Begin(transfer.Spec{
		Object: "zdbfs-data/1", K: 4, N: 6, Nodes: a.store.order, KeyEpoch: 1, StripeSize: 16 << 10, Writer: a.store.set.Writer(),
	})
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := b.declare(t.Context(), 0, g); err != nil {
			t.Fatal(err)
		}
	}
	if len(b.parked) < 2 || b.parks != len(b.parked) {
		t.Errorf("%d further records, %d were written; want at least 2, each once", len(b.parked), b.parks)
	}
	next := newIntentBook(a.store.set, a.store.log)
	if err := next.adopt(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(next.entries) != waiting+1 {
		t.Errorf("the next process knows %d generations, want %d", len(next.entries), waiting+1)
	}
	// It takes all of them over before the records of the first are tombstoned.
	if err := next.rewrite(t.Context()); err != nil {
		t.Fatal(err)
	}
	third := newIntentBook(a.store.set, a.store.log)
	if err := third.adopt(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(third.entries) != waiting+1 {
		t.Errorf("the one after knows %d generations, want %d", len(third.entries), waiting+1)
	}
	// When all is over, nothing but the living record is left.
	for id := range third.entries {
		third.settled(id)
	}
	if err := third.rewrite(t.Context()); err != nil {
		t.Fatal(err)
	}
	l, err := a.store.set.List(t.Context(), record.KindIntent)
	if err != nil {
		t.Fatal(err)
	}
	if len(l.Records) != 1 {
		t.Errorf("%d records are left, want the living one", len(l.Records))
	}
}

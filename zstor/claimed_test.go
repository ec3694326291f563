package zstor

import (
	"testing"
	"time"

	"qsfs/zstor/client"
	"qsfs/zstor/internal/codec"
	"qsfs/zstor/internal/keys"
	"qsfs/zstor/internal/transfer"
)

// TestPresenceIsNoConfirmation: a node comes back, after a restart of zstor, that says it holds what it was offered and has
// something else. It counts only when its shards were read, and made again.
func TestPresenceIsNoConfirmation(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.machine().start().format().mustMount()
	w.nodes[5].SetDown(true)
	time.Sleep(200 * time.Millisecond)
	a.fs.write(nsData, 40)
	a.fs.seal(nsData)
	a.fs.write(nsMeta, 1)
	a.mustShip()
	m := a.store.objects.recall(segmentKey{Namespace: nsData, Segment: 0})
	a.kill()
	a.start()
	index := -1
	for _, h := range m.Nodes {
		if h.Node == a.store.order[5] {
			index = int(h.Index)
		}
	}
	if index < 0 {
		t.Fatal("node 5 was not offered anything: the test does not take its path")
	}
	c, err := codec.New(a.store.ring)
	if err != nil {
		t.Fatal(err)
	}
	dec, err := c.Open(codec.Params{Object: m.Object, Generation: codec.Generation(m.Generation), K: int(m.K), N: int(m.N),
		KeyEpoch: keys.Epoch(m.KeyEpoch), StripeSize: int(m.StripeSize)})
	if err != nil {
		t.Fatal(err)
	}
	garbage := map[string][]byte{}
	for stripe := range m.DataStripes + m.IndexStripes {
		name := dec.Name(index, stripe)
		garbage[string(name[:])] = []byte("garbage")
	}
	w.nodes[5].Restore(garbage)
	w.nodes[5].SetDown(false)
	a.mustMount()
	a.eventually("consent", func() bool {
		r, _ := a.store.Evict(t.Context(), client.EvictRequest{Namespace: nsData, Segment: 0})
		return r.OK
	})
	for stripe := range m.DataStripes + m.IndexStripes {
		state, err := a.store.mover.Verify(t.Context(), m, index, stripe)
		if err != nil || state != transfer.ShardGood {
			t.Errorf("with consent to evict, stripe %d on node 5 is %v, %v", stripe, state, err)
		}
	}
}

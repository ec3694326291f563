package quorum

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"qsfs/zstor/internal/record"
)

// held is what is on its way to node i for operations that are over.
func (s *Set) held(i int) lag {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lags[i]
}

// A node that accepts and never answers costs a bounded number of goroutines and bytes, and no operation any time.
func TestHangingNodeIsBounded(t *testing.T) {
	for _, size := range []int{100, 200 << 10} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCluster(t, "abc")
				a := c.format(&memNotes{})
				c.slow[1] = 1000 * time.Hour
				before := runtime.NumGoroutine()
				const puts = 2000
				objects := puts
				if size > 1000 {
					objects = 4 // the nodes are in memory, too
				}
				begin := time.Now()
				body := make([]byte, size)
				versions := map[string]record.Version{}
				for i := range puts {
					object := fmt.Sprint(i % objects)
					v, err := a.Put(t.Context(), record.KindIntent, object, body)
					if err != nil {
						t.Fatal(err)
					}
					versions[object] = v
					if i%100 == 99 {
						synctest.Wait() // those that were given up have ended
						c.w.mu.Lock()
						c.w.late = nil // copies that the simulation keeps
						for _, n := range []int{0, 2} {
							c.w.nodes[n].keepNewest()
						}
						c.w.mu.Unlock()
					}
					if l := a.held(1); l.count > maxStragglers || l.bytes > maxStragglerBytes {
						t.Fatalf("put %d: %d stragglers hold %d bytes", i, l.count, l.bytes)
					}
					if got := runtime.NumGoroutine() - before; i%100 == 99 && got > maxStragglers+10 {
						t.Fatalf("put %d: %d goroutines", i, got)
					}
				}
				if d := time.Since(begin); d > 0 {
					t.Errorf("the puts took %v: they waited for the hanging node", d)
				}
				if l := a.held(1); l.count == 0 || size > 1000 && l.bytes < maxStragglerBytes/2 {
					t.Errorf("%d stragglers with %d bytes: the bound was not reached", l.count, l.bytes)
				}
				time.Sleep(time.Minute) // CallTimeout has passed for the last of them
				synctest.Wait()
				if l := a.held(1); l.count != 0 || l.bytes != 0 {
					t.Errorf("%d stragglers with %d bytes are left", l.count, l.bytes)
				}
				if got := runtime.NumGoroutine() - before; got > 2 {
					t.Errorf("%d goroutines are left", got)
				}

				// The node is back: the status asks for a rebuild, and that brings it what it missed.
				c.slow[1] = 0
				st := a.Status(t.Context())
				if !reflect.DeepEqual(st.NeedsRebuild(), []int{1}) || st.Nodes[1].Missed != puts {
					t.Errorf("needs rebuild %v, missed %d of %d", st.NeedsRebuild(), st.Nodes[1].Missed, puts)
				}
				if _, err := a.RebuildNode(t.Context(), 1); err != nil {
					t.Fatal(err)
				}
				if st := a.Status(t.Context()); len(st.NeedsRebuild()) != 0 {
					t.Errorf("after the rebuild: %+v", st)
				}
				c.w.nodes[0].down = true // so that the rebuilt node counts
				for object, v := range versions {
					if f, err := a.Newest(t.Context(), record.KindIntent, object); err != nil || f.Version != v {
						t.Fatalf("%s: found %v, %v, want %v", object, f.Version, err, v)
					}
				}
			})
		})
	}
}

// keepNewest leaves one version of each record.
func (n *simNode) keepNewest() {
	newest := map[record.Family]record.Name{}
	for name := range n.data {
		k, err := record.ParseName([]byte(name))
		if err != nil {
			continue
		}
		best, seen := newest[k.Family()]
		if seen && best.Version().Compare(k.Version()) > 0 {
			k, best = best, k
		}
		newest[k.Family()] = k
		if seen {
			delete(n.data, string(best[:]))
		}
	}
}

// A node that lags too far behind misses a tombstone like any record; it is not counted among those that have it.
func TestForgetDoesNotCountASkippedNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, "abc")
		a := c.format(&memNotes{})
		v := put(t, a, "o", "1")
		synctest.Wait()
		a.o.stragglers = -1 // each straggler is given up
		c.slow[1] = time.Hour
		if _, err := a.Tombstone(t.Context(), record.KindManifest, "o", v); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if l := a.held(1); l.count != 0 || a.Status(t.Context()).Nodes[1].Missed != 1 {
			t.Fatalf("the node was not skipped: %+v", l)
		}
		time.Sleep(2 * time.Hour)
		for range 3 {
			if gone, err := a.Forget(t.Context(), record.KindManifest, "o"); gone || !errors.Is(err, ErrQuorum) {
				t.Fatalf("forgotten while a node lacks the tombstone: %v, %v", gone, err)
			}
		}
		// The others still hide what the skipped one still has.
		c.slow[1] = 0
		c.w.nodes[0].down = true
		if f, err := a.Newest(t.Context(), record.KindManifest, "o"); !errors.Is(err, ErrNotFound) || !f.Tombstone {
			t.Errorf("deleted record: %+v, %v", f, err)
		}
		c.w.nodes[0].down = false
		if gone, err := a.Forget(t.Context(), record.KindManifest, "o"); !gone || err != nil {
			t.Errorf("all up: %v, %v", gone, err)
		}
		for i := range c.w.nodes {
			if n := len(c.names(i)); n != 0 {
				t.Errorf("node %d still has %d records", i, n)
			}
		}
	})
}

// A call that waits for its turn ends with its timeout, too.
func TestWaitForATurnIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, "abc")
		a := c.format(&memNotes{})
		for range a.o.MaxCalls {
			a.sems[1] <- struct{}{} // calls that never end
		}
		begin := time.Now()
		err := a.call(t.Context(), 1, func(context.Context, Node) error { return nil })
		if d := time.Since(begin); !errors.Is(err, context.DeadlineExceeded) || d != a.o.CallTimeout {
			t.Errorf("waited %v: %v", d, err)
		}
		for range a.o.MaxCalls {
			<-a.sems[1]
		}
	})
}

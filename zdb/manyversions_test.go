package zdb

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"syscall"
	"testing"
	"time"
)

// manyVersions is so many of one key that what loads them all, or goes over them again for each transaction, is seen.
const manyVersions = 250_000

// cost is what something took: bytes allocated and processor time of the process, which the load of the machine hardly changes.
type cost struct {
	bytes int64
	cpu   time.Duration
}

func costOf(t *testing.T, f func() error) cost {
	t.Helper()
	var before, after runtime.MemStats
	var from, to syscall.Rusage
	runtime.ReadMemStats(&before)
	err := syscall.Getrusage(syscall.RUSAGE_SELF, &from)
	if err = errors.Join(err, f(), syscall.Getrusage(syscall.RUSAGE_SELF, &to)); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	spent := func(r *syscall.Rusage) time.Duration { return time.Duration(r.Utime.Nano() + r.Stime.Nano()) }
	return cost{int64(after.TotalAlloc - before.TotalAlloc), spent(&to) - spent(&from)}
}

// peak is the largest heap above the present one while f runs.
func peak(t *testing.T, f func() error) int64 {
	t.Helper()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	before, most := m.HeapAlloc, m.HeapAlloc
	done := make(chan error)
	go func() { done <- f() }()
	for {
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
			return int64(most - before)
		case <-time.After(2 * time.Millisecond):
			runtime.ReadMemStats(&m)
			most = max(most, m.HeapAlloc)
		}
	}
}

// overwriteMany overwrites one key as often as it can.
func overwriteMany(t *testing.T, n *Namespace, key string, times int) {
	t.Helper()
	b := NewBatch()
	for i := range times {
		b.Set([]byte(key), fmt.Appendf(nil, "%08d", i))
		if b.Len() == 4096 || i == times-1 {
			if _, err := n.Commit(t.Context(), b); err != nil {
				t.Fatal(err)
			}
			b.Reset()
		}
	}
}

// TestManyVersions is a thief who overwrites one key all day, where everything is kept. Whatever looks at the
// versions does so in little memory and in one pass.
func TestManyVersions(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(25)) // so that the heap is what is in use
	r := newRig(t)
	r.ns.Retention = &Retention{KeepFor: time.Hour}
	n := r.open()
	put(t, n, "before", "x")
	put(t, n, "behind", "x")
	feed := costOf(t, func() error {
		overwriteMany(t, n, "k", manyVersions)
		del(t, n, "k", "behind")
		return n.apply(t.Context())
	})
	if v := n.Stats().Versions; v < manyVersions {
		t.Fatalf("only %d versions", v)
	}
	t.Logf("writing: %+v", feed)
	check := func(what string, most int64, f func() error) {
		t.Helper()
		var c cost
		high := peak(t, func() error { c = costOf(t, f); return nil })
		t.Logf("%s: %d bytes per version, %v, peak %d KiB", what, c.bytes/manyVersions, c.cpu, high>>10)
		if c.bytes > most*manyVersions {
			t.Errorf("%s allocates %d bytes per version", what, c.bytes/manyVersions)
		}
		if c.cpu > 2*feed.cpu+2*time.Second {
			t.Errorf("%s takes %v, writing them took %v", what, c.cpu, feed.cpu)
		}
		if high > 64<<20 {
			t.Errorf("%s takes up to %d MiB", what, high>>20)
		}
	}
	sweep := func() error {
		n.compactor.mu.Lock()
		defer n.compactor.mu.Unlock()
		return n.runSweep(t.Context())
	}
	check("a sweep that drops nothing", 1000, sweep)
	deleted := func() error {
		it, err := n.NewDeletedIter(t.Context(), IterOptions{})
		if err != nil {
			return err
		}
		keys := ""
		for ok := it.Seek(nil); ok; ok = it.Next() {
			keys += string(it.Key()) + string(fmt.Sprint(it.Last().Length))
		}
		if err := errors.Join(it.Err(), it.Close()); err != nil || keys != "behind1k8" {
			return fmt.Errorf("deleted keys are %q, %w", keys, err)
		}
		return nil
	}
	check("the deleted keys", 20, deleted)
	check("all history in pages", 2000, func() error {
		seen, before := 0, Seq(0)
		for {
			list, err := n.History(t.Context(), []byte("k"), before, 1000)
			if err != nil || len(list) == 0 {
				if seen != manyVersions+1 {
					err = errors.Join(err, fmt.Errorf("%d versions are listed", seen))
				}
				return err
			}
			seen, before = seen+len(list), list[len(list)-1].Seq
		}
	})
	check("a walk through all history", 1000, func() error {
		seen := 0
		err := n.WalkHistory(t.Context(), []byte("k"), func(Version) bool { seen++; return true })
		if seen != manyVersions+1 {
			err = errors.Join(err, fmt.Errorf("%d versions are seen", seen))
		}
		return err
	})
	checkPassKeys = manyVersions / 8
	defer func() { checkPassKeys = 1 << 20 }()
	check("a check", 30000, func() error {
		res, err := n.Check(context.Background(), CheckOptions{})
		if err == nil && !res.Clean() {
			err = fmt.Errorf("%+v", res)
		}
		return err
	})
	check("a rebuild", 4000, func() error { return n.RebuildIndex(t.Context()) })
	if v := n.Stats().Versions; v < manyVersions {
		t.Fatalf("only %d versions after the rebuild", v)
	}
	if err := n.SetRetention(Retention{}); err != nil {
		t.Fatal(err)
	}
	check("a sweep that drops all", 4000, sweep)
	if v := n.Stats().Versions; v != 0 {
		t.Errorf("%d versions are left", v)
	}
	check("a rebuild that drops all", 4000, func() error { return n.RebuildIndex(t.Context()) })
}

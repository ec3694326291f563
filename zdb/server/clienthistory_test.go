package server

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"qsfs/zdb/client"
)

// The client's scans see each key once and in order, over pages, deletions and cursors that compaction ends.
func TestClientScan(t *testing.T) {
	t.Parallel()
	ts := start(t, func(o *Options) { o.NoSync = true })
	ctx, c := t.Context(), ts.client("default", "")
	if keys, next, err := c.Scan(ctx, nil); err != nil || keys != nil || next != nil {
		t.Errorf("an empty namespace: %v, %v, %v", keys, next, err)
	}
	const many = 2500
	key := func(i int) []byte { return fmt.Appendf(nil, "a-rather-long-key-%05d", i) }
	var cmds []client.Command
	for i := range many {
		cmds = append(cmds, client.Cmd("SET", key(i), bytes.Repeat([]byte("v"), i%7)))
	}
	if _, err := c.Pipeline(ctx, cmds...); err != nil {
		t.Fatal(err)
	}
	at := 0
	for k, err := range c.Scanned(ctx) {
		if err != nil {
			t.Fatal(err)
		}
		if string(k.Key) != string(key(at)) || k.Length != int64(at%7) || time.Since(k.Time).Abs() > time.Minute {
			t.Fatalf("key %d is %q, %d bytes, of %v", at, k.Key, k.Length, k.Time)
		}
		if at == 1500 {
			// The cursor of the page is that of key 1999: it goes, with the segment it came from.
			if err := c.Del(ctx, key(1999)); err != nil {
				t.Fatal(err)
			}
			ts.adminWire().compactAll("default")
		}
		at++
	}
	if at != many { // the deleted one was in the page already
		t.Errorf("%d keys of %d", at, many)
	}
	var back []string
	for cursor := []byte(nil); ; {
		keys, next, err := c.ScanBack(ctx, cursor)
		if err != nil {
			t.Fatal(err)
		}
		if next == nil {
			break
		}
		for _, k := range keys {
			back = append(back, string(k.Key))
		}
		cursor = next
	}
	slices.Reverse(back)
	if len(back) != many-1 || !slices.IsSorted(back) {
		t.Errorf("backwards: %d keys", len(back))
	}
	cursor, err := c.KeyCursor(ctx, key(7))
	if err != nil {
		t.Fatal(err)
	}
	if keys, _, err := c.Scan(ctx, cursor); err != nil || string(keys[0].Key) != string(key(8)) {
		t.Errorf("behind a key: %v, %v", keys, err)
	}
	if _, err := c.KeyCursor(ctx, []byte("none")); !errors.Is(err, client.ErrNotFound) {
		t.Errorf("the cursor of nothing: %v", err)
	}
	if _, _, err := c.Scan(ctx, []byte("no cursor")); !errors.Is(err, client.ErrCursor) {
		t.Errorf("a cursor that is none: %v", err)
	}
}

// A scan goes on where it was when its cursor ends.
func TestClientScanBeginsAnew(t *testing.T) {
	t.Parallel()
	ts := start(t, nil)
	admin, c, ctx := ts.adminWire(), ts.client("default", ""), t.Context()
	key := func(i int) string { return fmt.Sprintf("a-rather-long-key-%05d", i) }
	for i := range scanPage + 10 {
		admin.send("SET", key(i), "v") // together: they share fsyncs
	}
	for i := range scanPage + 10 {
		if got := admin.reply(); got != fmt.Sprintf("%q", key(i)) {
			t.Fatalf("SET: %s", got)
		}
	}
	_, next, err := c.Scan(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	var seen []string
	for k, err := range c.Scanned(ctx) {
		if err != nil {
			t.Fatal(err)
		}
		if len(seen) == 0 {
			admin.want("+OK", "NSJUMP")
			admin.want("+OK", "DEL", key(scanPage-1))
			admin.compactAll("default")
			if _, _, err := c.Scan(ctx, next); !errors.Is(err, client.ErrCursor) {
				t.Errorf("the cursor has not ended: %v", err)
			}
		}
		seen = append(seen, string(k.Key))
	}
	if len(seen) != scanPage+10 || !slices.IsSorted(seen) || len(slices.Compact(seen)) != len(seen) {
		t.Errorf("%d keys", len(seen))
	}
}

func TestClientHistory(t *testing.T) {
	t.Parallel()
	ts := start(t, nil)
	admin, ctx := ts.adminWire(), t.Context()
	admin.play([]step{do("+OK", "NSNEW", "ns"), do("+OK", "NSSET", "ns", "keep_last", "3")})
	c := ts.client("ns", "")
	k := []byte("key")
	for range c.WholeHistory(ctx, k) {
	}
	for _, v := range []string{"one", "two", "three", "four"} {
		if _, err := c.Set(ctx, k, []byte(v)); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	for v, err := range c.WholeHistory(ctx, k) {
		if err != nil {
			t.Fatal(err)
		}
		if time.Since(v.Time).Abs() > time.Minute {
			t.Errorf("version of %v", v.Time)
		}
		got = append(got, string(v.Value))
	}
	if want := "four three two"; strings.Join(got, " ") != want {
		t.Errorf("got %q, want %s", got, want)
	}
	if v, err := c.History(ctx, k, nil); err != nil || string(v.Value) != "four" || v.Before == nil {
		t.Errorf("present version: %+v, %v", v, err)
	}
	if _, err := c.History(ctx, []byte("none"), nil); !errors.Is(err, client.ErrNotFound) {
		t.Errorf("history of nothing: %v", err)
	}
	if _, err := c.History(ctx, k, []byte("12345678")); !errors.Is(err, client.ErrCursor) {
		t.Errorf("a cursor that is none: %v", err)
	}
}

func TestClientSequential(t *testing.T) {
	t.Parallel()
	ts := start(t, func(o *Options) { o.Mode = ModeSequential })
	c, ctx := ts.client("default", ""), t.Context()
	var ids []client.ID
	for i := range 300 {
		id, err := c.Add(ctx, fmt.Appendf(nil, "value %d", i))
		if err != nil || id != client.ID(i) {
			t.Fatalf("Add: %v, %v", id, err)
		}
		ids = append(ids, id)
	}
	if v, err := c.Get(ctx, ids[258].Key()); err != nil || string(v) != "value 258" {
		t.Errorf("Get: %q, %v", v, err)
	}
	if stored, err := c.Set(ctx, ids[7].Key(), []byte("new")); err != nil || !stored {
		t.Errorf("Set: %v, %v", stored, err)
	}
	if id, err := c.Add(ctx, []byte("behind")); err != nil || id != 301 { // the update used up 300
		t.Errorf("Add: %v, %v", id, err)
	}
	if err := c.Del(ctx, ids[0].Key()); err != nil {
		t.Error(err)
	}
	if _, err := c.Set(ctx, client.ID(1000).Key(), []byte("x")); err == nil {
		t.Error("an id that was never given out was set")
	}
	want := client.ID(1)
	for k, err := range c.Scanned(ctx) {
		if err != nil {
			t.Fatal(err)
		}
		if id, err := client.ParseID(k.Key); err != nil || id != want {
			t.Fatalf("scan: %v, %v, want %v", id, err, want)
		}
		if want++; want == 300 {
			want = 301
		}
	}
	if want != 302 {
		t.Errorf("the scan ended before %v", want)
	}
	if _, err := client.ParseID([]byte("short")); err == nil {
		t.Error("5 bytes are an id")
	}
	// In user mode an empty key is none.
	user := start(t, nil).client("default", "")
	if _, err := user.Add(ctx, []byte("x")); err == nil {
		t.Error("Add in user mode succeeded")
	}
}

func TestClientFlushAndWait(t *testing.T) {
	t.Parallel()
	ts := start(t, nil)
	ts.adminWire().private("ns", "secret")
	c, ctx := ts.client("ns", "secret"), t.Context()
	if executed, err := c.Wait(ctx, "FLUSH", 100*time.Millisecond); err != nil || executed {
		t.Errorf("Wait for nothing: %v, %v", executed, err)
	}
	type result struct {
		executed bool
		err      error
	}
	done := make(chan result, 1)
	go func() {
		executed, err := c.Wait(ctx, "FLUSH", time.Minute)
		done <- result{executed, err}
	}()
	eventually(t, "the server has the WAIT", func() bool { return ts.watch.any.Load() == 1 })
	if _, err := c.Set(ctx, []byte("k"), []byte("v")); err != nil { // other calls go on
		t.Error(err)
	}
	if err := c.Flush(ctx); err != nil {
		t.Error(err)
	}
	if r := <-done; r.err != nil || !r.executed {
		t.Errorf("Wait: %+v", r)
	}
	if _, err := c.Get(ctx, []byte("k")); err != client.ErrNotFound {
		t.Errorf("after the flush: %v", err)
	}
	if err := ts.client("default", "").Flush(ctx); err == nil {
		t.Error("a public namespace was flushed")
	}
	if _, err := c.Wait(ctx, "NONSENSE", time.Second); err == nil {
		t.Error("Wait for an unknown command")
	}
	// It ends with the Client.
	go func() {
		executed, err := c.Wait(ctx, "*", time.Minute)
		done <- result{executed, err}
	}()
	eventually(t, "the server has the WAIT", func() bool { return ts.watch.any.Load() == 1 })
	c.Close()
	if r := <-done; r.err != client.ErrClosed {
		t.Errorf("Wait of a closed client: %+v", r)
	}
}

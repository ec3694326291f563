package server

import (
	"bytes"
	"errors"
	"fmt"
	"testing"
	"time"

	"qsfs/zdb/client"
)

// The client against the real server: every typed call, and errors that can be told apart.
func TestClient(t *testing.T) {
	t.Parallel()
	ts := start(t, nil)
	ctx := t.Context()
	admin, err := client.Dial(ctx, client.Options{Address: ts.address, Admin: adminPassword})
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	if err := errors.Join(admin.NSNew(ctx, "ns"), admin.NSSet(ctx, "ns", "password", "secret"), admin.NSSet(ctx, "ns", "maxsize", "1000")); err != nil {
		t.Fatal(err)
	}
	c := ts.client("ns", "secret")
	k, v := []byte("key"), []byte("value")
	if stored, err := c.Set(ctx, k, v); err != nil || !stored {
		t.Errorf("Set: %v, %v", stored, err)
	}
	if stored, err := c.Set(ctx, k, v); err != nil || stored {
		t.Errorf("Set again: %v, %v", stored, err)
	}
	if got, err := c.Get(ctx, k); err != nil || !bytes.Equal(got, v) {
		t.Errorf("Get: %q, %v", got, err)
	}
	if _, err := c.Get(ctx, []byte("none")); err != client.ErrNotFound {
		t.Errorf("Get of nothing: %v", err)
	}
	if yes, err := c.Exists(ctx, k); err != nil || !yes {
		t.Errorf("Exists: %v, %v", yes, err)
	}
	if err := errors.Join(c.Check(ctx, k), c.Ping(ctx)); err != nil {
		t.Error(err)
	}
	if err := c.Check(ctx, []byte("none")); err != client.ErrNotFound {
		t.Errorf("Check of nothing: %v", err)
	}
	if n, err := c.DBSize(ctx); err != nil || n != 1 {
		t.Errorf("DBSize: %d, %v", n, err)
	}
	if now, err := c.Time(ctx); err != nil || time.Since(now).Abs() > time.Minute {
		t.Errorf("Time: %v, %v", now, err)
	}
	if _, err := c.Set(ctx, []byte("large"), make([]byte, 1001)); !errors.Is(err, client.ErrNoSpace) || !client.Temporary(err) {
		t.Errorf("over the quota: %v", err)
	}
	swapped, current, err := c.CAS(ctx, k, []byte("new"), []byte("old"))
	if err != nil || swapped || !bytes.Equal(current, v) {
		t.Errorf("CAS: %v, %q, %v", swapped, current, err)
	}
	if swapped, _, err := c.CAS(ctx, k, []byte("new"), v); err != nil || !swapped {
		t.Errorf("CAS: %v, %v", swapped, err)
	}
	if swapped, current, err := c.CAS(ctx, []byte("none"), v, []byte("x")); err != nil || swapped || current != nil {
		t.Errorf("CAS of nothing: %v, %q, %v", swapped, current, err)
	}
	var many []client.Command // together: they share fsyncs
	for i := range 2000 {
		many = append(many, client.Cmd("SET", fmt.Appendf(nil, "p-%04d", i), []byte{}))
	}
	stored, err := c.Pipeline(ctx, many...)
	if err != nil || len(stored) != len(many) {
		t.Fatalf("%d answers, %v", len(stored), err)
	}
	for _, r := range stored {
		if r.Err != nil {
			t.Fatal(r.Err)
		}
	}
	var keys [][]byte
	for key, err := range c.Keys(ctx, []byte("p-")) {
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, key)
	}
	if len(keys) != 2000 || string(keys[1234]) != "p-1234" {
		t.Errorf("Keys: %d", len(keys))
	}
	answers, err := c.MGet(ctx, append(keys, []byte("none"), k)...) // more than one command takes
	if err != nil || len(answers) != 2002 || answers[0].Err != nil || answers[2000].Err != client.ErrNotFound || string(answers[2001].Value) != "new" {
		t.Errorf("MGet: %d answers, %v", len(answers), err)
	}
	if err := c.Del(ctx, k); err != nil {
		t.Error(err)
	}
	if err := c.Del(ctx, k); !errors.Is(err, client.ErrNotFound) {
		t.Errorf("Del of nothing: %v", err)
	}

	id, err := c.Incarnation(ctx)
	info, ierr := c.NSInfo(ctx, "ns")
	if err != nil || ierr != nil || fmt.Sprintf("%x", id) != info["incarnation"] || info.Int("entries") != 2000 {
		t.Errorf("Incarnation %x, NSInfo %v, %v, %v", id, info, err, ierr)
	}
	// Put, and after it the state, in one pipeline.
	results, err := c.Pipeline(ctx, client.Cmd("SET", []byte("record"), v), client.Cmd("INCARNATION"), client.Cmd("MGET", []byte("record"), []byte("epoch")))
	if err != nil || len(results) != 3 || results[0].Err != nil || len(results[2].Value.Array) != 2 || string(results[2].Value.Array[0].Data) != "value" {
		t.Errorf("Pipeline: %v, %v", results, err)
	}
	if again, err := client.IncarnationResult(results[1].Value); err != nil || again != id {
		t.Errorf("Incarnation in a pipeline: %x, %v", again, err)
	}
	if tr, err := c.Traffic(ctx); err != nil || tr.Gets == 0 || tr.Sets < 2000 || tr.Commands < 2000 || tr.BytesIn == 0 || tr.BytesOut == 0 {
		t.Errorf("Traffic: %+v, %v", tr, err)
	}
	if names, err := c.NSList(ctx); err != nil || fmt.Sprint(names) != "[default ns]" {
		t.Errorf("NSList: %v, %v", names, err)
	}

	if err := c.NSNew(ctx, "x"); !errors.Is(err, client.ErrDenied) {
		t.Errorf("NSNew without rights: %v", err)
	}
	for what, o := range map[string]client.Options{
		"wrong password":    {Namespace: "ns", Password: "wrong"},
		"wrong admin":       {Admin: "wrong"},
		"no such namespace": {Namespace: "none"},
	} {
		o.Address = ts.address
		want := client.ErrDenied
		if what == "no such namespace" {
			want = client.ErrNoNamespace
		}
		if _, err := client.Dial(ctx, o); !errors.Is(err, want) || client.Temporary(err) {
			t.Errorf("%s: %v", what, err)
		}
	}
	reader := ts.client("ns", "")
	if _, err := reader.Set(ctx, k, v); !errors.Is(err, client.ErrReadOnly) {
		t.Errorf("Set in a read-only session: %v", err)
	}

	// The namespace goes away and comes back, as another incarnation.
	if err := errors.Join(admin.NSDel(ctx, "ns"), admin.NSNew(ctx, "ns"), admin.NSSet(ctx, "ns", "password", "secret")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the client is back", func() bool { return c.Ping(ctx) == nil })
	if again, err := c.Incarnation(ctx); err != nil || again == id {
		t.Errorf("the incarnation after the removal is %x, before %x, %v", again, id, err)
	}
	if _, err := c.Get(ctx, []byte("record")); err != client.ErrNotFound {
		t.Errorf("a value of the removed namespace: %v", err)
	}
}

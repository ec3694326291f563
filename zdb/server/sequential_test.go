package server

import (
	"context"
	"encoding/binary"
	"fmt"
	"strings"
	"sync"
	"testing"
)

// id is how the client sees an id.
func id(n uint64) string { return string(binary.LittleEndian.AppendUint64(nil, n)) }

func quoted(n uint64) string { return fmt.Sprintf("%q", id(n)) }

func TestSequentialMode(t *testing.T) {
	t.Parallel()
	ts := start(t, func(o *Options) { o.Mode = ModeSequential })
	w := ts.dial()
	w.play([]step{
		do(":0", "DBSIZE"), do("nil", "GET", id(0)), do("-No more data", "SCAN"), do("-No more data", "RSCAN"),
		do(quoted(0), "SET", "", "first"), do(quoted(0), "SET", id(0), "second"), // an update uses up an id
		do("nil", "SET", id(0), "second"), // this one does not
		do(quoted(2), "SETX", "", "third"), do("nil", "GET", id(1)), do(`"second"`, "GET", id(0)), do(`"third"`, "GET", id(2)),
		do(":2", "DBSIZE"), do(":1", "EXISTS", id(2)), do(":0", "EXISTS", id(1)), do(":0", "EXISTS", "hello"), do("nil", "GET", "hello"),
		do(":6", "LENGTH", id(0)), do("nil", "LENGTH", id(1)), do(":1", "CHECK", id(2)), do("nil", "CHECK", "\x00"), do("nil", "GET", "\x00"),
		do(`["second" nil "third" nil nil]`, "MGET", id(0), id(1), id(2), "", "\x00"),
		do("-Invalid key, only update authorized", "SET", id(1), "x"), do("-Invalid key, only update authorized", "SET", id(3), "x"),
		do("-Invalid key, only update authorized", "SET", "hello", "x"), do("-Invalid key, only update authorized", "SET", "\x00", "x"),
		do("-Key too large", "SET", strings.Repeat("x", 256), "x"), do("-Key not found", "DEL", "hello"), do("-Key not found", "DEL", "\x00"),
		do("+OK", "DEL", id(0)), do("-Key not found", "DEL", id(0)), do("nil", "GET", id(0)), do(":1", "DBSIZE"),
		do("-Invalid key, only update authorized", "SET", id(0), "back"),
		do(quoted(3), "SET", "", ""), do(`""`, "GET", id(3)), do("nil", "SET", id(3), ""),
		do("-Index running mode doesn't support this feature", "KSCAN", "h"), do("-Index running mode doesn't support this feature", "PSCAN", ""),
		do(":1", "CAS", id(3), "new", ""), do(`"new"`, "CAS", id(3), "x", "old"), do("nil", "CAS", id(9), "x", "old"),
		do("-Invalid key, only update authorized", "CAS", id(9), "x"), do("-Invalid argument, key needed", "CAS", "", "x"),
		do(quoted(5), "SET", "", "fifth"),
		do(`~"(.|\n)*mode: sequential(.|\n)*"`, "NSINFO", "default"), do(`~"(.|\n)*next_internal_id: 0x600000000000000(.|\n)*"`, "NSINFO", "default"),
	})
	admin := ts.adminWire()
	admin.want("-This server instance is configured to use a single runtime mode", "NSSET", "default", "mode", "user")
	admin.want("+OK", "NSNEW", "other")
	admin.want("+OK", "SELECT", "other")
	admin.want(quoted(0), "SET", "", "own ids")

	// The ids go on after a restart, and their order is that of the numbers.
	ts.reopen()
	w = ts.dial()
	w.want(quoted(6), "SET", "", "sixth")
	for i := uint64(7); i < 300; i++ {
		w.want(quoted(i), "SET", "", "more")
	}
	w.want(":297", "DBSIZE")
	want := append([]uint64{2, 3, 5}, make([]uint64, 0, 300)...)
	for i := uint64(6); i < 300; i++ {
		want = append(want, i)
	}
	if got := w.scanIDs("SCAN"); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("SCAN: %v", got)
	}
	if got := w.scanIDs("RSCAN"); len(got) != len(want) || got[0] != 299 || got[len(got)-1] != 2 {
		t.Errorf("RSCAN: %v", got)
	}
}

// scanIDs follows the cursors to the end.
func (w *wire) scanIDs(command string) (ids []uint64) {
	w.t.Helper()
	args := []string{command}
	for {
		w.send(args...)
		v, err := w.in.Read()
		if err != nil {
			w.t.Fatal(err)
		}
		if len(v.Array) != 2 {
			if got := show(v); got != "-No more data" {
				w.t.Fatalf("%s: %s", command, got)
			}
			return ids
		}
		for _, e := range v.Array[1].Array {
			ids = append(ids, binary.LittleEndian.Uint64(e.Array[0].Data))
		}
		args = []string{command, string(v.Array[0].Data)}
	}
}

// Each id is given out once, whoever asks, and none is lost.
func TestSequentialIDsAreUnique(t *testing.T) {
	t.Parallel()
	ts := start(t, func(o *Options) { o.Mode = ModeSequential; o.NoSync = true })
	const writers, each = 8, 200
	var mu sync.Mutex
	seen := map[string]bool{}
	var wg sync.WaitGroup
	for range writers {
		w := ts.dial()
		wg.Go(func() {
			for range each {
				got := w.do("SET", "", "x")
				mu.Lock()
				if seen[got] {
					t.Errorf("%s was given out twice", got)
				}
				seen[got] = true
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	w := ts.dial()
	w.want(fmt.Sprintf(":%d", writers*each), "DBSIZE")
	w.want(quoted(writers*each), "SET", "", "x")
}

func TestModes(t *testing.T) {
	t.Parallel()
	ts := start(t, nil)
	w := ts.adminWire()
	w.play([]step{
		do("+OK", "NSNEW", "ns"), do("-Invalid property value (expected: user, seq)", "NSSET", "ns", "mode", "sequential"),
		do("+OK", "NSSET", "ns", "mode", "seq"), do("+OK", "NSSET", "ns", "mode", "user"), do("+OK", "NSSET", "ns", "mode", "seq"),
		do("+OK", "SELECT", "ns"), do(quoted(0), "SET", "", "x"), do("+OK", "DEL", id(0)),
		do("-Cannot change mode of used namespace", "NSSET", "ns", "mode", "user"),
		do("+OK", "NSSET", "default", "mode", "seq"), do("+OK", "SELECT", "default"), do(quoted(0), "SET", "", "y"),
	})
	ts.reopen()
	ts.dial().play([]step{do(`"y"`, "GET", id(0)), do("+OK", "SELECT", "ns"), do(quoted(1), "SET", "", "z")})

	// A server with one mode does not serve namespaces that are in the other.
	if err := ts.Close(); err != nil {
		t.Fatal(err)
	}
	<-ts.served
	o := ts.o
	o.Mode = ModeUser
	if srv, err := Open(context.Background(), o); err == nil {
		srv.Close()
		t.Error("a server in user mode opened a sequential namespace")
	} else if !strings.Contains(err.Error(), "sequential mode") {
		t.Errorf("the reason is %v", err)
	}
	ts.o.Mode = ModeSequential
	ts.open()
	w = ts.adminWire()
	w.want("+OK", "NSNEW", "new")
	w.want("+OK", "SELECT", "new")
	w.want(quoted(0), "SET", "", "x")
}

// What a server with one mode made stays in it when the next server leaves the choice to the namespaces.
func TestFixedModeIsKept(t *testing.T) {
	t.Parallel()
	ts := start(t, func(o *Options) { o.Mode = ModeSequential })
	ts.dial().want(quoted(0), "SET", "", "x")
	ts.o.Mode = ModeMixed
	ts.reopen()
	ts.dial().want(quoted(1), "SET", "", "y")
}

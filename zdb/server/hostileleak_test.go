package server

import (
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"qsfs/zdb/resp"
)

// A footprint is what a process has of the things that can leak.
type footprint struct {
	goroutines, descriptors int
	heap                    uint64
}

func takeFootprint(t *testing.T) footprint {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	var m runtime.MemStats
	runtime.GC()
	runtime.GC() // what pools hold goes with the second
	runtime.ReadMemStats(&m)
	return footprint{runtime.NumGoroutine(), len(fds), m.HeapAlloc}
}

// Whatever is sent, in whatever pieces, and however the client leaves: nothing stays behind.
func TestHostileBytesLeaveNothing(t *testing.T) {
	ts := start(t, nil)
	keeper := ts.dial()
	keeper.want(`"kept"`, "SET", "kept", "value")
	for _, tc := range hostileRequests[:3] { // what is made once
		ts.attack(t, tc.in, 1, false)
	}
	eventually(t, "the connections are gone", func() bool { return ts.Connections() == 1 })
	before := takeFootprint(t)
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for range 5 {
				for _, tc := range hostileRequests {
					ts.attack(t, tc.in, []int{len(tc.in), 1, 7, 4096}[i], i%2 == 1)
				}
			}
		})
	}
	wg.Wait()
	var after footprint
	eventually(t, "goroutines, descriptors and memory are given back", func() bool {
		after = takeFootprint(t)
		return after.goroutines <= before.goroutines && after.descriptors <= before.descriptors && after.heap <= before.heap+4<<20
	})
	if n := ts.buffers.Lent(); n != 0 {
		t.Errorf("%d bytes of request memory are still lent", n)
	}
	t.Logf("%+v, then %+v", before, after)
	keeper.want(`"value"`, "GET", "kept")
	keeper.want(":1", "DBSIZE")
}

// attack sends bytes in pieces and leaves: at once, or when the server has closed.
func (ts *testServer) attack(t *testing.T, in string, piece int, leave bool) {
	nc, err := net.Dial("tcp", ts.address)
	if err != nil {
		t.Error(err)
		return
	}
	defer nc.Close()
	nc.SetDeadline(time.Now().Add(20 * time.Second))
	for i := 0; i < len(in) && i < 64*piece; i += piece {
		if _, err := io.WriteString(nc, in[i:min(i+piece, len(in))]); err != nil {
			return // it has closed already
		}
	}
	if leave {
		return
	}
	nc.(*net.TCPConn).CloseWrite() // the rest of what is not complete
	if _, err := io.Copy(io.Discard, nc); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%.40q: the connection stays open", in)
	}
}

// hostileArguments are what a command does not expect.
var hostileArguments = []string{
	"", "\x00", "a\x00b", "-1", "0", "18446744073709551616", "1e9", "../../etc", "default", "*", "%s%n", "\xff\xfe",
	strings.Repeat("\x00", 8), strings.Repeat("\xff", 8), strings.Repeat("\x00", 17), strings.Repeat("\xff", 17),
	strings.Repeat("k", 255), strings.Repeat("k", 256), strings.Repeat("k", 300), strings.Repeat("z", 70000),
}

// Every command takes every argument in every place, from strangers and from admins, in both modes: one reply each, the next
// command is served, and what lies in a namespace with a password is neither shown nor changed.
func TestHostileArguments(t *testing.T) {
	t.Parallel()
	ts := start(t, func(o *Options) { o.AuthDelay = time.Nanosecond })
	admin := ts.adminWire()
	admin.private("vault", "password")
	owner := ts.dial()
	owner.play([]step{do("+OK", "SELECT", "vault", "password"), do(`"treasure"`, "SET", "treasure", "gold-and-silver")})
	admin.play([]step{do("+OK", "NSNEW", "seq"), do("+OK", "NSSET", "seq", "mode", "seq"), do("+OK", "SELECT", "seq"), do(quoted(0), "SET", "", "v")})
	for name := range commands {
		switch name {
		case "STOP", "MIRROR", "WAIT", "AUTH": // they end the connection, or talk later; their tests are elsewhere
			continue
		}
		for _, space := range []string{"default", "seq"} {
			for _, hello := range [][]string{{"PING"}, {"AUTH", adminPassword}} {
				ts.tryArguments(name, space, hello)
			}
		}
	}
	owner.play([]step{do(`"gold-and-silver"`, "GET", "treasure"), do(":1", "DBSIZE")})
}

func (ts *testServer) tryArguments(name, space string, hello []string) {
	ts.t.Helper()
	w := ts.dial()
	var stream []byte
	var sent [][]string
	send := func(args ...string) {
		stream, sent = append(stream, request(args...)...), append(sent, args)
	}
	send(hello...)
	send("SELECT", space)
	for i, a := range hostileArguments {
		b := hostileArguments[(i*7+3)%len(hostileArguments)]
		send(name)
		send(name, a)
		send(name, a, b)
		send(name, "k", a)
		send(name, "default", a, b)
		send(name, "RAW", a, b)
		send(name, a, b, a, b)
	}
	send("PING")
	go func() {
		w.nc.SetWriteDeadline(time.Now().Add(time.Minute))
		w.nc.Write(stream)
	}()
	w.nc.SetReadDeadline(time.Now().Add(time.Minute))
	for i, args := range sent {
		v, err := w.in.Read()
		if err != nil {
			ts.t.Errorf("%.60q as %s: no reply: %v", args, hello[0], err)
			return
		}
		if text := show(v); strings.Contains(text, "gold-and-silver") || i == len(sent)-1 && text != "+PONG" {
			ts.t.Errorf("%.60q as %s: got %.200s", args, hello[0], text)
			return
		}
	}
	w.nc.Close()
}

// The largest of everything is served.
func TestLargestRequests(t *testing.T) {
	t.Parallel()
	ts := start(t, nil)
	w := ts.dial()
	w.want("-Command not supported", strings.Repeat("n", resp.MaxBulk))
	largest, key := strings.Repeat("v", resp.MaxBulk), strings.Repeat("k", 255)
	if got := w.do("SET", key, largest); got != `"`+key+`"` {
		t.Errorf("SET of 8 MiB: %.100s", got)
	}
	if got := w.do("GET", key); len(got) != len(largest)+2 {
		t.Errorf("GET of 8 MiB: %.100s", got)
	}
	if got := w.do(append([]string{"MGET"}, make([]string, resp.MaxArgs-1)...)...); strings.Count(got, "nil") != resp.MaxArgs-1 {
		t.Errorf("MGET of 1023 keys: %.100s", got)
	}
	w.want("-Too many arguments", append([]string{"MGET"}, make([]string, resp.MaxArgs)...)...)
	w.closed()
}

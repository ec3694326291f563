package server

import (
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// One byte at a time, or everything at once: the replies are the same.
func TestSplitRequests(t *testing.T) {
	t.Parallel()
	ts := start(t, nil)
	w := ts.dial()
	stream := append(request("SET", "k", "value"), request("GET", "k")...)
	stream = append(stream, "*2\n$3\nGET\n$1\nk\n"...)
	for i := range stream {
		w.raw(stream[i : i+1])
	}
	for i, want := range []string{`"k"`, `"value"`, `"value"`} {
		if got := w.reply(); got != want {
			t.Errorf("reply %d: got %s, want %s", i, got, want)
		}
	}
}

// hostileRequests are the malformed requests that crash, hang or mislead the original, and what each is answered before the
// connection is closed.
var hostileRequests = []struct{ in, want string }{
	{"PING\r\n", "-Malformed request, array expected"},
	{"\r\n", "-Malformed request, array expected"},
	{"\n", "-Malformed request, array expected"},
	{"+1\r\n", "-Malformed request, array expected"},
	{"$4\r\nPING\r\n", "-Malformed request, array expected"},
	{"\x00\x00\x00\x00\n", "-Malformed request, array expected"},
	{"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "-Malformed request, array expected"}, // a TLS handshake
	{"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "-Malformed request, array expected"},
	{"*0\r\n", "-Missing arguments"},
	{"*\r\n", "-Missing arguments"},
	{"*abc\r\n", "-Missing arguments"},
	{"*1 foo\r\n$4\r\nPING\r\n", "-Missing arguments"},
	{"* 1\r\n$4\r\nPING\r\n", "-Missing arguments"},
	{"*+1\r\n$4\r\nPING\r\n", "-Missing arguments"},
	{"*0x1\r\n$4\r\nPING\r\n", "-Missing arguments"},
	{"*1\x00\r\n$4\r\nPING\r\n", "-Missing arguments"},
	{"*-1\r\n", "-Malformed request, negative length"},
	{"*-2147483648\r\n", "-Malformed request, negative length"},
	{"*-9223372036854775809\r\n", "-Malformed request, negative length"},
	{"*1025\r\n", "-Too many arguments"},
	{"*4294967295\r\n", "-Too many arguments"},
	{"*4294967297\r\n", "-Too many arguments"},
	{"*18446744073709551617\r\n", "-Too many arguments"},
	{"*1\r\n*1\r\n$4\r\nPING\r\n", "-Malformed query string"},
	{"*1\r\n:1\r\n", "-Malformed query string"},
	{"*1\r\n\r\n", "-Malformed query string"},
	{"*1\r\n$\r\n", "-Malformed query string"},
	{"*1\r\n$4 bar\r\nPING\r\n", "-Malformed query string"},
	{"*1\r\n$ 4\r\nPING\r\n", "-Malformed query string"},
	{"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$-1\r\n", "-Malformed request, negative length"},
	{"*3\r\n$3\r\nSET\r\n$-1\r\n$1\r\nv\r\n", "-Malformed request, negative length"},
	{"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$-2\r\n", "-Malformed request, negative length"},
	{"*2\r\n$4\r\nPING\r\n$-2\r\n", "-Malformed request, negative length"},
	{"*1\r\n$-1\r\n", "-Malformed request, negative length"},
	{"*1\r\n$-3\r\n", "-Malformed request, negative length"},
	{"*1\r\n$4294967295\r\n", "-Payload too big"},
	{"*1\r\n$8388609\r\n", "-Payload too big"},
	{"*1\r\n$2147483648\r\n", "-Payload too big"},
	{"*1\r\n$18446744073709551615\r\n", "-Payload too big"},
	{"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$8388609\r\n", "-Payload too big"},
	{"*1\r\n$4\r\nPINGxx", "-Malformed request, payload not terminated"},
	{"*1\r\n$4\r\nPING\rx", "-Malformed request, payload not terminated"},
	{"*1\r\n$3\r\nPING\r\n", "-Malformed request, payload not terminated"},
	{"*" + strings.Repeat("0", 10000) + "1\r\n", "-Malformed request, header line too long"},
	{"*1\r\n$" + strings.Repeat("9", 10000), "-Malformed request, header line too long"},
	{"*" + strings.Repeat(" ", 1<<20), "-Malformed request, header line too long"},
}

// Bad framing gets one error line, then the end. The server goes on.
func TestHostileBytes(t *testing.T) {
	t.Parallel()
	ts := start(t, nil)
	keeper := ts.dial()
	keeper.want(`"kept"`, "SET", "kept", "value")
	for _, tc := range hostileRequests {
		w := ts.dial()
		w.raw([]byte(tc.in))
		if got := w.reply(); got != tc.want {
			t.Errorf("%.40q: got %s, want %s", tc.in, got, tc.want)
		}
		w.closed()
		// What came before it is answered, what comes behind it is not looked at.
		w = ts.dial()
		w.raw([]byte("*1\r\n$4\r\nPING\r\n" + tc.in + "*2\r\n$3\r\nDEL\r\n$4\r\nkept\r\n"))
		if first, second := w.reply(), w.reply(); first != "+PONG" || second != tc.want {
			t.Errorf("%.40q behind a PING: got %s and %s, want %s", tc.in, first, second, tc.want)
		}
		w.closed()
	}
	// The error is readable even when the client goes on sending.
	w := ts.dial()
	go io.CopyN(w.nc, zeros{}, 512<<10)
	if got := w.reply(); got != "-Malformed request, array expected" {
		t.Errorf("a stream of garbage: got %s", got)
	}
	// Half requests, then silence or the end.
	for _, in := range []string{"*", "*1", "*3\r\n$3\r\nSET\r\n$1\r\na\r\n$8388608\r\nxx"} {
		w := ts.dial()
		w.raw([]byte(in))
		w.nc.Close()
	}
	keeper.want(`"value"`, "GET", "kept")
	keeper.want(":1", "DBSIZE")
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// Half a request may not stay for ever; an idle connection may.
func TestHalfRequestTimesOut(t *testing.T) {
	ts := start(t, func(o *Options) { o.RequestTimeout = 50 * time.Millisecond })
	idle, half := ts.dial(), ts.dial()
	idle.want("+PONG", "PING")
	half.raw([]byte("*1\r\n$4\r\nPI"))
	half.closed()
	idle.want("+PONG", "PING")
}

func TestLargeRequestsAreBounded(t *testing.T) {
	t.Parallel()
	ts := start(t, func(o *Options) { o.MaxRequestMemory = 4 << 20 })
	value := strings.Repeat("x", 1<<20)
	a := ts.dial()
	a.want(`"a"`, "SET", "a", value)
	var held []*wire
	for range 3 { // they hold what a 1 MiB value needs while it arrives
		w := ts.dial()
		whole := request("SET", "held", value)
		w.raw(whole[:len(whole)-10])
		held = append(held, w)
	}
	eventually(t, "memory is taken", func() bool { return ts.buffers.Lent() > 2<<20 })
	b := ts.dial()
	go b.nc.Write(request("SET", "b", strings.Repeat("x", 3<<20)))
	if got := b.reply(); got != "-Too many large requests at once, try again" {
		t.Errorf("got %.80s", got)
	}
	b.closed()
	a.want("+PONG", "PING")
	for _, w := range held {
		w.nc.Close()
	}
	a.want("+PONG", "PING") // gives its own surplus back
	eventually(t, "memory is given back", func() bool { return ts.buffers.Lent() == 0 })
	ts.dial().want(`"b"`, "SET", "b", value)
}

func TestConnectionLimit(t *testing.T) {
	ts := start(t, func(o *Options) { o.MaxConns = 3 })
	var kept []*wire
	for range 3 {
		w := ts.dial()
		w.want("+PONG", "PING")
		kept = append(kept, w)
	}
	w := ts.dial()
	if got := w.reply(); got != "-Too many connections" {
		t.Errorf("got %s", got)
	}
	w.closed()
	kept[0].nc.Close()
	eventually(t, "the place is free", func() bool { return ts.Connections() < 3 })
	ts.dial().want("+PONG", "PING")
	kept[1].want("+PONG", "PING")
}

// A client that does not read is served only as far as the buffers go, and cut off in the end. Others do not notice.
func TestSlowReader(t *testing.T) {
	ts := start(t, func(o *Options) {
		o.WriteTimeout = 500 * time.Millisecond
		o.MaxOutput = 256 << 10
	})
	value := strings.Repeat("v", 1<<20)
	good := ts.dial()
	good.want(`"big"`, "SET", "big", value)
	slow := ts.dial()
	slow.nc.(*net.TCPConn).SetReadBuffer(4 << 10)
	var requests []byte
	for range 500 {
		requests = append(requests, request("GET", "big")...)
	}
	slow.raw(requests)
	eventually(t, "the slow client is cut off", func() bool {
		if got := good.do("GET", "big"); len(got) != len(value)+2 {
			t.Fatalf("the other client got %d bytes", len(got))
		}
		return ts.Connections() == 1
	})
	served := ts.lookup("default").gets.Load()
	if served > 400 {
		t.Errorf("%d values were made for clients that take a few", served)
	}
}

package resp

import (
	"bytes"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"
)

func TestDecoder(t *testing.T) {
	bulk := func(s string) Value { return Value{Kind: Bulk, Data: []byte(s)} }
	long := strings.Repeat("y", 3*firstBulk+17)
	for _, tc := range []struct {
		in   string
		want Value
	}{
		{"+OK\r\n", Value{Kind: Simple, Data: []byte("OK")}},
		{"+\r\n", Value{Kind: Simple, Data: []byte{}}},
		{"-Access denied\r\n", Value{Kind: Error, Data: []byte("Access denied")}},
		{":-42\r\n", Value{Kind: Integer, Int: -42}},
		{":7\n", Value{Kind: Integer, Int: 7}},
		{"$0\r\n\r\n", bulk("")},
		{"$3\r\na\r\n\r\n", bulk("a\r\n")},
		{"$-1\r\n", Value{Kind: Nil}},
		{"*-1\r\n", Value{Kind: Nil}},
		{"*0\r\n", Value{Kind: Array, Array: []Value{}}},
		{"*3\r\n$1\r\nk\r\n$-1\r\n*1\r\n:1\r\n", Value{Kind: Array, Array: []Value{bulk("k"), {Kind: Nil}, {Kind: Array, Array: []Value{{Kind: Integer, Int: 1}}}}}},
		{string(AppendBulkString(nil, long)), bulk(long)},
	} {
		for how, r := range map[string]io.Reader{
			"at once":      strings.NewReader(tc.in),
			"byte by byte": iotest.OneByteReader(strings.NewReader(tc.in)),
		} {
			d := NewDecoder(r, ReplyLimits{})
			got, err := d.Read()
			if err != nil || !reflect.DeepEqual(got, tc.want) {
				t.Errorf("%.40q %s: got %.100v, %v; want %.100v", tc.in, how, got, err, tc.want)
			}
			if _, err := d.Read(); err != io.EOF {
				t.Errorf("%.40q %s: the end is %v, want EOF", tc.in, how, err)
			}
		}
	}
}

func TestDecoderRefuses(t *testing.T) {
	lim := ReplyLimits{Bulk: 100, Total: 150, Elements: 5, Depth: 3}
	for in, protocol := range map[string]bool{
		"x\r\n": true, "\r\n": true, ":\r\n": true, ":x\r\n": true, "$x\r\n": true, "$-2\r\n": true, "$\r\n": true, "*-2\r\n": true,
		"$101\r\n": true, "*6\r\n": true, "*2\r\n*3\r\n:1\r\n:1\r\n:1\r\n*3\r\n": true, "$2\r\nabc\r\n": true, "$2\r\nab\rx": true,
		"*1\r\n*1\r\n*1\r\n*1\r\n:1\r\n":                          true,
		"*2\r\n$90\r\n" + strings.Repeat("x", 90) + "\r\n$90\r\n": true,
		"+" + strings.Repeat("x", replyBuffer):                    true,
		"+OK":                                                     false, "$5\r\nab": false, "$2\r\nab": false, "*2\r\n:1\r\n": false, "$2\r\nab\r": false, "$9223372036854775808\r\n": true,
	} {
		v, err := NewDecoder(strings.NewReader(in), lim).Read()
		var pe *ProtocolError
		if protocol != errors.As(err, &pe) || !protocol && err != io.ErrUnexpectedEOF {
			t.Errorf("%.40q: got %v, %v; want a protocol error: %v", in, v, err, protocol)
		}
	}
}

// An announced length costs nothing until its bytes come.
func TestDecoderAllocatesWhatArrives(t *testing.T) {
	in := "$8388608\r\n" + strings.Repeat("x", 1000)
	n := testing.Benchmark(func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			NewDecoder(strings.NewReader(in), ReplyLimits{}).Read()
		}
	}).AllocedBytesPerOp()
	if n > 2*firstBulk {
		t.Errorf("1000 bytes of an announced 8 MiB cost %d bytes", n)
	}
}

func TestAppend(t *testing.T) {
	if got, want := string(AppendError(nil, "a\r\nb")), "-a  b\r\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	args := [][]byte{[]byte("SET"), []byte("k"), make([]byte, 1000)}
	if got, bound := len(AppendCommand(nil, args...)), CommandSize(args...); got > bound {
		t.Errorf("a command of %d bytes was announced with %d", got, bound)
	}
	for _, k := range []Kind{Simple, Error, Integer, Bulk, Array, Nil, 0} {
		if k.String() == "" {
			t.Errorf("kind %d has no name", k)
		}
	}
}

// FuzzDecoder checks that no reply panics or costs more than its limits, and that it comes out the same after it was
// written again.
func FuzzDecoder(f *testing.F) {
	for _, s := range []string{
		"+OK\r\n", "-Access denied\r\n", ":-42\r\n", "$0\r\n\r\n", "$3\r\nabc\r\n", "$-1\r\n", "*-1\r\n", "*0\r\n",
		"*3\r\n$1\r\nk\r\n$-1\r\n*1\r\n:1\r\n", "*2\r\n$17\r\n00000000000000000\r\n*1\r\n*3\r\n$1\r\nk\r\n:4\r\n:1700000000\r\n",
		"*1048576\r\n", "$8388608\r\n", "*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n", ":99999999999999999999\r\n", "$2\r\nabc\r\n",
		"\r\n", "?\r\n", "+" + strings.Repeat("x", replyBuffer), "$5\r\nab", "$2\r\nab", "$2\r\nab\r", "$x\r\n", "*-2\r\n", "$65537\r\n",
		"*5\r\n" + strings.Repeat("$65000\r\n"+strings.Repeat("x", 65000)+"\r\n", 5), "+OK", "*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n:1\r\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		lim := ReplyLimits{Bulk: 1 << 16, Total: 1 << 18, Elements: 1 << 10, Depth: 4}
		d := NewDecoder(bytes.NewReader(in), lim)
		for {
			v, err := d.Read()
			if err != nil {
				return
			}
			wire := AppendValue(nil, v)
			again, err := NewDecoder(iotest.OneByteReader(bytes.NewReader(wire)), lim).Read()
			if err != nil || !bytes.Equal(AppendValue(nil, again), wire) {
				t.Fatalf("%q came back as %q, %v", wire, AppendValue(nil, again), err)
			}
			if again, err := NewDecoder(bytes.NewReader(wire), ReplyLimits{}).Read(); err != nil || !bytes.Equal(AppendValue(nil, again), wire) {
				t.Fatalf("%q is read otherwise under the default limits: %q, %v", wire, AppendValue(nil, again), err)
			}
		}
	})
}

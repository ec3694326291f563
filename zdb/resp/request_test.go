package resp

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"
)

// commands reads all commands of a stream and returns them copied, with the error that ended it.
func commands(r io.Reader, lim Limits) ([][][]byte, error) { return commandsBy(r, lim, bufferSize) }

func commandsBy(r io.Reader, lim Limits, buffer int) ([][][]byte, error) {
	rd := newReader(Source{Reader: r}, lim, buffer)
	defer rd.Close()
	var all [][][]byte
	for {
		args, err := rd.ReadCommand()
		if err != nil {
			if _, again := rd.ReadCommand(); again == nil || again.Error() != err.Error() {
				return all, fmt.Errorf("after %v a second call says %v", err, again)
			}
			return all, err
		}
		all = append(all, cloned(args))
	}
}

func cloned(args [][]byte) (copied [][]byte) {
	for _, a := range args {
		copied = append(copied, bytes.Clone(a))
	}
	return copied
}

func text(cmds [][][]byte) string {
	var s []string
	for _, c := range cmds {
		s = append(s, fmt.Sprintf("%q", c))
	}
	return strings.Join(s, " ")
}

func TestReadCommand(t *testing.T) {
	big := strings.Repeat("x", 3*bufferSize)
	for _, tc := range []struct{ name, in, want, err string }{
		{"nothing", "", "", "EOF"},
		{"one", "*1\r\n$4\r\nPING\r\n", `["PING"]`, "EOF"},
		{"bare newlines", "*2\n$3\nGET\n$1\nk\n", `["GET" "k"]`, "EOF"},
		{"empty argument", "*2\r\n$3\r\nGET\r\n$0\r\n\r\n", `["GET" ""]`, "EOF"},
		{"binary", "*1\r\n$4\r\n\r\n\x00\xff\r\n", `["\r\n\x00\xff"]`, "EOF"},
		{"leading zeros", "*01\r\n$004\r\nPING\r\n", `["PING"]`, "EOF"},
		{"pipelined", strings.Repeat("*1\r\n$4\r\nPING\r\n", 3), `["PING"] ["PING"] ["PING"]`, "EOF"},
		{"larger than the buffer", fmt.Sprintf("*2\r\n$3\r\nSET\r\n$%d\r\n%s\r\n*1\r\n$4\r\nPING\r\n", len(big), big), `["SET" "` + big + `"] ["PING"]`, "EOF"},
		{"cut in header", "*1", "", "unexpected EOF"},
		{"cut in payload", "*1\r\n$4\r\nPI", "", "unexpected EOF"},
		{"cut in terminator", "*1\r\n$4\r\nPING\r", "", "unexpected EOF"},
		{"inline", "PING\r\n", "", errNotArray.Error()},
		{"empty line", "\r\n", "", errNotArray.Error()},
		{"simple string", "+1\r\n", "", errNotArray.Error()},
		{"no items", "*0\r\n", "", errNoArgs.Error()},
		{"no number", "*abc\r\n", "", errNoArgs.Error()},
		{"empty number", "*\r\n", "", errNoArgs.Error()},
		{"trailing junk", "*1 foo\r\n$4\r\nPING\r\n", "", errNoArgs.Error()},
		{"negative count", "*-1\r\n", "", errNegative.Error()},
		{"most negative count", "*-9223372036854775808\r\n", "", errNegative.Error()},
		{"too many", "*1025\r\n", "", errManyArgs.Error()},
		{"count overflows", "*99999999999999999999999999\r\n", "", errManyArgs.Error()},
		{"long header", "*" + strings.Repeat("0", 100), "", errLongHeader.Error()},
		{"long header with end", "*" + strings.Repeat("0", 100) + "\n", "", errLongHeader.Error()},
		{"nested array", "*1\r\n*1\r\n$4\r\nPING\r\n", "", errNotBulk.Error()},
		{"integer item", "*1\r\n:1\r\n", "", errNotBulk.Error()},
		{"item without number", "*1\r\n$\r\n", "", errNotBulk.Error()},
		{"length -1", "*2\r\n$3\r\nSET\r\n$-1\r\n", "", errNegative.Error()},
		{"length -3", "*1\r\n$-3\r\n", "", errNegative.Error()},
		{"length 2^32-1", "*1\r\n$4294967295\r\n", "", errTooBig.Error()},
		{"length over the limit", "*1\r\n$8388609\r\n", "", errTooBig.Error()},
		{"payload not terminated", "*1\r\n$4\r\nPINGxx", "", errTerminator.Error()},
		{"carriage return alone", "*1\r\n$4\r\nPING\rx", "", errTerminator.Error()},
		{"good before bad", "*1\r\n$4\r\nPING\r\n+x\r\n", `["PING"]`, errNotArray.Error()},
	} {
		for how, r := range map[string]io.Reader{
			"at once":      strings.NewReader(tc.in),
			"byte by byte": iotest.OneByteReader(strings.NewReader(tc.in)),
			"data and EOF": iotest.DataErrReader(strings.NewReader(tc.in)),
		} {
			got, err := commands(r, Limits{})
			if text(got) != tc.want || err.Error() != tc.err {
				t.Errorf("%s, %s: got %.100s, %v; want %.100s, %v", tc.name, how, text(got), err, tc.want, tc.err)
			}
		}
	}
}

func TestReadCommandLimits(t *testing.T) {
	request := func(args ...string) string {
		var raw [][]byte
		for _, a := range args {
			raw = append(raw, []byte(a))
		}
		return string(AppendCommand(nil, raw...))
	}
	lim := Limits{Args: 3, Bulk: 10, Request: 60}
	for in, want := range map[string]error{
		request("a", "b", "c"):                               io.EOF,
		request("a", "b", "c", "d"):                          errManyArgs,
		request("0123456789"):                                io.EOF,
		request("0123456789x"):                               errTooBig,
		request("0123456789", "0123456789", "0123456789"):    io.EOF,
		strings.Replace(request("a"), "$1", "$000000001", 1): io.EOF,
	} {
		if _, err := commands(strings.NewReader(in), lim); err != want {
			t.Errorf("%q: got %v, want %v", in, err, want)
		}
	}
	lim.Request = 40
	if _, err := commands(strings.NewReader(request("0123456789", "0123456789", "0123456789")), lim); err != errTooBig {
		t.Errorf("request over its limit: got %v, want %v", err, errTooBig)
	}
	whole := request("SET", "k", strings.Repeat("v", MaxBulk))
	if got, err := commands(strings.NewReader(whole), Limits{}); err != io.EOF || len(got) != 1 || len(got[0][2]) != MaxBulk {
		t.Errorf("largest value: got %d commands, %v", len(got), err)
	}
}

func TestSourceHooks(t *testing.T) {
	large := AppendCommand(nil, []byte("SET"), []byte("k"), make([]byte, 3*bufferSize))
	const lent = 256 << 10 // the next power of two
	lender := NewBuffers(lent)
	var partials []bool
	peak := int64(0)
	src := Source{
		Reader: io.MultiReader(strings.NewReader("*1\r\n$4\r\nPING\r\n*1\r\n$4\r\nPING\r\n"), bytes.NewReader(large), strings.NewReader("*1\r\n$4\r\nPING\r\n")),
		BeforeRead: func(partial bool) error {
			partials = append(partials, partial)
			peak = max(peak, lender.Lent())
			return nil
		},
		Buffers: lender,
	}
	rd := NewReader(src, Limits{})
	for i := range 4 {
		if _, err := rd.ReadCommand(); err != nil {
			t.Fatalf("command %d: %v", i, err)
		}
		if i == 1 && len(partials) != 1 {
			t.Errorf("two commands that came in one read took %d reads", len(partials))
		}
	}
	if partials[0] || partials[1] || !partials[2] {
		t.Errorf("partial flags of the reads: %v", partials)
	}
	if peak != lent || lender.Lent() != 0 {
		t.Errorf("memory lent: peak %d, now %d; want %d, 0", peak, lender.Lent(), lent)
	}
	rd.Close()

	refuse := Source{Reader: bytes.NewReader(large), Buffers: NewBuffers(lent - 1)}
	if _, err := NewReader(refuse, Limits{}).ReadCommand(); err != errOutOfBudget {
		t.Errorf("refused memory: got %v, want %v", err, errOutOfBudget)
	}
	stop := errors.New("stop")
	halt := Source{Reader: bytes.NewReader(large), BeforeRead: func(bool) error { return stop }}
	if _, err := NewReader(halt, Limits{}).ReadCommand(); err != stop {
		t.Errorf("BeforeRead's error: got %v, want %v", err, stop)
	}
}

// A closed Reader gives back what a half-received request was lent.
func TestCloseReturnsMemory(t *testing.T) {
	lender := NewBuffers(1 << 30)
	large := AppendCommand(nil, []byte("SET"), []byte("k"), make([]byte, 3*bufferSize))
	rd := NewReader(Source{Reader: bytes.NewReader(large[:2*bufferSize]), Buffers: lender}, Limits{})
	if _, err := rd.ReadCommand(); err != io.ErrUnexpectedEOF {
		t.Fatalf("half a request: %v", err)
	}
	if lender.Lent() == 0 {
		t.Fatal("nothing was lent")
	}
	rd.Close()
	rd.Close()
	if n := lender.Lent(); n != 0 {
		t.Errorf("%d bytes are still lent after Close", n)
	}
}

// What was announced costs nothing; what arrives costs at most a fixed multiple.
func TestMemoryFollowsArrival(t *testing.T) {
	lender := NewBuffers(1 << 30)
	announced := []byte("*2\r\n$3\r\nSET\r\n$8388608\r\n")
	for _, arrived := range []int{0, 1000, bufferSize, 10 * bufferSize, MaxBulk - 1} {
		in := append(bytes.Clone(announced), make([]byte, arrived)...)
		rd := NewReader(Source{Reader: bytes.NewReader(in), Buffers: lender}, Limits{})
		if _, err := rd.ReadCommand(); err != io.ErrUnexpectedEOF {
			t.Fatal(err)
		}
		if n := lender.Lent(); n > int64(2*growth*len(in)) || arrived < 10000 && n != 0 {
			t.Errorf("%d bytes that arrived cost %d", len(in), n)
		}
		rd.Close()
	}
}

// ReadMore gives what has arrived whole and is wanted, and leaves the rest, errors too, to ReadCommand.
func TestReadMore(t *testing.T) {
	stream := strings.Repeat("*2\r\n$3\r\nGET\r\n$1\r\nk\r\n", 40) + "*1\r\n$4\r\nPING\r\n*2\r\n$3\r\nGET\r\n$1\r\nx"
	rest := "\r\n*1\r\n$-1\r\n"
	reads := 0
	rd := NewReader(Source{
		Reader:     io.MultiReader(strings.NewReader(stream), strings.NewReader(rest)),
		BeforeRead: func(bool) error { reads++; return nil },
	}, Limits{})
	if _, ok := rd.ReadMore(func([][]byte) bool { return true }); ok || reads != 0 {
		t.Fatalf("before anything has arrived: %v, %d reads", ok, reads)
	}
	first, err := rd.ReadCommand()
	if err != nil {
		t.Fatal(err)
	}
	kept := [][][]byte{first}
	isGet := func(args [][]byte) bool { return string(args[0]) == "GET" }
	for {
		args, ok := rd.ReadMore(isGet)
		if !ok {
			break
		}
		kept = append(kept, args)
	}
	if len(kept) != 40 || reads != 1 {
		t.Errorf("%d commands in %d reads, want 40 in 1", len(kept), reads)
	}
	for i, args := range kept {
		if len(args) != 2 || string(args[0]) != "GET" || string(args[1]) != "k" {
			t.Fatalf("command %d became %q", i, args)
		}
	}
	for i, want := range []string{"PING", "GET"} { // what was not wanted, and what had not arrived whole
		if _, ok := rd.ReadMore(isGet); ok {
			t.Errorf("%d: a command of which a part has come, or that is not wanted", i)
		}
		if args, err := rd.ReadCommand(); err != nil || string(args[0]) != want {
			t.Errorf("%d: %q, %v", i, args, err)
		}
	}
	if _, ok := rd.ReadMore(isGet); ok {
		t.Error("a bad request was given")
	}
	for range 2 {
		if _, err := rd.ReadCommand(); err != errNegative {
			t.Errorf("bad request: %v", err)
		}
		if _, ok := rd.ReadMore(isGet); ok {
			t.Error("something behind a bad request")
		}
	}
}

// runs is commands in runs of ReadMore, of which pick says which to take.
func runs(r io.Reader, size int, pick func([][]byte) bool) (all [][][]byte, err error) {
	rd := newReader(Source{Reader: r}, Limits{}, size)
	for {
		args, err := rd.ReadCommand()
		if err != nil {
			return all, err
		}
		run := [][][]byte{args}
		for {
			args, ok := rd.ReadMore(pick)
			if !ok {
				break
			}
			run = append(run, args)
		}
		for _, args := range run { // only now, when all of the run has been decoded
			all = append(all, cloned(args))
		}
	}
}

func TestReadCommandAllocates(t *testing.T) {
	for _, size := range []int{4096, 256 << 10} {
		one := AppendCommand(nil, []byte("SET"), []byte("key"), make([]byte, size))
		readCommands(t, one)
	}
}

func readCommands(t *testing.T, one []byte) {
	t.Helper()
	rd := NewReader(Source{Reader: &endless{data: one}}, Limits{})
	if n := testing.AllocsPerRun(1000, func() {
		if _, err := rd.ReadCommand(); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("ReadCommand allocates %v times per command", n)
	}
}

// endless repeats data for ever.
type endless struct {
	data []byte
	at   int
}

func (e *endless) Read(p []byte) (int, error) {
	n := 0
	for n < len(p) {
		m := copy(p[n:], e.data[e.at:])
		n += m
		e.at = (e.at + m) % len(e.data)
	}
	return n, nil
}

func BenchmarkReadCommand(b *testing.B) {
	one := AppendCommand(nil, []byte("SET"), []byte("key"), make([]byte, 4096))
	rd := NewReader(Source{Reader: &endless{data: one}}, Limits{})
	b.SetBytes(int64(len(one)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := rd.ReadCommand(); err != nil {
			b.Fatal(err)
		}
	}
}

// FuzzReadCommand checks that no input panics, that the way the bytes are cut into reads does not matter, and that what
// was read comes out the same after it was written again.
func FuzzReadCommand(f *testing.F) {
	for _, s := range []string{
		"*1\r\n$4\r\nPING\r\n", "*2\n$3\nGET\n$1\nk\n", "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$0\r\n\r\n*1\r\n$4\r\nTIME\r\n",
		"*0\r\n", "*-1\r\n", "*1025\r\n", "*1\r\n$-1\r\n", "*1\r\n$8388609\r\n", "*1\r\n$4\r\nPINGxx", "+1\r\n", "*1\r\n*1\r\n",
		"*4\r\n$3\r\nCAS\r\n$1\r\nk\r\n$1\r\nn\r\n$1\r\no\r\n", "*2\r\n$4\r\nAUTH\r\n$4\r\nroot\r\n", "*99999999999999999999\r\n",
		"*1\r\n$100\r\n" + strings.Repeat("x", 100) + "\r\n",
		"", "*", "*1\r\n$4\r\nPI", "*1\r\n$4\r\nPING\r", "*1\r\n$4\r\nPING\rx", "*" + strings.Repeat("0", 100), "*" + strings.Repeat("0", 100) + "1\r\n",
		"*\r\n", "*1\r\n$\r\n", "*1\r\n$99999999999\r\n", "*1x\r\n",
	} {
		f.Add([]byte(s))
	}
	// A small buffer, so that short inputs make it move and grow.
	const buffer = 16
	f.Fuzz(func(t *testing.T, in []byte) {
		got, err := commandsBy(bytes.NewReader(in), Limits{}, buffer)
		if err == nil {
			t.Fatal("the stream has no end")
		}
		split, splitErr := commandsBy(iotest.OneByteReader(bytes.NewReader(in)), Limits{}, buffer)
		if !reflect.DeepEqual(got, split) || err.Error() != splitErr.Error() {
			t.Fatalf("at once: %s, %v; byte by byte: %s, %v", text(got), err, text(split), splitErr)
		}
		odd := func(args [][]byte) bool { return len(args[0])%2 == 1 }
		for _, pick := range []func([][]byte) bool{odd, func([][]byte) bool { return true }} {
			inRuns, runsErr := runs(bytes.NewReader(in), buffer, pick)
			if !reflect.DeepEqual(got, inRuns) || err.Error() != runsErr.Error() {
				t.Fatalf("one by one: %s, %v; in runs: %s, %v", text(got), err, text(inRuns), runsErr)
			}
		}
		var out []byte
		for _, c := range got {
			out = AppendCommand(out, c...)
			if len(c) == 0 || len(c) > MaxArgs {
				t.Fatalf("a command of %d arguments", len(c))
			}
		}
		again, err := commandsBy(bytes.NewReader(out), Limits{}, buffer)
		if !reflect.DeepEqual(got, again) || err != io.EOF {
			t.Fatalf("read %s, written and read again %s, %v", text(got), text(again), err)
		}
	})
}

package resp

import (
	"bytes"
	"errors"
	"io"
	"math"
)

// bufferSize is what a Reader keeps between requests. It holds sixteen pipelined writes of 4 KiB, so that one read of the
// socket feeds as many commands, and it is small enough for thousands of idle connections.
const bufferSize = 72 << 10

// Source is where requests come from, usually a connection.
type Source struct {
	io.Reader
	// BeforeRead, when set, runs before each Read, which may block; partial says that a request has begun. It is the place
	// to flush the replies of what was executed so far: it comes exactly when all commands that had arrived are answered.
	// An error ends ReadCommand with that error.
	BeforeRead func(partial bool) error
	// Buffers lends the memory of requests that do not fit the standing buffer. It is shared by many Readers; when it has
	// none left, the request is refused with a protocol error. Default: Buffers of the Reader's own.
	Buffers *Buffers
}

// A Reader decodes the requests of a stream. It is not safe for concurrent use.
type Reader struct {
	src   Source
	lim   Limits
	buf   []byte
	own   []byte // the standing buffer; buf is this one, or a larger one that was lent
	start int    // where the current request begins in buf
	r, w  int    // buf[r:w] has been read from the source and not yet decoded
	whole bool   // only what has arrived is decoded; see ReadMore
	spans []span
	args  [][]byte
	err   error // sticky: the stream has no known position after it
	total uint64
}

// A span is an argument's place, counted from Reader.start: buf moves and grows while a request arrives.
type span struct{ off, n int }

// NewReader returns a Reader of src.
func NewReader(src Source, lim Limits) *Reader { return newReader(src, lim, bufferSize) }

func newReader(src Source, lim Limits, size int) *Reader {
	if src.Buffers == nil {
		src.Buffers = NewBuffers(math.MaxInt64)
	}
	own := make([]byte, size)
	return &Reader{src: src, lim: lim.withDefaults(), own: own, buf: own}
}

// BytesRead returns how many bytes have been taken from the source.
func (rd *Reader) BytesRead() uint64 { return rd.total }

// Close returns what Source.Buffers lent. The Reader and the arguments it returned are of no use afterwards.
func (rd *Reader) Close() {
	rd.err = io.ErrClosedPipe
	rd.shrink()
}

// ReadCommand returns the arguments of the next request, the command's name first. The slices belong to the Reader and
// are valid until the next call of ReadCommand. The error is io.EOF at a clean end, io.ErrUnexpectedEOF within a request, a
// *ProtocolError for bad framing, or what the source returned. Every error is final.
func (rd *Reader) ReadCommand() ([][]byte, error) {
	if rd.err != nil {
		return nil, rd.err
	}
	if err := rd.readCommand(); err != nil {
		if err == io.EOF && rd.w > rd.start {
			err = io.ErrUnexpectedEOF
		}
		rd.err = err
		return nil, err
	}
	rd.args = rd.args[:0]
	return rd.arguments(), nil
}

// ReadMore returns the arguments of the next request if that has arrived whole and want takes it. Else the request is left
// for ReadCommand, and so is what is wrong with it. It never waits. What ReadCommand and ReadMore returned before stays
// valid until the next call of ReadCommand.
func (rd *Reader) ReadMore(want func(args [][]byte) bool) ([][]byte, bool) {
	if rd.err != nil || rd.r == rd.w {
		return nil, false
	}
	back := rd.r
	rd.start, rd.whole = rd.r, true
	err := rd.decode()
	rd.whole = false
	if err == nil {
		before := len(rd.args)
		if args := rd.arguments(); want(args) {
			return args, true
		}
		rd.args = rd.args[:before]
	}
	rd.r = back
	return nil, false
}

// arguments appends the arguments of the request that was decoded last and returns them.
func (rd *Reader) arguments() [][]byte {
	before := len(rd.args)
	for _, s := range rd.spans {
		from := rd.start + s.off
		rd.args = append(rd.args, rd.buf[from:from+s.n:from+s.n])
	}
	return rd.args[before:len(rd.args):len(rd.args)]
}

func (rd *Reader) readCommand() error {
	rd.start = rd.r
	if rd.r == rd.w {
		rd.start, rd.r, rd.w = 0, 0, 0
		rd.shrink()
	}
	return rd.decode()
}

func (rd *Reader) decode() error {
	rd.spans = rd.spans[:0]
	count, err := rd.header('*', errNotArray)
	if err != nil {
		return err
	}
	if count == 0 {
		return errNoArgs
	}
	if count > rd.lim.Args {
		return errManyArgs
	}
	for range count {
		if err := rd.bulk(); err != nil {
			return err
		}
	}
	return nil
}

// bulk decodes one argument and notes its place.
func (rd *Reader) bulk() error {
	n, err := rd.header('$', errNotBulk)
	if err != nil {
		return err
	}
	if n > rd.lim.Bulk || rd.r-rd.start+n+2 > rd.lim.Request {
		return errTooBig
	}
	if err := rd.need(n + 1); err != nil {
		return err
	}
	rd.spans = append(rd.spans, span{rd.r - rd.start, n})
	rd.r += n
	if rd.buf[rd.r] == '\r' {
		rd.r++
		if err := rd.need(1); err != nil {
			return err
		}
	}
	if rd.buf[rd.r] != '\n' {
		return errTerminator
	}
	rd.r++
	return nil
}

// header decodes a line of a kind byte and a decimal number. wrong is the error for another kind.
func (rd *Reader) header(kind byte, wrong error) (int, error) {
	if err := rd.need(1); err != nil {
		return 0, err
	}
	if rd.buf[rd.r] != kind {
		return 0, wrong
	}
	rd.r++
	for scanned := 0; ; {
		if i := bytes.IndexByte(rd.buf[rd.r+scanned:rd.w], '\n'); i >= 0 {
			line := rd.buf[rd.r : rd.r+scanned+i]
			if len(line) > maxHeader {
				return 0, errLongHeader
			}
			rd.r += scanned + i + 1
			return parseLength(kind, line)
		}
		scanned = rd.w - rd.r
		if scanned > maxHeader {
			return 0, errLongHeader
		}
		if err := rd.need(scanned + 1); err != nil {
			return 0, err
		}
	}
}

// parseLength decodes the number of a header line, which may end in \r. What it lets through fits an int with ease.
func parseLength(kind byte, line []byte) (int, error) {
	if n := len(line); n > 0 && line[n-1] == '\r' {
		line = line[:n-1]
	}
	bad, big := errNoArgs, errManyArgs
	if kind == '$' {
		bad, big = errNotBulk, errTooBig
	}
	if len(line) > 1 && line[0] == '-' {
		return 0, errNegative
	}
	if len(line) == 0 {
		return 0, bad
	}
	v := 0
	for _, c := range line {
		if c < '0' || c > '9' {
			return 0, bad
		}
		if v = v*10 + int(c-'0'); v > 1<<30 {
			return 0, big
		}
	}
	return v, nil
}

// errNotWhole ends the decoding of a request of which more is to come.
var errNotWhole = errors.New("request has not arrived whole")

// need returns when at least n undecoded bytes are in the buffer.
func (rd *Reader) need(n int) error {
	for rd.w-rd.r < n {
		if rd.whole {
			return errNotWhole
		}
		if err := rd.fill(rd.r - rd.start + n); err != nil {
			return err
		}
	}
	return nil
}

// growth is how many times longer than what has arrived of a request its memory may be.
const growth = 8

// fill reads once, after making room. size is what the request is known to take so far. A request in progress moves to
// the front of the buffer when the free end gets short; when it fills the buffer, it gets a longer one, in steps, so that
// memory follows the bytes that arrived and not the length that was announced.
func (rd *Reader) fill(size int) error {
	if free := len(rd.buf) - rd.w; rd.start > 0 && free < len(rd.buf)/2 {
		copy(rd.buf, rd.buf[rd.start:rd.w])
		rd.r -= rd.start
		rd.w -= rd.start
		rd.start = 0
	}
	if rd.w == len(rd.buf) {
		larger := rd.src.Buffers.take(min(max(size, 2*len(rd.buf)), growth*len(rd.buf)))
		if larger == nil {
			return errOutOfBudget
		}
		w := copy(larger, rd.buf)
		r := rd.r
		rd.shrink()
		rd.buf, rd.r, rd.w = larger, r, w
	}
	if rd.src.BeforeRead != nil {
		if err := rd.src.BeforeRead(rd.w > rd.start); err != nil {
			return err
		}
	}
	n, err := rd.src.Read(rd.buf[rd.w:])
	rd.w += n
	rd.total += uint64(n)
	if n > 0 {
		return nil
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	return err
}

// shrink goes back to the standing buffer.
func (rd *Reader) shrink() {
	if len(rd.buf) > len(rd.own) {
		clear(rd.args[:cap(rd.args)]) // they hold on to what is given back
		rd.src.Buffers.give(rd.buf)
		rd.buf = rd.own
	}
}

package resp

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strconv"
)

// A Kind tells the shapes of a Value apart. It is the first byte on the wire, but for Nil.
type Kind byte

// The kinds of replies.
const (
	Simple  Kind = '+'
	Error   Kind = '-'
	Integer Kind = ':'
	Bulk    Kind = '$'
	Array   Kind = '*'
	Nil     Kind = '0' // the nil bulk string and the nil array
)

func (k Kind) String() string {
	switch k {
	case Simple:
		return "simple string"
	case Error:
		return "error"
	case Integer:
		return "integer"
	case Bulk:
		return "bulk string"
	case Array:
		return "array"
	case Nil:
		return "nil"
	}
	return "no reply"
}

// A Value is one reply or one element of it.
type Value struct {
	Kind  Kind
	Int   int64   // of Integer
	Data  []byte  // of Simple, Error and Bulk; the Value's own
	Array []Value // of Array
}

// AppendValue appends v in its wire form.
func AppendValue(b []byte, v Value) []byte {
	switch v.Kind {
	case Simple:
		return AppendSimple(b, string(v.Data))
	case Error:
		return AppendError(b, string(v.Data))
	case Integer:
		return AppendInt(b, v.Int)
	case Bulk:
		return AppendBulk(b, v.Data)
	case Array:
		b = AppendArray(b, len(v.Array))
		for _, e := range v.Array {
			b = AppendValue(b, e)
		}
		return b
	}
	return AppendNil(b)
}

// ReplyLimits bounds what a reply may cost its reader. A zero field takes the default.
type ReplyLimits struct {
	Bulk     int // bytes of one bulk string; default MaxBulk
	Total    int // bytes of payload and elements of one reply together; default 64 MiB
	Elements int // elements of one reply, at all depths together; default 1 Mi
	Depth    int // nesting; default 8
}

const (
	maxReplyTotal    = 64 << 20
	maxReplyElements = 1 << 20
	maxReplyDepth    = 8
	// firstBulk is what is set aside for a bulk string before any of its bytes has come. A shard of the usual size fits.
	firstBulk = 512 << 10
	// replyBuffer is also the longest reply line.
	replyBuffer = 64 << 10
)

// A Decoder decodes the replies of a stream. It is not safe for concurrent use.
type Decoder struct {
	br  *bufio.Reader
	lim ReplyLimits

	total, elements int // of the reply being read
}

// NewDecoder returns a Decoder of r.
func NewDecoder(r io.Reader, lim ReplyLimits) *Decoder {
	if lim.Bulk <= 0 {
		lim.Bulk = MaxBulk
	}
	if lim.Total <= 0 {
		lim.Total = maxReplyTotal
	}
	if lim.Elements <= 0 {
		lim.Elements = maxReplyElements
	}
	if lim.Depth <= 0 {
		lim.Depth = maxReplyDepth
	}
	return &Decoder{br: bufio.NewReaderSize(r, replyBuffer), lim: lim}
}

// Read returns the next reply. The error is io.EOF at a clean end, io.ErrUnexpectedEOF within a reply, a *ProtocolError
// for bad framing or a broken limit, or what the source returned; the stream is of no use after any of them.
func (d *Decoder) Read() (Value, error) {
	if _, err := d.br.Peek(1); err != nil {
		return Value{}, err
	}
	d.total, d.elements = 0, 0
	v, err := d.value(0)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return v, err
}

func (d *Decoder) value(depth int) (Value, error) {
	line, err := d.line()
	if err != nil {
		return Value{}, err
	}
	if err := d.charge(len(line)); err != nil {
		return Value{}, err
	}
	rest := line[1:]
	switch kind := Kind(line[0]); kind {
	case Simple, Error:
		return Value{Kind: kind, Data: append([]byte{}, rest...)}, nil
	case Integer:
		n, err := strconv.ParseInt(string(rest), 10, 64)
		if err != nil {
			return Value{}, badReply("integer %.32q", rest)
		}
		return Value{Kind: Integer, Int: n}, nil
	case Bulk:
		return d.bulk(rest)
	case Array:
		return d.array(rest, depth)
	}
	return Value{}, badReply("reply begins with %q", line[0])
}

// line returns the next line without its end, at least one byte. It is valid until the next read.
func (d *Decoder) line() ([]byte, error) {
	line, err := d.br.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		return nil, badReply("line of more than %d bytes", replyBuffer)
	}
	if err != nil {
		return nil, err
	}
	line = line[:len(line)-1]
	if n := len(line); n > 0 && line[n-1] == '\r' {
		line = line[:n-1]
	}
	if len(line) == 0 {
		return nil, badReply("empty line")
	}
	return line, nil
}

// length decodes the number of a bulk string or an array; ok is false for nil.
func length(text []byte, limit int) (n int, ok bool, err error) {
	v, err := strconv.ParseInt(string(text), 10, 64)
	switch {
	case err != nil || v < -1:
		return 0, false, badReply("length %.32q", text)
	case v == -1:
		return 0, false, nil
	case v > int64(limit):
		return 0, false, badReply("length %d is over the limit of %d", v, limit)
	}
	return int(v), true, nil
}

func (d *Decoder) bulk(text []byte) (Value, error) {
	n, ok, err := length(text, d.lim.Bulk)
	if err != nil || !ok {
		return Value{Kind: Nil}, err
	}
	if err := d.charge(n); err != nil {
		return Value{}, err
	}
	data := make([]byte, min(n, firstBulk))
	for got := 0; ; {
		m, err := io.ReadFull(d.br, data[got:])
		if err != nil {
			return Value{}, eofWithin(err)
		}
		if got += m; got == n {
			break
		}
		data = append(data, make([]byte, min(n-got, got))...)
	}
	end, err := d.br.ReadByte()
	if err == nil && end == '\r' {
		end, err = d.br.ReadByte()
	}
	if err != nil {
		return Value{}, eofWithin(err)
	}
	if end != '\n' {
		return Value{}, badReply("bulk string not terminated")
	}
	return Value{Kind: Bulk, Data: data}, nil
}

func (d *Decoder) array(text []byte, depth int) (Value, error) {
	if depth == d.lim.Depth {
		return Value{}, badReply("arrays nested deeper than %d", d.lim.Depth)
	}
	n, ok, err := length(text, d.lim.Elements-d.elements)
	if err != nil || !ok {
		return Value{Kind: Nil}, err
	}
	d.elements += n
	elements := make([]Value, 0, min(n, 64))
	for range n {
		v, err := d.value(depth + 1)
		if err != nil {
			return Value{}, err
		}
		elements = append(elements, v)
	}
	return Value{Kind: Array, Array: elements}, nil
}

// charge counts n more bytes of this reply.
func (d *Decoder) charge(n int) error {
	if d.total += n; d.total > d.lim.Total {
		return badReply("more than %d bytes in one reply", d.lim.Total)
	}
	return nil
}

func eofWithin(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

func badReply(format string, args ...any) error {
	return &ProtocolError{"reply: " + fmt.Sprintf(format, args...)}
}

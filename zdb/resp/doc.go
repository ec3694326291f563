// Package resp is the wire codec of zdb: the subset of the Redis protocol (RESP2) that the server reads and the client understands.
//
// A request is an array of bulk strings, nothing else; there are no inline commands:
//
//	*<count>\r\n  ( $<length>\r\n <bytes> \r\n ) × count
//
// A reply is one of
//
//	+text\r\n          simple string
//	-text\r\n          error
//	:decimal\r\n       integer
//	$len\r\n bytes\r\n bulk string, $-1\r\n is nil
//	*count\r\n items   array, *-1\r\n is nil
//
// Both decoders take bytes of a peer that is not trusted: every length is checked against a limit before memory is set
// aside for it, memory grows with the bytes that really arrived and not with the announced length, and no input panics.
// A lone \n ends a line as well as \r\n does, in both directions.
//
// A framing error (a *ProtocolError) leaves the stream without a known position. The only thing left to do is to tell
// the peer and close.
package resp

// The limits of the protocol. They are what a server of ours accepts and what a client of ours never exceeds.
const (
	// MaxArgs is the most items that a request may have, the command's name included.
	MaxArgs = 1024
	// MaxBulk is the longest bulk string in bytes: 8 MiB, of arguments and of replies.
	MaxBulk = 8 << 20
	// MaxRequest is the most payload bytes of one request: a key and two values (CAS), with room to spare.
	MaxRequest = 2*MaxBulk + 64<<10
	// maxHeader is the longest "*…" or "$…" line. The largest legal one has 10 bytes.
	maxHeader = 64
)

// Limits bounds what a request may cost. A zero field takes the default of the constant of the same name.
type Limits struct {
	Args    int // items of a request
	Bulk    int // bytes of one item
	Request int // bytes of all items of a request together, framing included
}

func (l Limits) withDefaults() Limits {
	if l.Args <= 0 {
		l.Args = MaxArgs
	}
	if l.Bulk <= 0 {
		l.Bulk = MaxBulk
	}
	if l.Request <= 0 {
		l.Request = MaxRequest
	}
	return l
}

// A ProtocolError says that the peer broke the framing. Text is what a server answers before it closes.
type ProtocolError struct{ Text string }

func (e *ProtocolError) Error() string { return "protocol error: " + e.Text }

// The framing errors of requests. The first five texts are those of the original server.
var (
	errNotArray    = &ProtocolError{"Malformed request, array expected"}
	errNoArgs      = &ProtocolError{"Missing arguments"}
	errManyArgs    = &ProtocolError{"Too many arguments"}
	errNotBulk     = &ProtocolError{"Malformed query string"}
	errTooBig      = &ProtocolError{"Payload too big"}
	errNegative    = &ProtocolError{"Malformed request, negative length"}
	errLongHeader  = &ProtocolError{"Malformed request, header line too long"}
	errTerminator  = &ProtocolError{"Malformed request, payload not terminated"}
	errOutOfBudget = &ProtocolError{"Too many large requests at once, try again"}
)

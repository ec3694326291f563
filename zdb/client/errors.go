package client

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"strings"

	"qsfs/zdb/resp"
)

var (
	// ErrNotFound says that the key does not exist.
	ErrNotFound = errors.New("key not found")
	// ErrClosed says that the Client has been closed.
	ErrClosed = errors.New("client is closed")
	// ErrNotDurable says that the server acknowledges writes before they are on its disk; see Options.Durable.
	ErrNotDurable = errors.New("the server acknowledges writes before they are on its disk; start it with --sync=always")

	// The following are what errors.Is finds in a *ServerError.

	// ErrDenied says that a password is missing or wrong, or that the command needs rights that the connection lacks.
	ErrDenied = errors.New("access denied")
	// ErrReadOnly says that the namespace or the session does not take writes.
	ErrReadOnly = errors.New("namespace does not take writes")
	// ErrNoSpace says that the quota of the namespace is used up.
	ErrNoSpace = errors.New("no space left on the namespace")
	// ErrNoNamespace says that the namespace does not exist, or was removed.
	ErrNoNamespace = errors.New("namespace does not exist")
	// ErrWriteFailed says that the server could not write, because its disk is full or failed.
	ErrWriteFailed = errors.New("server cannot write")
	// ErrReadFailed says that the server could not read or verify an entry that exists.
	ErrReadFailed = errors.New("server cannot read the entry")
	// ErrNoMore says that there is nothing behind a cursor.
	ErrNoMore = errors.New("no more data")
	// ErrCursor says that a cursor is none of the server's, or refers to what is not kept any more.
	ErrCursor = errors.New("cursor is not valid")
	// ErrBusy says that the server has too many connections or requests at the moment.
	ErrBusy = errors.New("server is busy")
)

// A ServerError is an error reply.
type ServerError struct{ Text string }

func (e *ServerError) Error() string { return "server: " + e.Text }

// classes maps the beginnings of error texts to what they mean.
var classes = []struct {
	prefix string
	class  error
}{
	{"Access denied", ErrDenied},
	{"Permission denied", ErrDenied},
	{"Authentication disabled", ErrDenied},
	{"Namespace protected and private", ErrDenied},
	{"Namespace is in read-only mode", ErrReadOnly},
	{"Namespace is temporarily", ErrReadOnly},
	{"Namespace is protected by worm mode", ErrReadOnly},
	{"Cannot delete a key when namespace is in worm mode", ErrReadOnly},
	{"No space left on this namespace", ErrNoSpace},
	{"Namespace not found", ErrNoNamespace},
	{"This namespace doesn't exists", ErrNoNamespace},
	{"Your active namespace is not available", ErrNoNamespace},
	{"Cannot write", ErrWriteFailed},
	{"Cannot delete key (", ErrWriteFailed},
	{"Internal", ErrReadFailed},
	{"Too many connections", ErrBusy},
	{"Too many large requests", ErrBusy},
	{"Key not found", ErrNotFound},
	{"No more", ErrNoMore},
	{"Invalid key format", ErrCursor},
	{"Invalid arguments (index query)", ErrCursor},
	{"Timeout", errWaitOver},
}

// Is reports the class of the error: one of the sentinels above.
func (e *ServerError) Is(target error) bool {
	for _, c := range classes {
		if strings.HasPrefix(e.Text, c.prefix) {
			return c.class == target
		}
	}
	return false
}

// A ConnError is a failure of the way to the server: refused, reset, timed out, or framing that is not RESP. Whether the
// request was executed is not known.
type ConnError struct {
	Address string
	Op      string
	Err     error
}

func (e *ConnError) Error() string { return fmt.Sprintf("%s: %s: %v", e.Address, e.Op, e.Err) }

func (e *ConnError) Unwrap() error { return e.Err }

// Temporary reports whether the same call may succeed when it is made again later, without anybody changing anything
// at the client's side.
func Temporary(err error) bool {
	var ce *ConnError
	var untrusted *tls.CertificateVerificationError
	if errors.As(err, &ce) {
		return !errors.Is(err, context.Canceled) && !errors.Is(err, ErrPin) && !errors.Is(err, ErrNotTLS) && !errors.As(err, &untrusted)
	}
	for _, class := range []error{ErrBusy, ErrWriteFailed, ErrReadOnly, ErrNoSpace} {
		if errors.Is(err, class) {
			return true
		}
	}
	return false
}

// replyError returns the error that a reply stands for, if it does.
func replyError(v resp.Value) error {
	if v.Kind == resp.Error {
		return &ServerError{Text: string(v.Data)}
	}
	return nil
}

// unexpected is the error for a reply of a shape that the command does not have.
func unexpected(v resp.Value) error {
	return &resp.ProtocolError{Text: "unexpected reply: " + v.Kind.String()}
}

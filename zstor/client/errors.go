package client

import (
	"errors"
	"fmt"
	"net/http"
)

// Sentinels that callers branch on.
var (
	// ErrDown: no daemon listens on the socket. Waiting can help.
	ErrDown = errors.New("zstor does not answer on its socket")
	// ErrFenced: another machine has taken over; nothing is acknowledged any more.
	ErrFenced = errors.New("another machine has taken over")
	// ErrStale: the local state is not a continuation of the newest cut.
	ErrStale = errors.New("the local state is older than the newest cut")
	// ErrNotAttached: the daemon was restarted, or another session attached; attach again.
	ErrNotAttached = errors.New("this session is not attached")
	// ErrNotDispersed: the segment has no dispersed copy.
	ErrNotDispersed = errors.New("not dispersed")
	// ErrUnavailable: too few nodes answered in time. Waiting can help.
	ErrUnavailable = errors.New("unavailable")
	// ErrDamaged: enough nodes answered, and what they gave does not verify.
	ErrDamaged = errors.New("damaged")
	// ErrDegraded: it can be read, and some shard is missing.
	ErrDegraded = errors.New("degraded")
	// ErrUnformatted: the metadata nodes hold no filesystem yet.
	ErrUnformatted = errors.New("the nodes are not formatted")
	// ErrFormatted: the metadata nodes already hold a filesystem.
	ErrFormatted = errors.New("the nodes already hold a filesystem")
	// ErrPassword: a node refused the password.
	ErrPassword = errors.New("a node refused the password")
	// ErrBusy: another operation of this kind runs.
	ErrBusy = errors.New("busy")
	// ErrBadRequest: the daemon did not accept the call; a bug or a version mismatch.
	ErrBadRequest = errors.New("bad request")
)

// Error is an answer of the daemon: a sentinel, the sentence that explains it, and whether
// repeating the call can help.
type Error struct {
	Status    int    // HTTP status
	Code      string // stable word
	Reason    string
	Temporary bool
	Stripe    *Span // of a segment: the bytes that cannot be read, if it is about them
	kind      error
}

// Span is a range of bytes.
type Span struct {
	Offset int64 `json:"offset"`
	Length int64 `json:"length"`
}

// StripeError is the failure to read one stripe of a segment.
type StripeError struct {
	Span
	Err error
}

// Error gives the reason.
func (e *StripeError) Error() string { return e.Err.Error() }

// Unwrap gives the reason.
func (e *StripeError) Unwrap() error { return e.Err }

// Span gives the bytes of the stripe that could not be read; none if the answer was not about one.
func (e *Error) Span() (off, n int64) {
	if e.Stripe == nil {
		return 0, 0
	}
	return e.Stripe.Offset, e.Stripe.Length
}

// Error gives the reason.
func (e *Error) Error() string {
	if e.Reason == "" {
		return fmt.Sprintf("zstor: %s", e.Code)
	}
	return e.Reason
}

// Unwrap gives the sentinel, so that errors.Is works.
func (e *Error) Unwrap() error { return e.kind }

// The words of the wire, each with its HTTP status and sentinel.
const (
	CodeFenced       = "fenced"
	CodeStale        = "stale"
	CodeNotAttached  = "not-attached"
	CodeNotDispersed = "not-dispersed"
	CodeUnavailable  = "unavailable"
	CodeDamaged      = "damaged"
	CodeDegraded     = "degraded"
	CodeUnformatted  = "unformatted"
	CodeFormatted    = "formatted"
	CodePassword     = "password"
	CodeBusy         = "busy"
	CodeBadRequest   = "bad-request"
	CodeInternal     = "internal"
)

type wireKind struct {
	code   string
	status int
	err    error
}

var wireKinds = []wireKind{
	{CodeFenced, http.StatusConflict, ErrFenced},
	{CodeStale, http.StatusPreconditionFailed, ErrStale},
	{CodeNotAttached, http.StatusPreconditionRequired, ErrNotAttached},
	{CodeNotDispersed, http.StatusNotFound, ErrNotDispersed},
	{CodeUnavailable, http.StatusServiceUnavailable, ErrUnavailable},
	{CodeDamaged, http.StatusUnprocessableEntity, ErrDamaged},
	{CodeDegraded, http.StatusInsufficientStorage, ErrDegraded},
	{CodeUnformatted, http.StatusFailedDependency, ErrUnformatted},
	{CodeFormatted, http.StatusForbidden, ErrFormatted},
	{CodePassword, http.StatusBadGateway, ErrPassword},
	{CodeBusy, http.StatusLocked, ErrBusy},
	{CodeBadRequest, http.StatusBadRequest, ErrBadRequest},
}

// StatusOf gives the HTTP status and the word for an error that wraps one of the sentinels;
// 500 and CodeInternal for any other. The daemon answers with it.
func StatusOf(err error) (int, string) {
	for _, k := range wireKinds {
		if errors.Is(err, k.err) {
			return k.status, k.code
		}
	}
	return http.StatusInternalServerError, CodeInternal
}

// sentinelOf is the inverse; nil for an unknown word.
func sentinelOf(code string) error {
	for _, k := range wireKinds {
		if k.code == code {
			return k.err
		}
	}
	return nil
}

// ErrorBody is the JSON body of every answer that is not a success.
type ErrorBody struct {
	Code      string `json:"code"`
	Error     string `json:"error"`
	Temporary bool   `json:"temporary,omitempty"`
	Stripe    *Span  `json:"stripe,omitempty"`
}

func (b ErrorBody) toError(status int) error {
	return &Error{Status: status, Code: b.Code, Reason: b.Error, Temporary: b.Temporary, Stripe: b.Stripe, kind: sentinelOf(b.Code)}
}

package config

import (
	"cmp"
	"errors"
	"slices"
	"strconv"
	"strings"
)

// ErrInvalid is matched by every error of Load and Validate. Programs exit
// with their code for bad configuration on it.
var ErrInvalid = errors.New("configuration is not valid")

// Fault is one thing wrong with a configuration.
type Fault struct {
	File string
	Line int    // 0 when no line can be named
	Key  string // dotted, empty when it concerns the whole file
	Msg  string
	Err  error // the cause, if there is one to match
}

// Error gives "file:line: key: message".
func (f Fault) Error() string {
	var b strings.Builder
	if f.File != "" {
		b.WriteString(f.File)
		if f.Line > 0 {
			b.WriteByte(':')
			b.WriteString(strconv.Itoa(f.Line))
		}
		b.WriteString(": ")
	}
	if f.Key != "" {
		b.WriteString(f.Key)
		b.WriteString(": ")
	}
	b.WriteString(f.Msg)
	return b.String()
}

// Unwrap gives the cause.
func (f Fault) Unwrap() error { return f.Err }

// Errors is the list of everything wrong with a configuration, in the order
// of the file.
type Errors []Fault

// Error gives one fault per line.
func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, f := range e {
		lines[i] = f.Error()
	}
	return strings.Join(lines, "\n")
}

// Is makes errors.Is(err, ErrInvalid) true.
func (e Errors) Is(target error) bool { return target == ErrInvalid }

// Unwrap gives the single faults.
func (e Errors) Unwrap() []error {
	out := make([]error, len(e))
	for i, f := range e {
		out[i] = f
	}
	return out
}

// asError is nil for an empty list.
func (e Errors) asError() error {
	if len(e) == 0 {
		return nil
	}
	slices.SortStableFunc(e, func(a, b Fault) int { return cmp.Compare(a.Line, b.Line) })
	return e
}

// Package exit says with which code, and with which one line, the program ends.
package exit

import (
	"errors"
	"fmt"
	"strings"
)

// Code is an exit code of zdbfs. The README lists them; they do not change their meaning.
type Code int

// The codes.
const (
	OK          Code = 0
	Internal    Code = 1  // an error of ours, or of the machine
	Usage       Code = 2  // command line or configuration
	Key         Code = 3  // key file missing, unreadable, readable by others, or wrong
	MountPoint  Code = 4  // mount point busy, not empty, not a directory
	Unreachable Code = 5  // zstor or too many nodes do not answer
	Password    Code = 6  // a node refused its password
	Damaged     Code = 7  // local state or records do not verify
	InUse       Code = 8  // another process has the state directory
	Stale       Code = 9  // local state is not the newest, or another machine has taken over
	Unsafe      Code = 10 // status: data is at risk, or not as safe as the policy promises
)

// Error ends the program with a code. Its line tells what is wrong and what to do.
type Error struct {
	Code Code
	Line string
	Err  error // what is behind it; may be nil
}

// Error gives the line.
func (e *Error) Error() string { return e.Line }

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// Errorf makes an Error. A %w in the format becomes its cause.
func Errorf(code Code, format string, args ...any) *Error {
	err := fmt.Errorf(format, args...)
	return &Error{Code: code, Line: strings.ReplaceAll(err.Error(), "\n", "; "), Err: errors.Unwrap(err)}
}

// Of gives the code of an error: OK for nil, Internal if it names none.
func Of(err error) Code {
	if err == nil {
		return OK
	}
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return Internal
}

package main

import (
	"errors"
	"strings"

	"qsfs/zstor"
	"qsfs/zstor/client"
	"qsfs/zstor/config"
)

// The exit codes, documented in the README. They do not change their meaning.
const (
	exitInternal    = 1
	exitUsage       = 2
	exitKey         = 3
	exitUnreachable = 5
	exitPassword    = 6
	exitDamaged     = 7
	exitInUse       = 8
	exitStale       = 9
	exitUnsafe      = 10
)

// usageError is a fault of the command line.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

// unsafeError ends `zstor status` when the answer is not "safe".
type unsafeError struct{ safety client.Safety }

func (e *unsafeError) Error() string { return string(e.safety) }

// exitCode gives the code of an error.
func exitCode(err error) int {
	var usage *usageError
	var bad *unsafeError
	for _, c := range []struct {
		is   bool
		code int
	}{
		{errors.As(err, &usage), exitUsage},
		{errors.As(err, &bad), exitUnsafe},
		{errors.Is(err, config.ErrInvalid), exitUsage},
		{errors.Is(err, config.ErrKey), exitKey},
		{errors.Is(err, zstor.ErrPassword), exitPassword},
		{errors.Is(err, client.ErrPassword), exitPassword},
		{errors.Is(err, zstor.ErrInUse), exitInUse},
		{errors.Is(err, client.ErrBusy), exitInUse},
		{errors.Is(err, client.ErrFormatted), exitInUse},
		{errors.Is(err, client.ErrStale), exitStale},
		{errors.Is(err, client.ErrFenced), exitStale},
		{errors.Is(err, client.ErrDamaged), exitDamaged},
		{errors.Is(err, client.ErrNotDispersed), exitUsage},
		{errors.Is(err, client.ErrBadRequest), exitUsage},
		{errors.Is(err, client.ErrUnformatted), exitUsage},
		{errors.Is(err, client.ErrDegraded), exitUnsafe},
		{errors.Is(err, client.ErrDown), exitUnreachable},
		{errors.Is(err, client.ErrUnavailable), exitUnreachable},
		{errors.Is(err, client.ErrNotAttached), exitUnreachable},
	} {
		if c.is {
			return c.code
		}
	}
	return exitInternal
}

// oneLine keeps configuration faults one per line, and everything else on one.
func oneLine(err error) string {
	var bad *unsafeError
	if errors.As(err, &bad) {
		return "" // the status said it all
	}
	if errors.Is(err, config.ErrInvalid) {
		return err.Error()
	}
	return strings.ReplaceAll(err.Error(), "\n", "; ")
}

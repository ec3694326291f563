package quorum

import (
	"errors"
	"fmt"
	"strings"

	"qsfs/zstor/internal/record"
)

var (
	// ErrQuorum is matched by every *QuorumError: too few nodes counted. Trying again later can help.
	ErrQuorum = errors.New("too few metadata nodes")
	// ErrFenced is matched by every *FencedError: somebody else took over. Trying again cannot help.
	ErrFenced = errors.New("another owner took over")
	// ErrNotFound says that R nodes agree that there is no such record, or that it was deleted.
	ErrNotFound = errors.New("no such record")
	// ErrNotOwner says that this Set neither claimed nor resumed an epoch.
	ErrNotOwner = errors.New("not the owner of an epoch")
	// ErrNotEmpty is returned by Format.
	ErrNotEmpty = errors.New("metadata nodes are in use")
	// ErrStale is matched by every *StaleError.
	ErrStale = errors.New("local state is not the newest")
	// ErrNoNote says that there is no note: the state directory is not, or no longer, an owner's.
	ErrNoNote = errors.New("no owner is noted in the state directory")
	// ErrInUse is returned by Recover for the state directory of a working filesystem.
	ErrInUse = errors.New("state directory is in use")
	// ErrClosed is returned after Close.
	ErrClosed = errors.New("closed")
)

// A NodeReason says why one node did not count.
type NodeReason struct {
	Node string
	Err  error
}

// A QuorumError says that an operation found too few nodes that count.
type QuorumError struct {
	Op         string
	Have, Want int
	Reasons    []NodeReason
}

func (e *QuorumError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %d of %d needed metadata nodes", e.Op, e.Have, e.Want)
	for i, r := range e.Reasons {
		sep := "; "
		if i == 0 {
			sep = ": "
		}
		fmt.Fprintf(&b, "%s%s: %v", sep, r.Node, r.Err)
	}
	return b.String()
}

// Is matches ErrQuorum.
func (e *QuorumError) Is(target error) bool { return target == ErrQuorum }

// Unwrap gives the reasons of the nodes.
func (e *QuorumError) Unwrap() []error {
	var errs []error
	for _, r := range e.Reasons {
		errs = append(errs, r.Err)
	}
	return errs
}

// Damaged reports that damage is what is missing: enough nodes answered, but the answers of too many do not check.
// Trying again cannot help.
func (e *QuorumError) Damaged() bool {
	n := 0
	for _, r := range e.Reasons {
		if errors.Is(r.Err, record.ErrDamaged) {
			n++
		}
	}
	return n > 0 && e.Have+n >= e.Want
}

// A FencedError says who took over.
type FencedError struct {
	Mine record.Owner
	By   record.Owner
	Node string
}

func (e *FencedError) Error() string {
	return fmt.Sprintf("fenced: %v took over from %v (seen on %s)", e.By, e.Mine, e.Node)
}

// Is matches ErrFenced.
func (e *FencedError) Is(target error) bool { return target == ErrFenced }

// A StaleError says that the newest cut is not this state's own last one. Claimed tells whether that was seen only
// after a claim, which fenced whoever owned the newest cut.
type StaleError struct {
	Newest  *record.Cut
	Own     []record.CutID
	Claimed bool
}

func (e *StaleError) Error() string {
	own := "none"
	if len(e.Own) > 0 {
		own = e.Own[len(e.Own)-1].String()
	}
	return fmt.Sprintf("newest cut is %v of %v, this state's last one is %s", e.Newest.ID(), e.Newest.Time, own)
}

// Is matches ErrStale.
func (e *StaleError) Is(target error) bool { return target == ErrStale }

// Why one node did not count.
var (
	errIncomplete  = errors.New("not complete: wiped, new, or not rebuilt yet")
	errNotRaised   = errors.New("shows an older epoch")
	errBadEpochKey = fmt.Errorf("its epoch key: %w", record.ErrDamaged)
)

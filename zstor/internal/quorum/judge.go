package quorum

import (
	"bytes"

	"qsfs/zstor/internal/record"
)

// A verdict says what a node's state means for an operation.
type verdict int

const (
	counts     verdict = iota
	incomplete         // no mark, or one of another incarnation
	behind             // complete, but it shows a lower epoch than ours: it was away when we claimed
	fencing            // it shows somebody else's epoch
	damaged            // its epoch key cannot be read
)

// complete reports whether the state shows the complete mark of its present incarnation.
func (s *Set) complete(st State) bool {
	if !s.keeps(ruleCompleteMark) {
		return true
	}
	if len(st.Mark) == 0 {
		return false
	}
	inc, err := s.sealer.OpenMark(st.Mark)
	if err != nil {
		return false
	}
	return inc == st.Incarnation || !s.keeps(ruleMarkIncarnation)
}

// shown is the owner that a state shows; zero when there is none.
func (s *Set) shown(st State) (record.Owner, error) {
	if len(st.Epoch) == 0 {
		return record.Owner{}, nil
	}
	return s.sealer.OpenOwner(st.Epoch)
}

// judge compares a state with the owner that an operation acts as. A zero owner is a mere reader: any epoch counts.
func (s *Set) judge(st State, mine record.Owner, mineValue []byte) (verdict, record.Owner) {
	if mine.Epoch != 0 && bytes.Equal(st.Epoch, mineValue) { // spares opening it
		if !s.complete(st) {
			return incomplete, mine
		}
		return counts, mine
	}
	shown, err := s.shown(st)
	switch {
	case err != nil:
		return damaged, shown
	case mine.Epoch != 0 && !shown.Same(mine) && shown.Epoch >= mine.Epoch:
		return fencing, shown
	case !s.complete(st):
		return incomplete, shown
	case mine.Epoch == 0 && shown.Epoch == 0:
		return incomplete, shown // format wrote no epoch key here
	case mine.Epoch != 0 && shown.Epoch < mine.Epoch:
		return behind, shown
	}
	return counts, shown
}

// reason turns a verdict that does not count into an error.
func (s *Set) reason(v verdict, mine, shown record.Owner, node string) error {
	switch v {
	case incomplete:
		return errIncomplete
	case behind:
		return errNotRaised
	case fencing:
		return &FencedError{Mine: mine, By: shown, Node: node}
	case damaged:
		return errBadEpochKey
	}
	return nil
}

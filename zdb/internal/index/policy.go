package index

import (
	"bytes"
	"slices"
	"time"

	"qsfs/zdb/segfile"
)

// Policy says which superseded versions of a key are kept.
type Policy struct {
	// Pins are sequences, ascending: what was the newest version at one of them stays.
	Pins []segfile.Seq
	// KeepLast newest versions stay, the present one counted; below 2 it keeps nothing.
	KeepLast int
	// KeepFor is how long a version stays after it was superseded.
	KeepFor time.Duration
	// Plain, unless nil, is a key of which only what a pin needs is kept.
	Plain []byte
	// Age says how long ago a version was written, at least; for KeepFor.
	Age func(*Version) time.Duration
}

// Active says whether anything but present versions may be kept.
func (p *Policy) Active() bool { return len(p.Pins) > 0 || p.KeepLast > 1 || p.KeepFor > 0 }

// Wants says whether the version of key at rank (0 is the newest) stays although next came after it.
func (p *Policy) Wants(key []byte, rank int, v, next *Version) bool {
	plain := p.Plain != nil && bytes.Equal(p.Plain, key)
	if rank < p.KeepLast && !plain {
		return true
	}
	if i, _ := slices.BinarySearch(p.Pins, v.Seq); i < len(p.Pins) && p.Pins[i] < next.Seq {
		return true
	}
	if p.KeepFor <= 0 || plain {
		return false
	}
	return p.Age(next) < p.KeepFor
}

// Repeats says of a version and the one after it that the latter is no version of its own: it deleted what was not there.
func (v *Version) Repeats(next *Version) bool { return v.Delete && next.Delete }

package index

import (
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
	// Now is the time against which KeepFor counts.
	Now int64
	// Written bounds from above the time at which a sequence was written. It is asked where a time was given by a user.
	Written func(segfile.Seq) int64
}

// Active says whether anything but present versions may be kept.
func (p *Policy) Active() bool { return len(p.Pins) > 0 || p.KeepLast > 1 || p.KeepFor > 0 }

// Wants says whether the version at rank (0 is the newest) stays although next came after it.
func (p *Policy) Wants(rank int, v, next *Version) bool {
	if rank < p.KeepLast {
		return true
	}
	if i, _ := slices.BinarySearch(p.Pins, v.Seq); i < len(p.Pins) && p.Pins[i] < next.Seq {
		return true
	}
	if p.KeepFor <= 0 {
		return false
	}
	since := next.Time
	if next.Given && p.Written != nil {
		since = p.Written(next.Seq)
	}
	return p.Now-since < int64(p.KeepFor)
}

// Repeats says of a version and the one after it that the latter is no version of its own: it deleted what was not there.
func (v *Version) Repeats(next *Version) bool { return v.Delete && next.Delete }

// Keep says which versions of one key stay; they come newest first. A delete stays
// only right above a value that does: it says until when that one counted.
func (p *Policy) Keep(versions []Version) []bool {
	keep := make([]bool, len(versions))
	rank := 0
	for i := 1; i < len(versions); i++ {
		if !versions[i].Repeats(&versions[i-1]) {
			rank++
		}
	}
	older, above := false, false // something older stays; the last that stays is a delete
	for i := len(versions) - 1; i >= 0; i-- {
		v := &versions[i]
		switch {
		case v.Delete:
			keep[i] = older && !above
		case i == 0:
			keep[i] = true
		default:
			keep[i] = p.Wants(rank, v, &versions[i-1])
		}
		if i > 0 && !v.Repeats(&versions[i-1]) {
			rank--
		}
		if keep[i] {
			older, above = true, v.Delete
		}
	}
	return keep
}

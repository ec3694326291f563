package zstor

import (
	"sync/atomic"
	"time"
)

// rateMeter estimates how fast plaintext leaves, from the last rounds.
type rateMeter struct {
	last   int64
	perSec float64
}

// add takes the running total at the end of a round that took d.
func (r *rateMeter) add(total int64, d time.Duration) {
	delta := total - r.last
	r.last = total
	if delta < 64<<10 || d < time.Millisecond {
		return // too little to measure anything but latency
	}
	now := float64(delta) / d.Seconds()
	if r.perSec == 0 {
		r.perSec = now
	} else {
		r.perSec += 0.3 * (now - r.perSec)
	}
}

// pace says how many stripes an upload may send before it looks whether a round waits: about as many
// as leave in a quarter of the sync interval.
type pace struct {
	interval time.Duration
	now      atomic.Int64 // stripes; zero: nothing was measured yet
}

const mostStripes = 4 * stripesAtOnce

func (p *pace) step() uint32 {
	if n := p.now.Load(); n > 0 {
		return uint32(n)
	}
	return 2
}

// slow reports whether the line carries so little that an upload would hold up a round.
func (p *pace) slow() bool { n := p.now.Load(); return n == 0 || n < stripesAtOnce }

// took learns from a step.
func (p *pace) took(stripes uint32, d time.Duration) {
	n := int64(p.interval/4) * int64(stripes) / max(int64(d), 1)
	p.now.Store(min(max(n, 1), 2*int64(stripes), mostStripes))
}

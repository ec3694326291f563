package zstor

import "time"

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

package client

import (
	"time"

	"qsfs/zstor/internal/receipt"
)

// Receipt is what r<N> says: the segment is dispersed. It is not consent to evict; ask Evict for that.
type Receipt struct {
	Length    int64 // of d<N>
	Full      bool  // n shards, placed under the main policy
	Confirmed bool
	Time      time.Time
}

// ReadReceipt reads and verifies the receipt of a segment in a state directory: fs.ErrNotExist when
// there is none.
func ReadReceipt(state, ns string, segment uint32) (Receipt, error) {
	r, err := receipt.Read(state, ns, segment)
	if err != nil {
		return Receipt{}, err
	}
	return Receipt{Length: int64(r.Manifest.DataLen), Full: r.Full, Confirmed: r.Confirmed, Time: r.Time}, nil
}

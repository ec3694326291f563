package codec

import (
	"errors"
	"fmt"
)

var (
	// ErrShard says that bytes are not the shard that was asked for: damaged,
	// cut, of another name, or made with another key. It says no more, since
	// the difference between digests is a secret.
	ErrShard = errors.New("not the shard asked for, or damaged")
	// ErrMixed says that enough shards are there for more than one attempt at
	// a stripe, so none can be preferred.
	ErrMixed = errors.New("shards of several attempts, each complete")
	// ErrSealed says that a stripe did not open although its shards are
	// authentic.
	ErrSealed = errors.New("stripe does not open: wrong data key, or sealed from damaged memory")
	// ErrEncoded says that a stripe of this generation was encoded before. A
	// second attempt needs a new generation.
	ErrEncoded = errors.New("this stripe of this generation was encoded before")
	// ErrVerify says that a package does not give back what went into it.
	ErrVerify = errors.New("package does not decode to its plaintext")
	// ErrParams is matched by every refusal of Params.
	ErrParams = errors.New("codec parameters")
)

// NotEnoughError says that too few shards of one attempt are there.
type NotEnoughError struct {
	Stripe     uint32
	Have, Need int
	Attempts   int // different attempts among the shards
}

// Error gives the numbers.
func (e *NotEnoughError) Error() string {
	if e.Attempts > 1 {
		return fmt.Sprintf("stripe %d: %d shards are needed, at most %d of one attempt are there (%d attempts)", e.Stripe, e.Need, e.Have, e.Attempts)
	}
	return fmt.Sprintf("stripe %d: %d shards are needed, %d are there", e.Stripe, e.Need, e.Have)
}

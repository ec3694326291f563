package zdb

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"qsfs/zdb/internal/index"
)

// ErrNotKept says that what a key had at a sequence is not kept for sure: the sequence is not pinned.
var ErrNotKept = errors.New("sequence is not pinned")

// Retention says which superseded versions of a key stay readable. What a pin needs stays in any case.
type Retention struct {
	// KeepLast is the number of versions that stay, the present one counted; a delete is a version too. 0 and 1 keep none.
	KeepLast int
	// KeepFor is how long a version stays, at least, after it was overwritten or deleted. Time that the database is open counts; other time counts when the
	// wall clock has been ahead by it for a day in which the database was open, and no more of it than the time that was open.
	KeepFor time.Duration
}

func (r Retention) validate() error {
	if r.KeepLast < 0 || r.KeepFor < 0 {
		return fmt.Errorf("retention must not be negative: keep last %d, keep for %v", r.KeepLast, r.KeepFor)
	}
	return nil
}

// retention is what is in force, and recorded in a file beside the log.
type retention struct {
	// fileMu is held over writing the file, so that the last change is what stays in it.
	fileMu sync.Mutex

	mu   sync.Mutex
	keep Retention
	pins map[Seq]uint32 // how often each is pinned
	// sweep: something may be kept that is not wanted any more.
	sweep bool
	plain []byte // see SetPlain
}

func (r *retention) record() keepRecord {
	r.mu.Lock()
	defer r.mu.Unlock()
	k := keepRecord{Retention: r.keep}
	for seq, count := range r.pins {
		k.Pins = append(k.Pins, pin{seq, count})
	}
	slices.SortFunc(k.Pins, func(a, b pin) int {
		if a.seq < b.seq {
			return -1
		}
		return 1
	})
	return k
}

// without takes one pin of a sequence away.
func (k keepRecord) without(seq Seq) keepRecord {
	i := slices.IndexFunc(k.Pins, func(p pin) bool { return p.seq == seq })
	if i < 0 {
		return k
	}
	if k.Pins[i].count--; k.Pins[i].count == 0 {
		k.Pins = slices.Delete(k.Pins, i, i+1)
	}
	return k
}

// policy is what the index goes by now.
func (n *Namespace) policy() index.Policy {
	k := n.keep.record()
	p := index.Policy{KeepLast: k.KeepLast, KeepFor: k.KeepFor, Plain: n.keep.plainKey()}
	if k.KeepFor > 0 {
		ages := n.age(k.KeepFor)
		p.Age = func(next *index.Version) time.Duration { return ages.Of(next.Seq) }
	}
	for _, pin := range k.Pins {
		p.Pins = append(p.Pins, pin.seq)
	}
	return p
}

// Retention is what is in force.
func (n *Namespace) Retention() Retention { return n.keep.record().Retention }

// SetRetention changes what is kept from now on, for good: it is recorded beside the log and counts after the next
// opening too. Less retention drops history soon; more of it brings nothing back.
func (n *Namespace) SetRetention(r Retention) error {
	if err := r.validate(); err != nil {
		return n.public(err)
	}
	if n.isClosed() {
		return n.public(ErrClosed)
	}
	n.keep.fileMu.Lock()
	defer n.keep.fileMu.Unlock()
	k := &n.keep
	k.mu.Lock()
	before := k.keep
	// Both hold until the file says the new one, so that a crash leaves neither with less than it promised.
	k.keep = Retention{KeepLast: max(before.KeepLast, r.KeepLast), KeepFor: max(before.KeepFor, r.KeepFor)}
	k.mu.Unlock()
	rec := k.record()
	rec.Retention = r
	err := n.writeKeep(rec)
	k.mu.Lock()
	k.keep = r
	if err != nil {
		k.keep = before
	}
	k.sweep = true
	k.mu.Unlock()
	n.policy() // ages count from here on
	return n.public(err)
}

// SetPlain is NamespaceOptions.Plain from now on, until the namespace is closed; nil is no key.
func (n *Namespace) SetPlain(key []byte) {
	n.keep.mu.Lock()
	defer n.keep.mu.Unlock()
	n.keep.plain, n.keep.sweep = bytes.Clone(key), true
}

func (r *retention) plainKey() []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.plain
}

// Pin keeps what every key has now readable, by GetAt and IterOptions.At, until Unpin; it survives
// restarts. It returns the sequence, all of which is durable by then.
func (n *Namespace) Pin(ctx context.Context) (Seq, error) {
	n.commitMu.Lock()
	if n.isClosed() {
		n.commitMu.Unlock()
		return 0, n.public(ErrClosed)
	}
	// No later batch supersedes anything before the pin is there.
	seq := n.log.Head().Seq
	if seq == 0 {
		// An empty log: below the first sequence to come. 0 would be the present to whoever reads.
		if seq = MakeSeq(n.db.o.Epoch, 0); seq == 0 {
			n.commitMu.Unlock()
			return 0, n.public(fmt.Errorf("%w: nothing to pin in epoch 0", ErrEmpty))
		}
	}
	n.keep.add(seq)
	n.commitMu.Unlock()
	return seq, n.finishPin(ctx, seq)
}

// PinAt is Pin as of a sequence just passed: one that is pinned already, or that
// the index has not yet gone beyond. Else it is ErrNotKept.
func (n *Namespace) PinAt(ctx context.Context, seq Seq) error {
	n.applyMu.Lock()
	n.idxMu.Lock()
	applied := n.base.Seq
	n.idxMu.Unlock()
	if n.isClosed() {
		n.applyMu.Unlock()
		return n.public(ErrClosed)
	}
	if seq > n.log.Head().Seq || seq < applied && !n.keep.pinned(seq) {
		n.applyMu.Unlock()
		return n.public(fmt.Errorf("%w: %v", ErrNotKept, seq))
	}
	n.keep.add(seq)
	n.applyMu.Unlock()
	return n.finishPin(ctx, seq)
}

func (n *Namespace) finishPin(ctx context.Context, seq Seq) error {
	err := n.log.SyncTo(ctx, seq)
	if err == nil {
		n.keep.fileMu.Lock()
		err = n.writeKeep(n.keep.record())
		n.keep.fileMu.Unlock()
	}
	if err == nil {
		return nil
	}
	// The record may say it all the same, now or after a crash. Until another one is written that does not, the pin stays.
	n.keep.fileMu.Lock()
	defer n.keep.fileMu.Unlock()
	if werr := n.writeKeep(n.keep.record().without(seq)); werr == nil {
		n.keep.drop(seq)
	}
	return n.public(err)
}

// Unpin takes back one Pin of a sequence.
func (n *Namespace) Unpin(seq Seq) error {
	n.keep.fileMu.Lock()
	defer n.keep.fileMu.Unlock()
	if !n.keep.pinned(seq) {
		return n.public(fmt.Errorf("%w: %v", ErrNotKept, seq))
	}
	if err := n.writeKeep(n.keep.record().without(seq)); err != nil {
		return n.public(err)
	}
	n.keep.drop(seq)
	return nil
}

// Pins lists the pinned sequences, ascending.
func (n *Namespace) Pins() []Seq {
	var list []Seq
	for _, p := range n.keep.record().Pins {
		list = append(list, p.seq)
	}
	return list
}

func (r *retention) add(seq Seq) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pins[seq]++
}

func (r *retention) drop(seq Seq) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.pins[seq]--; r.pins[seq] == 0 {
		delete(r.pins, seq)
	}
	r.sweep = true
}

// pinnedIn says whether a sequence from first on, before end, is pinned.
func (r *retention) pinnedIn(first, end Seq) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for seq := range r.pins {
		if first <= seq && seq < end {
			return true
		}
	}
	return false
}

func (r *retention) pinned(seq Seq) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.pins[seq] > 0
}

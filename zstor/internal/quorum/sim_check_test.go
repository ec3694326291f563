package quorum

import (
	"fmt"
	"sync"

	"qsfs/zstor/internal/record"
)

// simCheck knows what was acknowledged and says what was lost. A cut's content is a token; each token has a parent,
// for a machine's state contains all that its earlier states contained.
type simCheck struct {
	mu      sync.Mutex // time may wake two processes at once
	parent  map[uint64]uint64
	acked   []uint64 // tokens acknowledged or recovered, in order
	last    uint64   // next token
	owners  map[uint64]record.OwnerID
	written map[string]string             // record name → bytes
	born    map[record.Version]int        // how many names had been written when this one was first
	counter map[record.Writer]record.Name // (epoch, counter) → the one name that used it
	sealer  *record.Sealer
	floor   map[string]regFloor
	fault   string
	acks    int
	tokens  map[record.Name]uint64 // of cuts
	trace   []string               // nil unless wanted
}

// regFloor is the newest version of a register that was acknowledged or read.
type regFloor struct {
	v       record.Version
	deleted bool
	puts    int // names written so far
}

func newCheck(sealer *record.Sealer) *simCheck {
	return &simCheck{
		parent: map[uint64]uint64{}, owners: map[uint64]record.OwnerID{}, written: map[string]string{}, born: map[record.Version]int{},
		counter: map[record.Writer]record.Name{}, floor: map[string]regFloor{}, tokens: map[record.Name]uint64{}, sealer: sealer,
	}
}

func (c *simCheck) fail(format string, args ...any) {
	if c.fault == "" {
		c.fault = fmt.Sprintf(format, args...)
		c.log("FAULT %s", c.fault)
	}
}

// note is log for those who do not hold mu.
func (c *simCheck) note(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.log(format, args...)
}

func (c *simCheck) log(format string, args ...any) {
	if c.trace != nil {
		c.trace = append(c.trace, fmt.Sprintf(format, args...))
	}
}

func (c *simCheck) newToken(parent uint64) uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last++
	c.parent[c.last] = parent
	return c.last
}

// contains reports whether the state of token t contains what ancestor contained.
func (c *simCheck) contains(t, ancestor uint64) bool {
	for ; t != 0; t = c.parent[t] {
		if t == ancestor {
			return true
		}
	}
	return ancestor == 0
}

// put sees every write on every node.
func (c *simCheck) put(name, value []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n, err := record.ParseName(name)
	if err != nil {
		return
	}
	if was, ok := c.written[string(name)]; ok && was != string(value) {
		c.fail("version %v was used for two contents", n.Version())
	}
	if _, ok := c.born[n.Version()]; !ok {
		c.born[n.Version()] = len(c.born)
		if r, err := c.sealer.Open(n, value); err == nil && r.Kind == record.KindCut {
			if cut, err := c.sealer.DecodeCut(r.KeyEpoch, r.Body); err == nil {
				c.tokens[n] = cut.Session
			}
		}
	}
	c.written[string(name)] = string(value)
	use := record.Writer{Epoch: n.Version().Epoch, Counter: n.Version().Counter}
	if was, ok := c.counter[use]; ok && was != n {
		c.fail("counter of version %v was used twice", n.Version())
	}
	c.counter[use] = n
}

// owns is called when a process becomes an owner by a claim.
func (c *simCheck) owns(o record.Owner) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if id, ok := c.owners[o.Epoch]; ok && id != o.ID {
		c.fail("epoch %d has two owners", o.Epoch)
	}
	c.owners[o.Epoch] = o.ID
}

// claims is like owns, for a claim: no epoch is claimed twice, whatever the id.
func (c *simCheck) claims(o record.Owner) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.owners[o.Epoch]; ok {
		c.fail("epoch %d has two owners", o.Epoch)
	}
	c.owners[o.Epoch] = o.ID
}

// owned reports whether o became an owner for good: it claimed, read, and published again.
func (c *simCheck) owned(o record.Owner) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.owners[o.Epoch] == o.ID
}

// ackCut is called when a cut was acknowledged, or was recovered: from now on it may not be lost. Of the cuts that were
// acknowledged before the call began (before of them) it must contain all; with those since then it must be in line,
// for its own answer may have travelled long.
func (c *simCheck) ackCut(how string, token uint64, before int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.log("%s %d", how, token)
	c.acks++
	for i, a := range c.acked {
		if !c.contains(token, a) && (i < before || !c.contains(a, token)) {
			c.fail("%s of cut %d, which lacks the acknowledged cut %d", how, token, a)
			return
		}
	}
	c.acked = append(c.acked, token)
}

// held asks the nodes themselves: at any time, of the nodes that count fewer than R may lack an acknowledged cut, or
// else a reader that reaches just those loses it. skip is a node that is known to be damaged.
func (c *simCheck) held(nodes []*simNode, readQuorum, skip int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var newest []uint64
	for i, n := range nodes {
		inc, err := c.sealer.OpenMark(n.data[string(record.MarkName)])
		if err != nil || inc != n.inc || i == skip {
			continue
		}
		var best record.Name
		for name := range n.data {
			k, err := record.ParseName([]byte(name))
			if _, cut := c.tokens[k]; err == nil && cut && k.Version().Compare(best.Version()) >= 0 {
				best = k
			}
		}
		newest = append(newest, c.tokens[best])
	}
	for _, a := range c.acked {
		lack := 0
		for _, t := range newest {
			if !c.contains(t, a) {
				lack++
			}
		}
		if lack >= readQuorum {
			c.fail("%d nodes that count lack the acknowledged cut %d", lack, a)
			return
		}
	}
}

// foundCut is called with the newest cut that somebody read, when the cuts in before had been acknowledged already.
func (c *simCheck) foundCut(how string, token uint64, before int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.log("%s found %d", how, token)
	for _, a := range c.acked[:before] {
		if !c.contains(token, a) {
			c.fail("%s found cut %d, which lacks the acknowledged cut %d", how, token, a)
			return
		}
	}
}

// read is called with what a read of a register gave; before is the floor when it began.
func (c *simCheck) read(object string, v record.Version, deleted bool, before regFloor) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.log("read %s: %v deleted=%v", object, v, deleted)
	switch {
	case v.IsZero() && !before.deleted && !before.v.IsZero():
		// A deletion that was not acknowledged may have been found by a later owner, which finished it.
		if t := c.tombstoneAbove(before.v); !t.IsZero() {
			if t.Compare(c.floor[object].v) > 0 {
				c.floor[object] = regFloor{t, true, len(c.born)}
			}
			return
		}
		c.fail("%s: version %v is gone", object, before.v)
	case !v.IsZero() && v.Compare(before.v) < 0 && before.deleted && c.born[v] >= before.puts:
		// A fenced owner that does not know it yet wrote after the deletion, got no acknowledgement, and the
		// tombstone is gone. This is not the record that was deleted, and it is no root.
	case !v.IsZero() && v.Compare(before.v) < 0:
		c.fail("%s: version %v came back after %v (deleted=%v)", object, v, before.v, before.deleted)
	}
}

// tombstoneAbove finds a tombstone that was ever sent, with a version above v.
func (c *simCheck) tombstoneAbove(v record.Version) record.Version {
	for name, value := range c.written {
		n, err := record.ParseName([]byte(name))
		if err != nil || n.Version().Compare(v) <= 0 {
			continue
		}
		if r, err := c.sealer.Open(n, []byte(value)); err == nil && r.Tombstone {
			return n.Version()
		}
	}
	return record.Version{}
}

// settle raises the floor of a register.
func (c *simCheck) settle(object string, v record.Version, deleted bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !v.IsZero() && v.Compare(c.floor[object].v) > 0 {
		c.log("settled %s: %v deleted=%v", object, v, deleted)
		c.floor[object] = regFloor{v, deleted, len(c.born)}
	}
}

// floorOf is what a read that begins now must not fall below.
func (c *simCheck) floorOf(object string) regFloor {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.floor[object]
}

// ackedSoFar counts the cuts acknowledged until now.
func (c *simCheck) ackedSoFar() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.acked)
}

// broken is fail for those who do not hold mu.
func (c *simCheck) broken(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fail(format, args...)
}

package engine

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"strconv"
	"strings"

	"qsfs/zdb"
)

const (
	writers = 4
	keys    = 30  // of each writer that change all the time
	cold    = 200 // of each writer that change now and then, so that their entries are older than what lies around them
)

// change is one entry of a batch.
type change struct {
	key, value string
	deleted    bool
}

// changes is what the batch with this number of a writer does in a life.
func changes(life, writer, number int) []change {
	rng := rand.New(rand.NewPCG(uint64(life)<<32|uint64(writer), uint64(number)))
	var list []change
	for range 1 + rng.IntN(6) {
		c := change{key: fmt.Sprintf("w%d/k%02d", writer, rng.IntN(keys))}
		if rng.IntN(8) == 0 {
			c.key = fmt.Sprintf("w%d/cold%03d", writer, rng.IntN(cold))
		}
		if c.deleted = rng.IntN(3) == 0; !c.deleted {
			size := rng.IntN(1500)
			switch rng.IntN(100) {
			case 0:
				size = rng.IntN(200 << 10)
			case 1, 2, 3, 4, 5:
				size = rng.IntN(20 << 10)
			}
			text := fmt.Sprintf("%d.%d.%d.%s|", life, writer, number, c.key)
			c.value = text + strings.Repeat(text[:1+rng.IntN(len(text))], 1+size/len(text))
		}
		list = append(list, c)
	}
	return append(list, change{key: counter(writer), value: strconv.Itoa(number)})
}

// counter is the key that says which batch of a writer was the last.
func counter(writer int) string { return fmt.Sprintf("w%d/number", writer) }

func fill(b *zdb.Batch, list []change) {
	b.Reset()
	for _, c := range list {
		if c.deleted {
			b.Delete([]byte(c.key))
		} else {
			b.Set([]byte(c.key), []byte(c.value))
		}
	}
}

func apply(state map[string]string, list []change) {
	for _, c := range list {
		if c.deleted {
			delete(state, c.key)
		} else {
			state[c.key] = c.value
		}
	}
}

// of gives the part of a state that belongs to a writer, and its last number.
func of(state map[string]string, writer int) (map[string]string, int) {
	mine := make(map[string]string)
	for k, v := range state {
		if strings.HasPrefix(k, fmt.Sprintf("w%d/", writer)) {
			mine[k] = v
		}
	}
	number, _ := strconv.Atoi(state[counter(writer)])
	return mine, number
}

// differ says how a state differs from what it should be; empty: not at all.
func differ(got, want map[string]string) string {
	var b strings.Builder
	for k, v := range want {
		if g, ok := got[k]; !ok {
			fmt.Fprintf(&b, "%s is lost; ", k)
		} else if g != v {
			fmt.Fprintf(&b, "%s is %.40q (%d bytes), want %.40q (%d); ", k, g, len(g), v, len(v))
		}
	}
	for k, v := range got {
		if _, ok := want[k]; !ok {
			fmt.Fprintf(&b, "%s is there, %.40q; ", k, v)
		}
	}
	return b.String()
}

// expect is what the next life may find: the state that a life began with, and what it did since.
type expect struct {
	life           int
	base           map[string]string
	started, acked [writers]int // numbers of batches
}

// check compares what was found, and goes on from it. What was not acknowledged may be there or not, but only from the first on.
func (e *expect) check(found map[string]string) error {
	known := 0
	for w := range writers {
		got, number := of(found, w)
		want, from := of(e.base, w)
		known += len(got)
		if number < max(from, e.acked[w]) || number > max(from, e.started[w]) {
			return fmt.Errorf("writer %d: found batch %d, acknowledged was %d, started %d, and there before %d", w, number, e.acked[w], e.started[w], from)
		}
		for n := from + 1; n <= number; n++ {
			apply(want, changes(e.life, w, n))
		}
		if d := differ(got, want); d != "" {
			return fmt.Errorf("writer %d after batch %d (acknowledged %d, started %d): %s", w, number, e.acked[w], e.started[w], d)
		}
	}
	if known != len(found) {
		return fmt.Errorf("%d keys are nobody's", len(found)-known)
	}
	*e = expect{base: maps.Clone(found)}
	return nil
}

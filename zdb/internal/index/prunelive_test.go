package index

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"qsfs/zdb/segfile"
)

// living is an index beside all that was ever written, while it is pruned in small steps.
type living struct {
	t     *testing.T
	rng   *rand.Rand
	x     *Index
	dir   string
	dirs  int
	p     Policy
	seq   segfile.Seq
	truth map[string][]Change // all versions, oldest first
	must  map[string]map[segfile.Seq]bool
	pins  []segfile.Seq
	place *Place
}

func (l *living) open() {
	x, err := Open(filepath.Join(l.dir, strconv.Itoa(l.dirs)), slog.New(slog.DiscardHandler))
	if err != nil {
		l.t.Fatal(err)
	}
	l.x = x
}

// judge drops from what must be there what the policy wants no more; fresh adds what was just superseded.
func (l *living) judge(fresh ...string) {
	l.p.Pins = slices.Compact(slices.Sorted(slices.Values(l.pins)))
	for key, list := range l.truth {
		for i := len(list) - 2; i >= 0; i-- {
			v, next := list[i].version(list[i].Delete), list[i+1].version(list[i+1].Delete)
			if l.must[key] == nil {
				l.must[key] = map[segfile.Seq]bool{}
			}
			if i == len(list)-2 && slices.Contains(fresh, key) {
				l.must[key][v.Seq] = true
			}
			if v.Delete || !l.p.Wants([]byte(key), len(list)-1-i, &v, &next) {
				delete(l.must[key], v.Seq)
			}
		}
	}
}

func (l *living) write(keys []string) {
	var batch []Change
	var fresh []string
	for range 1 + l.rng.IntN(6) {
		key := keys[l.rng.IntN(len(keys))]
		l.seq++
		c := change(key, l.seq, l.rng.IntN(3) == 0)
		c.Time = int64(l.seq) * int64(time.Second)
		c.Given = l.rng.IntN(8) == 0
		list := l.truth[key]
		batch = append(batch, c)
		if c.Delete && (len(list) == 0 || list[len(list)-1].Delete) {
			continue // it deletes nothing, so it is no version
		}
		l.truth[key] = append(list, c)
		if len(list) > 0 {
			fresh = []string{key}
			l.judge(fresh...)
		}
	}
	feed(l.t, l.x, l.p, batch...)
	l.judge()
}

// move is what compaction does with one version, often with the delete that is held between two steps.
func (l *living) move(keys []string) {
	key := keys[l.rng.IntN(len(keys))]
	list := l.truth[key]
	if len(list) == 0 {
		return
	}
	i := l.rng.IntN(len(list))
	if p := l.place; p != nil && p.held != nil && l.rng.IntN(4) > 0 {
		list = l.truth[string(p.key)]
		i = slices.IndexFunc(list, func(c Change) bool { return c.Seq == p.held.Seq })
	}
	list[i].Location.Segment++
	list[i].Location.Offset, list[i].Moved = l.rng.Int64N(1000), true
	c := list[i]
	c.Relocate = true
	feed(l.t, l.x, l.p, c)
}

func (l *living) rebuild() {
	if err := l.x.Retire(true); err != nil {
		l.t.Fatal(err)
	}
	l.dirs++
	l.open()
	var log []Change
	for _, list := range l.truth {
		log = append(log, list...)
	}
	slices.SortFunc(log, func(a, b Change) int {
		if a.Location.Segment != b.Location.Segment {
			return int(a.Location.Segment) - int(b.Location.Segment)
		}
		return int(a.Seq) - int(b.Seq)
	})
	a := l.x.NewApplier(true, l.p)
	defer a.Discard()
	for _, c := range log {
		if err := a.Add(c); err != nil {
			l.t.Fatal(err)
		}
	}
	if err := a.Flush(Position{}); err != nil {
		l.t.Fatal(err)
	}
	for from := (*Place)(nil); ; {
		next, _, _, err := l.x.Prune(from, l.p, 1+l.rng.IntN(20))
		if err != nil {
			l.t.Fatal(err)
		}
		if from = next; from == nil {
			break
		}
	}
	if err := l.x.Forget(); err != nil {
		l.t.Fatal(err)
	}
}

func (l *living) check(when string) {
	l.t.Helper()
	t := l.t
	s := l.x.Snapshot()
	defer s.Close()
	live, versions := map[segfile.ID]int64{}, int64(0)
	gone := map[string]bool{}
	for key, list := range l.truth {
		have := history(t, l.x, key)
		where := map[segfile.Seq]Change{}
		for _, c := range list {
			where[c.Seq] = c
		}
		last := list[len(list)-1]
		for i, v := range have {
			c, ok := where[v.Seq]
			if !ok || c.Delete != v.Delete || c.Location != v.Location || c.Given != v.Given || c.Moved != v.Moved {
				t.Fatalf("%s: of %q the index has %+v, written was %+v", when, key, v, c)
			}
			live[v.Location.Segment] += cost([]byte(key), &v)
			if i > 0 || last.Delete {
				versions++
			}
			if !last.Delete && i == 0 && v.Seq != last.Seq {
				t.Fatalf("%s: of %q the present one is %v, want %v", when, key, v.Seq, last.Seq)
			}
		}
		for i := len(list) - 2; i >= 0; i-- {
			if !l.must[key][list[i].Seq] {
				continue
			}
			at := slices.IndexFunc(have, func(v Version) bool { return v.Seq == list[i].Seq })
			if at < 0 {
				t.Fatalf("%s: of %q %v is gone, have %v, policy %+v", when, key, list[i].Seq, seqs(have), l.p)
			}
			if list[i+1].Delete && (at == 0 || have[at-1].Seq != list[i+1].Seq) {
				t.Fatalf("%s: of %q the delete above %v is gone, have %v", when, key, list[i].Seq, seqs(have))
			}
			if last.Delete {
				gone[key] = true
			}
		}
	}
	if got := l.x.Live(); fmt.Sprint(got) != fmt.Sprint(live) || l.x.Versions() != versions {
		t.Fatalf("%s: live %v, want %v; %d versions, want %d", when, got, live, l.x.Versions(), versions)
	}
	it := s.NewGoneIter()
	before := ""
	for ok := it.Seek(nil); ok; ok = it.Next() {
		key := string(it.Key())
		if list := l.truth[key]; key <= before || len(list) == 0 || !list[len(list)-1].Delete {
			t.Fatalf("%s: %q is listed as deleted", when, key)
		}
		before = key
		delete(gone, key)
		for range l.rng.IntN(20) {
			it.Version()
		}
	}
	it.Close()
	if it.Err() != nil || len(gone) > 0 {
		t.Fatalf("%s: %v are not listed as deleted, %v", when, gone, it.Err())
	}
	for _, pin := range l.p.Pins {
		for _, reverse := range []bool{false, true} {
			want := map[string]segfile.Seq{}
			for key, list := range l.truth {
				for _, c := range list {
					if c.Seq > pin {
						break
					}
					if want[key] = c.Seq; c.Delete {
						delete(want, key)
					}
				}
			}
			it := s.NewIterAt(reverse, pin)
			got := map[string]segfile.Seq{}
			for it.Seek(nil); it.Valid(); it.Next() {
				e, _ := it.Entry()
				got[string(it.Key())] = e.Seq
			}
			it.Close()
			if fmt.Sprint(got) != fmt.Sprint(want) {
				t.Fatalf("%s: at %v %v, want %v", when, pin, got, want)
			}
		}
	}
}

// TestPruneWhileItLives prunes in steps while keys are written, deleted and moved, pins come and go, the policy changes, and the index is
// opened again or made anew: a place stays good, and what was wanted all the time is there.
func TestPruneWhileItLives(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	for round := range uint64(12) {
		l := &living{t: t, rng: rand.New(rand.NewPCG(seed, round)), dir: t.TempDir(), truth: map[string][]Change{}, must: map[string]map[segfile.Seq]bool{}}
		keys := []string{"k", "k\x00", "k\x00\x01", "ka", "ka\x00b", "kb"}[:1+l.rng.IntN(6)]
		l.p.Age = bySeq(&l.seq, l.rng.IntN(2)*5)
		l.open()
		l.p.KeepLast = 3
		for i := range 100 {
			what := l.rng.IntN(100)
			switch {
			case what < 35:
				l.write(keys)
			case what < 45:
				l.move(keys)
			case what < 49 && len(l.pins) < 4:
				if l.seq > 0 {
					l.pins = append(l.pins, l.seq)
				}
				l.judge()
			case what < 52 && len(l.pins) > 0:
				l.pins = slices.Delete(l.pins, 0, 1)
				l.judge()
			case what < 56:
				l.p.KeepLast = l.rng.IntN(8)
				l.p.KeepFor = time.Duration(l.rng.IntN(3)*l.rng.IntN(100)) * time.Second
				if l.p.Plain = nil; l.rng.IntN(3) == 0 {
					l.p.Plain = []byte(keys[0])
				}
				l.judge()
			case what < 58:
				if err := l.x.Retire(false); err != nil {
					t.Fatal(err)
				}
				l.open()
			case what < 59:
				l.rebuild()
			default:
				next, _, _, err := l.x.Prune(l.place, l.p, 1+l.rng.IntN(5))
				if err != nil {
					t.Fatal(err)
				}
				l.place = next
			}
			l.check(fmt.Sprintf("round %d, step %d (%d)", round, i, what))
		}
		if err := l.x.Retire(true); err != nil {
			t.Fatal(err)
		}
	}
}

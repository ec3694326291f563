package main

import (
	"fmt"
	"time"
)

// throughput compares what the servers reach without a sync before the reply, as the original always answers; and notes
// what ours reaches with its default, which syncs, beside the original with its own --sync.
func throughput() group {
	return group{
		rows: []*row{
			{name: "set-p16", title: "SET 4 KiB, 50 clients, -P 16, ours TCP, theirs unix socket", unit: "/s", target: "≥ 1 × its unix-socket figure", reached: atLeast(1), ratio: toTheirs},
			{name: "get-p16", title: "GET 4 KiB, 50 clients, -P 16, ours TCP, theirs unix socket", unit: "/s", target: "≥ 1 × its unix-socket figure", reached: atLeast(1), ratio: toTheirs},
			{name: "set-p1", title: "SET 4 KiB, 50 clients, -P 1, TCP", unit: "/s", target: "≥ 1 × (≥ 0.9 × with a profile)", reached: atLeast(0.9), ratio: toTheirs},
			{name: "get-p1", title: "GET 4 KiB, 50 clients, -P 1, TCP", unit: "/s", target: "≥ 1 × (≥ 0.9 × with a profile)", reached: atLeast(0.9), ratio: toTheirs},
			{name: "set-one", title: "SET 4 KiB, one client, -P 16, ours TCP, theirs unix socket", unit: "/s", target: "≥ 0.8 × its unix-socket figure", reached: atLeast(0.8), ratio: toTheirs},
		},
		run: runThroughput,
	}
}

// distinct is a key space in which random keys hardly ever meet.
const distinct = 1_000_000_000

func (b *bench) loadings() map[string]loading {
	s := b.scale
	return map[string]loading{
		"set-p16": {op: "SET", n: s.sets, clients: 50, depth: 16, keys: distinct},
		"get-p16": {op: "GET", n: s.gets, clients: 50, depth: 16, keys: s.working},
		"set-p1":  {op: "SET", n: s.sets, clients: 50, depth: 1, keys: distinct},
		"get-p1":  {op: "GET", n: s.gets, clients: 50, depth: 1, keys: s.working},
		"set-one": {op: "SET", n: s.one, clients: 1, depth: 16, keys: distinct},
	}
}

var throughputRows = []string{"set-p16", "get-p16", "set-p1", "get-p1", "set-one"}

// compared says over what theirs is measured for the ratio: the rows with -P 16 name its unix socket, for on TCP it stalls.
func comparedOnUnix(name string) bool { return name != "set-p1" && name != "get-p1" }

func runThroughput(b *bench, rows map[string]*row) error {
	others := map[string]*row{} // figures beside the rows
	for range b.rounds(420 * time.Second) {
		if err := b.throughputRound(rows, others); err != nil {
			return err
		}
	}
	for _, name := range throughputRows {
		r := rows[name]
		if r == nil {
			continue
		}
		for _, other := range []string{"ours, unix socket", "theirs, TCP", "theirs, unix socket", "ours, default (synced before the reply), TCP", "theirs, --sync, TCP"} {
			if o := others[name+other]; o != nil {
				r.note("%s: %s", other, o.figure(o.ours))
			}
		}
	}
	return nil
}

// throughputRound runs all loadings once against fresh servers: ours and theirs in turns.
func (b *bench) throughputRound(rows, others map[string]*row) error {
	ours, err := b.startOurs("ours", "--sync=none")
	defer func() { ours.remove() }()
	if err != nil {
		return err
	}
	synced, err := b.startOurs("ours-sync")
	defer func() { synced.remove() }()
	if err != nil {
		return err
	}
	var theirs, theirsSync *server
	if b.theirs != "" {
		theirs, err = b.startTheirs("theirs")
		defer func() { theirs.remove() }()
		if err != nil {
			return err
		}
		theirsSync, err = b.startTheirs("theirs-sync", "--sync")
		defer func() { theirsSync.remove() }()
		if err != nil {
			return err
		}
	}
	if rows["get-p16"] != nil || rows["get-p1"] != nil {
		for _, s := range []*server{ours, synced, theirs, theirsSync} {
			f := filling{n: b.scale.working, clients: 4, pipeline: 16, key: benchKey, value: valueOf(valueSize)}
			if s == nil || s == theirsSync { // it reads as the other one
				continue
			}
			if err := f.into(b.ctx, s); err != nil {
				return err
			}
		}
	}
	for _, name := range throughputRows {
		if rows[name] == nil {
			continue
		}
		if err := b.throughputTurn(name, rows[name], others, ours, synced, theirs, theirsSync); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func (b *bench) throughputTurn(name string, r *row, others map[string]*row, ours, synced, theirs, theirsSync *server) error {
	l := b.loadings()[name]
	onUnix := l
	onUnix.unix = true
	slow := l
	slow.n = min(l.n, b.scale.slowSets)
	stalls := l // the original on TCP with a pipeline: Nagle against delayed acknowledgements
	if comparedOnUnix(name) {
		if stalls.n = min(l.n, b.scale.slowSets); name == "set-one" {
			stalls.n = min(l.n, 500)
		}
	}
	other := func(what string, s *server, l loading) error {
		if s == nil {
			return nil
		}
		v, err := b.rate(s, l)
		o := others[name+what]
		if o == nil {
			o = &row{unit: "/s"}
			others[name+what] = o
		}
		o.addOurs(v)
		return err
	}
	v, err := b.rate(ours, l)
	if err != nil {
		return err
	}
	r.addOurs(v)
	if theirs != nil {
		compared, beside, what := stalls, onUnix, "theirs, unix socket"
		if comparedOnUnix(name) {
			compared, beside, what = onUnix, stalls, "theirs, TCP"
		}
		if v, err = b.rate(theirs, compared); err != nil {
			return err
		}
		r.addTheirs(v)
		if err := other(what, theirs, beside); err != nil {
			return err
		}
	}
	if err := other("ours, unix socket", ours, onUnix); err != nil || l.op == "GET" {
		return err
	}
	if err := other("ours, default (synced before the reply), TCP", synced, slow); err != nil {
		return err
	}
	slow.n = min(l.n, b.scale.slowSets/10)
	if theirsSync != nil && name == "set-one" {
		slow.n = min(slow.n, 300)
	}
	return other("theirs, --sync, TCP", theirsSync, slow)
}

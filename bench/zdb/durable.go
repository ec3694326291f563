package main

import "time"

// durable compares writes that are on the disk before they are answered. Beside the row stands what comes without a
// pipeline: there 50 writes at most share an fsync, and a disk that syncs in a fraction of a millisecond leaves little to share.
func durable() group {
	return group{
		rows: []*row{{
			name: "set-durable", title: "durable SET 4 KiB (fsync before the reply), 50 clients, -P 16, TCP", unit: "/s",
			target: "≥ 20 ×", reached: atLeast(20), ratio: toTheirs,
		}},
		run: runDurable,
	}
}

func runDurable(b *bench, rows map[string]*row) error {
	r, single := rows["set-durable"], &row{unit: "/s", ratio: toTheirs}
	var syncs []float64
	for range b.rounds(time.Minute) {
		if err := b.durableRound(r, 16); err != nil {
			return err
		}
		if err := b.durableRound(single, 1); err != nil {
			return err
		}
		v, err := b.append(b.scale.fsyncs, valueSize, true)
		if err != nil {
			return err
		}
		syncs = append(syncs, v)
	}
	r.note("with -P 1: ours %s, theirs %s, ratio %s", single.figure(single.ours), single.figure(single.theirs), single.share())
	r.note("a plain file takes %s appends of 4 KiB, each with an fdatasync", number(median(syncs))+"/s")
	return nil
}

func (b *bench) durableRound(r *row, depth int) error {
	ours, err := b.startOurs("ours-sync")
	defer func() { ours.remove() }()
	if err != nil {
		return err
	}
	l := loading{op: "SET", n: b.scale.durable, clients: 50, depth: depth, keys: distinct}
	v, err := b.rate(ours, l)
	if err != nil {
		return err
	}
	r.addOurs(v)
	if b.theirs == "" {
		return nil
	}
	theirs, err := b.startTheirs("theirs-sync", "--sync")
	defer func() { theirs.remove() }()
	if err != nil {
		return err
	}
	l.n /= 15 // it makes one fsync or two for each
	if v, err = b.rate(theirs, l); err == nil {
		r.addTheirs(v)
	}
	return err
}

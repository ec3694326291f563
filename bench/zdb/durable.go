package main

import "time"

// durable compares writes that are on the disk before they are answered.
func durable() group {
	return group{
		rows: []*row{{
			name: "set-durable", title: "durable SET 4 KiB (fsync before the reply), 50 clients, -P 1, TCP", unit: "/s",
			target: "≥ 20 ×", held: atLeast(20), ratio: toTheirs,
		}},
		run: runDurable,
	}
}

func runDurable(b *bench, rows map[string]*row) error {
	r := rows["set-durable"]
	for range b.rounds(time.Minute) {
		if err := b.durableRound(r); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) durableRound(r *row) error {
	ours, err := b.startOurs("ours-sync")
	defer func() { ours.remove() }()
	if err != nil {
		return err
	}
	l := loading{op: "SET", n: b.scale.durable, clients: 50, depth: 1, keys: distinct}
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

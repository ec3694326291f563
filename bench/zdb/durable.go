package main

import (
	"errors"
	"time"
)

// heldWrites is the number of writes a second at which the original makes the 1.0 k durable SETs of the target's table; it
// takes eight for each. What an fsync costs is what group commit saves, so the row is measured on such a disk; what this
// machine's own disk gives stands beside it.
const heldWrites = 8000

// durable compares writes that are on the disk before they are answered.
func durable() group {
	return group{
		rows: []*row{{
			name: "set-durable", title: "durable SET 4 KiB (fsync before the reply), 50 clients, -P 1, TCP, the disk held to 8000 writes/s", unit: "/s",
			target: "≥ 20 ×", reached: atLeast(20), ratio: toTheirs,
		}},
		run: runDurable,
	}
}

func runDurable(b *bench, rows map[string]*row) (err error) {
	r := rows["set-durable"]
	disk, err := newSlowDisk(b.dir, heldWrites)
	if err != nil {
		r.note("the disk is as it is, for it cannot be held back: %v", err)
	} else {
		defer func() { err = errors.Join(err, disk.remove()) }()
	}
	beside := []struct {
		name  string
		disk  *slowDisk
		depth int
		row   *row
	}{
		{"the disk held, -P 16", disk, 16, &row{unit: "/s", ratio: toTheirs}},
		{"the disk as it is, -P 1", nil, 1, &row{unit: "/s", ratio: toTheirs}},
		{"the disk as it is, -P 16", nil, 16, &row{unit: "/s", ratio: toTheirs}},
	}
	var syncs []float64
	for range b.rounds(2 * time.Minute) {
		if err := b.durableRound(r, disk, 1); err != nil {
			return err
		}
		for _, o := range beside {
			if err := b.durableRound(o.row, o.disk, o.depth); err != nil {
				return err
			}
		}
		v, err := b.append(b.scale.fsyncs, valueSize, true)
		if err != nil {
			return err
		}
		syncs = append(syncs, v)
	}
	for _, o := range beside {
		r.note("%s: ours %s, theirs %s, ratio %s", o.name, o.row.figure(o.row.ours), o.row.figure(o.row.theirs), o.row.share())
	}
	r.note("the disk as it is takes %s appends of 4 KiB to a plain file, each with an fdatasync", number(median(syncs))+"/s")
	return nil
}

// durableRound measures both once, their disk held back by d unless that is nil.
func (b *bench) durableRound(r *row, d *slowDisk, depth int) error {
	measure := func(s *server, err error, n int) (float64, error) {
		defer s.remove()
		if err == nil && d != nil {
			err = d.hold(s.cmd.Process.Pid)
		}
		if err != nil {
			return 0, err
		}
		return b.rate(s, loading{op: "SET", n: n, clients: 50, depth: depth, keys: distinct})
	}
	ours, err := b.startOurs("ours-sync")
	v, err := measure(ours, err, b.scale.durable)
	if err != nil {
		return err
	}
	r.addOurs(v)
	if b.theirs == "" {
		return nil
	}
	n := b.scale.durable / 15 // it makes one fsync or two for each
	theirs, err := b.startTheirs("theirs-sync", "--sync")
	if v, err = measure(theirs, err, n); err == nil {
		r.addTheirs(v)
	}
	return err
}

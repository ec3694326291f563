package placement

import "slices"

// Losses is how much more can be lost of an object that has live shards.
type Losses struct {
	Shards int // any so many nodes more; negative: it cannot be read now
	Groups int // any so many whole groups more
}

// Survivable computes the losses that leave k shards, from the number of live
// shards in each group.
func Survivable(k int, live []int) Losses {
	total := 0
	for _, c := range live {
		total += c
	}
	l := Losses{Shards: total - k}
	for l.Groups < len(live) && total-sumLargest(live, l.Groups+1) >= k {
		l.Groups++
	}
	return l
}

// Power is the smallest number of nodes, and of groups, that together can do
// something to an object.
type Power struct{ Nodes, Groups int }

// CanRead is who could read an object if they also had the keys.
func CanRead(k int, counts []int) Power { return power(k, counts) }

// CanDestroy is who could destroy an object.
func CanDestroy(k int, counts []int) Power {
	n := 0
	for _, c := range counts {
		n += c
	}
	return power(n-k+1, counts)
}

func power(shards int, counts []int) Power {
	p := Power{Nodes: shards}
	sorted := slices.Sorted(slices.Values(counts))
	for i := len(sorted) - 1; i >= 0 && shards > 0; i-- {
		shards -= sorted[i]
		p.Groups++
	}
	return p
}

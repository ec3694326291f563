package placement

import (
	"cmp"
	"slices"
)

// Counts finds how many shards each group gets: capacities[g] is the number of
// nodes of group g that can take one. It returns the counts, the shards that
// remain after the worst loss the policy names, and whether these are ≥ k. When
// they are not, the counts are still the best there are.
//
// The worst loss takes the groups that hold most, then RedundantNodes shards of
// each other group, so what remains is Σ max(c−rn, 0) over all groups but the rg
// largest. For a given number s of groups used, the s largest capacities filled
// evenly (to one level, capped) give the vector that every other one majorizes,
// hence the smallest sum of the rg largest; so trying each s suffices. More
// groups win a tie: they spread wider for the same promise.
func Counts(p Policy, capacities []int) (counts []int, remaining int, ok bool) {
	order := make([]int, 0, len(capacities))
	for g, c := range capacities {
		if c > 0 {
			order = append(order, g)
		}
	}
	// Stable: among equals the caller's order is its preference.
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(capacities[b], capacities[a]) })
	remaining = -1
	for s := 1; s <= len(order); s++ {
		used := order[:s]
		c, fits := fillEvenly(p.N, used, capacities)
		if !fits {
			continue
		}
		if r := Remaining(p, c); r >= remaining {
			counts, remaining = c, r
		}
	}
	return counts, max(remaining, 0), counts != nil && remaining >= p.K
}

// fillEvenly deals n shards to the groups used, level by level.
func fillEvenly(n int, used, capacities []int) ([]int, bool) {
	counts := make([]int, len(capacities))
	for left := n; left > 0; {
		dealt := false
		for _, g := range used {
			if left > 0 && counts[g] < capacities[g] {
				counts[g]++
				left--
				dealt = true
			}
		}
		if !dealt {
			return nil, false
		}
	}
	return counts, true
}

// Remaining is the number of shards left after the worst loss that the policy
// names, for given counts per group.
func Remaining(p Policy, counts []int) int {
	left := make([]int, len(counts))
	for g, c := range counts {
		left[g] = max(c-p.RedundantNodes, 0)
	}
	slices.Sort(left)
	sum := 0
	for _, c := range left[:max(len(left)-p.RedundantGroups, 0)] {
		sum += c
	}
	return sum
}

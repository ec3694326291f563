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
// largest. Say t groups hold more than rn shards. Then it is best to give these t
// all they can take, since what lies elsewhere counts for nothing; to take the t
// largest groups; and to fill them evenly (to one level, capped), because every
// other filling majorizes that one and so has a larger sum of the rg largest.
// Hence one candidate for each t is enough. More groups win a tie: they spread
// wider for the same promise.
func Counts(p Policy, capacities []int) (counts []int, remaining int, ok bool) {
	remaining = -1
	for _, c := range spreads(p.N, capacities) {
		if r := Remaining(p, c); r >= remaining {
			counts, remaining = c, r
		}
	}
	return counts, max(remaining, 0), counts != nil && remaining >= p.K
}

// spreads gives the candidates: for each t, the t largest groups filled evenly,
// and what does not fit into them dealt to the others.
func spreads(n int, capacities []int) (out [][]int) {
	order := make([]int, 0, len(capacities))
	total := 0
	for g, c := range capacities {
		if c > 0 {
			order = append(order, g)
			total += c
		}
	}
	if n > total {
		return nil
	}
	// Stable: among equals the caller's order is its preference.
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(capacities[b], capacities[a]) })
	for t := 1; t <= len(order); t++ {
		counts := make([]int, len(capacities))
		left := fillEvenly(counts, n, order[:t], capacities)
		fillEvenly(counts, left, order[t:], capacities)
		out = append(out, counts)
	}
	return out
}

// fillEvenly deals up to n shards to some groups, level by level, and returns
// how many did not fit.
func fillEvenly(counts []int, n int, groups, capacities []int) (left int) {
	for left, dealt := n, true; ; {
		if left == 0 || !dealt {
			return left
		}
		dealt = false
		for _, g := range groups {
			if left > 0 && counts[g] < capacities[g] {
				counts[g]++
				left--
				dealt = true
			}
		}
	}
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

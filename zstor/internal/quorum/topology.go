package quorum

import (
	"fmt"
	"slices"
)

// MaxNodes is the largest number of metadata nodes.
const MaxNodes = 7

// Defaults gives the quorums for m nodes: W is a majority, R the least that overlaps with it.
func Defaults(m int) (w, r int) {
	w = m/2 + 1
	return w, m - w + 1
}

// CheckTopology says whether quorums W and R on nodes of the given groups overlap, and hold when any redundantGroups
// groups are lost.
func CheckTopology(groups []string, w, r, redundantGroups int) error {
	m := len(groups)
	if err := checkSizes(m, w, r); err != nil {
		return err
	}
	if err := checkOverlap(m, w, r); err != nil {
		return err
	}
	return checkGroups(groups, w, r, redundantGroups)
}

func checkSizes(m, w, r int) error {
	switch {
	case m < 1 || m > MaxNodes:
		return fmt.Errorf("%d metadata nodes: 1 to %d are possible", m, MaxNodes)
	case w < 1 || w > m || r < 1 || r > m:
		return fmt.Errorf("write quorum %d and read quorum %d are not possible with %d metadata nodes", w, r, m)
	}
	return nil
}

func checkOverlap(m, w, r int) error {
	if w+r <= m {
		return fmt.Errorf("write quorum %d and read quorum %d do not overlap on %d metadata nodes", w, r, m)
	}
	return nil
}

func checkGroups(groups []string, w, r, redundantGroups int) error {
	sizes := make(map[string]int)
	for _, g := range groups {
		sizes[g]++
	}
	var largest []int
	for _, n := range sizes {
		largest = append(largest, n)
	}
	slices.Sort(largest)
	slices.Reverse(largest)
	if redundantGroups < 0 || redundantGroups > len(largest) {
		return fmt.Errorf("redundant_groups = %d with %d groups of metadata nodes", redundantGroups, len(largest))
	}
	left := len(groups)
	for _, n := range largest[:redundantGroups] {
		left -= n
	}
	if left < max(w, r) {
		return fmt.Errorf("%d metadata nodes in %d groups: when the %d largest are lost, %d nodes are left, but a takeover needs %d: spread them more evenly, or add nodes",
			len(groups), len(largest), redundantGroups, left, max(w, r))
	}
	return nil
}

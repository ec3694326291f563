package placement

// MaxMeta is the largest number of metadata nodes.
const MaxMeta = 7

// Quorum is how many metadata nodes must take part in a write and in a read.
type Quorum struct{ Write, Read int }

// DefaultQuorum gives the smallest majority for writes, and for reads the
// smallest number that always meets it. Six nodes: write 4, read 3.
func DefaultQuorum(nodes int) Quorum {
	w := nodes/2 + 1
	return Quorum{Write: w, Read: nodes + 1 - w}
}

// CheckQuorum refuses quorums that could miss each other, or that the loss of
// the groups that the policy tolerates would stop. groups counts the metadata
// nodes per group.
func CheckQuorum(q Quorum, groups []int, redundantGroups int) error {
	var r Refusals
	m := 0
	for _, g := range groups {
		m += g
	}
	switch {
	case m == 0:
		r.add("meta.config.backends", "there is no metadata node: name one namespace on each data node, up to %d", MaxMeta)
		return r
	case m > MaxMeta:
		r.add("meta.config.backends", "%d metadata nodes are more than %d: each record goes to all of them", m, MaxMeta)
	}
	if q.Write < 1 || q.Write > m {
		r.add("meta.config.write_quorum", "%d is not between 1 and the %d metadata nodes", q.Write, m)
	}
	if q.Read < 1 || q.Read > m {
		r.add("meta.config.read_quorum", "%d is not between 1 and the %d metadata nodes", q.Read, m)
	}
	if len(r) > 0 {
		return r
	}
	if q.Write+q.Read <= m {
		r.add("meta.config.write_quorum", "write %d + read %d must be more than the %d metadata nodes, or a reader could miss the newest record", q.Write, q.Read, m)
	}
	if redundantGroups > 0 {
		lost := sumLargest(groups, redundantGroups)
		if need := max(q.Write, q.Read); m-lost < need {
			r.add("meta.config.backends", "the loss of %s (redundant_groups) can take %d of %d metadata nodes; %d would be left and %d are needed (write %d, read %d): spread them over more groups",
				plural(redundantGroups, "group"), lost, m, m-lost, need, q.Write, q.Read)
		}
	}
	return r.asError()
}

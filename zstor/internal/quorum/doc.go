// Package quorum keeps records replicated on metadata nodes and makes sure that one writer at a time acknowledges.
//
// A [Set] is m nodes with a write quorum W and a read quorum R, W + R > m. A record is acknowledged once W nodes have
// it, and found again because any R answers hold at least one of them. Three things make that true although nodes are
// wiped, messages come late, twice or never, and writers die and are replaced:
//
//   - A node counts only while it shows the epoch key and a complete mark that names the present incarnation of its
//     namespace. A wiped node has lost the mark, and only the owner's rebuild writes it again, last.
//   - The epoch key of a node only rises (compare-and-set). Whoever wants to write claims: it raises the key on all
//     nodes to an epoch above all it saw, and owns that epoch once it reads its own random id from max(W, R) nodes.
//   - Each acknowledgement sends its record and then, on the same connection, asks the node for its epoch key: only
//     nodes that still show the writer's own id count. Each read asks for the epoch key first.
//
// The rules are those of protocols 8, 10 and 11; every one that can be left out stands in the table of rules.go, and
// the simulation in this package's tests runs this very code over simulated nodes and finds a loss when any one of
// them is left out.
//
// [Set.Recover], [Set.TakeOver] and [Set.Resume] are the three ways to become the owner of existing data,
// [Set.Format] the way to start. What an owner must not forget stands in its [Note].
package quorum

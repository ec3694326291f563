// Package record holds the small sealed facts that zstor keeps replicated on its metadata nodes.
//
// A record says where something is (a manifest), what the filesystem consists of (a cut), what is about to be sent
// (an intent) or that something is gone (a tombstone). It lies on a node under a name that tells the node nothing:
//
//	'r' ‖ tag(kind) [4] ‖ PRF(kind ‖ object) [20] ‖ version [24]
//
// and is encrypted and authenticated under a key derived from that full name. So a record that was swapped with
// another, renamed, truncated or flipped does not open: it is known by itself, and counts as one bad answer of that
// node. Names are never used twice and a record is never overwritten; of one object the highest version counts.
// Versions are (epoch, counter, 64 random bits) and compare as a whole.
//
// The package does no I/O. It also holds the pure logic of cuts: a [Ledger] keeps the exact set of live segments as a
// dispersed base and the changes since, and a [Tail] chains the pieces of a segment that is still growing.
//
// The layouts are described to the byte in zstor/FORMAT.md, section "Records, cuts".
package record

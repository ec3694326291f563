// Package zstor disperses a filesystem over nodes that need not be trusted, and brings it back.
//
// A Store is the daemon without its socket. It watches a state directory, in which the filesystem
// daemon appends segments, and keeps the nodes up to date in rounds:
//
//	heads announced ─> sealed segments uploaded ─> tails shipped ─> cut published ─> receipts, deletions
//
// A round has a fixed target: the durable heads that were announced when it began. Everything up to
// them goes out, data before metadata, and then the cut, the record that names exactly what the
// filesystem consists of; nothing that failed half-way is ever named by a cut. Each segment has one
// generation that grows while the segment does: whole stripes once, the rest as small delta pieces
// until the next stripe is whole or the segment is sealed.
//
// What may be anywhere on the nodes is on record before it is sent (intents), and what a cut does
// not name any more is deleted after that cut was acknowledged.
//
// Package quorum decides who may write; this package stops at the first sign of another owner.
package zstor

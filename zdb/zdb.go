// Package zdb is a storage engine whose log is the truth: checksummed batches in
// append-only segments, with an index that can be dropped and rebuilt at any time.
//
// A DB holds namespaces. A Namespace is an ordered set of keys with a log of its own:
//
//	d0 d1 d2 …   data segments, only the highest is appended to
//	i0 i1 …      what a sealed d<N> contains, with checksums; d<N> is sealed if and only if i<N> exists
//	badger/      the index: key → place in the log, and small values
//
// Commit appends a batch to the log and puts it into the overlay, a sorted table
// in memory; it is then visible. Sync makes it durable, for all who wait at that moment with one fsync. An
// applier takes what is durable from the overlay to the index, so that the index
// never knows more than the log. A read looks at overlay, index and log, in this order.
//
// # Durability
//
// When Commit returns nil, the batch survives the death of the process; when Sync
// returns nil, all that was committed before survives a loss of power. What was not synced may be
// lost, but only from the end, and only whole batches. A failed fsync poisons the
// namespace: what the kernel then does with the pages is unknown, so nothing is written any more until it is opened again.
//
// Opening finds the end of the log. Every batch records how far the log was durable
// when it was written; a batch that does not check is a torn tail above that bound and damage below it. Damage is
// named with file and offset, restored through Options.Fetch if that has a copy, and never cut away.
//
// # Segments elsewhere
//
// A sealed d<N> may be evicted. Reads of its values then go to Options.Fetch, just for
// the bytes that are asked for; an index can be rebuilt from i<N> alone. A value that cannot be brought is a MissingError and never ErrNotFound.
//
// # Two namespaces that belong together
//
// A namespace may refer to another one: its batches say which sequence there they
// need. NamespaceOptions.SyncNeeds keeps a batch from becoming durable before what it needs, NeedsHead
// ends the log at opening before the first batch whose needs are not met.
//
// FORMAT.md has the bytes, DESIGN.md the decisions.
package zdb

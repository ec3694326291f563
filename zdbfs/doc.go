// Package zdbfs is the core of the filesystem: operations on inode numbers, kept in two zdb namespaces.
//
// zdbfs-meta holds ordered keys, one per fact (an inode, a directory entry, an extent, ...), zdbfs-data holds file
// content in blobs. Every operation is one atomic batch in zdbfs-meta that names the sequence of zdbfs-data it needs,
// so after a crash the tree is the one after some whole operation, and no check of the disk is needed.
//
// The package knows nothing of FUSE: a transport translates requests to calls of FS and errors, which are always of
// type Errno, back. Written data is buffered for a short time (Options.FlushInterval); Fsync, Fsyncdir, Sync and Close
// return once what they cover is on stable storage. FORMAT.md describes every key and value, DESIGN.md the decisions.
package zdbfs

// Package bazil carries a zdbfs filesystem to the kernel over bazil.org/fuse.
//
// Only the protocol level of that library is used: it mounts, negotiates and parses requests. Its
// tree of nodes is not, because a node here is nothing but an inode number: the kernel may hold a
// million of them without costing this process anything but a count.
//
// # What the library cannot carry, and what is done about it
//
// Replies with attributes and replies with data are encoded here (reply.go) and written to a
// duplicate of the connection's descriptor. The library's own encoder drops the sticky bit, turns
// times before 1970 that have a fraction, and times after 2262, into nonsense, and copies every
// byte that is read. It also keeps the 132 KiB buffer of a request until the answer is out; a read
// that waits for the network gives it back at once.
//
// There is no body for RENAME2, LSEEK, COPY_FILE_RANGE, READDIRPLUS, IOCTL, TMPFILE, STATX in the
// library: the kernel gets ENOSYS, remembers it, and falls back to what it can do alone. A request
// carries at most 128 KiB. ASYNC_DIO cannot be left off: an O_DIRECT read that waits for a node cannot
// be killed before fetch_timeout. O_TRUNC arrives as a truncate of its own. Access control lists cannot be
// negotiated, so system.posix_acl_* is refused with EOPNOTSUPP: stored but not enforced would be
// worse.
//
// # Concurrency
//
// A few goroutines read requests. Who got one first makes sure that somebody else reads on, then
// answers it itself: what is in memory costs no hand-over, and what has to wait for the disk, for a
// lock or for a node holds up nobody. The number of requests in work is bounded, and so are the
// bytes that reads hold.
//
// An INTERRUPT cancels a read, and only while it waits for the network; everything else runs to its
// end. Nothing in this package notifies the kernel from inside a handler. A panic is not caught: a
// process that has broken one of its own invariants must not go on with other people's data.
package bazil

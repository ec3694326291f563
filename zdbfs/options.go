package zdbfs

import (
	"context"
	"log/slog"
	"time"

	"qsfs/zdb"
)

// Options are what Open needs. Zero values stand for the defaults named here.
type Options struct {
	// Meta and Data are zdbfs-meta and zdbfs-data, opened so that the first ends before a batch whose needs the second
	// does not meet. Required; whoever opened them closes them, after the FS.
	Meta, Data *zdb.Namespace

	// Session identifies this opening of the namespaces. Default: that of Meta's head.
	Session uint64

	// FlushInterval bounds how long written data may be in memory only: everything is stable that long after its
	// Write returned. Default 1 s.
	FlushInterval time.Duration

	// Capacity reports the room left. It is called often and must answer from memory. Nil: unlimited.
	Capacity func() Capacity

	// Slack is the room kept for data that the kernel's writeback cache has already accepted: below it new space is
	// refused with ENOSPC, and only cached writes and deletes go on. Default 128 MiB, if Capacity is set.
	Slack uint64

	// Admit is called before a Write of n bytes takes any lock. It may delay the writer (100 ms at most) or refuse
	// it. Nil admits all.
	Admit func(ctx context.Context, ino Ino, n int, fl WriteFlags) error

	// WriteBuffer bounds the bytes written but not yet in a log, over all files. Default 64 MiB.
	WriteBuffer int64

	// Inodes bounds the clean inodes held in memory. Default 65536, some 25 MiB.
	Inodes int

	// Standalone says that there is no remote copy: blobs of deleted content are given back as soon as their
	// deletion is durable. Otherwise they wait for Covered.
	Standalone bool

	// Log gets what operators need to know; nil discards.
	Log *slog.Logger

	hash func(name string) uint64 // tests: instead of the keyed one
}

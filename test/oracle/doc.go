// Package oracle writes a tree, remembers what was promised, and tells whether a tree keeps the promise.
//
// A Writer performs seeded random operations on a mounted directory, one after the other, and applies each to a model. A write
// ends in fsync, directories are fsynced now and then; each success is an acknowledgement of everything before it, logged and
// synced outside of the filesystem. After a crash, Check demands that the tree equals the model's state after operation i, for
// an i between the last acknowledged operation and the last one begun. A write that was under way there may be half done:
// then each of its pages may be old or new.
package oracle

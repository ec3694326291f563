// Package engine holds the crash loops of the storage engine: a process that writes is killed, or its disk loses power, again and
// again, and each time the next process must find what was acknowledged, all of it and nothing else.
//
// A life is one run of that process (this test's binary again). It opens the namespace, writes down everything it finds, and then
// lets some writers commit batches that overwrite and delete, some of them synced, while it compacts. What it starts and what is
// acknowledged goes to a file outside of the disk. What a batch holds is a function of its life, writer and number, so that the
// test can tell from these files alone what must be there afterwards.
package engine

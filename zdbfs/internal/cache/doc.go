// Package cache keeps fetched stripes on the local disk and fetches those that are missing.
//
// A stripe is the unit that the nodes give back: a piece of a sealed data segment that is not on
// this machine any more. Stripes never change, so an entry is right or it is damaged; each 16 KiB of
// it carries a checksum, which every read verifies, and what does not verify is dropped and fetched
// again. The whole cache can be lost at any time: nothing in it is synced.
//
// Cache is the store, with a budget and the least recently used entry to go first. Fetcher answers
// reads of the engine: from the cache, or by one fetch per stripe however many readers wait for it.
package cache

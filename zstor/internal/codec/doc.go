// Package codec turns stripes of plaintext into shards for nodes that nobody
// trusts, and back.
//
// A stripe is compressed, put into a body whose zero padding lies inside the
// encryption, sealed with AES-256-GCM under a key K that is drawn for this one
// stripe of this one attempt, cut into k slices and extended to n payloads by
// a Reed-Solomon code. K itself is stored nowhere: each shard's header holds K
// masked by a key that depends on a hash h over all k data slices, so whoever
// has fewer than k payloads has neither K nor plaintext, even with every key of
// the filesystem in hand (an all-or-nothing transform before dispersal: Rivest
// 1997; Resch and Plank, AONT-RS, FAST 2011). And whoever has all payloads still
// needs the data key.
//
// K, h and the payload digests d_i are secrets of one rank: k−1 payloads and one
// missing d_j open a stripe. They have the type keys.Secret here, do not leave
// the package, and are in no error.
//
// An Encoder makes one generation of one object; it draws the generation itself
// and refuses to encode a stripe twice, since two attempts under one name could
// mix. A Decoder reads and rebuilds any generation, without the data key as far
// as rebuilding goes. Shards prove themselves: name, MAC and header bind object,
// generation, index and stripe. zstor/FORMAT.md has every byte.
package codec

// Package codec turns stripes of plaintext into shards for nodes that nobody
// trusts, and back.
//
// A stripe is compressed, put into a body whose zero padding lies inside the
// encryption, sealed with AES-256-GCM under a key K that is drawn for this one
// stripe of this one attempt, cut into k slices and extended to n payloads by
// a Reed-Solomon code. K itself is stored nowhere: each shard's header holds K
// masked by a key that depends on a hash h over all k data slices (an
// all-or-nothing transform before dispersal: Rivest 1997; Resch and Plank,
// AONT-RS, FAST 2011). zstor/FORMAT.md has every byte.
//
// # Who can read
//
// Two locks stand one behind the other. Whoever has all n payloads still needs
// the data key, which masks K. Whoever has every key and every record, but fewer
// than k payloads, faces one linear equation too few in each column: the code
// makes any k payloads independent, so k−1 of them leave at least one slice with
// every value possible in every byte. That slice is real ciphertext (the padding
// is encrypted with the content, so no slice is known beforehand), without it
// there is no h, without h no K, and without K what is at hand is AES output
// under an unknown 256-bit key. attack_test.go tries all this by computation,
// and succeeds on codecs that break one of the rules:
//
//   - no zeros outside the encryption: a slice of known padding would complete
//     the equations;
//   - K fresh for each stripe of each attempt: a K learnt elsewhere would decrypt
//     the slices at hand;
//   - K, h and every payload digest d_i secret: with k−1 payloads and one missing
//     d_j the hash h can be computed. They have the type keys.Secret here, do not
//     leave the package, and are in no error. What nodes and records hold are
//     MACs, which are hashes of the digests once more.
//
// # Whose shard is it
//
// Name, MAC and header bind object, generation, index and stripe. A shard that
// is wrong, stale, swapped, cut or flipped is known by itself, before anything is
// decrypted, and all of these look alike: ErrShard.
//
// An Encoder makes one generation of one object; it draws the generation itself
// and refuses to encode a stripe twice, since two attempts under one name could
// mix. A Decoder reads and rebuilds any generation, without the data key as far
// as rebuilding goes. Should two attempts exist all the same, their shards are
// told apart by their headers and never combined.
//
// # Cost
//
// Each byte is sealed once and hashed once: d_i serves h and the MAC. Memory is
// pooled; PackageMemory says how much one stripe takes, so that a caller can keep
// to a budget. Stripes are independent and meant to be coded side by side.
package codec

package record

import "qsfs/zstor/internal/keys"

// RingKeys gives the record keys of a key ring.
func RingKeys(r *keys.Ring) Keys { return ringKeys{r} }

type ringKeys struct{ r *keys.Ring }

func (k ringKeys) KeyEpochs() []uint32 {
	var out []uint32
	for _, e := range k.r.Epochs() {
		out = append(out, uint32(e))
	}
	return out
}

func (k ringKeys) RecordKey(e uint32) ([32]byte, bool) {
	key, err := k.r.Record(keys.Epoch(e))
	if err != nil {
		return [32]byte{}, false
	}
	return [32]byte(key.Secret), true
}

package record

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"time"
)

// Three small values lie under fixed names: the epoch key and the complete mark on each metadata node, and the head
// of the newest cut on every data node. They are sealed like records, under keys of their own, so that nodes can
// neither read nor invent them.

// Fixed names on a metadata node. They share no prefix with records.
var (
	EpochName = []byte("qsfs/epoch")
	MarkName  = []byte("qsfs/complete")
)

const (
	fixedFormat = 1
	maxHost     = 64
	ownerPlain  = 8 + 16 + 8 + 1 + maxHost
	markPlain   = 16
	headPlain   = 8 + 8 + 32 + 8
	// HeadNameSize is the size of the name of a cut's head on a data node: like a shard's.
	HeadNameSize = 28
)

// An OwnerID is drawn at random by each claim.
type OwnerID [16]byte

func (o OwnerID) String() string { return hex.EncodeToString(o[:]) }

// An Owner is who may write: the content of the epoch key.
type Owner struct {
	Epoch uint64
	ID    OwnerID
	Time  time.Time // of the claim
	Host  string    // name of the claiming machine, to tell people
}

// Same reports whether o and p are one and the same claim.
func (o Owner) Same(p Owner) bool { return o.Epoch == p.Epoch && o.ID == p.ID }

func (o Owner) String() string {
	s := fmt.Sprintf("epoch %d, owner %s", o.Epoch, o.ID.String()[:8])
	if o.Host != "" {
		s += " on " + o.Host
	}
	return s
}

// An Incarnation is drawn by the server when a namespace is made.
type Incarnation [16]byte

// A CutHead is what every data node is told about the newest cut, so that hiding it takes all of them.
type CutHead struct {
	ID   CutID
	Time time.Time
}

// seal and open of fixed values: format ‖ key epoch ‖ nonce ‖ sealed.
func (s *Sealer) sealFixed(label string, plain []byte) ([]byte, error) {
	e := s.KeyEpoch()
	d := s.keys[e]
	a, err := aead(d.fixed, []byte(label))
	if err != nil {
		return nil, fmt.Errorf("seal %s: %w", label, err)
	}
	nonce := mac(d.nonce, label, plain)
	out := binary.BigEndian.AppendUint32([]byte{fixedFormat}, e)
	out = append(out, nonce[:12]...)
	return a.Seal(out, nonce[:12], plain, out[:headerSize]), nil
}

func (s *Sealer) openFixed(label string, sealed []byte, size int) ([]byte, error) {
	if len(sealed) != headerSize+12+size+16 || sealed[0] != fixedFormat {
		return nil, fmt.Errorf("%s: %w: %d bytes", label, ErrDamaged, len(sealed))
	}
	e := binary.BigEndian.Uint32(sealed[1:])
	d, ok := s.keys[e]
	if !ok {
		return nil, fmt.Errorf("%s: %w %d", label, ErrKeyEpoch, e)
	}
	a, err := aead(d.fixed, []byte(label))
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", label, err)
	}
	plain, err := a.Open(nil, sealed[headerSize:headerSize+12], sealed[headerSize+12:], sealed[:headerSize])
	if err != nil {
		return nil, fmt.Errorf("%s: %w: not made with this key", label, ErrDamaged)
	}
	return plain, nil
}

// SealOwner gives the value of the epoch key. Equal owners give equal bytes.
func (s *Sealer) SealOwner(o Owner) ([]byte, error) {
	w := &writer{}
	w.u64(o.Epoch)
	w.bytes(o.ID[:])
	writeTime(w, o.Time)
	host := o.Host[:min(len(o.Host), maxHost)]
	w.u8(uint8(len(host)))
	w.bytes([]byte(host))
	w.bytes(make([]byte, maxHost-len(host)))
	return s.sealFixed("qsfs epoch key", w.b)
}

// OpenOwner checks and opens the value of an epoch key.
func (s *Sealer) OpenOwner(sealed []byte) (Owner, error) {
	plain, err := s.openFixed("qsfs epoch key", sealed, ownerPlain)
	if err != nil {
		return Owner{}, err
	}
	return parseOwner(plain)
}

func parseOwner(plain []byte) (Owner, error) {
	r := &reader{b: plain}
	o := Owner{Epoch: r.u64(), ID: r.id16(), Time: readTime(r)}
	n := int(r.u8())
	host := r.b
	if r.err != nil || n > maxHost || len(host) != maxHost {
		return Owner{}, fmt.Errorf("epoch key: %w: bad fields", ErrDamaged)
	}
	o.Host = string(host[:n])
	return o, nil
}

// SealMark gives the value of the complete mark for an incarnation of a metadata namespace.
func (s *Sealer) SealMark(i Incarnation) ([]byte, error) {
	return s.sealFixed("qsfs complete mark", i[:])
}

// OpenMark tells which incarnation a complete mark names.
func (s *Sealer) OpenMark(sealed []byte) (Incarnation, error) {
	plain, err := s.openFixed("qsfs complete mark", sealed, markPlain)
	if err != nil {
		return Incarnation{}, err
	}
	return Incarnation(plain), nil
}

// HeadName is the name of the cut's head on data nodes, under the key epoch.
func (s *Sealer) HeadName(keyEpoch uint32) []byte {
	n := mac(s.keys[keyEpoch].name, "cut head")
	return append(n[:24:24], 0xff, 0xff, 0xff, 0xff) // no stripe has this number
}

// SealHead gives the value that lies under HeadName of the key epoch in use on every data node.
func (s *Sealer) SealHead(h CutHead) ([]byte, error) {
	w := &writer{}
	w.u64(h.ID.Epoch)
	w.u64(h.ID.Number)
	w.bytes(h.ID.MAC[:])
	writeTime(w, h.Time)
	return s.sealFixed("qsfs cut head", w.b)
}

// OpenHead checks and opens a cut's head.
func (s *Sealer) OpenHead(sealed []byte) (CutHead, error) {
	plain, err := s.openFixed("qsfs cut head", sealed, headPlain)
	if err != nil {
		return CutHead{}, err
	}
	r := &reader{b: plain}
	h := CutHead{ID: CutID{r.u64(), r.u64(), r.id32()}, Time: readTime(r)}
	return h, r.end()
}

// CheckHeads compares the newest cut that the metadata nodes gave with the heads that the data nodes hold. A newer
// head, or another cut of the same number, is an error: something hides the newest cut, or lost it.
func CheckHeads(newest CutID, heads []CutHead) error {
	for _, h := range heads {
		switch c := h.ID.Compare(newest); {
		case c > 0:
			return fmt.Errorf("data nodes know cut %v of %s, the metadata nodes show only %v", h.ID, h.Time.Format(time.RFC3339), newest)
		case c == 0 && !bytes.Equal(h.ID.MAC[:], newest.MAC[:]):
			return fmt.Errorf("data nodes know another cut %v than the metadata nodes show", h.ID)
		}
	}
	return nil
}

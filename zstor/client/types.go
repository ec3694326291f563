package client

import (
	"encoding/hex"
	"fmt"
	"time"
)

// Names of the two namespaces of a filesystem.
const (
	NamespaceMeta = "zdbfs-meta"
	NamespaceData = "zdbfs-data"
)

// Incarnation is the random identity of a segment file. In JSON it is 32 hex digits.
type Incarnation [16]byte

// String gives 32 hex digits.
func (i Incarnation) String() string { return hex.EncodeToString(i[:]) }

// MarshalText implements encoding.TextMarshaler.
func (i Incarnation) MarshalText() ([]byte, error) { return []byte(i.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (i *Incarnation) UnmarshalText(b []byte) error {
	if len(b) != 2*len(i) {
		return fmt.Errorf("incarnation: %d characters, want %d", len(b), 2*len(i))
	}
	_, err := hex.Decode(i[:], b)
	return err
}

// Head is a position in the log of one namespace: everything in lower segments and the bytes
// [0, Offset) of Segment. A head that is announced must be durable on local storage and lie at a
// batch boundary.
type Head struct {
	Seq         uint64      `json:"seq"`
	Needs       uint64      `json:"needs"`
	Segment     uint32      `json:"segment"`
	Offset      int64       `json:"offset"`
	Incarnation Incarnation `json:"incarnation"`
	Session     uint64      `json:"session"`
}

// SessionStart says that the session wrote from FirstSeq on, until the next one began.
type SessionStart struct {
	FirstSeq uint64 `json:"first_seq"`
	Session  uint64 `json:"session"`
}

// AttachRequest introduces an opened state directory to the daemon. Sessions is the session
// history of zdbfs-meta, oldest first, as far back as it is known; it must reach back to the
// newest cut (a recovered or older log gives it from its batch headers).
type AttachRequest struct {
	Session  uint64         `json:"session"`
	Epoch    uint64         `json:"epoch"`
	Sessions []SessionStart `json:"sessions"`
	Meta     Head           `json:"meta"`
	Data     Head           `json:"data"`
}

// Verdict is what the comparison of a local state with the newest cut came to.
type Verdict string

// The verdicts. Only a verified state ships.
const (
	// Verified: this state continues the newest cut and owns the epoch.
	Verified Verdict = "verified"
	// Unverified: too few metadata nodes answered; a mount may serve local data, nothing ships,
	// the daemon goes on trying and Status shows when it is verified.
	Unverified Verdict = "unverified"
	// Stale: the newest cut is not part of this state's history.
	Stale Verdict = "stale"
	// Fenced: another machine has taken over.
	Fenced Verdict = "fenced"
)

// AttachReply is the verdict with its reason in one sentence.
type AttachReply struct {
	Verdict Verdict  `json:"verdict"`
	Reason  string   `json:"reason,omitempty"`
	Owner   Owner    `json:"owner"`
	Cut     *CutNote `json:"cut,omitempty"`
	// SyncInterval is how often the daemon cuts; heads should be announced at least twice as often.
	SyncInterval time.Duration `json:"sync_interval"`
}

// HeadsRequest announces durable heads. The meta head is captured first, the data head after it.
type HeadsRequest struct {
	Session uint64 `json:"session"`
	Meta    Head   `json:"meta"`
	Data    Head   `json:"data"`
	// Urgent: something behind these heads was asked for by an fsync; it does not wait for more.
	Urgent bool `json:"urgent,omitempty"`
	// Wait: answer when a cut that covers these heads is acknowledged, or fail.
	Wait bool `json:"wait,omitempty"`
}

// HeadsReply tells how far the nodes have come.
type HeadsReply struct {
	Verdict Verdict `json:"verdict"`
	// Cut is the number of the newest acknowledged cut.
	Cut uint64 `json:"cut"`
	// Meta and Data are the heads of that cut.
	Meta Head `json:"meta"`
	Data Head `json:"data"`
	// Age is how long the oldest announced and not yet cut byte has been waiting; 0 when there is none.
	Age time.Duration `json:"age"`
	// Covered: the newest cut covers the announced heads.
	Covered bool `json:"covered"`
	// Problem says why shipping does not succeed right now; empty when it does.
	Problem string `json:"problem,omitempty"`
}

// Stripe is the plaintext of one stripe of a data segment.
type Stripe struct {
	Offset        int64 // of Data[0] in d<N>
	SegmentLength int64 // of d<N>
	Data          []byte
}

// EvictRequest asks whether the local d<Segment> may go.
type EvictRequest struct {
	Namespace string `json:"ns"`
	Segment   uint32 `json:"segment"`
	// Emergency: the cache is full and writes would be refused; k+1 confirmed shards are enough then,
	// unless the configuration says evict = "full".
	Emergency bool `json:"emergency,omitempty"`
}

// EvictReply is the daemon's present consent, or the reason why not.
type EvictReply struct {
	OK     bool   `json:"ok"`
	Reason string `json:"reason,omitempty"`
	// Spare is how many more confirmed shards healthy nodes hold than a read needs; 0 also where that was not counted.
	Spare int `json:"spare,omitempty"`
}

// Progress is one line of a long operation. The last one has Done set, with Error when it failed.
type Progress struct {
	Phase      string `json:"phase"`
	Message    string `json:"message,omitempty"`
	Items      int64  `json:"items,omitempty"`
	ItemsTotal int64  `json:"items_total,omitempty"`
	Bytes      int64  `json:"bytes,omitempty"`
	BytesTotal int64  `json:"bytes_total,omitempty"`
	Done       bool   `json:"done,omitempty"`
	Code       string `json:"code,omitempty"`
	Error      string `json:"error,omitempty"`
}

// TakeoverReply: after a takeover the state goes on only when Verdict is Verified.
type TakeoverReply struct {
	Verdict Verdict  `json:"verdict"`
	Reason  string   `json:"reason,omitempty"`
	Owner   Owner    `json:"owner"`
	Cut     *CutNote `json:"cut,omitempty"`
}

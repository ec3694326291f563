package control

import (
	"time"

	"qsfs/zstor/client"
)

// SocketName is the name of the daemon's socket in the directory of zstor's.
const SocketName = "zdbfs.sock"

// Status answers first: is my data safe right now?
type Status struct {
	// Safe: everything that was written and synced is dispersed as the policy promises, or on its way
	// within the time that the configuration allows.
	Safe bool `json:"safe"`
	// Word is one of safe, shipping, degraded, at risk, unknown, stopped.
	Word client.Safety `json:"word"`
	// Answer is the same in one sentence.
	Answer string `json:"answer"`
	// Advice says what to do; empty when there is nothing to do.
	Advice []string  `json:"advice,omitempty"`
	Time   time.Time `json:"time"`

	AtRisk AtRisk `json:"at_risk"`
	Mount  Mount  `json:"mount"`
	Cache  Cache  `json:"cache"`

	// Zstor is the dispersal daemon's own status; nil when it does not answer.
	Zstor *client.Status `json:"zstor,omitempty"`
	// ZstorError says why it is missing.
	ZstorError string `json:"zstor_error,omitempty"`
}

// AtRisk is what would be lost with this machine right now.
type AtRisk struct {
	// Unknown is set in a status without the daemon, when it ended before everything was dispersed: the rest is what zstor knows.
	Unknown bool `json:"unknown,omitempty"`
	// Bytes that this daemon has taken and no cut covers: in the two logs, announced to zstor or not, and in memory.
	Bytes int64 `json:"bytes"`
	// Unsynced is the part of them that is not even on local stable storage.
	Unsynced int64 `json:"unsynced"`
	// Since is when the oldest of them was written; zero when there is nothing.
	Since time.Time     `json:"since,omitzero"`
	Age   time.Duration `json:"age"`
	// ETA is when they will be dispersed, as zstor estimates; 0 when nothing moves.
	ETA time.Duration `json:"eta"`
}

// Mount is the daemon's own state.
type Mount struct {
	// Running is false in a status that was made without the daemon.
	Running bool   `json:"running"`
	Dir     string `json:"dir,omitempty"`
	// Transport is the library that carries it to the kernel.
	Transport string         `json:"transport,omitempty"`
	State     string         `json:"state"`
	PID       int            `json:"pid,omitempty"`
	Started   time.Time      `json:"started,omitzero"`
	Epoch     uint64         `json:"epoch,omitempty"`
	Session   string         `json:"session,omitempty"`
	Verdict   client.Verdict `json:"verdict,omitempty"`
	ReadOnly  bool           `json:"read_only,omitempty"`
	// Reason says why it is read-only or not verified.
	Reason  string       `json:"reason,omitempty"`
	Meta    *client.Head `json:"meta,omitempty"`
	Data    *client.Head `json:"data,omitempty"`
	CutMeta *client.Head `json:"cut_meta,omitempty"`
	CutData *client.Head `json:"cut_data,omitempty"`
	Files   int64        `json:"files,omitempty"` // estimate, from statfs
}

// Cache says where the bytes of the local budget are.
type Cache struct {
	Budget        int64 `json:"budget"`
	Used          int64 `json:"used"`
	SegmentBytes  int64 `json:"segment_bytes"` // local data segments
	StripeBytes   int64 `json:"stripe_bytes"`  // fetched stripes
	Undispersed   int64 `json:"undispersed"`   // local data bytes without a receipt
	Segments      int   `json:"segments"`      // data segments in all
	LocalSealed   int   `json:"local_sealed"`  // sealed ones that are on this machine
	Evicted       int   `json:"evicted"`
	EvictedWeak   int   `json:"evicted_weak,omitempty"` // since the mount: not at full strength, to make room
	Hits          int64 `json:"hits"`
	Misses        int64 `json:"misses"`
	FetchedBytes  int64 `json:"fetched_bytes"`
	DamagedStripe int64 `json:"damaged_stripes,omitempty"`
	// Throttled: writers are being slowed; Full: new space is refused.
	Throttled bool   `json:"throttled,omitempty"`
	Full      bool   `json:"full,omitempty"`
	Problem   string `json:"problem,omitempty"` // why nothing can be evicted, when something should be
}

// EvictRequest asks for eviction now.
type EvictRequest struct {
	// All: every sealed segment that has consent, and every fetched stripe, whatever the budget.
	All bool `json:"all"`
}

// EvictReply says what became of it.
type EvictReply struct {
	Evicted int               `json:"evicted"` // segments
	Bytes   int64             `json:"bytes"`   // of segments and stripes
	Kept    map[string]string `json:"kept,omitempty"`
}

// SyncRequest asks for durability now.
type SyncRequest struct {
	// Remote: wait until a cut covers everything, not only the local disk.
	Remote bool `json:"remote"`
	// Seal: close the active segments first, so that everything becomes evictable.
	Seal bool `json:"seal,omitempty"`
}

// SyncReply names the cut that covers it, if that was asked for.
type SyncReply struct {
	Cut uint64 `json:"cut,omitempty"`
}

// CheckReply is what the check of the tree found.
type CheckReply struct {
	Inodes   int64    `json:"inodes"`
	Dirents  int64    `json:"dirents"`
	Extents  int64    `json:"extents"`
	Blobs    int64    `json:"blobs"`
	Orphans  int64    `json:"orphans"`
	Bytes    uint64   `json:"bytes"`
	Problems []string `json:"problems"`
}

package client

import "time"

// Safety is the first word of a status: is my data safe right now?
type Safety string

// The answers, best first.
const (
	// Safe: everything announced is dispersed at full strength.
	Safe Safety = "safe"
	// Shipping: everything is well, the newest changes are on their way.
	Shipping Safety = "shipping"
	// Degraded: all data survives, but fewer losses than the policy promises, or that is not known yet.
	Degraded Safety = "degraded"
	// AtRisk: data is only on this machine and does not get away.
	AtRisk Safety = "at risk"
	// Offline: nothing is known, because too few nodes answer or nothing is attached.
	Offline Safety = "unknown"
	// Stopped: this machine does not own the filesystem (fenced), or its state is stale.
	Stopped Safety = "stopped"
)

// Status is the daemon's view of everything. Sizes are plaintext bytes.
type Status struct {
	Safety   Safety    `json:"safety"`
	Headline string    `json:"headline"`
	Advice   []string  `json:"advice,omitempty"`
	Time     time.Time `json:"time"`

	Formatted bool    `json:"formatted"`
	Attached  bool    `json:"attached"`
	Verdict   Verdict `json:"verdict,omitempty"`
	Reason    string  `json:"reason,omitempty"`
	Owner     Owner   `json:"owner"`
	// TakenBy is the epoch of the writer that fenced this one; 0 when it is not fenced.
	TakenBy uint64 `json:"taken_by,omitempty"`

	Policy  Policy        `json:"policy"`
	Cut     CutStatus     `json:"cut"`
	Pending PendingStatus `json:"pending"`
	Objects ObjectStatus  `json:"objects"`
	Nodes   []NodeStatus  `json:"nodes"`
	Groups  []GroupStatus `json:"groups"`
	Quorum  QuorumStatus  `json:"quorum"`
	// SurvivableNodes is how many more nodes may be lost without losing dispersed data.
	SurvivableNodes int `json:"survivable_nodes"`
	// SurvivableGroups is how many more whole groups may be lost without losing dispersed data.
	SurvivableGroups int `json:"survivable_groups"`
	// Read says why dispersed data cannot be read now; zero when it can.
	Read ReadStatus `json:"read,omitzero"`

	LastError     string    `json:"last_error,omitempty"`
	LastErrorTime time.Time `json:"last_error_time,omitzero"`
	Memory        Memory    `json:"memory"`
	Reads         ReadStats `json:"reads"`
}

// ReadStatus is filled in when too few nodes answer to read something that is dispersed.
type ReadStatus struct {
	Needed  int      `json:"needed"`  // nodes that reading needs
	Answer  int      `json:"answer"`  // of them
	Missing []string `json:"missing"` // that would help
}

// Policy repeats what the configuration asks for.
type Policy struct {
	MinimalShards   int           `json:"minimal_shards"`
	ExpectedShards  int           `json:"expected_shards"`
	RedundantGroups int           `json:"redundant_groups"`
	RedundantNodes  int           `json:"redundant_nodes"`
	MinSecrecy      int           `json:"min_secrecy"`
	Fallback        string        `json:"fallback,omitempty"` // "3-of-4"
	SyncInterval    time.Duration `json:"sync_interval"`
}

// CutStatus describes the newest acknowledged cut.
type CutStatus struct {
	Epoch  uint64        `json:"epoch"`
	Number uint64        `json:"number"`
	Time   time.Time     `json:"time,omitzero"`
	Age    time.Duration `json:"age"`
	Meta   Head          `json:"meta"`
	Data   Head          `json:"data"`
	// Took is how long the round that ended in this cut ran.
	Took time.Duration `json:"took"`
}

// PendingStatus is what would be lost with the front machine right now.
type PendingStatus struct {
	Bytes int64 `json:"bytes"`
	// Segments are sealed segments without a receipt.
	Segments int `json:"segments"`
	// Since is when the oldest byte that no cut covers was announced.
	Since time.Time     `json:"since,omitzero"`
	Age   time.Duration `json:"age"`
	// ETA is an estimate from the last rate; 0 when nothing moves or nothing is pending.
	ETA     time.Duration `json:"eta"`
	Rate    int64         `json:"rate"` // bytes per second, of late
	Problem string        `json:"problem,omitempty"`
}

// ObjectStatus counts segments on the nodes, and of the files that were stored by name those that are not complete.
type ObjectStatus struct {
	Full        int `json:"full"`
	Degraded    int `json:"degraded"`
	Fallback    int `json:"fallback"`
	Unconfirmed int `json:"unconfirmed"`
	// Unknown is how much is still to be looked at on nodes of which this machine knows nothing, as after a recovery: objects,
	// all files as one more, all tails as one more. Segments among them count as unconfirmed.
	Unknown int `json:"unknown,omitempty"`
	// Lost is how many cannot be had from the nodes: fewer than k good shards, or no manifest.
	Lost int `json:"lost,omitempty"`
	// Gone is how many of those have no local copy either.
	Gone   int   `json:"gone,omitempty"`
	Bytes  int64 `json:"bytes"`
	Pieces int   `json:"pieces"`
	// Undeleted is how many superseded generations still wait to be deleted on some node.
	Undeleted int `json:"undeleted"`
}

// NodeStatus is one data or metadata node.
type NodeStatus struct {
	ID       string        `json:"id"`
	Group    string        `json:"group"`
	Role     string        `json:"role"` // "data" or "metadata"
	Up       bool          `json:"up"`
	Error    string        `json:"error,omitempty"`
	DownFor  time.Duration `json:"down_for,omitempty"`
	Latency  time.Duration `json:"latency"`
	Free     int64         `json:"free,omitempty"`
	Durable  string        `json:"durable,omitempty"` // "on-ack", "after 10m0s", "never"
	Counts   bool          `json:"counts"`            // metadata: shows our epoch and a complete mark
	Failures int64         `json:"failures"`
	// Renewed: the node was wiped or replaced, or has lost something; Unchecked objects of what it should hold are
	// still to be looked at, and made again there where they are missing.
	Renewed   bool `json:"renewed,omitempty"`
	Unchecked int  `json:"unchecked,omitempty"`
	// NoSync: the node acknowledges writes before they are on its disk (zdb serve --sync=none). It holds no records then,
	// and what it holds of data is unconfirmed until it was read back.
	NoSync bool `json:"no_sync,omitempty"`
}

// GroupStatus sums a group up.
type GroupStatus struct {
	Name string `json:"name"`
	Up   int    `json:"up"`
	All  int    `json:"all"`
}

// QuorumStatus is the state of the metadata nodes.
type QuorumStatus struct {
	Nodes     int    `json:"nodes"`
	Write     int    `json:"write"`
	Read      int    `json:"read"`
	Countable int    `json:"countable"`
	Problem   string `json:"problem,omitempty"`
}

// Memory is the daemon's transfer budget and its use.
type Memory struct {
	Budget int64 `json:"budget"`
	Used   int64 `json:"used"`
}

// ReadStats counts fetches since the daemon's start.
type ReadStats struct {
	Stripes int64 `json:"stripes"`
	Bytes   int64 `json:"bytes"`
	Shards  int64 `json:"shards"`
	Hedged  int64 `json:"hedged"`
	Failed  int64 `json:"failed"`
	Damaged int64 `json:"damaged"` // shards that did not verify
}

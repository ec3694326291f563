package harness

import (
	"encoding/json"
	"fmt"
	"time"

	"qsfs/zstor/client"
)

// MountStatus is the part of `zdbfs status --json` that tests and demonstrations look at.
type MountStatus struct {
	Safe   bool     `json:"safe"`
	Word   string   `json:"word"`
	Answer string   `json:"answer"`
	Advice []string `json:"advice"`
	AtRisk struct {
		Unknown bool          `json:"unknown"`
		Bytes   int64         `json:"bytes"`
		Since   time.Time     `json:"since"`
		Age     time.Duration `json:"age"`
		ETA     time.Duration `json:"eta"`
	} `json:"at_risk"`
	Mount struct {
		Running  bool   `json:"running"`
		Verdict  string `json:"verdict"`
		ReadOnly bool   `json:"read_only"`
		Reason   string `json:"reason"`
		Files    int64  `json:"files"`
	} `json:"mount"`
	Cache struct {
		Budget      int64  `json:"budget"`
		Used        int64  `json:"used"`
		Undispersed int64  `json:"undispersed"`
		Segments    int    `json:"segments"`
		LocalSealed int    `json:"local_sealed"`
		Evicted     int    `json:"evicted"`
		EvictedWeak int    `json:"evicted_weak"`
		Full        bool   `json:"full"`
		Throttled   bool   `json:"throttled"`
		Problem     string `json:"problem"`
	} `json:"cache"`
	Zstor *client.Status `json:"zstor"`
}

// exitUnsafe is the code of a status that works and tells bad news.
const exitUnsafe = 10

// MountStatus asks `zdbfs status --json`.
func (f *Front) MountStatus() MountStatus {
	f.t.Helper()
	s, err := f.TryMountStatus()
	if err != nil {
		f.t.Fatalf("%s: %v", f.Name, err)
	}
	return *s
}

// TryMountStatus is MountStatus that gives the error.
func (f *Front) TryMountStatus() (*MountStatus, error) {
	r := f.Command(30*time.Second, "zdbfs", "status", "--json")
	if r.Code != 0 && r.Code != exitUnsafe {
		return nil, fmt.Errorf("zdbfs status: exit code %d\n%s%s", r.Code, r.Stdout, r.Stderr)
	}
	var s MountStatus
	if err := json.Unmarshal([]byte(r.Stdout), &s); err != nil {
		return nil, fmt.Errorf("zdbfs status --json: %w\n%s", err, r.Stdout)
	}
	return &s, nil
}

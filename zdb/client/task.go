package client

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"

	"qsfs/zdb/resp"
)

// A TaskState is how far the task of a namespace is that StartCheck or StartRebuild began, or how the last one ended.
type TaskState struct {
	Task    string `json:"task"` // check or rebuild-index; empty: there was none since the server started
	Running bool   `json:"running"`
	Step    string `json:"step,omitempty"` // of a check: log or index
	Done    int64  `json:"done"`           // bytes of the log, or passes over the index
	Total   int64  `json:"total"`
	Error   string `json:"error,omitempty"` // why it could not be finished
	// Check is what a check has found that ended without Error.
	Check *CheckReport `json:"check,omitempty"`
}

// A CheckReport is what a check of the files of a namespace has read and found.
type CheckReport struct {
	Namespace    string         `json:"namespace"`
	Segments     int64          `json:"segments"`
	Missing      int64          `json:"segments_elsewhere"` // of these only the index segment was read
	Batches      int64          `json:"batches"`
	Entries      int64          `json:"entries"`
	Bytes        int64          `json:"bytes"`
	Keys         int64          `json:"keys"`
	Findings     []CheckFinding `json:"findings"`
	More         int64          `json:"more_findings"` // beyond those listed
	Unrepaired   int64          `json:"unrepaired"`
	IndexSkipped string         `json:"index_skipped,omitempty"` // why the index was not compared
}

// A CheckFinding is something in a file that is not as it should be.
type CheckFinding struct {
	File   string `json:"file"`
	Offset int64  `json:"offset"`
	Length int64  `json:"length"` // 0: up to the end, or not known
	What   string `json:"what"`
	Done   string `json:"done,omitempty"` // what was done about it
	// Keys are the first of the keys concerned, Entries their number, where that is known. JSON has them in base64.
	Keys    [][]byte `json:"keys,omitempty"`
	Entries int64    `json:"entries,omitempty"`
}

// StartCheck makes the server begin to check the files of a namespace against each other; repair mends what can be mended.
func (c *Client) StartCheck(ctx context.Context, namespace string, repair bool) error {
	args := [][]byte{[]byte(namespace), []byte("CHECK")}
	if repair {
		args = append(args, []byte("REPAIR"))
	}
	_, err := c.Do(ctx, "TASK", args...)
	return err
}

// StartRebuild makes the server begin to build the index of a namespace from its log, or, with a segment, i<segment> from
// d<segment>.
func (c *Client) StartRebuild(ctx context.Context, namespace string, segment *uint32) error {
	args := [][]byte{[]byte(namespace), []byte("REINDEX")}
	if segment != nil {
		args = append(args, strconv.AppendUint(nil, uint64(*segment), 10))
	}
	_, err := c.Do(ctx, "TASK", args...)
	return err
}

// TaskStatus returns how far the task is.
func (c *Client) TaskStatus(ctx context.Context, namespace string) (s TaskState, err error) {
	v, err := c.Do(ctx, "TASK", []byte(namespace), []byte("STATUS"))
	if err != nil {
		return s, err
	}
	if v.Kind != resp.Bulk {
		return s, unexpected(v)
	}
	if err := json.Unmarshal(v.Data, &s); err != nil {
		return s, fmt.Errorf("state of the task: %w", err)
	}
	return s, nil
}

package client

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// Names of the notes in the state directory.
const (
	OwnerFile = "owner"
	CutFile   = "cut"
)

// Owner is who may write: the epoch and the random identity that claimed it. The daemon writes it
// to <state>/owner; a mount uses the epoch for its sequences.
type Owner struct {
	Epoch uint64    `json:"epoch"`
	ID    string    `json:"id"`
	Since time.Time `json:"claimed"`
	Host  string    `json:"host,omitempty"`
	// Recovering: a recovery into this state directory has begun and is not complete; nothing may
	// be mounted from it, running the recovery again goes on with it.
	Recovering bool `json:"recovering,omitempty"`
}

// CutNote is what this machine remembers of the newest cut that it wrote or recovered from.
type CutNote struct {
	Epoch  uint64    `json:"epoch"`
	Number uint64    `json:"number"`
	ID     string    `json:"id"`
	Time   time.Time `json:"time"`
	Meta   Head      `json:"meta"`
	Data   Head      `json:"data"`
	// High is the highest segment number, by namespace, that any cut, manifest or intent is known to
	// use: new segments get higher ones after a takeover or a recovery.
	High map[string]uint32 `json:"high,omitempty"`
}

// MinSegment is the lowest number that a new segment of the namespace may get.
func (c *CutNote) MinSegment(ns string) uint32 {
	if c == nil {
		return 0
	}
	if high, ok := c.High[ns]; ok {
		return high + 1
	}
	return 0
}

// Lengths gives the length in the newest cut of the segment in which it ended: below it a bad
// batch is damage, not a torn tail. Lower segments are sealed and their footers hold their lengths.
func (c *CutNote) Lengths(ns string) map[uint32]int64 {
	if c == nil {
		return nil
	}
	h := c.Data
	if ns == NamespaceMeta {
		h = c.Meta
	}
	return map[uint32]int64{h.Segment: h.Offset}
}

// ReadOwner reads <state>/owner. The error is fs.ErrNotExist when nobody ever owned this state.
func ReadOwner(state string) (Owner, error) {
	var o Owner
	err := readNote(filepath.Join(state, OwnerFile), &o)
	return o, err
}

// ReadCut reads <state>/cut; nil without error when there is none yet.
func ReadCut(state string) (*CutNote, error) {
	var c CutNote
	err := readNote(filepath.Join(state, CutFile), &c)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return &c, nil
}

func readNote(path string, into any) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, into); err != nil {
		return fmt.Errorf("%s is damaged: %w", path, err)
	}
	return nil
}

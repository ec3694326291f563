package quorum

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"time"

	"qsfs/zstor/internal/note"
	"qsfs/zstor/internal/record"
)

// A Note is what an owner must find again after a restart; without it, it has to take over.
type Note struct {
	Owner record.Owner
	// Reserved bounds the counters that may have been used in versions: the next run starts there.
	Reserved uint64
	// Last is the newest cut known to be acknowledged, Pending those sent after it whose fate is not known.
	Last    record.CutID
	Pending []record.CutID
	// Recovering is true from a recovery's first act until FinishRecovery; LastVersion is then the record of Last.
	Recovering  bool
	LastVersion record.Version
}

// Own lists the cuts that this state may have made last, the newest at the end.
func (n *Note) Own() []record.CutID {
	var own []record.CutID
	if !n.Last.IsZero() {
		own = append(own, n.Last)
	}
	return append(own, n.Pending...)
}

// maxPending bounds the cuts of unknown fate that a note remembers.
const maxPending = 64

// addPending notes a cut that is about to be sent.
func (n *Note) addPending(c record.CutID) {
	n.Pending = append(n.Pending, c)
	if len(n.Pending) > maxPending {
		n.Pending = slices.Delete(n.Pending, 0, len(n.Pending)-maxPending)
	}
}

// A Notebook keeps the note. Save is durable when it returns nil.
type Notebook interface {
	Load() (Note, error) // ErrNoNote when there is none
	Save(Note) error
}

// renote saves a later note of the same owner. A note that is gone, or another owner's, is never replaced: a state
// directory that was put away would look like that of a working filesystem again.
func (s *Set) renote(n Note) error {
	switch old, err := s.o.Notebook.Load(); {
	case err != nil:
		return err
	case !old.Owner.Same(n.Owner):
		return fmt.Errorf("%w: it is %v by now, not %v", ErrNoNote, old.Owner, n.Owner)
	}
	return s.o.Notebook.Save(n)
}

// A NoteFile is a Notebook in a JSON file. Other programs may read its fields epoch and id.
type NoteFile string

type noteJSON struct {
	Epoch       uint64    `json:"epoch"`
	ID          string    `json:"id"`
	Claimed     time.Time `json:"claimed"`
	Host        string    `json:"host,omitempty"`
	Reserved    uint64    `json:"reserved_counters"`
	Last        *cutJSON  `json:"last_cut,omitempty"`
	Pending     []cutJSON `json:"pending_cuts,omitempty"`
	Recovering  bool      `json:"recovering,omitempty"`
	LastVersion string    `json:"last_version,omitempty"`
}

type cutJSON struct {
	Epoch  uint64 `json:"epoch"`
	Number uint64 `json:"number"`
	MAC    string `json:"mac"`
}

func toJSON(c record.CutID) cutJSON {
	return cutJSON{c.Epoch, c.Number, hex.EncodeToString(c.MAC[:])}
}

func (c cutJSON) id() (record.CutID, error) {
	id := record.CutID{Epoch: c.Epoch, Number: c.Number}
	return id, unhex(id.MAC[:], c.MAC)
}

func unhex(dst []byte, s string) error {
	b, err := hex.DecodeString(s)
	if err != nil {
		return err
	}
	if len(b) != len(dst) {
		return fmt.Errorf("%d bytes instead of %d", len(b), len(dst))
	}
	copy(dst, b)
	return nil
}

// Load reads the file.
func (f NoteFile) Load() (Note, error) {
	b, err := os.ReadFile(string(f))
	if errors.Is(err, fs.ErrNotExist) {
		return Note{}, ErrNoNote
	}
	if err != nil {
		return Note{}, fmt.Errorf("read owner note: %w", err)
	}
	n, err := decodeNote(b)
	if err != nil {
		return Note{}, fmt.Errorf("owner note %s is damaged (take over, or recover): %w", string(f), err)
	}
	return n, nil
}

func decodeNote(b []byte) (Note, error) {
	var j noteJSON
	if err := json.Unmarshal(b, &j); err != nil {
		return Note{}, err
	}
	n := Note{
		Owner:      record.Owner{Epoch: j.Epoch, Time: j.Claimed, Host: j.Host},
		Reserved:   j.Reserved,
		Recovering: j.Recovering,
	}
	if err := unhex(n.Owner.ID[:], j.ID); err != nil {
		return Note{}, fmt.Errorf("id: %w", err)
	}
	if n.Owner.Epoch == 0 {
		return Note{}, errors.New("epoch 0")
	}
	var err error
	if j.Last != nil {
		if n.Last, err = j.Last.id(); err != nil {
			return Note{}, fmt.Errorf("last_cut: %w", err)
		}
	}
	for _, p := range j.Pending {
		id, err := p.id()
		if err != nil {
			return Note{}, fmt.Errorf("pending_cuts: %w", err)
		}
		n.Pending = append(n.Pending, id)
	}
	if j.LastVersion != "" {
		if n.LastVersion, err = record.ParseVersion(j.LastVersion); err != nil {
			return Note{}, fmt.Errorf("last_version: %w", err)
		}
	}
	return n, nil
}

// Save replaces the file: written aside, synced, renamed, directory synced.
func (f NoteFile) Save(n Note) (err error) {
	j := noteJSON{
		Epoch: n.Owner.Epoch, ID: n.Owner.ID.String(), Claimed: n.Owner.Time, Host: n.Owner.Host,
		Reserved: n.Reserved, Recovering: n.Recovering,
	}
	if !n.Last.IsZero() {
		last := toJSON(n.Last)
		j.Last = &last
	}
	for _, p := range n.Pending {
		j.Pending = append(j.Pending, toJSON(p))
	}
	if !n.LastVersion.IsZero() {
		j.LastVersion = n.LastVersion.String()
	}
	b, err := json.MarshalIndent(j, "", "  ")
	if err != nil {
		return fmt.Errorf("encode owner note: %w", err)
	}
	if err := note.Replace(string(f), append(b, '\n'), 0o600); err != nil {
		return fmt.Errorf("write owner note: %w", err)
	}
	return nil
}

func (n Note) clone() Note {
	n.Pending = slices.Clone(n.Pending)
	return n
}

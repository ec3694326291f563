package zstor

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"qsfs/zstor/client"
	"qsfs/zstor/internal/note"
	"qsfs/zstor/internal/receipt"
	"qsfs/zstor/internal/watch"
)

// cutNoteLocked describes the newest cut to the mount.
func (s *Store) cutNoteLocked() *client.CutNote {
	if s.cut == nil {
		return nil
	}
	n := &client.CutNote{
		Epoch: s.cut.Epoch, Number: s.cut.Number, ID: s.cut.ID().String(), Time: s.cut.Time,
		Meta: fromHead(s.cut.Meta), Data: fromHead(s.cut.Data), High: map[string]uint32{},
	}
	for _, ns := range s.cut.Namespaces {
		n.High[ns.Name] = ns.High
	}
	return n
}

// saveCutNote writes the newest cut to <state>/cut.
func (s *Store) saveCutNote() error {
	s.mu.Lock()
	n := s.cutNoteLocked()
	s.mu.Unlock()
	path := filepath.Join(s.state, client.CutFile)
	if n == nil {
		err := os.Remove(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	for ns := range n.High {
		if high, ok := s.intents.highest(ns); ok {
			n.High[ns] = max(n.High[ns], high)
		}
	}
	return note.JSON(path, n)
}

// isLocal reports whether d<N> is on this machine.
func (s *Store) isLocal(k segmentKey) bool {
	_, err := os.Stat(s.dataPath(k))
	return err == nil
}

// withoutReceipt lists the sealed segments of a namespace that have no valid, full and confirmed
// receipt of the generation that the ledger names.
func (s *Store) withoutReceipt(ns string) ([]segmentKey, error) {
	sealed, err := watch.Sealed(s.state, ns)
	if err != nil {
		return nil, err
	}
	var out []segmentKey
	for _, n := range sealed {
		k := segmentKey{Namespace: ns, Segment: n}
		r, err := receipt.Read(s.state, ns, n)
		if err == nil && r.Full && r.Confirmed {
			if ref, listed, known := s.lookup(k); !known || listed && ref.Generation == r.Manifest.Generation {
				continue
			}
		}
		out = append(out, k)
	}
	return out, nil
}

package server

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"qsfs/zdb"
	"qsfs/zdb/internal/vfs"
)

// The registry says which namespaces exist and how they are set. It is one file of the data directory, replaced as a
// whole: written aside, synced, renamed, directory synced. A namespace exists when the registry has it; directories
// alone do not make one, because a namespace without its settings would be one without its password.
const (
	registryName = ".namespaces.json" // with a dot, as no directory of a namespace has
	// Version 2 may have keep_last, keep_deleted, sequential, store and removed, which a server that knows only version 1 would ignore.
	registryVersion = 2
)

// settings are what NSSET changes.
type settings struct {
	Password *passwordHash `json:"password,omitempty"`
	MaxSize  uint64        `json:"maxsize,omitempty"` // bytes, see quota; 0 is no limit
	Private  bool          `json:"private,omitempty"` // needs the password even for reading
	Worm     bool          `json:"worm,omitempty"`
	// Sequential: the server gives out the keys.
	Sequential bool `json:"sequential,omitempty"`
	Locked     bool `json:"locked,omitempty"` // no writes
	Frozen     bool `json:"frozen,omitempty"` // no writes and no reads
	// Flushing was the mark of a FLUSH under way in version 1. It is still finished at the start, and never set.
	Flushing bool `json:"flushing,omitempty"`
	// KeepLast is how many versions of a key stay, the present one counted; 0 is 1. KeepDeleted is how long a version stays
	// after it was overwritten or deleted.
	KeepLast    int      `json:"keep_last,omitempty"`
	KeepDeleted keepTime `json:"keep_deleted,omitzero"`
	// Store is what the engine calls the namespace; empty: as clients do.
	Store string `json:"store,omitempty"`
	// Removed is when a namespace was set aside, which is kept for KeepDeleted.
	Removed time.Time `json:"removed,omitzero"`
	// RemovedAt is the same moment for zdb.DB.Passed, which does not go by the wall clock alone.
	RemovedAt string `json:"removed_at,omitempty"`
	// Removing marks a namespace whose removal has begun; it is tried until it is done, over restarts too.
	Removing bool `json:"removing,omitempty"`
}

type registryFile struct {
	Version    int                  `json:"version"`
	Namespaces map[string]*settings `json:"namespaces"`
}

// loadRegistry reads the file; found is false when there is none.
func loadRegistry(dir string) (all map[string]*settings, found bool, err error) {
	path := filepath.Join(dir, registryName)
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return map[string]*settings{}, false, nil
	}
	if err != nil {
		return nil, false, fmt.Errorf("read the list of namespaces: %w", err)
	}
	all, err = decodeRegistry(raw)
	var syntax *json.SyntaxError
	switch {
	case errors.Is(err, errRegistryVersion):
		return nil, true, fmt.Errorf("%s: %w", path, err)
	case errors.As(err, &syntax):
		return nil, true, &zdb.CorruptionError{File: path, Offset: syntax.Offset, Err: err}
	case err != nil:
		return nil, true, &zdb.CorruptionError{File: path, Err: err}
	}
	return all, true, nil
}

var errRegistryVersion = errors.New("this version is not known here")

func decodeRegistry(raw []byte) (map[string]*settings, error) {
	var f registryFile
	if err := json.Unmarshal(raw, &f); err != nil {
		return nil, err
	}
	if f.Version < 1 || f.Version > registryVersion {
		return nil, fmt.Errorf("version %d: %w", f.Version, errRegistryVersion)
	}
	if f.Namespaces == nil {
		return nil, errors.New("no namespaces in it")
	}
	for name, s := range f.Namespaces {
		if s == nil {
			return nil, fmt.Errorf("namespace %q: no settings", name)
		}
		if err := s.validate(); err != nil {
			return nil, fmt.Errorf("namespace %q: %w", name, err)
		}
	}
	return f.Namespaces, nil
}

// save makes a new list durable, and what is in force where that fails: the new one may be in place all the same, and what is
// written until the next start would go with a namespace that it removes. The caller holds admin.
func (s *Server) save(all map[string]*settings) error { return s.saveList(all, false) }

// saveForRoom is save for changes that free room, or begin to: on a full disk they may use a spare.
func (s *Server) saveForRoom(all map[string]*settings) error { return s.saveList(all, true) }

func (s *Server) saveList(all map[string]*settings, forRoom bool) error {
	err := s.writeList(all, forRoom)
	s.unsure = err != nil
	if err != nil {
		err = errors.Join(err, s.saveAgain())
	}
	return err
}

// saveAgain saves the list that is in force if the one in place may be another. The caller holds admin.
func (s *Server) saveAgain() error {
	if !s.unsure {
		return nil
	}
	err := s.writeList(s.saved(), false)
	s.unsure = err != nil
	return err
}

// writeList writes a list, on a full disk into a spare where that may be used. The caller holds admin.
func (s *Server) writeList(all map[string]*settings, forRoom bool) error {
	raw, err := encodeRegistry(all)
	if err != nil {
		return err
	}
	err = writeRegistry(s.fs, s.o.DataDir, raw)
	if forRoom && isNoSpace(err) {
		if ok, serr := s.spares.write(raw); serr != nil {
			err = errors.Join(err, fmt.Errorf("save it in the room that was kept for it: %w", serr))
		} else if ok {
			s.log.Warn("disk is full: the list of namespaces took the room that was kept for it", "err", err)
			err = nil
		}
	}
	if err == nil {
		s.keepSpares(len(raw))
	}
	return err
}

// keepSpares takes room for what follows a list of n bytes. Where there is none nothing is lost yet.
func (s *Server) keepSpares(n int) {
	if err := s.spares.keep(int64(n)); err != nil && !isNoSpace(err) {
		s.trouble("keep room for the list of namespaces", "", err)
	}
}

// saveRegistry makes the list of a server that does not serve yet, or not at all, durable.
func saveRegistry(dir string, all map[string]*settings) error {
	raw, err := encodeRegistry(all)
	if err != nil {
		return err
	}
	return writeRegistry(vfs.OS, dir, raw)
}

func encodeRegistry(all map[string]*settings) ([]byte, error) {
	raw, err := json.MarshalIndent(registryFile{registryVersion, all}, "", "  ")
	return append(raw, '\n'), err
}

func writeRegistry(files vfs.FS, dir string, raw []byte) error {
	if err := vfs.WriteFile(files, filepath.Join(dir, registryName), raw); err != nil {
		return fmt.Errorf("save the list of namespaces: %w", err)
	}
	return nil
}

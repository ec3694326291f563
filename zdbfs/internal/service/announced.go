package service

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"qsfs/zdb"
	"qsfs/zstor/client"
)

// announcedFile is the note of what zstor was told to be durable.
const announcedFile = "announced"

// announced is written before zstor hears of the heads in it. A cut may name them while this process
// is killed; without the note the next one could take the end of the log for a torn tail, write it
// again under a session of its own, and then not be the state that the cut is of.
type announced struct {
	Meta client.Head `json:"meta"`
	Data client.Head `json:"data"`
}

// lengths is what must be there of the active segment of a namespace.
func (a *announced) lengths(ns string, out map[zdb.SegmentID]int64) {
	h := a.Data
	if ns == client.NamespaceMeta {
		h = a.Meta
	}
	if h.Offset > 0 {
		id := zdb.SegmentID(h.Segment)
		out[id] = max(out[id], h.Offset)
	}
}

// readAnnounced gives the note, an empty one if there is none.
func (st *state) readAnnounced(log *slog.Logger) *announced {
	var a announced
	b, err := os.ReadFile(st.path(announcedFile))
	if err == nil {
		err = json.Unmarshal(b, &a)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		// Without it a torn tail is cut where it may be; the comparison with the nodes will tell.
		log.Warn("the note of what was announced cannot be read", "err", err)
		return &announced{}
	}
	return &a
}

// dropAnnounced forgets the note: another log begins here.
func (st *state) dropAnnounced() error {
	if err := os.Remove(st.path(announcedFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("drop the note of what was announced: %w", err)
	}
	return nil
}

// writeAnnounced makes the note durable.
func (st *state) writeAnnounced(meta, data client.Head) error {
	b, err := json.Marshal(announced{Meta: meta, Data: data})
	if err != nil {
		return err
	}
	if err := replaceFile(st.path(announcedFile), b); err != nil {
		return fmt.Errorf("note what is announced: %w", err)
	}
	return nil
}

// replaceFile gives a file new content, whole or not at all.
func replaceFile(path string, b []byte) error {
	tmp := path + ".tmp"
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

package server

import (
	"errors"
	"path/filepath"

	"qsfs/zdb"
)

// cmdNSJump is NSJUMP → OK: the active segment of the namespace is sealed and the next one begun. An empty one stays.
func cmdNSJump(s *session, _ [][]byte) {
	eng := s.engine()
	if eng == nil {
		return
	}
	defer s.ns.release()
	if _, err := eng.Seal(s.srv.ctx); err != nil && !errors.Is(err, zdb.ErrEmpty) {
		s.trouble("seal", err)
		s.fail(errInternal)
		return
	}
	s.ok()
}

// paths returns the files of a segment.
func (n *namespace) paths(id zdb.SegmentID) (data, index string) {
	dir, err := zdb.DirName(n.store())
	if err != nil { // the engine would not have opened it
		dir = n.store()
	}
	return filepath.Join(n.srv.o.DataDir, dir, id.DataName()), filepath.Join(n.srv.o.IndexDir, dir, id.IndexName())
}

// jumped is told by the engine that a segment is sealed. The hooks about it follow each other; writers do not wait.
func (n *namespace) jumped(id zdb.SegmentID) {
	h := n.srv.hooks
	if !h.enabled() {
		return
	}
	next := id + 1
	var dirty []zdb.SegmentID
	oldData, oldIndex := n.paths(id)
	h.later(hookEvent{
		name: hookJumpIndex,
		args: func() []string {
			if eng := n.eng.Load(); eng != nil {
				for _, s := range eng.Segments() {
					if s.ID > id {
						next = s.ID
						break
					}
				}
			}
			dirty = n.dirty.list()
			_, newIndex := n.paths(next)
			return []string{oldIndex, newIndex, words(dirty)}
		},
		then: func(status int) {
			if status == 0 {
				n.dirty.clear(dirty)
			}
			newData, _ := n.paths(next)
			h.tell(hookJumpData, oldData, newData)
		},
	})
}

// tellClosing tells the hook program that the namespace is about to be closed with the server.
func (n *namespace) tellClosing() {
	eng := n.eng.Load()
	if eng == nil || !n.srv.hooks.enabled() {
		return
	}
	data, index := n.paths(eng.Head().Segment)
	n.srv.hooks.tell(hookClosing, n.name, index, data, words(n.dirty.list()))
}

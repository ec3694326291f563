package server

import (
	"errors"

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

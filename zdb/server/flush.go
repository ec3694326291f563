package server

import (
	"context"

	"qsfs/zdb"
)

// cmdFlush is FLUSH → OK: everything in the namespace is removed. Its settings stay, its incarnation does not. With
// keep_deleted it takes the admin, who still reads what there was; see removed.go.
func cmdFlush(s *session, _ [][]byte) {
	set := s.ns.set.Load()
	if set.Password == nil || !set.Private {
		s.fail(errFlushPublic)
		return
	}
	if !s.mayWrite() {
		return
	}
	if set.Worm {
		s.fail(errWormDelete)
		return
	}
	if set.KeepDeleted > 0 && !s.admin {
		s.srv.stats.unauthorized.Add(1)
		s.fail(errFlushKept)
		return
	}
	// What this connection wrote is made durable with the rest of the namespace before it goes.
	switch err := s.srv.emptyNamespace(s.srv.ctx, s.ns); err {
	case nil:
		s.ok()
	case errNamespaceRemoved:
		s.fail(errRemoved)
		s.hangUp = true
	default:
		s.srv.trouble("flush", s.ns.name, err)
		s.fail(errFlush)
	}
}

// emptyNamespace puts an empty namespace in the place of n, whose data is removed or kept; see retire. The sessions go on
// with what takes its place, at once. A write that is under way meanwhile is one from before.
func (s *Server) emptyNamespace(ctx context.Context, n *namespace) error {
	old, err := s.retire(ctx, n, true)
	if err != nil {
		return err
	}
	if err := s.finish(ctx, n, old); err != nil {
		s.trouble("remove what was flushed", n.name, err) // nobody sees it any more, and the loop goes on
	}
	s.log.Info("namespace emptied", "namespace", n.name)
	return nil
}

// follow goes on to what took the place of the session's namespace. It reports false when the namespace is gone, or the
// connection.
func (s *session) follow() bool {
	next := s.ns.successor.Load()
	if next == nil {
		return false
	}
	// Promises of one chunk are all of one namespace.
	if s.out.cur.seq != 0 && !s.flushed() {
		return false
	}
	// What the command that runs has asked for it gets there; what has just begun is not at its limit.
	s.ns.quota.inflight.Add(-s.reserved)
	next.quota.inflight.Add(s.reserved)
	s.over = false
	s.ns = next
	return true
}

// cmdReload is RELOAD name → OK: the index of the namespace is read and checked as a whole, and made anew from the log when
// something in it does not check; the keys are counted again. The namespace is served meanwhile.
func cmdReload(s *session, args [][]byte) {
	if len(args[1]) > maxName {
		s.fail(errNamespaceLong)
		return
	}
	n := s.srv.lookup(string(args[1]))
	if n == nil || n.removed.Load() {
		s.fail(errNoNamespace)
		return
	}
	eng, err := n.acquire(s.srv.ctx)
	if err == errNamespaceRemoved {
		s.fail(errNoNamespace)
		return
	}
	if err == nil {
		err = s.reload(n, eng)
		n.release()
	}
	if err != nil {
		s.srv.trouble("reload", n.name, err)
		s.fail(errInternal)
		return
	}
	s.ok()
	s.srv.hooks.tell(hookReloaded, n.name)
}

func (s *session) reload(n *namespace, eng *zdb.Namespace) error {
	if err := eng.VerifyIndex(s.srv.ctx); err != nil {
		return err
	}
	n.dirty.clear(n.dirty.list())
	return n.recount(s.srv.ctx, eng)
}

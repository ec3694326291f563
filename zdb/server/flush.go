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

// emptyNamespace removes all data of a namespace, or sets it aside. The registry says so first, so that after a crash either everything is
// there or nothing. The sessions go on with what takes its place.
func (s *Server) emptyNamespace(ctx context.Context, n *namespace) error {
	s.admin.Lock()
	defer s.admin.Unlock()
	if s.lookup(n.name) != n || n.removed.Load() {
		return errNamespaceRemoved
	}
	if n.set.Load().KeepDeleted > 0 {
		return s.replaceNamespace(ctx, n)
	}
	if err := s.changeLocked(n, func(set *settings) { set.Flushing = true }, false); err != nil {
		return err
	}
	n.life.Lock() // from here on the sessions wait
	defer n.life.Unlock()
	n.closeForFlush()
	if err := s.db.DropNamespace(ctx, n.store()); err != nil {
		n.removed.Store(true) // half of it may be gone; the next start goes on
		return err
	}
	if err := s.changeLocked(n, func(set *settings) { set.Flushing = false }, false); err != nil {
		n.removed.Store(true) // what would be written now would go at the next start
		return err
	}
	s.succeed(ctx, n, n.set.Load())
	s.log.Info("namespace emptied", "namespace", n.name)
	return nil
}

// replaceNamespace empties a namespace whose data is to be kept. The caller holds admin.
func (s *Server) replaceNamespace(ctx context.Context, n *namespace) error {
	all := s.saved()
	aside := n.setAside(all)
	set := *n.set.Load()
	if err := s.giveStore(n.name, &set, all); err != nil {
		return err
	}
	all[n.name].Store = set.Store
	if err := saveRegistry(s.o.DataDir, all); err != nil {
		return err
	}
	n.life.Lock() // from here on the sessions wait
	defer n.life.Unlock()
	n.closeForFlush()
	s.keepRemoved(aside, all[aside])
	s.succeed(ctx, n, &set)
	s.log.Info("namespace emptied, what it had is kept", "namespace", n.name, "kept", aside)
	return nil
}

// closeForFlush closes the engine's namespace. The caller holds life for writing.
func (n *namespace) closeForFlush() {
	eng := n.eng.Swap(nil)
	if eng == nil {
		return
	}
	n.stopWork()
	if err := eng.Close(); err != nil {
		n.srv.log.Warn("closing a namespace before it is emptied", "namespace", n.name, "err", err)
	}
}

// succeed puts an empty namespace in the place of one whose engine's namespace is closed.
func (s *Server) succeed(ctx context.Context, n *namespace, set *settings) {
	fresh := &namespace{name: n.name, srv: s}
	fresh.set.Store(set)
	fresh.known.Store(n.known.Load())
	fresh.traffic.add(&n.traffic)
	if err := fresh.open(ctx); err != nil { // the next use tries again
		s.log.Error("open an emptied namespace", "namespace", n.name, "err", err)
	}
	s.mu.Lock()
	s.namespaces[n.name] = fresh
	s.mu.Unlock()
	n.successor.Store(fresh)
	n.removed.Store(true)
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

package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"qsfs/zdb"
)

// A namespace with keep_deleted that is emptied or removed is set aside: its files stay, and the admin reads them
// with KEPT under the name that it had, a slash and the time in Unix seconds, until keep_deleted is over. No client can
// name it otherwise, and nothing is written to it any more.
//
// Setting aside is one change of the registry: what takes the place of an emptied namespace has files under another
// name in the engine, its store. What is not kept is set aside in the same way, marked as being removed: the change of the
// registry is all that others may have to wait for. The rest takes as long as the commands that still work on it and
// its files need.

// removedCheck is how often it is looked for what has been kept long enough.
const removedCheck = time.Minute

// store is what the engine calls the namespace.
func (n *namespace) store() string { return storeOf(n.name, n.set.Load()) }

func storeOf(name string, set *settings) string {
	if set.Store != "" {
		return set.Store
	}
	return name
}

func (set *settings) isRemoved() bool { return !set.Removed.IsZero() }

// keepFor is how long a removed namespace is kept; the second is what Removed was rounded by.
func (set *settings) keepFor() time.Duration { return time.Duration(set.KeepDeleted) + time.Second }

// until is when a removed namespace goes for good, or soon after, if the clock is right.
func (set *settings) until() time.Time { return set.Removed.Add(set.keepFor()) }

// freeStore gives a new namespace a name in the engine that has no files and belongs to no other.
func (s *Server) freeStore(name string, all map[string]*settings) (string, error) {
	onDisk, err := s.db.Namespaces()
	if err != nil {
		return "", err
	}
	used := map[string]bool{}
	for _, other := range onDisk {
		used[other] = true
	}
	for other, set := range all {
		used[storeOf(other, set)] = true
	}
	store := name
	for i, base := 1, name; used[store]; i++ {
		for {
			store = fmt.Sprintf("%s/%d", base, i)
			if _, err := zdb.DirName(store); err == nil {
				break
			}
			base = base[:len(base)-1] // the engine's names have a limit of their own
		}
	}
	return store, nil
}

// giveStore gives a new namespace its store.
func (s *Server) giveStore(name string, set *settings, all map[string]*settings) error {
	store, err := s.freeStore(name, all)
	if set.Store = store; store == name {
		set.Store = ""
	}
	return err
}

// setAside changes what the registry is to hold: the data of n is kept, under the name that is returned. The caller holds
// admin.
func (n *namespace) setAside(all map[string]*settings) string {
	old := *all[n.name]
	old.Store, old.Removed, old.Password = storeOf(n.name, &old), time.Now().UTC().Truncate(time.Second), nil
	old.RemovedAt = n.srv.db.Moment()
	for {
		name := fmt.Sprintf("%s/%d", n.name, old.Removed.Unix())
		if all[name] == nil {
			all[name] = &old
			return name
		}
		old.Removed = old.Removed.Add(time.Second)
	}
}

// retire takes a namespace out of service: after one change of the registry its name is free, or with replace has a new
// and empty namespace with the same settings. What it had is known as old from then on.
func (s *Server) retire(ctx context.Context, n *namespace, replace bool) (old *namespace, err error) {
	s.admin.Lock()
	defer s.admin.Unlock()
	if s.lookup(n.name) != n || n.removed.Load() {
		return nil, errNamespaceRemoved
	}
	all := s.saved()
	aside := n.setAside(all)
	all[aside].Removing = all[aside].KeepDeleted == 0
	var fresh *namespace
	if replace {
		fresh = &namespace{name: n.name, srv: s}
		set := *n.set.Load()
		if err := s.giveStore(n.name, &set, all); err != nil {
			return nil, err
		}
		all[n.name].Store = set.Store
		fresh.set.Store(&set)
		fresh.known.Store(n.known.Load())
		fresh.traffic.add(&n.traffic)
	} else {
		delete(all, n.name)
	}
	if err := s.saveForRoom(all); err != nil {
		return nil, err
	}
	if replace {
		if err := fresh.open(ctx); err != nil { // the next use tries again
			s.log.Error("open an emptied namespace", "namespace", n.name, "err", err)
		}
	}
	old = &namespace{name: aside, srv: s}
	old.set.Store(all[aside])
	old.life.Lock() // until finish has closed the files
	s.mu.Lock()
	defer s.mu.Unlock()
	s.removed[aside] = old
	if replace {
		s.namespaces[n.name] = fresh
		n.successor.Store(fresh)
	} else {
		delete(s.namespaces, n.name)
		s.stats.gone.add(&n.traffic)
	}
	n.removed.Store(true)
	return old, nil
}

// finish waits for the commands that still work on a retired namespace, and removes what is not kept.
func (s *Server) finish(ctx context.Context, n, old *namespace) error {
	if err := n.detach(); err != nil {
		s.log.Warn("closing a namespace that is removed", "namespace", n.name, "err", err)
	}
	old.life.Unlock()
	if !old.set.Load().Removing {
		s.log.Info("what the namespace had is kept", "namespace", n.name, "kept", old.name)
		return nil
	}
	if err := s.forget(ctx, old); err != errNamespaceRemoved { // the loop may have been faster
		return err
	}
	return nil
}

// keepRemoved makes a namespace known that was set aside. It is opened when it is first read.
func (s *Server) keepRemoved(name string, set *settings) {
	n := &namespace{name: name, srv: s}
	n.set.Store(set)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.removed[name] = n
}

// kept finds a namespace, also one that was set aside to be kept.
func (s *Server) kept(name string) *namespace {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if n := s.removed[name]; n != nil && !n.set.Load().Removing {
		return n
	}
	return s.namespaces[name]
}

// allRemoved lists what is set aside, the oldest first.
func (s *Server) allRemoved() []*namespace {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var list []*namespace
	for _, n := range s.removed {
		list = append(list, n)
	}
	slices.SortFunc(list, func(a, b *namespace) int {
		return cmp.Or(a.set.Load().Removed.Compare(b.set.Load().Removed), cmp.Compare(a.name, b.name))
	})
	return list
}

// forgetLoop removes what has been kept for long enough, and what could not be removed when it should have been; and it saves
// the list of namespaces when that failed, and keeps room for the next one.
func (s *Server) forgetLoop() {
	for {
		s.admin.Lock()
		if err := s.saveAgain(); err != nil {
			s.trouble("save the list of namespaces", "", err)
		}
		if raw, err := encodeRegistry(s.saved()); err == nil {
			s.keepSpares(len(raw))
		}
		s.admin.Unlock()
		s.forgetOld()
		select {
		case <-time.After(removedCheck):
		case <-s.ctx.Done():
			return
		}
	}
}

func (s *Server) forgetOld() {
	s.renewMoments()
	for _, n := range s.allRemoved() {
		if set := n.set.Load(); !set.Removing {
			if passed, ok := s.db.Passed(set.RemovedAt); !ok || passed < set.keepFor() {
				continue
			}
		}
		if err := s.forget(s.ctx, n); err != nil && err != errNamespaceRemoved && s.ctx.Err() == nil {
			s.trouble("remove what was kept", n.name, err)
		}
	}
}

// renewMoments has the moments of removal be of the present opening of the engine, which does not know those of very many openings. Where nobody knows how much of
// the time for which a namespace is kept has passed it begins anew.
func (s *Server) renewMoments() {
	due := false
	for _, n := range s.allRemoved() {
		at, _ := s.renewed(n)
		due = due || at != n.set.Load().RemovedAt
	}
	if !due {
		return
	}
	s.admin.Lock()
	defer s.admin.Unlock()
	var anew []string
	for _, n := range s.allRemoved() {
		at, known := s.renewed(n)
		if !known {
			anew = append(anew, n.name)
		}
		set := *n.set.Load()
		set.RemovedAt = at
		n.set.Store(&set) // also where it cannot be saved: that is tried again
	}
	if err := s.save(s.saved()); err != nil {
		s.trouble("save the list of namespaces", "", err)
	}
	for _, name := range anew {
		s.log.Warn("nobody knows for how long a removed namespace has been kept: its time begins anew", "namespace", name)
	}
}

// renewed is the moment of removal as the present opening of the engine knows it, or a new one.
func (s *Server) renewed(n *namespace) (at string, known bool) {
	set := n.set.Load()
	if set.Removing {
		return set.RemovedAt, true
	}
	if _, ok := s.db.Passed(set.RemovedAt); !ok {
		return s.db.Moment(), false
	}
	return s.db.Renewed(set.RemovedAt), true
}

// forget removes a namespace that was set aside, for good. Only the changes of the registry are made under admin, for
// the files of a large one take their time.
func (s *Server) forget(ctx context.Context, n *namespace) error {
	n.forgetting.Lock() // its store may belong to another as soon as one has finished
	defer n.forgetting.Unlock()
	if err := s.markRemoving(n); err != nil {
		return err
	}
	if err := n.detach(); err != nil {
		s.log.Warn("closing a namespace before its removal", "namespace", n.name, "err", err)
	}
	if err := s.db.DropNamespace(ctx, n.store()); err != nil {
		return err // it is tried again
	}
	s.admin.Lock()
	defer s.admin.Unlock()
	all := s.saved()
	delete(all, n.name)
	if err := s.saveForRoom(all); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.removed, n.name)
	s.log.Info("what a namespace had is removed", "namespace", n.name)
	return nil
}

// markRemoving makes it last that a namespace which was set aside goes.
func (s *Server) markRemoving(n *namespace) error {
	s.admin.Lock()
	defer s.admin.Unlock()
	s.mu.RLock()
	there := s.removed[n.name] == n
	s.mu.RUnlock()
	if !there {
		return errNamespaceRemoved
	}
	set := *n.set.Load()
	if set.Removing {
		return nil
	}
	set.Removing = true
	all := s.saved()
	all[n.name] = &set
	if err := s.saveForRoom(all); err != nil {
		return err
	}
	n.set.Store(&set)
	return nil
}

// diskBytes is what the files of a namespace take.
func (n *namespace) diskBytes() int64 {
	dir, err := zdb.DirName(n.store())
	if err != nil {
		return 0
	}
	var sum int64
	for _, parent := range slices.Compact([]string{n.srv.o.DataDir, n.srv.o.IndexDir}) {
		err := filepath.WalkDir(filepath.Join(parent, dir), func(_ string, e fs.DirEntry, err error) error {
			if err != nil || e.IsDir() {
				return err
			}
			info, err := e.Info()
			if err == nil {
				sum += info.Size()
			}
			return err
		})
		if err != nil && !errors.Is(err, os.ErrNotExist) { // it may go meanwhile
			n.srv.trouble("look what is kept", n.name, err)
		}
	}
	return sum
}

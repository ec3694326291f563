package server

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

var (
	errExists  = errors.New("namespace exists")
	errBadName = errors.New("namespace name is not allowed")
)

func (s *Server) lookup(name string) *namespace {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.namespaces[name]
}

func (s *Server) names() []string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	names := make([]string, 0, len(s.namespaces))
	for name := range s.namespaces {
		names = append(names, name)
	}
	return names
}

func (s *Server) add(name string, set *settings) *namespace {
	n := &namespace{name: name, srv: s}
	n.set.Store(set)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.namespaces[name] = n
	return n
}

// openNamespaces reads the registry and opens what it lists. The default namespace opens when it is first used, unless
// it exists already: most nodes never need it.
func (s *Server) openNamespaces(ctx context.Context) error {
	all, found, err := loadRegistry(s.o.DataDir)
	if err != nil {
		return err
	}
	if err := s.mayKeep(all); err != nil {
		return err
	}
	onDisk, err := s.db.Namespaces()
	if err != nil {
		return fmt.Errorf("list namespaces: %w", err)
	}
	if !found && len(onDisk) > 0 {
		return fmt.Errorf("%s holds namespaces (%s) and no %s: serving them would drop their passwords; restore the file, or use another directory",
			s.o.DataDir, strings.Join(onDisk, ", "), registryName)
	}
	if all[defaultNamespace] == nil {
		all[defaultNamespace] = &settings{}
		if err := saveRegistry(s.o.DataDir, all); err != nil {
			return err
		}
	}
	listed := map[string]bool{}
	for name, set := range all {
		listed[storeOf(name, set)] = true
	}
	for _, name := range onDisk {
		if !listed[name] {
			s.log.Warn("directory of a namespace that is not listed, not served", "namespace", name, "list", registryName)
		}
	}
	fixed := false
	for name, set := range all {
		if set.isRemoved() { // the loop removes what is not kept: what fails there keeps nothing else from being served
			s.keepRemoved(name, set)
			continue
		}
		if set.Removing { // of version 1, which had no other name for it
			if err := s.db.DropNamespace(ctx, storeOf(name, set)); err != nil {
				return fmt.Errorf("finish the removal of namespace %s: %w", name, err)
			}
			delete(all, name)
			if err := saveRegistry(s.o.DataDir, all); err != nil {
				return err
			}
			continue
		}
		if set.Flushing {
			if err := s.db.DropNamespace(ctx, storeOf(name, set)); err != nil {
				return fmt.Errorf("finish emptying namespace %s: %w", name, err)
			}
			set.Flushing = false
			if err := saveRegistry(s.o.DataDir, all); err != nil {
				return err
			}
		}
		n := s.add(name, set)
		if name == defaultNamespace {
			s.protectDefault(n)
		}
		if name != defaultNamespace || slices.Contains(onDisk, name) {
			if err := n.open(ctx); err != nil {
				return fmt.Errorf("open namespace %s: %w", name, err)
			}
		}
		before := n.sequential()
		if err := s.fixMode(n, n.eng.Load()); err != nil {
			return fmt.Errorf("open namespace %s: %w", name, err)
		}
		fixed = fixed || n.sequential() != before
	}
	if fixed {
		return saveRegistry(s.o.DataDir, s.saved())
	}
	return nil
}

// protectDefault puts the admin password and the limit on the default namespace, in memory only: they belong to the
// command line.
func (s *Server) protectDefault(n *namespace) {
	set := *n.set.Load()
	if s.o.MaxSize > 0 {
		set.MaxSize = s.o.MaxSize
	}
	set.KeepDeleted = keepTime(s.o.KeepDeleted)
	rights := s.rights.Load()
	if s.o.Protect {
		if set.Password = rights.hash; set.Password == nil {
			set.Password = s.hashing.newHash(*rights.known)
		}
	}
	if s.o.Protect && rights.known != nil {
		n.known.Store(&credential{set.Password, *rights.known})
	}
	n.set.Store(&set)
}

// saved returns what the registry should hold. The caller holds admin.
func (s *Server) saved() map[string]*settings {
	s.mu.RLock()
	defer s.mu.RUnlock()
	all := make(map[string]*settings, len(s.namespaces)+len(s.removed))
	for name, n := range s.removed {
		set := *n.set.Load()
		all[name] = &set
	}
	for name, n := range s.namespaces {
		set := *n.set.Load()
		if name == defaultNamespace {
			set.Password, set.MaxSize, set.KeepDeleted = nil, 0, 0 // they can only be the command line's
		}
		all[name] = &set
	}
	return all
}

// createNamespace makes a namespace with the given settings. It is registered first: after a crash in between, the next
// start finds the name and makes the rest, still empty.
func (s *Server) createNamespace(ctx context.Context, name string, set settings, password *string) error {
	s.admin.Lock()
	defer s.admin.Unlock()
	if !validName(name) {
		return errBadName
	}
	if s.lookup(name) != nil {
		return errExists
	}
	all := s.saved()
	onDisk, err := s.db.Namespaces()
	if err != nil {
		return err
	}
	listed := func() bool {
		for other, set := range all {
			if storeOf(other, set) == name {
				return true
			}
		}
		return false
	}
	if slices.Contains(onDisk, name) && !listed() {
		return errors.New("there is a directory of that name which the list of namespaces does not know")
	}
	if err := s.giveStore(name, &set, all); err != nil {
		return err
	}
	set.Sequential = s.o.Mode == ModeSequential
	all[name] = &set
	if err := s.save(all); err != nil {
		return err
	}
	n := &namespace{name: name, srv: s}
	n.set.Store(&set)
	if password != nil {
		n.known.Store(&credential{set.Password, *password})
	}
	if err := n.open(ctx); err != nil {
		delete(all, name)
		return errors.Join(err, s.db.DropNamespace(ctx, n.store()), s.save(all))
	}
	s.mu.Lock()
	s.namespaces[name] = n
	s.mu.Unlock()
	s.log.Info("namespace created", "namespace", name)
	s.hooks.tell(hookCreated, name)
	return nil
}

// EnsureNamespace makes a namespace unless it exists. One that exists keeps its settings; when a password is given that
// is not its own, that is an error.
func (s *Server) EnsureNamespace(ctx context.Context, name, password string) error {
	if len(password) > maxPropertyValue {
		return fmt.Errorf("namespace %s: the password is longer than %d bytes", name, maxPropertyValue)
	}
	if n := s.lookup(name); n != nil {
		switch {
		case name == defaultNamespace && password != "":
			return errors.New("the default namespace takes no password of its own")
		case n.set.Load().Password == nil && password == "":
			return nil
		case n.set.Load().Password == nil:
			return fmt.Errorf("namespace %s exists and has no password", name)
		case password == "":
			return nil
		case !n.verify(password):
			return fmt.Errorf("namespace %s exists and has another password", name)
		}
		return nil
	}
	set := s.o.newSettings()
	var known *string
	if password != "" {
		set.Password, set.Private = s.hashing.newHash(password), true
		known = &password
	}
	if err := s.createNamespace(ctx, name, set, known); err != nil {
		return fmt.Errorf("create namespace %q: %w", name, err)
	}
	return nil
}

// validName says which names may be made: what the original allows, as long as it is text.
func validName(name string) bool {
	if name == "" || len(name) > maxName || name == "." || name == ".." || name == defaultNamespace || !utf8.ValidString(name) {
		return false
	}
	return !strings.ContainsFunc(name, func(r rune) bool { return r == '/' || r == utf8.RuneError || unicode.IsControl(r) })
}

// removeNamespace removes a namespace, and its data unless that is to be kept; see retire.
func (s *Server) removeNamespace(ctx context.Context, n *namespace) error {
	old, err := s.retire(ctx, n, false)
	if err != nil {
		return err
	}
	if err := s.finish(ctx, n, old); err != nil {
		return err // gone for clients; the loop goes on
	}
	s.log.Info("namespace removed", "namespace", n.name)
	s.hooks.tell(hookDeleted, n.name)
	return nil
}

// changeSettings changes and saves the settings of a namespace; clear is a new password.
func (s *Server) changeSettings(n *namespace, change func(*settings), clear *string) error {
	s.admin.Lock()
	defer s.admin.Unlock()
	if s.lookup(n.name) != n || n.removed.Load() {
		return errNamespaceRemoved
	}
	if err := s.changeLocked(n, change); err != nil {
		return err
	}
	if clear != nil {
		n.known.Store(&credential{n.set.Load().Password, *clear})
	}
	return nil
}

// changeLocked is changeSettings for those who hold admin.
func (s *Server) changeLocked(n *namespace, change func(*settings)) error {
	set := *n.set.Load()
	change(&set)
	all := s.saved()
	stored := set
	if n.name == defaultNamespace {
		stored.Password, stored.MaxSize, stored.KeepDeleted = nil, 0, 0
	}
	all[n.name] = &stored
	if err := s.save(all); err != nil {
		return err
	}
	kept, size := *n.set.Load().retention(), n.segmentSize()
	n.set.Store(&set)
	r := *set.retention()
	if r == kept && size == n.segmentSize() {
		return nil // life is held by who empties a namespace
	}
	n.life.RLock()
	defer n.life.RUnlock()
	eng := n.eng.Load()
	if eng == nil { // it learns when it is opened
		return nil
	}
	eng.SetSegmentSize(n.segmentSize())
	if r == kept {
		return nil
	}
	return eng.SetRetention(r)
}

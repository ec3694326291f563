package server

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
)

// cmdNSNew is NSNEW name → OK. The namespace is public, without password and limit.
func cmdNSNew(s *session, args [][]byte) {
	if len(args[1]) > maxName {
		s.fail(errNamespaceLong)
		return
	}
	switch err := s.srv.createNamespace(s.srv.ctx, string(args[1]), s.srv.o.newSettings(), nil); err {
	case nil:
		s.ok()
	case errBadName:
		s.fail(errNameRefused)
	case errExists:
		s.fail(errNameTaken)
	default:
		s.srv.trouble("create namespace", string(args[1]), err)
		s.fail(errCannotCreate)
	}
}

// cmdNSDel is NSDEL name → OK. All its data is removed; sessions in it are told and closed.
func cmdNSDel(s *session, args [][]byte) {
	name := string(args[1])
	n := s.srv.lookup(name)
	switch {
	case len(name) > maxName:
		s.fail(errNamespaceLong)
	case name == defaultNamespace:
		s.fail(errDropDefault)
	case n == nil:
		s.fail(errUnknownToDrop)
	case name == s.ns.name:
		s.fail(errDropOwn)
	default:
		if err := s.srv.removeNamespace(s.srv.ctx, n); err != nil {
			s.srv.trouble("remove namespace", name, err)
			s.fail(errCannotDrop)
			return
		}
		s.ok()
	}
}

const (
	maxProperty      = 256
	maxPropertyValue = 63
)

// cmdNSSet is NSSET name property value → OK. Unlike the original's, lock and freeze outlive a restart.
func cmdNSSet(s *session, args [][]byte) {
	if len(args[1]) > maxName {
		s.fail(errNamespaceLong)
		return
	}
	if len(args[2]) > maxProperty || len(args[3]) > maxPropertyValue {
		s.fail(errTooLong)
		return
	}
	n := s.srv.lookup(string(args[1]))
	if n == nil {
		s.fail(errNoNamespace)
		return
	}
	property, value := string(args[2]), string(args[3])
	on := value[0] == '1'
	var clear *string
	var change func(*settings)
	switch property {
	case "lock":
		change = func(set *settings) { set.Locked, set.Frozen = on, false }
	case "freeze":
		change = func(set *settings) { set.Locked, set.Frozen = false, on }
	case "mode":
		s.setMode(n, value)
		return
	}
	if change == nil && n.name == defaultNamespace {
		s.fail(errUpdateDefault)
		return
	}
	switch property {
	case "maxsize":
		limit, err := parseSize(value)
		if err != nil {
			s.fail(errEmptyArgument)
			return
		}
		change = func(set *settings) { set.MaxSize = limit }
	case "password":
		if value == "*" {
			change = func(set *settings) { set.Password = nil }
			break
		}
		clear = &value
		hash := s.srv.hashing.newHash(value)
		change = func(set *settings) { set.Password = hash }
	case "public":
		change = func(set *settings) { set.Private = !on }
	case "worm":
		change = func(set *settings) { set.Worm = on }
	case "keep_last", "keep_deleted":
		if change = s.setKeep(property, value); change == nil {
			return
		}
	}
	if change == nil {
		s.fail(errProperty)
		return
	}
	switch err := s.srv.changeSettings(n, change, clear); err {
	case nil:
		s.ok()
		s.srv.hooks.tell(hookUpdated, n.name)
	case errNamespaceRemoved:
		s.fail(errNoNamespace)
	default:
		s.srv.trouble("save settings", n.name, err)
		s.fail(errCannotSaveProp)
	}
}

// setMode is NSSET name mode user|seq, for namespaces that never held a key.
func (s *session) setMode(n *namespace, value string) {
	if s.srv.o.Mode != ModeMixed {
		s.fail(errMode)
		return
	}
	if value != string(ModeUser) && value != string(ModeSequential) {
		s.fail(errModeValue)
		return
	}
	switch err := s.srv.changeMode(s.srv.ctx, n, Mode(value)); err {
	case nil:
		s.ok()
		s.srv.hooks.tell(hookUpdated, n.name)
	case errModeFixed:
		s.fail(errMode)
	case errModeUsed:
		s.fail(errModeInUse)
	case errNamespaceRemoved:
		s.fail(errNoNamespace)
	default:
		s.srv.trouble("change the mode", n.name, err)
		s.fail(errCannotSaveProp)
	}
}

// parseSize takes plain bytes; −1 is no limit as 0 is.
func parseSize(s string) (uint64, error) {
	if s == "-1" {
		return 0, nil
	}
	return strconv.ParseUint(strings.TrimPrefix(s, "+"), 10, 64)
}

// cmdNSList is NSLIST → the names, default first.
func cmdNSList(s *session, _ [][]byte) {
	names := s.srv.names()
	slices.SortFunc(names, func(a, b string) int {
		if (a == defaultNamespace) != (b == defaultNamespace) {
			if a == defaultNamespace {
				return -1
			}
			return 1
		}
		return cmp.Compare(a, b)
	})
	s.array(len(names))
	for _, name := range names {
		s.text(name)
	}
}

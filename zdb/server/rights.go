package server

import (
	"errors"
	"strings"

	"qsfs/zdb/client"
)

// adminRights are what AUTH checks. It is never changed, only replaced.
type adminRights struct {
	hash *passwordHash // nil when the password itself was given
	// known is the password in clear, when it was given or once it was seen to be right; see namespace.known.
	known *string
}

func newAdminRights(secret client.Secret) (*adminRights, error) {
	text := string(secret)
	switch {
	case text == "":
		return &adminRights{}, nil
	case strings.HasPrefix(text, hashMark):
		hash, err := parseHash(text)
		if err != nil {
			return nil, errors.Join(errors.New("the admin password"), err)
		}
		return &adminRights{hash: hash}, nil
	case len(text) > maxAuth:
		return nil, errors.New("the admin password is longer than 128 bytes")
	}
	return &adminRights{known: &text}, nil
}

// open says that there is no password: everybody is admin.
func (a *adminRights) open() bool { return a.hash == nil && a.known == nil }

// isAdmin reports whether password is the admin's.
func (s *Server) isAdmin(password string) bool {
	a := s.rights.Load()
	if a.known != nil {
		return samePassword(*a.known, password)
	}
	if a.hash == nil || !s.hashing.verify(a.hash, password) {
		return false
	}
	s.rights.CompareAndSwap(a, &adminRights{a.hash, &password})
	return true
}

// SetAdmin replaces the admin password, for AUTH from now on. A server that was opened without one cannot be given one:
// its connections have admin rights already.
func (s *Server) SetAdmin(secret client.Secret) error {
	a, err := newAdminRights(secret)
	if err != nil {
		return err
	}
	if a.open() != s.rights.Load().open() {
		return errors.New("a running server cannot begin or end to have an admin password")
	}
	s.admin.Lock()
	defer s.admin.Unlock()
	s.rights.Store(a)
	s.protectDefault(s.lookup(defaultNamespace))
	return nil
}

package server

import (
	"crypto/subtle"
	"strings"
)

const (
	maxName     = 128
	maxPassword = 255
	maxAuth     = 128
	hashHex     = 40
)

// cmdSelect is SELECT name [password] and SELECT name SECURE hash. A failure leaves the session where it was.
func cmdSelect(s *session, args [][]byte) {
	name := args[1]
	if len(name) > maxName {
		s.fail(errNamespaceLong)
		return
	}
	n := s.srv.lookup(string(name))
	if n == nil {
		s.fail(errNoNamespace)
		return
	}
	set := n.set.Load()
	switch {
	case set.Password == nil:
		s.enter(n, true)
	case len(args) == 2 && !set.Private:
		s.enter(n, false)
	case len(args) == 2:
		s.fail(errPrivate)
	case len(args) == 3:
		if len(args[2]) > maxPassword {
			s.fail(errPasswordLong)
		} else if !s.mayGuess() {
			return
		} else if !n.verify(string(args[2])) {
			s.deny()
		} else {
			s.enter(n, true)
		}
	case len(args) == 4:
		s.selectSecure(n, args)
	default:
		s.fail(errTooManyArgs)
	}
}

func (s *session) selectSecure(n *namespace, args [][]byte) {
	if !strings.EqualFold(string(args[2]), "SECURE") {
		s.fail(errOnlySecure)
		return
	}
	password, known := n.password()
	if s.nonce != "" && !known {
		// Only a hash of the password is kept over restarts, and the challenge cannot be checked against that.
		s.fail(errSecureNotKnown)
		return
	}
	if s.challenged(args[3], func() string { return password }) {
		s.enter(n, true)
	}
}

// challenged checks a response to the challenge of this session, which it uses up. On failure it has answered.
func (s *session) challenged(response []byte, password func() string) bool {
	if s.nonce == "" {
		s.fail(errNoChallenge)
		return false
	}
	if len(response) != hashHex {
		s.fail(errHashLength)
		return false
	}
	if !s.mayGuess() {
		return false
	}
	want := challengeResponse(s.nonce, password())
	s.nonce = ""
	if subtle.ConstantTimeCompare([]byte(want), response) != 1 {
		s.deny()
		return false
	}
	return true
}

func (s *session) enter(n *namespace, writable bool) {
	// Promises of one chunk are all of one namespace.
	if s.out.cur.seq != 0 && !s.flushed() {
		return
	}
	s.ns, s.writable = n, writable
	s.srv.watch.move(s, n.name)
	s.ok()
}

// cmdAuth is AUTH password, AUTH SECURE CHALLENGE and AUTH SECURE hash.
func cmdAuth(s *session, args [][]byte) {
	rights := s.srv.rights.Load()
	switch {
	case len(args) == 2:
		switch {
		case rights.open():
			s.fail(errAuthDisabled)
		case len(args[1]) == 0:
			s.fail(errEmptyArgument)
		case len(args[1]) > maxAuth:
			s.fail(errPasswordLong)
		case !s.mayGuess():
		case !s.srv.isAdmin(string(args[1])):
			s.deny()
		default:
			s.admin = true
			s.ok()
		}
	case len(args) != 3:
		s.fail(errArity)
	case len(args[1]) == 0 || len(args[2]) == 0:
		s.fail(errEmptyArgument)
	case !strings.EqualFold(string(args[1]), "SECURE"):
		s.fail(errOnlySecure)
	case strings.EqualFold(string(args[2]), "CHALLENGE"):
		s.nonce = newNonce()
		s.simple(s.nonce)
	case rights.open():
		s.fail(errAuthDisabled)
	case s.nonce != "" && rights.known == nil:
		s.fail(errSecureNotKnown) // as for namespaces, see selectSecure
	default:
		if s.challenged(args[2], func() string { return *rights.known }) {
			s.admin = true
			s.ok()
		}
	}
}

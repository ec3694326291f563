package server

import (
	"errors"
	"time"

	"qsfs/zdb"
)

// A command is one row of the table. Arity counts the name.
type command struct {
	name     string
	min, max int  // max 0 is no limit
	full     bool // no argument may be empty
	admin    bool
	few      string // error for too few, when it is not errArity
	together bool   // several in a row may be executed at once; see gather
	run      func(s *session, args [][]byte)
}

// The table of commands. Names are matched as a whole and without regard to case.
var commands = named(map[string]*command{
	"PING":        {min: 1, run: cmdPing},
	"TIME":        {min: 1, run: cmdTime},
	"INFO":        {min: 1, run: cmdInfo},
	"STOP":        {min: 1, run: cmdStop},
	"WAIT":        {min: 1, run: cmdWait},
	"MIRROR":      {min: 1, admin: true, run: cmdMirror},
	"HOOKS":       {min: 1, admin: true, run: cmdHooks},
	"INDEX":       {min: 2, full: true, admin: true, few: errMissing, run: cmdIndex},
	"DATA":        {min: 2, full: true, admin: true, few: errMissing, run: cmdData},
	"RELOAD":      {min: 2, max: 2, full: true, admin: true, run: cmdReload},
	"FLUSH":       {min: 1, run: cmdFlush},
	"HISTORY":     {min: 1, run: cmdHistory},
	"MASTER":      {min: 1, admin: true, run: func(s *session, _ [][]byte) { s.fail(errMaster) }},
	"AUTH":        {min: 1, run: cmdAuth},
	"*":           {min: 1, run: func(s *session, _ [][]byte) { s.fail(errNotACommand) }},
	"SET":         {min: 3, max: 4, together: true, run: cmdSet},
	"SETX":        {min: 3, max: 4, together: true, run: cmdSet},
	"CAS":         {min: 3, max: 4, run: cmdCAS},
	"GET":         {min: 2, max: 2, full: true, run: cmdGet},
	"MGET":        {min: 2, few: errArguments, run: cmdMGet},
	"DEL":         {min: 2, max: 3, full: true, run: cmdDel},
	"EXISTS":      {min: 2, max: 2, full: true, run: cmdExists},
	"CHECK":       {min: 2, max: 2, full: true, run: cmdCheck},
	"LENGTH":      {min: 2, max: 2, full: true, run: cmdLength},
	"KEYTIME":     {min: 2, max: 2, full: true, run: cmdKeyTime},
	"KEYCUR":      {min: 2, max: 2, full: true, run: cmdKeyCur},
	"SCAN":        {min: 1, run: cmdScan},
	"SCANX":       {min: 1, run: cmdScan},
	"RSCAN":       {min: 1, run: cmdRScan},
	"KSCAN":       {min: 2, max: 2, full: true, run: cmdKScan},
	"PSCAN":       {min: 2, max: 4, run: cmdPScan},
	"DBSIZE":      {min: 1, run: cmdDBSize},
	"INCARNATION": {min: 1, max: 1, run: cmdIncarnation},
	"SELECT":      {min: 2, few: errEmptyArgument, run: cmdSelect},
	"NSNEW":       {min: 2, max: 2, full: true, admin: true, run: cmdNSNew},
	"NSDEL":       {min: 2, max: 2, full: true, admin: true, run: cmdNSDel},
	"NSSET":       {min: 4, max: 4, full: true, admin: true, run: cmdNSSet},
	"NSINFO":      {min: 2, max: 2, full: true, run: cmdNSInfo},
	"NSLIST":      {min: 1, run: cmdNSList},
	"COMPACT":     {min: 2, max: 3, full: true, admin: true, run: cmdCompact},
	"TASK":        {min: 3, max: 4, full: true, admin: true, run: cmdTask},
	"KEPT":        {min: 2, max: 6, admin: true, run: cmdKept},
	"NSJUMP":      {min: 1, admin: true, run: cmdNSJump},
})

func named(table map[string]*command) map[string]*command {
	for name, c := range table {
		c.name = name
	}
	return table
}

// longestName bounds the names that are looked up.
const longestName = 16

func findCommand(name []byte) *command {
	if len(name) > longestName {
		return nil
	}
	var upper [longestName]byte
	for i, c := range name {
		if 'a' <= c && c <= 'z' {
			c -= 'a' - 'A'
		}
		upper[i] = c
	}
	return commands[string(upper[:len(name)])]
}

// execute runs one command and appends its reply.
func (s *session) execute(args [][]byte) {
	s.commands++
	for s.ns.removed.Load() {
		if !s.follow() {
			s.fail(errRemoved)
			s.hangUp = true
			return
		}
	}
	c := findCommand(args[0])
	if c == nil {
		s.srv.stats.failed.Add(1)
		s.fail(errUnsupported)
		return
	}
	s.announced = false
	s.args, s.command = args, c
	if s.allowed(c, args) {
		s.run(c, args)
	}
	s.announce()
	s.args = nil // it holds on to the memory of values
}

func (s *session) run(c *command, args [][]byte) {
	if s.srv.metrics == nil {
		c.run(s, args)
	} else {
		began := time.Now()
		s.joined = s.joined[:0]
		c.run(s, args)
		s.srv.metrics.observe(c, began)
		for _, c := range s.joined {
			s.srv.metrics.observe(c, began)
		}
	}
	if s.reserved > 0 {
		s.grew()
	}
}

// allowed checks what the table says of a command. On failure it has answered.
func (s *session) allowed(c *command, args [][]byte) bool {
	if c.admin && !s.admin {
		s.unauthorized()
		return false
	}
	if len(args) < c.min {
		if c.few != "" {
			s.fail(c.few)
		} else {
			s.fail(errArity)
		}
		return false
	}
	if c.max > 0 && len(args) > c.max {
		s.fail(errArity)
		return false
	}
	if c.full {
		for _, a := range args[1:] {
			if len(a) == 0 {
				s.fail(errEmptyArgument)
				return false
			}
		}
	}
	return true
}

// unauthorized answers that the command needs admin rights.
func (s *session) unauthorized() {
	s.srv.stats.unauthorized.Add(1)
	s.fail(errPermission)
}

// engine returns the engine's namespace of the session until s.ns.release, or answers the reason why there is none.
func (s *session) engine() *zdb.Namespace {
	eng, err := s.ns.acquire(s.srv.ctx)
	for errors.Is(err, errNamespaceRemoved) && s.follow() {
		eng, err = s.ns.acquire(s.srv.ctx)
	}
	if errors.Is(err, errNamespaceRemoved) {
		s.fail(errRemoved)
		s.hangUp = true
		return nil
	}
	if err != nil {
		s.trouble("open namespace", err)
		s.fail(errInternal)
		return nil
	}
	return eng
}

// trouble logs and counts what the engine failed to do for the session's namespace.
func (s *session) trouble(step string, err error) {
	s.ns.failures.Add(1)
	s.ns.failedAt.Store(time.Now().Unix())
	if damaged := (*zdb.CorruptionError)(nil); errors.As(err, &damaged) {
		s.ns.damage.Add(1)
	}
	s.srv.trouble(step, s.ns.name, err)
}

// maxKey is the longest key.
const maxKey = 255

// readable answers the error when the namespace is frozen.
func (s *session) readable() bool {
	if s.ns.set.Load().Frozen {
		s.fail(errFrozen)
		return false
	}
	return true
}

// mayWrite answers the error when the session or the namespace does not take writes.
func (s *session) mayWrite() bool {
	set := s.ns.set.Load()
	switch {
	case !s.writable:
		s.fail(errReadOnly)
	case set.Frozen:
		s.fail(errFrozen)
	case set.Locked:
		s.fail(errLocked)
	default:
		return true
	}
	return false
}

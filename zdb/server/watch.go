package server

import (
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"qsfs/zdb/resp"
)

// mirrorBacklog is how many bytes a mirroring connection may be behind before it is cut off. Nobody waits for it.
const mirrorBacklog = 16 << 20

// watchers are the sessions that want to know what others do: those that wait for one command, and those that mirror all.
type watchers struct {
	any atomic.Int32 // how many there are; nobody takes mu while it is 0

	mu      sync.Mutex
	waiters map[*session]*waiter
	mirrors map[*session]bool
}

// A waiter waits for one command in one namespace.
type waiter struct {
	namespace string
	command   *command // nil: any
	timer     *time.Timer
}

// wait replaces what s waits for.
func (w *watchers) wait(s *session, c *command, most time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.dropLocked(s)
	if w.waiters == nil {
		w.waiters = map[*session]*waiter{}
	}
	x := &waiter{namespace: s.ns.name, command: c}
	x.timer = time.AfterFunc(most, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.waiters[s] == x {
			w.dropLocked(s)
			s.tell(resp.AppendError(nil, errWaitOver))
		}
	})
	w.waiters[s] = x
	w.any.Add(1)
}

func (w *watchers) dropLocked(s *session) {
	if x := w.waiters[s]; x != nil {
		x.timer.Stop()
		delete(w.waiters, s)
		w.any.Add(-1)
	}
}

// move notes that s selected another namespace.
func (w *watchers) move(s *session, namespace string) {
	if w.any.Load() == 0 {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if x := w.waiters[s]; x != nil {
		x.namespace = namespace
	}
}

// mirror lets s see all commands of others.
func (w *watchers) mirror(s *session) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.mirrors == nil {
		w.mirrors = map[*session]bool{}
	}
	if !w.mirrors[s] {
		w.mirrors[s] = true
		w.any.Add(1)
	}
}

// leave forgets a session that ends.
func (w *watchers) leave(s *session) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.dropLocked(s)
	w.unmirrorLocked(s)
}

func (w *watchers) unmirrorLocked(s *session) {
	if w.mirrors[s] {
		delete(w.mirrors, s)
		w.any.Add(-1)
	}
}

// announce shows the command being executed to those who watch, once. Commands that change a key announce themselves under
// the key's lock, so that a mirror sees them in the order in which they took effect.
func (s *session) announce() {
	w := &s.srv.watch
	if s.announced || w.any.Load() == 0 {
		return
	}
	s.announced = true
	w.mu.Lock()
	defer w.mu.Unlock()
	var told map[*session]bool
	for o, x := range w.waiters {
		if o != s && x.namespace == s.ns.name && (x.command == nil || x.command == s.command) {
			w.dropLocked(o)
			o.tell(resp.AppendSimple(nil, s.command.name))
			if told == nil {
				told = map[*session]bool{}
			}
			told[o] = true
		}
	}
	var message []byte
	for o := range w.mirrors {
		// A command that somebody waited for is not told him twice: he could not tell it from the reply to his next one.
		if o == s || told[o] {
			continue
		}
		if message == nil {
			message = s.mirrored()
		}
		if err := o.out.inject(message, mirrorBacklog); err != nil {
			w.unmirrorLocked(o)
			s.srv.log.Warn("mirroring ends", "connection", o.number, "err", err)
		}
	}
}

// announceAll announces SETs that were executed together, in their order. Their keys are locked.
func (s *session) announceAll(sets []write) {
	if s.srv.watch.any.Load() == 0 {
		return
	}
	for i := range sets {
		s.command, s.args, s.announced = sets[i].command, sets[i].args, false
		s.announce()
	}
}

// tell sends a session the end of its WAIT.
func (s *session) tell(message []byte) { s.out.inject(message, mirrorBacklog) }

// mirrored is the command as a mirror sees it: time, namespace, number of the connection, and the arguments, without
// passwords.
func (s *session) mirrored() []byte {
	size := 64 + len(s.ns.name)
	for _, a := range s.args {
		size += len(a) + 16
	}
	b := resp.AppendArray(make([]byte, 0, size), 3+len(s.args))
	b = resp.AppendInt(b, time.Now().Unix())
	b = resp.AppendBulkString(b, s.ns.name)
	b = resp.AppendInt(b, s.number)
	for i, a := range s.args {
		if s.secret(i) {
			b = resp.AppendBulkString(b, hidden)
		} else {
			b = resp.AppendBulk(b, a)
		}
	}
	return b
}

// mirrorFor is how long a mirroring connection may send nothing: as good as for ever.
const mirrorFor = 10 * 365 * 24 * time.Hour

const hidden = "***"

// secret reports whether an argument of the command could be a password, or be made of one.
func (s *session) secret(i int) bool {
	word := func(i int, words ...string) bool {
		for _, w := range words {
			if i < len(s.args) && strings.EqualFold(string(s.args[i]), w) {
				return true
			}
		}
		return false
	}
	switch s.command.name {
	case "AUTH":
		return i > 0 && !word(i, "SECURE", "CHALLENGE")
	case "SELECT":
		return i > 1 && !(i == 2 && len(s.args) == 4 && word(i, "SECURE"))
	case "NSSET":
		return i > 2 && word(2, "password")
	}
	return false
}

const (
	waitDefault = 5 * time.Second
	waitLeast   = 100 // ms
	waitMost    = 1800000
	waitDigits  = 16
)

// cmdWait is WAIT command [milliseconds]: no reply now, but the command's name when somebody else executed it in the same
// namespace, or an error when nobody did in time. Meanwhile the connection may go on; a new WAIT replaces the last.
func cmdWait(s *session, args [][]byte) {
	if len(args) != 2 && len(args) != 3 {
		s.fail(errArguments)
		return
	}
	var c *command
	if name := args[1]; len(name) > 0 && string(name) != "*" {
		if c = s.srv.find(name); c == nil {
			s.fail(errUnknownWatch)
			return
		}
	}
	most := waitDefault
	if len(args) == 3 {
		ms, err := strconv.ParseInt(string(args[2]), 10, 64)
		if err != nil || len(args[2]) > waitDigits || ms < waitLeast || ms > waitMost {
			s.fail(errWaitTime)
			return
		}
		most = time.Duration(ms) * time.Millisecond
	}
	s.waits = time.Now().Add(most)
	s.srv.watch.wait(s, c, most)
}

// cmdMirror is MIRROR → a line, and from then on every known command that others execute. A client that does not keep up
// is cut off.
func cmdMirror(s *session, _ [][]byte) {
	s.simple(textMirror)
	if !s.flushed() { // before the first command
		return
	}
	s.waits = time.Now().Add(mirrorFor)
	s.srv.watch.mirror(s)
}

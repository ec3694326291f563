package server

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"qsfs/zdb"
)

// A Mode says who chooses the keys of a namespace.
type Mode string

const (
	// ModeMixed lets each namespace have its own mode; new ones begin in user mode.
	ModeMixed Mode = ""
	// ModeUser: keys are the clients'.
	ModeUser Mode = "user"
	// ModeSequential: keys are numbers that the server gives out, 8 bytes little endian for clients.
	ModeSequential Mode = "seq"
)

// idSize is the length of an id.
const idSize = 8

// In the engine an id is big endian, so that the order of the keys is that of the ids. The number that comes next lies
// under nextIDKey, which is written in one batch with each entry; it has another length than an id, so that no client
// can name it, and comes before all of them. It has no history: keep_last and keep_deleted do not count for it.
var nextIDKey = []byte{0}

// firstID is where the ids of a sequential namespace begin among the engine's keys.
var firstID = make([]byte, idSize)

// reversed turns an id from the clients' order of bytes to the engine's, or back.
func reversed(id []byte) []byte {
	id = slices.Clone(id)
	slices.Reverse(id)
	return id
}

func (n *namespace) sequential() bool { return n.set.Load().Sequential }

// outside turns a key of the engine into the client's.
func (n *namespace) outside(key []byte) []byte {
	if n.sequential() {
		return reversed(key)
	}
	return key
}

// inside turns a client's key, which exists, into the engine's.
func (n *namespace) inside(key []byte) []byte {
	if n.sequential() {
		return reversed(key)
	}
	return key
}

// get looks up a key of a client with its value.
func (n *namespace) get(ctx context.Context, eng *zdb.Namespace, key []byte) (zdb.Entry, error) {
	if n.sequential() && len(key) != idSize {
		return zdb.Entry{}, zdb.ErrNotFound
	}
	return eng.Get(ctx, n.inside(key))
}

// locate looks up a key of a client, without its value.
func (n *namespace) locate(ctx context.Context, eng *zdb.Namespace, key []byte) (zdb.Entry, error) {
	if n.sequential() {
		if len(key) != idSize {
			return zdb.Entry{}, zdb.ErrNotFound
		}
		key = reversed(key)
	}
	return eng.Locate(ctx, key)
}

// loadNextID reads which id comes next. The caller holds life for writing.
func (n *namespace) loadNextID(ctx context.Context, eng *zdb.Namespace) error {
	e, err := eng.Get(ctx, nextIDKey)
	switch {
	case errors.Is(err, zdb.ErrNotFound):
		n.nextID.Store(0)
		return nil
	case err != nil:
		return fmt.Errorf("read the next id: %w", err)
	case len(e.Value) != idSize:
		return fmt.Errorf("the next id has %d bytes", len(e.Value))
	}
	n.nextID.Store(binary.BigEndian.Uint64(e.Value))
	return nil
}

// commitID commits a value of a sequential namespace under id, or under the next id when it is empty. Each update uses up
// an id too, as in the original. It returns the id.
func (n *namespace) commitID(ctx context.Context, eng *zdb.Namespace, b *zdb.Batch, id, value []byte) ([]byte, zdb.Commit, error) {
	n.idMu.Lock() // until it is committed: the log must not hold a lower number behind a higher one
	defer n.idMu.Unlock()
	next := n.nextID.Load()
	if len(id) == 0 {
		id = binary.LittleEndian.AppendUint64(nil, next)
	}
	b.Set(reversed(id), value)
	b.Set(nextIDKey, binary.BigEndian.AppendUint64(nil, next+1))
	done, err := eng.Commit(ctx, b)
	if err == nil {
		n.nextID.Store(next + 1)
	}
	return id, done, err
}

var (
	errModeFixed = errors.New("the mode is fixed for all namespaces")
	errModeUsed  = errors.New("the namespace has been written to")
)

// changeMode sets the mode of a namespace that never held a key.
func (s *Server) changeMode(ctx context.Context, n *namespace, mode Mode) error {
	if s.o.Mode != ModeMixed {
		return errModeFixed
	}
	eng, err := n.acquire(ctx) // opens it
	if err != nil {
		return err
	}
	used := !unused(eng)
	n.release()
	if used { // the usual refusal does not wait for the commands that run
		return errModeUsed
	}
	s.admin.Lock()
	defer s.admin.Unlock()
	n.life.Lock() // nobody writes meanwhile
	defer n.life.Unlock()
	if eng = n.eng.Load(); eng == nil {
		return errNamespaceRemoved
	}
	if !unused(eng) {
		return errModeUsed
	}
	n.nextID.Store(0)
	err = s.changeLocked(n, func(set *settings) { set.Sequential = mode == ModeSequential })
	n.setPlain(eng)
	return err
}

// unused reports whether nothing was ever written to a namespace.
func unused(eng *zdb.Namespace) bool { return eng.Head().Seq.Counter() == 0 }

// fixMode gives a namespace the mode of the server when that has only one.
func (s *Server) fixMode(n *namespace, eng *zdb.Namespace) error {
	want := s.o.Mode == ModeSequential
	if s.o.Mode == ModeMixed || n.sequential() == want {
		return nil
	}
	if eng != nil && !unused(eng) {
		return fmt.Errorf("it is in %s mode and the server in %s mode", modeName(!want), modeName(want))
	}
	set := *n.set.Load()
	set.Sequential = want
	n.set.Store(&set)
	if eng != nil {
		n.setPlain(eng)
	}
	return nil
}

// setPlain tells the engine which key has no history: of the next id each write makes a version, which is nobody's.
func (n *namespace) setPlain(eng *zdb.Namespace) {
	if n.sequential() {
		eng.SetPlain(nextIDKey)
	} else {
		eng.SetPlain(nil)
	}
}

// modeName is what NSINFO calls it.
func modeName(sequential bool) string {
	if sequential {
		return "sequential"
	}
	return "userkey"
}

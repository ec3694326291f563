package server

import (
	"context"
	"errors"
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"

	"qsfs/zdb"
)

// defaultNamespace is where connections begin. It cannot be removed.
const defaultNamespace = "default"

// keyLocks is how many locks the keys of a namespace share.
const keyLocks = 1024

var keySeed = maphash.MakeSeed()

// A namespace is one namespace being served: the engine's, its settings, and what is counted of it.
//
// Lock order: forgetting, Server.admin, then life, then a key's lock. Who holds a key's lock may try for those of others, but
// waits for none; only recount takes all, in order.
type namespace struct {
	name string
	srv  *Server

	set atomic.Pointer[settings] // replaced as a whole, under Server.admin
	// known is the password in clear, once it was seen to be right. It spares the hashing of later connections, and is
	// what challenge authentication needs. It is never written anywhere. See password.
	known atomic.Pointer[credential]

	life    sync.RWMutex // held for reading by each command that uses eng, for writing to open and remove it
	eng     atomic.Pointer[zdb.Namespace]
	removed atomic.Bool
	// forgetting is held by who removes the files of a namespace that was set aside. It comes before all other locks.
	forgetting sync.Mutex

	keys [keyLocks]sync.Mutex // a write looks at the old value and replaces it under its key's lock

	durable atomic.Uint64 // the engine's durable sequence
	// A key that is found missing may have been deleted by a batch that is not durable yet. lastDelete is the sequence of
	// the newest delete, deleting how many are between becoming visible and being noted there.
	lastDelete atomic.Uint64
	deleting   atomic.Int64

	// successor takes over the sessions of a namespace that was emptied; see retire.
	successor atomic.Pointer[namespace]
	dirty     dirtySegments
	raw       rawReader

	turns turns

	idMu   sync.Mutex    // of a sequential namespace: held while an id is used up
	nextID atomic.Uint64 // changed under idMu

	failures, failedAt atomic.Int64 // commands that the engine failed, and when the last one was, in Unix seconds
	damage             atomic.Int64 // those of them that met damaged bytes

	quota      quota
	compaction compaction
	task       task

	count
	traffic
}

// traffic counts what a namespace served and took.
type traffic struct {
	gets, getBytes, sets, setBytes atomic.Int64
}

var errNamespaceRemoved = errors.New("namespace was removed")

// open opens the engine's namespace, if that has not been done.
func (n *namespace) open(ctx context.Context) error {
	n.life.Lock()
	defer n.life.Unlock()
	if n.removed.Load() {
		return errNamespaceRemoved
	}
	if n.eng.Load() != nil {
		return nil
	}
	o := n.srv.o.namespaceOptions()
	set := n.set.Load()
	if set.isRemoved() {
		o.Ballast, o.Prewrite = 0, false // nothing is written any more
	} else {
		o.OnSeal = n.jumped
	}
	o.Retention = set.retention()
	o.SegmentSize = n.segmentSize()
	if n.sequential() {
		o.Plain = nextIDKey
	}
	o.OnDurable = func(h zdb.Head) { n.durable.Store(uint64(h.Seq)) }
	eng, err := n.srv.db.Namespace(ctx, n.store(), o)
	if err != nil {
		return err
	}
	var first []byte
	if n.sequential() {
		first = firstID
		if err := n.loadNextID(ctx, eng); err != nil {
			return errors.Join(err, eng.Close())
		}
	}
	if err := n.count.begin(n.srv.ctx, eng, first); err != nil {
		return errors.Join(err, eng.Close())
	}
	raise(&n.durable, uint64(eng.Durable().Seq))
	n.lastDelete.Store(uint64(eng.Head().Seq))
	n.eng.Store(eng)
	return nil
}

// acquire returns the engine's namespace for the time until release.
func (n *namespace) acquire(ctx context.Context) (*zdb.Namespace, error) {
	n.life.RLock()
	for {
		if eng := n.eng.Load(); eng != nil {
			return eng, nil
		}
		removed := n.removed.Load()
		n.life.RUnlock()
		if removed {
			return nil, errNamespaceRemoved
		}
		if err := n.open(ctx); err != nil {
			return nil, err
		}
		n.life.RLock()
	}
}

func (n *namespace) release() { n.life.RUnlock() }

// detach ends all use of the namespace: when it returns, no command works on it and none will.
func (n *namespace) detach() error {
	n.life.Lock()
	defer n.life.Unlock()
	n.removed.Store(true)
	eng := n.eng.Swap(nil)
	if eng == nil {
		return nil
	}
	n.stopWork()
	return eng.Close()
}

// stopWork ends what works on the engine's namespace beside commands, before it is closed.
func (n *namespace) stopWork() {
	n.count.stop()
	n.quota.stop()
	n.compaction.stop()
	n.task.stop()
}

// lock takes the lock of a key.
func (n *namespace) lock(key []byte) *sync.Mutex {
	mu := &n.keys[stripeOf(key)]
	mu.Lock()
	return mu
}

// syncTo makes the namespace durable up to seq. It does not take life: a session may wait for it while it holds life, and
// whoever removes the namespace waits for the session. The engine answers an error when it is closed meanwhile.
func (n *namespace) syncTo(ctx context.Context, seq zdb.Seq) error {
	if n.durable.Load() >= uint64(seq) {
		return nil
	}
	eng := n.eng.Load()
	if eng == nil {
		return errNamespaceRemoved
	}
	if m := n.srv.metrics; m != nil {
		began := time.Now()
		defer func() { m.durable.Observe(time.Since(began).Seconds()) }()
	}
	return eng.SyncTo(ctx, seq)
}

// missSeq is what must be durable before a key may be called missing.
func (n *namespace) missSeq(eng *zdb.Namespace) zdb.Seq {
	if n.deleting.Load() > 0 {
		return eng.Head().Seq
	}
	return zdb.Seq(n.lastDelete.Load())
}

// raise sets v to at least to.
func raise(v *atomic.Uint64, to uint64) {
	for {
		old := v.Load()
		if old >= to || v.CompareAndSwap(old, to) {
			return
		}
	}
}

// verify reports whether password is the namespace's.
func (n *namespace) verify(password string) bool {
	hash := n.set.Load().Password
	if known := n.known.Load(); known.of(hash) {
		return samePassword(known.clear, password)
	}
	if hash == nil || !n.srv.hashing.verify(hash, password) {
		return false
	}
	n.known.Store(&credential{hash, password})
	return true
}

// A credential is a password in clear with the hash that it was seen to have. It counts as long as that is the one in
// force: a check takes its time, and the password may be changed meanwhile.
type credential struct {
	hash  *passwordHash
	clear string
}

func (c *credential) of(hash *passwordHash) bool { return c != nil && hash != nil && c.hash == hash }

// password is the password of the namespace in clear, when it is known.
func (n *namespace) password() (clear string, known bool) {
	if c := n.known.Load(); c.of(n.set.Load().Password) {
		return c.clear, true
	}
	return "", false
}

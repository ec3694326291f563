// Package server serves zdb namespaces over RESP.
//
// Each connection is a session with a goroutine of its own: commands of one connection run in their order, those of
// different connections at the same time. A write is answered when the log is durable up to it. The session does not
// wait for that: its replies wait in an outbox while it goes on with the next commands, and one fsync serves all replies,
// of all connections, whose batches it covers. A value that was read before it was durable is treated the same way, so
// no client ever sees what a crash could take back.
//
// The commands are those of the original 0-db, with its replies and error texts, but for MASTER; COMMANDS.md lists them.
// Four additions are ours:
//
//	CAS key new [expected]         compare and set; see cmdCAS
//	INCARNATION                    the random id of the selected namespace
//	PSCAN prefix [cursor] [count]  keys by prefix, in pages; see cmdPScan
//	INFO, NSINFO                   have further lines: traffic counters, and the incarnation
//
// Where the original is known to be broken, this server differs: command names are matched as a whole, bad framing gets one
// error line and the connection is closed, SCAN goes by the order of keys, challenge
// nonces are used once, wrong passwords get slower, lock and freeze outlive a restart.
package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"qsfs/zdb"
	"qsfs/zdb/internal/vfs"
	"qsfs/zdb/resp"
)

// A Server is an engine with its namespaces and the sessions that use them.
type Server struct {
	o       Options
	log     *slog.Logger
	db      *zdb.DB
	ctx     context.Context // of all work; its end cuts everything short
	cancel  context.CancelFunc
	hashing hashing
	buffers *resp.Buffers // for large requests of all sessions
	stats   stats
	disk    diskIO
	metrics *metrics // nil when they are not gathered
	guesses guesses
	started time.Time
	id      uint32

	rights atomic.Pointer[adminRights]

	admin  sync.Mutex // changes of the set of namespaces and of their settings
	fs     vfs.FS     // of their list
	unsure bool       // the list in place may not be the one in force; under admin
	spares spares     // room for the next lists; under admin

	mu         sync.RWMutex
	namespaces map[string]*namespace
	removed    map[string]*namespace // set aside for the admin

	draining   atomic.Bool
	connsMu    sync.Mutex
	listeners  map[net.Listener]bool
	conns      map[net.Conn]bool
	sessions   sync.WaitGroup
	batches    sync.Pool // *zdb.Batch, empty and with memory for many bytes
	watch      watchers
	hooks      *hooks
	find       func(name []byte) *command
	stop       chan struct{} // closed by STOP
	stopping   sync.Once
	closing    sync.Once
	background sync.WaitGroup // what runs beside sessions until ctx ends
	closeErr   error

	troubleMu sync.Mutex
	troubles  map[string]time.Time // when a trouble was last logged
}

// Open opens the engine and all namespaces. It does not listen yet.
func Open(ctx context.Context, o Options) (*Server, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	o = o.withDefaults()
	for _, dir := range []string{o.DataDir, o.IndexDir} {
		if err := makeDir(dir); err != nil {
			return nil, err
		}
	}
	s := &Server{
		o: o, log: o.Log, hashing: make(hashing, 2), started: time.Now(), id: 1 + rand.Uint32N(1<<30),
		namespaces: map[string]*namespace{}, removed: map[string]*namespace{}, listeners: map[net.Listener]bool{}, conns: map[net.Conn]bool{},
		find: findCommand, stop: make(chan struct{}), troubles: map[string]time.Time{}, guesses: guesses{of: map[string]*guesser{}}, buffers: resp.NewBuffers(o.MaxRequestMemory),
	}
	s.batches.New = func() any { return zdb.NewBatch() }
	rights, err := newAdminRights(o.Admin)
	if err != nil {
		return nil, err
	}
	s.rights.Store(rights)
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.hooks = newHooks(o.Hook, o.Instance, o.Log)
	s.hooks.ask(ctx, hookInit, o.IndexDir, o.DataDir)
	engine := o.engineOptions()
	if s.hooks.enabled() {
		engine.Fetch = (&restorer{o: o, hooks: s.hooks, files: map[string]*restored{}}).fetch
	}
	if o.Metrics {
		s.metrics = newMetrics()
		s.metrics.registry.MustRegister(collector{s})
		s.disk.fsync = s.metrics.fsync
	}
	if engine.FS == nil {
		engine.FS = vfs.OS
	}
	s.fs, s.spares = engine.FS, spares{fs: engine.FS, dir: o.DataDir}
	engine.FS = countedFS{engine.FS, &s.disk}
	db, err := zdb.Open(ctx, engine)
	if err != nil {
		s.cancel()
		s.hooks.close()
		return nil, err
	}
	s.db = db
	if err := s.openNamespaces(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	s.background.Go(s.forgetLoop)
	if o.Rotate > 0 {
		s.background.Go(s.rotate)
	}
	return s, nil
}

// Serve accepts connections of l until the server is closed. It closes l.
func (s *Server) Serve(l net.Listener) error {
	s.connsMu.Lock()
	if s.draining.Load() {
		s.connsMu.Unlock()
		return errors.Join(net.ErrClosed, l.Close())
	}
	s.listeners[l] = true
	s.connsMu.Unlock()
	s.log.Info("listening", "network", l.Addr().Network(), "address", l.Addr().String())
	for {
		nc, err := l.Accept()
		if err == nil {
			s.admit(nc)
			continue
		}
		if s.draining.Load() {
			return nil
		}
		if errors.Is(err, net.ErrClosed) {
			return err
		}
		// Out of descriptors, most likely: wait for connections to go, without a busy loop.
		s.trouble("accept", l.Addr().String(), err)
		select {
		case <-time.After(acceptPause):
		case <-s.ctx.Done():
		}
	}
}

const acceptPause = 100 * time.Millisecond

// admit starts a session, or says why there is none.
func (s *Server) admit(nc net.Conn) {
	number := s.stats.clients.Add(1)
	s.connsMu.Lock()
	refuse := len(s.conns) >= s.o.MaxConns
	if s.draining.Load() {
		s.connsMu.Unlock()
		nc.Close()
		return
	}
	if refuse {
		s.connsMu.Unlock()
		s.stats.refused.Add(1)
		if _, secure := nc.(*tls.Conn); !secure { // a handshake is not worth it
			// A new socket's send buffer takes one line at once.
			nc.SetWriteDeadline(time.Now().Add(acceptPause))
			nc.Write([]byte("-" + errConnections + "\r\n"))
		}
		nc.Close()
		return
	}
	s.conns[nc] = true
	s.connsMu.Unlock()
	s.sessions.Go(func() {
		defer func() {
			s.connsMu.Lock()
			delete(s.conns, nc)
			s.connsMu.Unlock()
		}()
		newSession(s, nc, number).serve()
	})
}

// Shutdown stops accepting, lets every session answer the commands that it has received, and closes. When ctx ends first,
// the connections are cut; what was acknowledged is durable all the same.
func (s *Server) Shutdown(ctx context.Context) error {
	s.drain()
	done := make(chan struct{})
	go func() {
		s.sessions.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
		s.log.Warn("clients did not take their replies in time, cutting them off", "connections", s.Connections())
	}
	err := s.Close()
	<-done
	return err
}

// Ready tells the hook program that the server is about to serve. An error says that the program does not want it to.
func (s *Server) Ready(ctx context.Context) error {
	if status := s.hooks.ask(ctx, hookReady); status != 0 {
		return fmt.Errorf("the hook %s refused to start the server with status %d", s.o.Hook, status)
	}
	return nil
}

// StopRequested returns a channel that is closed when a client with the right has sent STOP. Whoever runs the server
// should then call Shutdown.
func (s *Server) StopRequested() <-chan struct{} { return s.stop }

// drain closes the listeners and wakes sessions that wait for input.
func (s *Server) drain() {
	s.connsMu.Lock()
	defer s.connsMu.Unlock()
	s.draining.Store(true)
	for l := range s.listeners {
		l.Close()
	}
	for nc := range s.conns {
		nc.SetReadDeadline(time.Unix(1, 0))
	}
}

// Close cuts all connections and closes the engine. It is idempotent.
func (s *Server) Close() error {
	s.closing.Do(func() {
		s.drain()
		s.connsMu.Lock()
		for nc := range s.conns {
			nc.Close()
		}
		s.connsMu.Unlock()
		s.cancel()
		s.sessions.Wait()
		s.background.Wait()
		ctx, cancel := context.WithTimeout(context.Background(), s.hooks.goodbye)
		s.hooks.ask(ctx, hookClose)
		cancel()
		s.mu.RLock()
		defer s.mu.RUnlock()
		for _, n := range s.namespaces {
			n.tellClosing()
			s.closeErr = errors.Join(s.closeErr, n.detach())
		}
		for _, n := range s.removed {
			s.closeErr = errors.Join(s.closeErr, n.detach())
		}
		s.closeErr = errors.Join(s.closeErr, s.db.Close())
		s.hooks.close()
	})
	return s.closeErr
}

// Connections returns how many there are.
func (s *Server) Connections() int {
	s.connsMu.Lock()
	defer s.connsMu.Unlock()
	return len(s.conns)
}

// troublePause is how often the same trouble is logged at most: a full disk fails every write.
const troublePause = 10 * time.Second

// trouble logs an error that a client was told in short.
func (s *Server) trouble(step, namespace string, err error) {
	if s.ctx.Err() != nil {
		return
	}
	if s.metrics != nil {
		s.metrics.troubles.WithLabelValues(step).Inc()
	}
	key := fmt.Sprintf("%s %s %v", step, namespace, err)
	s.troubleMu.Lock()
	recent := time.Since(s.troubles[key]) < troublePause
	if !recent {
		if len(s.troubles) > 1000 {
			clear(s.troubles)
		}
		s.troubles[key] = time.Now()
	}
	s.troubleMu.Unlock()
	if !recent {
		s.log.Error("command failed", "step", step, "namespace", namespace, "err", err)
	}
}

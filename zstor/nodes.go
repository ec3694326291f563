package zstor

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"qsfs/zstor/client"
	"qsfs/zstor/config"
	"qsfs/zstor/internal/backend"
	"qsfs/zstor/internal/placement"
	"qsfs/zstor/internal/quorum"
)

// Names of the two namespaces.
const (
	nsMeta = client.NamespaceMeta
	nsData = client.NamespaceData
)

// openNodes makes the nodes of the configuration, without contacting them.
func (s *Store) openNodes() error {
	for _, b := range s.cfg.Nodes() {
		be, err := s.o.DataNode(b)
		if err != nil {
			return fmt.Errorf("node %s: %w", b.ID(), err)
		}
		po := backend.PeerOptions{ID: b.ID(), Group: b.Group, ProbeEvery: s.o.ProbeEvery, OnChange: s.nodeChanged}
		if !b.Durable.OnAck() {
			po.Durability = &backend.Durability{Unconfirmed: b.Durable.Never, After: b.Durable.After}
		}
		s.peers[b.ID()] = backend.NewPeer(be, po)
		s.order = append(s.order, b.ID())
	}
	for _, b := range s.cfg.Meta.Backends {
		n, err := s.o.MetaNode(b, s.cfg.Meta.Prefix)
		if err != nil {
			return fmt.Errorf("metadata node %s: %w", b.ID(), err)
		}
		s.metas = append(s.metas, n)
	}
	var err error
	s.set, err = quorum.Open(quorum.Options{
		Nodes: s.metas, Write: s.cfg.Meta.WriteQuorum, Read: s.cfg.Meta.ReadQuorum, RedundantGroups: s.cfg.RedundantGroups,
		Sealer: s.sealer, Notebook: quorum.NoteFile(filepath.Join(s.state, client.OwnerFile)), Log: s.log, Host: s.o.Host,
		TombstoneGrace: s.o.TombstoneGrace,
	})
	return err
}

// checkNodes waits shortly for a first word from each node. A refused password is an error, since
// waiting does not cure it; a node that is away is not.
func (s *Store) checkNodes(ctx context.Context) error {
	deadline := time.Now().Add(3 * time.Second)
	var errs []error
	for _, id := range s.order {
		p := s.peers[id]
		for {
			h := p.Health()
			if h.Up {
				break
			}
			if errors.Is(h.Last, backend.ErrPassword) || errors.Is(h.Last, backend.ErrNoNamespace) {
				errs = append(errs, fmt.Errorf("node %s: %w", id, h.Last))
				break
			}
			if h.Last != nil || time.Now().After(deadline) {
				s.log.Warn("node does not answer", "node", id, "error", h.Last)
				break
			}
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(5 * time.Millisecond):
			}
		}
	}
	errs = append(errs, s.checkKey(ctx))
	st := s.metaStatus(ctx)
	for _, n := range st.Nodes {
		if errors.Is(n.Err, backend.ErrPassword) || errors.Is(n.Err, backend.ErrNoNamespace) {
			errs = append(errs, fmt.Errorf("metadata node %s: %w", n.ID, n.Err))
		}
	}
	return errors.Join(errs...)
}

// checkKey finds out whether the key file belongs to the filesystem on the metadata nodes: if none of
// the epoch keys there opens, it does not.
func (s *Store) checkKey(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	var opened, refused atomic.Int32
	var wg sync.WaitGroup
	for _, n := range s.metas {
		wg.Go(func() {
			st, err := n.State(ctx)
			if err != nil || len(st.Epoch) == 0 {
				return
			}
			_, err = s.sealer.OpenOwner(st.Epoch)
			if err != nil {
				_, err = s.sealer.OpenMark(st.Mark) // a mark that opens: the key is right, the epoch key is damaged
			}
			if err != nil {
				refused.Add(1)
			} else {
				opened.Add(1)
			}
		})
	}
	wg.Wait()
	if opened.Load() == 0 && refused.Load() > 0 {
		return fmt.Errorf("%w: %d metadata nodes hold records that it does not open; look for the right key file or the recovery kit", config.ErrKeyWrong, refused.Load())
	}
	return nil
}

// metaStatus looks at the metadata nodes and remembers what it saw.
func (s *Store) metaStatus(ctx context.Context) quorum.Status {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	st := s.set.Status(ctx)
	s.mu.Lock()
	s.metaSeen, s.metaTime = st, time.Now()
	s.mu.Unlock()
	return st
}

// nodeChanged wakes whoever waits for nodes.
func (s *Store) nodeChanged(p *backend.Peer, up bool) {
	if up {
		s.log.Info("node is up", "node", p.ID())
	} else {
		s.log.Warn("node is down", "node", p.ID(), "error", p.Health().Last)
	}
	kick(s.kickWork)
	kick(s.kickAudit)
	s.retry()
}

// candidates tells placement about the nodes as they are now.
func (s *Store) candidates() []placement.Node {
	out := make([]placement.Node, 0, len(s.order))
	for _, id := range s.order {
		p := s.peers[id]
		h := p.Health()
		n := placement.Node{ID: id, Group: p.Group(), Health: placement.Up, Free: max(h.Info.Free, 0)}
		switch {
		case !h.Up:
			n.Health = placement.Down
		case h.Full:
			n.Health = placement.Full
		case h.Errors > 0.3:
			n.Health = placement.Suspect
		}
		out = append(out, n)
	}
	return out
}

// place chooses the nodes of a new generation: the main policy, or the fallback on what lives.
func (s *Store) place() (placement.Placement, error) {
	return placement.Choose(s.cfg.Policy(), s.cfg.QSFS.AckFloor, s.cfg.FallbackPolicy(), s.candidates(), nil)
}

// floor is how many shards count as stored under a code.
func (s *Store) floor(k int) int {
	if k == s.cfg.MinimalShards {
		return s.cfg.QSFS.AckFloor
	}
	return k + 1
}

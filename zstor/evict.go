package zstor

import (
	"context"
	"errors"
	"fmt"
	"time"

	"qsfs/zstor/client"
	"qsfs/zstor/config"
	"qsfs/zstor/internal/receipt"
	"qsfs/zstor/internal/record"
)

// healthyWithin is how fresh a node's last answer must be to count as healthy now.
const healthyWithin = 10 * time.Second

// Evict gives or refuses consent to remove the local d<N> of a sealed data segment: full placement
// under the policy, all of it confirmed, every node healthy now. In an emergency k+1 confirmed shards
// on healthy nodes are enough, unless the configuration forbids it.
func (s *Store) Evict(ctx context.Context, r client.EvictRequest) (client.EvictReply, error) {
	if r.Namespace != nsData {
		return client.EvictReply{Reason: "only file data is ever evicted"}, nil
	}
	k := record.SegmentKey{Namespace: r.Namespace, Segment: r.Segment}
	no := func(format string, args ...any) (client.EvictReply, error) {
		return client.EvictReply{Reason: fmt.Sprintf(format, args...)}, nil
	}
	if err := s.refusesAll(); err != nil {
		return no("%v", err)
	}
	ref, listed, known := s.lookup(k)
	if !known || !listed {
		return no("segment %s is in no cut yet", segmentObject(k))
	}
	m, err := s.manifestOf(ctx, k)
	if errors.Is(err, client.ErrNotDispersed) {
		return no("segment %s is not dispersed", segmentObject(k))
	}
	if err != nil {
		return client.EvictReply{}, err
	}
	if m.Generation != ref.Generation {
		return no("segment %s is being encoded anew", segmentObject(k))
	}
	if !s.objects.counts(k) {
		return no("the cut that names segment %s is not acknowledged yet", segmentObject(k))
	}
	healthy, reason := s.healthyConfirmed(ctx, m)
	spare := max(healthy-int(m.K), 0)
	if full(m) && healthy == int(m.N) {
		return client.EvictReply{OK: true, Spare: spare}, nil
	}
	if reason == "" {
		reason = "it is stored under the fallback"
	}
	if !r.Emergency || s.cfg.QSFS.Evict == config.EvictFull || healthy < s.floor(int(m.K)) {
		out, _ := no("segment %s has %d of %d confirmed shards on healthy nodes: %s", segmentObject(k), healthy, m.N, reason)
		out.Spare = spare
		return out, nil
	}
	// Without d<N> the segment is not shipped again; the receipt says what there is.
	s.receipts.Lock()
	defer s.receipts.Unlock()
	if now, listed, _ := s.lookup(k); !listed || now.Generation != m.Generation {
		return no("segment %s was encoded anew", segmentObject(k))
	}
	if r, err := receipt.Read(s.state, k.Namespace, k.Segment); err == nil && r.Manifest.Generation == m.Generation {
		return client.EvictReply{OK: true}, nil // that one, or a better one
	}
	if err := receipt.Write(s.state, k.Namespace, k.Segment, receipt.Receipt{Manifest: *m, Time: time.Now()}); err != nil {
		return client.EvictReply{}, err
	}
	return client.EvictReply{OK: true, Spare: spare}, nil
}

// refusesAll says why nothing at all may be evicted now.
func (s *Store) refusesAll() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.fenced != nil:
		return fmt.Errorf("another machine has taken over: %w", s.fenced)
	case s.att == nil || s.att.verdict != client.Verified:
		return errors.New("the state is not verified against the newest cut")
	}
	return nil
}

// healthyConfirmed counts the confirmed shards on nodes that answered just now, with the reason of
// the first that does not count. A node that was wiped or replaced since it confirmed them, or that does not even claim
// to have its shards any more, does not count.
func (s *Store) healthyConfirmed(ctx context.Context, m *record.Manifest) (int, string) {
	s.lookAtNodes()
	n, reason := 0, ""
	stripes := make([]uint32, m.DataStripes+m.IndexStripes)
	for i := range stripes {
		stripes[i] = uint32(i)
	}
	ctx, cancel := context.WithTimeout(ctx, healthyWithin)
	defer cancel()
	for _, h := range m.Nodes {
		why := ""
		p := s.peers[h.Node]
		switch {
		case h.State == record.GivenUp:
			continue
		case h.State != record.Confirmed:
			why = fmt.Sprintf("shard %d on %s is %v", h.Index, h.Node, h.State)
		case p == nil:
			why = h.Node + " is not configured any more"
		case !p.Up() || time.Since(p.Health().Answered) > healthyWithin:
			why = h.Node + " does not answer"
		}
		if why == "" {
			if doubted, other := s.doubts.of(h.Node, m.Object); other {
				why = h.Node + " was wiped or replaced: what it holds is being made again"
			} else if doubted {
				why = "it is being checked what " + h.Node + " holds"
			}
		}
		if why == "" {
			if absent, err := s.mover.Claimed(ctx, m, int(h.Index), stripes); err != nil {
				why = h.Node + " does not answer"
			} else if len(absent) > 0 {
				why = fmt.Sprintf("%s has lost %d of its shards", h.Node, len(absent))
				s.doubtObject(h.Node, m.Object)
			} else if life, _ := p.Life(); !s.doubts.looked(h.Node, life) {
				why = h.Node + " came up, or became another one, just now"
			}
		}
		if why == "" {
			n++
		} else if reason == "" {
			reason = why
		}
	}
	return n, reason
}

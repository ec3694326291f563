package server

import (
	"context"
	"strings"
	"sync"

	"qsfs/zdb"
)

// A compaction is what an admin asked for with COMPACT.
type compaction struct {
	mu       sync.Mutex
	running  bool
	progress zdb.CompactProgress
	result   zdb.CompactResult
	failed   bool
	stopped  bool
	cancel   context.CancelFunc
	wg       sync.WaitGroup
}

// cmdCompact gives the space of dead entries back while the server goes on, and says how far it is:
//
//	COMPACT ns [ALL]   → OK, it has begun, or was under way already
//	COMPACT ns STATUS  → [running 0/1, bytes done, bytes in all, segments removed, bytes copied, bytes freed, failed 0/1]
func cmdCompact(s *session, args [][]byte) {
	n := s.srv.lookup(string(args[1]))
	if n == nil {
		s.fail(errNoNamespace)
		return
	}
	all := false
	if len(args) == 3 {
		switch strings.ToUpper(string(args[2])) {
		case "STATUS":
			s.compactStatus(n)
			return
		case "ALL":
			all = true
		default:
			s.fail(errCompact)
			return
		}
	}
	eng, err := n.acquire(s.srv.ctx)
	if err != nil {
		s.srv.trouble("compact", n.name, err)
		s.fail(errInternal)
		return
	}
	n.compaction.start(n, eng, all)
	n.release()
	s.ok()
}

func (s *session) compactStatus(n *namespace) {
	c := &n.compaction
	c.mu.Lock()
	defer c.mu.Unlock()
	s.array(7)
	s.integer(oneIf(c.running))
	s.integer(c.progress.Done)
	s.integer(c.progress.Total)
	s.integer(int64(c.result.Segments))
	s.integer(c.result.Copied)
	s.integer(c.result.Freed)
	s.integer(oneIf(c.failed))
}

func oneIf(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

func (c *compaction) start(n *namespace, eng *zdb.Namespace, all bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.running || c.stopped {
		return
	}
	var ctx context.Context
	ctx, c.cancel = context.WithCancel(n.srv.ctx)
	c.running, c.failed, c.progress, c.result = true, false, zdb.CompactProgress{}, zdb.CompactResult{}
	c.wg.Go(func() {
		res, err := eng.Compact(ctx, zdb.CompactOptions{All: all, Progress: func(p zdb.CompactProgress) {
			c.mu.Lock()
			c.progress = p
			c.mu.Unlock()
		}})
		if err != nil {
			n.srv.trouble("compact", n.name, err)
		} else {
			n.srv.log.Info("compacted", "namespace", n.name, "segments", res.Segments, "copied", res.Copied, "freed", res.Freed)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.running, c.failed, c.result = false, err != nil, res
		c.cancel()
	})
}

// stop ends it, before the engine's namespace is closed.
func (c *compaction) stop() {
	c.mu.Lock()
	c.stopped = true
	if c.cancel != nil {
		c.cancel()
	}
	c.mu.Unlock()
	c.wg.Wait()
}

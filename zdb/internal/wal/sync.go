package wal

import (
	"context"
	"fmt"
	"time"

	"qsfs/zdb/crashpoint"
	"qsfs/zdb/internal/batch"
	"qsfs/zdb/segfile"
)

// syncRound is one fsync that several callers wait for.
type syncRound struct {
	done chan struct{}
}

// Sync makes everything that was appended before the call durable.
func (l *Log) Sync(ctx context.Context) error {
	return l.syncAll(ctx)
}

// SyncTo makes everything up to seq durable.
func (l *Log) SyncTo(ctx context.Context, seq segfile.Seq) error {
	l.mu.Lock()
	if l.durable.Seq >= seq {
		l.mu.Unlock()
		return nil
	}
	to := l.head.Pos
	l.mu.Unlock()
	return l.syncPos(ctx, to)
}

// SyncPos makes everything before a place durable.
func (l *Log) SyncPos(ctx context.Context, to Pos) error { return l.syncPos(ctx, to) }

func (l *Log) syncAll(ctx context.Context) error {
	return l.syncPos(ctx, l.Head().Pos)
}

// syncPos waits until all before to is durable. The first caller does the fsync
// for all; who comes while it runs waits for the next one.
func (l *Log) syncPos(ctx context.Context, to Pos) error {
	for {
		l.mu.Lock()
		if !l.durable.Before(to) {
			l.mu.Unlock()
			return nil
		}
		if err := l.stateLocked(); err != nil {
			l.mu.Unlock()
			return err
		}
		if r := l.round; r != nil {
			l.mu.Unlock()
			select {
			case <-r.done:
			case <-ctx.Done():
				return ctx.Err()
			}
			continue
		}
		r := &syncRound{done: make(chan struct{})}
		target, handle := l.head, l.active.handle.Retain()
		l.round = r
		l.mu.Unlock()
		err := l.syncRound(ctx, target, handle)
		l.mu.Lock()
		l.round = nil
		close(r.done)
		l.mu.Unlock()
		_ = handle.Release() // of a file whose content is already synced
		if err != nil {
			return err
		}
	}
}

// syncRound syncs up to target: first what it needs, then the log itself, so
// that no batch becomes durable before what it refers to.
func (l *Log) syncRound(ctx context.Context, target Head, handle *Handle) error {
	if l.o.SyncNeeds != nil && target.Needs > l.Durable().Needs {
		if err := l.o.SyncNeeds(ctx, target.Needs); err != nil {
			return fmt.Errorf("sync what the log needs: %w", err)
		}
	}
	crashpoint.Hit("zdb.sync.before")
	if err := l.fsync(handle); err != nil {
		return err
	}
	crashpoint.Hit("zdb.sync.after")
	l.count.Syncs.Add(1)
	now := time.Now()
	l.mu.Lock()
	if err := l.poison; err != nil {
		// Another fsync of this file failed meanwhile; a page that it lost counts as written for this one.
		l.mu.Unlock()
		return err
	}
	if l.durable.Before(target.Pos) {
		l.durable = target
	}
	if l.begun.Before(l.durable.Pos) {
		l.begun = l.durable.Pos
	}
	l.lastSync = now
	l.unsynced = time.Time{}
	if l.durable.Before(l.head.Pos) {
		l.unsynced = now
	}
	l.tellKeeperLocked()
	l.mu.Unlock()
	l.notify()
	return nil
}

// fsync of the active segment. A failure poisons before anybody else's fsync begins.
func (l *Log) fsync(handle *Handle) error {
	l.fsyncMu.Lock()
	defer l.fsyncMu.Unlock()
	if err := handle.SyncData(); err != nil {
		return l.Poison(fmt.Errorf("fsync: %w", err))
	}
	return nil
}

// notify tells the newest durable head to who asked for it, in order.
func (l *Log) notify() {
	if l.o.OnDurable == nil {
		return
	}
	l.notifyMu.Lock()
	defer l.notifyMu.Unlock()
	if d := l.Durable(); d.Pos != l.notified {
		l.notified = d.Pos
		l.o.OnDurable(d)
	}
}

// idle is how long nothing must have been written before a marker is.
const idle = 500 * time.Millisecond

// keep syncs what grows old and leaves markers, so that the last synced batch has a witness too.
func (l *Log) keep() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		wait := l.due()
		timer.Reset(wait)
		select {
		case <-l.stop:
			return
		case <-l.wake:
			continue
		case <-timer.C:
		}
		if err := l.tick(); err != nil {
			l.o.Log.Warn("background sync", "namespace", l.o.Namespace, "error", err)
			select {
			case <-l.stop:
				return
			case <-time.After(time.Second):
			}
		}
	}
}

// due is the time until tick has something to do. The keeper looks again no later.
func (l *Log) due() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	wait := l.dueLocked()
	l.keeperAt = time.Now().Add(wait)
	return wait
}

func (l *Log) dueLocked() time.Duration {
	if l.stateLocked() != nil {
		return time.Hour
	}
	if !l.unsynced.IsZero() {
		return max(0, time.Until(l.unsynced.Add(l.o.FlushInterval)))
	}
	if l.unwitnessedLocked() {
		return max(0, time.Until(l.lastSync.Add(idle)))
	}
	return time.Hour
}

// tellKeeperLocked wakes the keeper if it would come too late. It looks by itself once or twice a second while there is work; to
// wake it twice for each commit would cost as much as the commit.
func (l *Log) tellKeeperLocked() {
	if at := time.Now().Add(l.dueLocked()); at.Before(l.keeperAt) {
		l.keeperAt = at
		l.signal(l.wake)
	}
}

// unwitnessedLocked: entries are durable and nothing in the log says so.
func (l *Log) unwitnessedLocked() bool {
	return l.witnessed.Before(l.entryEnd) && !l.durable.Before(l.entryEnd)
}

func (l *Log) tick() error {
	l.mu.Lock()
	flush := !l.unsynced.IsZero() && time.Since(l.unsynced) >= l.o.FlushInterval
	mark := l.unsynced.IsZero() && l.unwitnessedLocked() && time.Since(l.lastSync) >= idle
	l.mu.Unlock()
	switch {
	case flush:
		return l.syncAll(context.Background())
	case mark:
		l.appendMu.Lock()
		err := l.markLocked(false)
		l.appendMu.Unlock()
		if err != nil {
			return err
		}
		return l.syncAll(context.Background()) // commits go on meanwhile
	}
	return nil
}

// markLocked writes a batch without entries that witnesses what is durable. appendMu is held.
func (l *Log) markLocked(clean bool) error {
	flags := uint16(batch.Marker)
	if clean {
		flags |= batch.CleanStop
	}
	l.mu.Lock()
	done := !clean && !l.unwitnessedLocked() // somebody wrote meanwhile
	l.mu.Unlock()
	if done {
		return nil
	}
	var b batch.Builder
	if _, err := l.writeLocked(&b, l.needs, flags, 0); err != nil {
		return fmt.Errorf("write marker: %w", err)
	}
	return nil
}

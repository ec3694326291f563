package wal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"qsfs/zdb/crashpoint"
	"qsfs/zdb/segfile"
)

const (
	// maxUnsealed bounds the segments that wait for the sealer; a rotation waits for it.
	maxUnsealed = 4
	sealRetry   = 2 * time.Second
)

// Seal ends the active segment and returns when its i<N> is durable. ErrEmpty: it has no entries.
func (l *Log) Seal(ctx context.Context) (segfile.ID, error) {
	l.appendMu.Lock()
	l.mu.Lock()
	empty := l.active.entries == 0
	l.mu.Unlock()
	if empty {
		l.appendMu.Unlock()
		return segfile.NoID, ErrEmpty
	}
	id, err := l.rotateLocked(ctx)
	l.appendMu.Unlock()
	if err != nil {
		return segfile.NoID, err
	}
	return id, l.waitSealed(ctx, false, func() (bool, error) {
		s := l.segments[id]
		return s == nil || s.sealed, l.sealErr
	})
}

// waitSealer waits until the sealer has caught up enough for one more segment. While
// it fails, nobody waits for its next attempt.
func (l *Log) waitSealer(ctx context.Context) error {
	return l.waitSealed(ctx, true, func() (bool, error) {
		return len(l.unsealed) < maxUnsealed, l.sealErr
	})
}

// waitSealed waits until ok says so, looking after each attempt to seal. tried:
// an error of the last attempt counts; else only one of an attempt that is still to come.
func (l *Log) waitSealed(ctx context.Context, tried bool, ok func() (bool, error)) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for ; ; tried = true {
		done, err := ok()
		if done {
			return nil
		}
		if tried && err != nil {
			return err
		}
		if err := l.stateLocked(); err != nil {
			return err
		}
		wait := l.sealDone
		l.mu.Unlock()
		select {
		case <-wait:
		case <-l.stop:
			l.mu.Lock()
			return ErrClosed
		case <-ctx.Done():
			l.mu.Lock()
			return ctx.Err()
		}
		l.mu.Lock()
	}
}

// sealer writes the index segments of closed segments, oldest first.
func (l *Log) sealer() {
	for {
		retry := time.Duration(0)
		for {
			l.mu.Lock()
			var s *segment
			if len(l.unsealed) > 0 {
				s = l.segments[l.unsealed[0]]
			}
			l.mu.Unlock()
			if s == nil {
				break
			}
			err := l.sealSegment(s)
			l.mu.Lock()
			l.sealErr = err
			close(l.sealDone)
			l.sealDone = make(chan struct{})
			l.mu.Unlock()
			if err != nil {
				l.o.Log.Error("seal failed, it will be tried again", "namespace", l.o.Namespace, "segment", s.id, "error", err)
				retry = sealRetry
				break
			}
			if l.stopped() {
				return
			}
		}
		var again <-chan time.Time
		if retry > 0 {
			again = time.After(retry)
		}
		select {
		case <-l.stop:
			return
		case <-l.sealWake:
		case <-again:
		}
	}
}

func (l *Log) stopped() bool {
	select {
	case <-l.stop:
		return true
	default:
		return false
	}
}

// sealSegment gives a closed segment its real length and its i<N>, whose rename
// is the moment at which it is sealed.
func (l *Log) sealSegment(s *segment) error {
	if err := l.trim(s); err != nil {
		return err
	}
	crashpoint.Hit("zdb.seal.synced")
	handle, err := l.acquire(s)
	if err != nil {
		return err
	}
	size, err := l.writeIndex(s, handle)
	if err = errors.Join(err, handle.Release()); err != nil {
		return fmt.Errorf("seal d%d: %w", s.id, err)
	}
	crashpoint.Hit("zdb.seal.dirsynced")
	l.mu.Lock()
	s.sealed, s.indexSize = true, size
	if i := slices.Index(l.unsealed, s.id); i >= 0 {
		l.unsealed = slices.Delete(l.unsealed, i, i+1)
	}
	l.mu.Unlock()
	l.o.Log.Debug("sealed", "namespace", l.o.Namespace, "segment", s.id, "bytes", s.length, "entries", s.entries)
	if l.o.OnSeal != nil {
		l.o.OnSeal(s.id)
	}
	return nil
}

// trim cuts zeros, or batches that were written again elsewhere, behind the end of d<N>.
func (l *Log) trim(s *segment) error {
	f, err := l.o.FS.Open(l.dataPath(s.id), true)
	if err != nil {
		return err
	}
	size, err := f.Size()
	if err == nil && size > s.length {
		err = f.Truncate(s.length)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("trim d%d: %w", s.id, err)
	}
	return nil
}

// writeIndex writes i<N> from what d<N> holds and returns its length.
func (l *Log) writeIndex(s *segment, data io.ReaderAt) (int64, error) {
	path := l.indexPath(s.id)
	tmp := path + ".tmp"
	f, err := l.o.FS.Create(tmp)
	if err != nil {
		return 0, err
	}
	size, err := l.describe(s, data, f, segfile.FooterVersion)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = l.o.FS.Rename(tmp, path)
	}
	if err != nil {
		return 0, errors.Join(err, ignoreMissing(l.o.FS.Remove(tmp)))
	}
	crashpoint.Hit("zdb.seal.renamed")
	return size, l.o.FS.SyncDir(l.o.IndexDir)
}

package wal

import "fmt"

// backStep is how much of the active segment becomes dirty before the kernel is told to write it.
const backStep = 4 << 20

// writeBehind has the kernel write the active segment while it grows. Left alone it would keep most of a segment for the fsync
// at its end, and nobody can write while that runs. What is synced before each reply never gets here.
func (l *Log) writeBehind() {
	for {
		select {
		case <-l.stop:
			return
		case <-l.behind:
		}
		if err := l.writeStep(); err != nil {
			l.o.Log.Warn("write back", "namespace", l.o.Namespace, "error", err)
		}
	}
}

func (l *Log) writeStep() error {
	l.mu.Lock()
	from := l.begun.Offset
	n := (l.head.Offset - from) / backStep * backStep
	if l.stateLocked() != nil || n == 0 {
		l.mu.Unlock()
		return nil
	}
	s, handle := l.active, l.active.handle.Retain()
	l.begun.Offset += n
	l.mu.Unlock()
	err := handle.WriteBack(from, n)
	if err != nil {
		// Pages that could not be written may be gone. The next fsync should say so; it is not waited for.
		err = l.Poison(fmt.Errorf("write back d%d: %w", s.id, err))
	}
	if rerr := handle.Release(); err == nil {
		err = rerr
	}
	return err
}

// tellWriteBehindLocked wakes it when a step is full.
func (l *Log) tellWriteBehindLocked() {
	if l.head.Offset-l.begun.Offset >= backStep {
		l.signal(l.behind)
	}
}

package wal

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"path/filepath"
	"slices"

	"qsfs/zdb/internal/vfs"
	"qsfs/zdb/segfile"
)

// The file that says who wrote what of the log is removed. Whoever has a copy of the log from some moment asks who wrote
// there, to tell a machine that went on from one that was rolled back, and compaction must not make it forget.
const (
	sessionsName  = "sessions"
	sessionsMagic = "QZDBSESS"
	sessionsFixed = 16 // magic, version, number
	sessionsEach  = 16
	maxSessions   = 4096 // the newest of them
)

func appendSessions(b []byte, list []segfile.SessionStart) []byte {
	start := len(b)
	le := binary.LittleEndian
	b = append(b, sessionsMagic...)
	b = append(b, segfile.Version, 0, 0, 0)
	b = le.AppendUint32(b, uint32(len(list)))
	for _, s := range list {
		b = le.AppendUint64(b, uint64(s.First))
		b = le.AppendUint64(b, s.Session)
	}
	return le.AppendUint32(b, crc32.Checksum(b[start:], segfile.Castagnoli))
}

func parseSessions(p []byte) (list []segfile.SessionStart, err error) {
	le := binary.LittleEndian
	if len(p) < sessionsFixed+4 || string(p[:8]) != sessionsMagic || p[8] != segfile.Version ||
		le.Uint32(p[len(p)-4:]) != crc32.Checksum(p[:len(p)-4], segfile.Castagnoli) {
		return nil, fmt.Errorf("%w: list of sessions", segfile.ErrFormat)
	}
	if n := int64(le.Uint32(p[12:])); n > maxSessions || int64(len(p)) != sessionsFixed+n*sessionsEach+4 {
		return nil, fmt.Errorf("%w: length of the list of sessions", segfile.ErrFormat)
	}
	for at := sessionsFixed; at < len(p)-4; at += sessionsEach {
		list = append(list, segfile.SessionStart{First: segfile.Seq(le.Uint64(p[at:])), Session: le.Uint64(p[at+8:])})
	}
	return list, nil
}

func (l *Log) sessionsPath() string { return filepath.Join(l.o.DataDir, sessionsName) }

// loadSessions puts what is recorded before what the segments say: of the same sequence the latter counts, for what was
// unconfirmed was written again.
func (l *Log) loadSessions() error {
	p, err := vfs.ReadFile(l.o.FS, l.sessionsPath(), sessionsFixed+maxSessions*sessionsEach+4)
	if errors.Is(err, vfs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	list, err := parseSessions(p)
	if err != nil {
		l.o.Log.Warn("list of sessions is damaged: some of who wrote what was compacted is forgotten", "namespace", l.o.Namespace, "error", err)
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.recorded = list
	l.sessions = mergeSessions(list, l.sessions)
	return nil
}

// mergeSessions orders them by their first sequence, each where it began. One that only moved entries began where the next one did.
func mergeSessions(a, b []segfile.SessionStart) []segfile.SessionStart {
	known := make(map[segfile.SessionStart]bool, len(a))
	for _, s := range a {
		known[s] = true
	}
	all := slices.Clone(a)
	for _, s := range b {
		if !known[s] {
			all = append(all, s)
		}
	}
	slices.SortStableFunc(all, func(x, y segfile.SessionStart) int { return cmp.Compare(x.First, y.First) })
	return slices.CompactFunc(all, func(x, y segfile.SessionStart) bool { return x.Session == y.Session })
}

// keepSessions records who wrote before segments go that say so. removeMu is held.
func (l *Log) keepSessions(ids []segfile.ID) error {
	l.mu.Lock()
	have := make(map[uint64]bool)
	for _, s := range l.recorded {
		have[s.Session] = true
	}
	all := true
	for _, id := range ids {
		for _, s := range l.segments[id].sessions {
			all = all && have[s.Session]
		}
	}
	list := slices.Clone(l.sessions[max(0, len(l.sessions)-maxSessions):])
	l.mu.Unlock()
	if all {
		return nil
	}
	if err := vfs.WriteFile(l.o.FS, l.sessionsPath(), appendSessions(nil, list)); err != nil {
		return fmt.Errorf("record sessions: %w", err)
	}
	l.mu.Lock()
	l.recorded = list
	l.mu.Unlock()
	return nil
}

package zdbfs

import (
	"context"
	"fmt"

	"qsfs/zdb"
	"qsfs/zdbfs/internal/meta"
)

// Session says which opening wrote the log from a sequence on.
type Session struct {
	First zdb.Seq
	ID    uint64
}

// keepSessions is how many openings are remembered: what a cut may be old.
const keepSessions = 16

// noteSession writes the row of this session, keyed by the sequence of the batch it is in. That one is guessed, and put
// right if the guess was wrong (the first batch of a new epoch).
func (fs *FS) noteSession(ctx context.Context) error {
	old, err := fs.Sessions(ctx)
	if err != nil {
		return err
	}
	guess := fs.meta.Head().Seq + 1
	id := meta.AppendUint64(nil, fs.o.Session)
	var first, b batch
	first.set(meta.SessionKey(uint64(guess)), id)
	c, err := fs.commitBatch(&first, 0)
	if err != nil {
		return err
	}
	if c.First != guess {
		b.del(meta.SessionKey(uint64(guess)))
		b.set(meta.SessionKey(uint64(c.First)), id)
	}
	for ; len(old) >= keepSessions; old = old[1:] {
		b.del(meta.SessionKey(uint64(old[0].First)))
	}
	return fs.commit(&b, 0)
}

// Sessions returns the last openings, this one included, oldest first.
func (fs *FS) Sessions(ctx context.Context) ([]Session, error) {
	var out []Session
	err := fs.scan(ctx, meta.KindSession, func(k meta.Key, v []byte) error {
		id, err := meta.DecodeUint64(v)
		out = append(out, Session{First: zdb.Seq(k.A), ID: id})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read sessions: %w", err)
	}
	return out, nil
}

// Heads returns heads of both namespaces that belong together: everything up to them is stable, and what the metadata
// needs is in the data. The metadata's is taken first, so the data may be ahead, never behind.
func (fs *FS) Heads(ctx context.Context) (metaHead, dataHead zdb.Head, err error) {
	metaHead = fs.meta.Durable()
	if err := fs.data.SyncTo(ctx, metaHead.Needs); err != nil {
		return zdb.Head{}, zdb.Head{}, fmt.Errorf("sync the content that the metadata needs: %w", err)
	}
	return metaHead, fs.data.Durable(), nil
}

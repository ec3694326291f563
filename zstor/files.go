package zstor

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/zeebo/blake3"
	"golang.org/x/sync/errgroup"

	"qsfs/zstor/client"
	"qsfs/zstor/internal/codec"
	"qsfs/zstor/internal/note"
	"qsfs/zstor/internal/quorum"
	"qsfs/zstor/internal/record"
	"qsfs/zstor/internal/transfer"
)

// fileFacts is what is stored of a file beside its content, on stripes of its own behind it.
type fileFacts struct {
	Name    string      `json:"name"`
	Mode    fs.FileMode `json:"mode"`
	ModTime time.Time   `json:"mtime"`
}

// fileObject names the object of a file. The hash keeps it short; the name itself is in the facts.
func fileObject(name string) string {
	sum := blake3.Sum256([]byte(name))
	return filePrefix + hex.EncodeToString(sum[:16])
}

// fileName applies the configured root: names are relative to it, and nothing outside is taken.
func (s *Store) fileName(r client.FileRequest) (string, error) {
	if r.Name != "" {
		return r.Name, nil
	}
	if !filepath.IsAbs(r.Path) {
		return "", fmt.Errorf("%w: %q is not an absolute path", client.ErrBadRequest, r.Path)
	}
	path := filepath.Clean(r.Path)
	if s.cfg.Root == "" {
		return path, nil
	}
	rel, err := filepath.Rel(s.cfg.Root, path)
	if err != nil || rel == ".." || strings.HasPrefix(rel, "../") {
		return "", fmt.Errorf("%w: %s is not under root (%s)", client.ErrBadRequest, path, s.cfg.Root)
	}
	return rel, nil
}

// StoreFile disperses a file as an object of its own. When it returns nil the object is at the
// floor and its manifest on record.
func (s *Store) StoreFile(ctx context.Context, r client.FileRequest, progress func(client.Progress)) error {
	if err := s.wantOwner(); err != nil {
		return err
	}
	name, err := s.fileName(r)
	if err != nil {
		return err
	}
	unlock, err := s.names.lock(ctx, fileObject(name))
	if err != nil {
		return err
	}
	defer unlock()
	f, err := os.Open(r.Path)
	if err != nil {
		return fmt.Errorf("%w: %w", client.ErrBadRequest, err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	if !st.Mode().IsRegular() {
		return fmt.Errorf("%w: %s is not a regular file", client.ErrBadRequest, r.Path)
	}
	old, err := s.fileManifest(ctx, name)
	switch {
	case err == nil && !r.Replace:
		return fmt.Errorf("%w: %q is stored already (generation %v): replace it on purpose, or choose another name", client.ErrBadRequest, name, old.Generation)
	case err != nil && !errors.Is(err, client.ErrNotDispersed):
		return err
	}
	facts, err := json.Marshal(fileFacts{Name: name, Mode: st.Mode().Perm(), ModTime: st.ModTime().UTC()})
	if err != nil {
		return err
	}
	gen, man, err := s.sendFile(ctx, fileObject(name), f, st.Size(), facts, progress)
	if err != nil {
		return wireError(err)
	}
	now, err := f.Stat()
	if err == nil && (now.Size() != st.Size() || !now.ModTime().Equal(st.ModTime())) {
		err = fmt.Errorf("%w: %s changed while it was read", client.ErrBadRequest, r.Path)
	}
	if err != nil {
		s.intents.release(gen)
		return err
	}
	if old != nil {
		// On record before its manifest is replaced: a process that ends in between leaves it to the next one.
		if err := s.intents.replacing(ctx, old); err != nil {
			s.intents.release(gen)
			return wireError(err)
		}
	}
	if err := s.putFileManifest(ctx, man); err != nil {
		// Some node may have the manifest all the same, and then it is the newest. Both generations stay in use, so that
		// nothing of them is deleted; the next start finds out which manifest counts.
		return err
	}
	s.doubtRenewed(gen)
	s.rooted(man)
	if old != nil {
		s.intents.buryFile(old)
		s.chores.superseded(man.Object)
		kick(s.kickWork)
	}
	return nil
}

func (s *Store) sendFile(ctx context.Context, object string, f io.ReaderAt, length int64, facts []byte, progress func(client.Progress)) (_ *transfer.Generation, _ *record.Manifest, err error) {
	count := func(size int) (data, index uint32) {
		return codec.Stripes(length, size), codec.Stripes(int64(len(facts)), size)
	}
	gen, err := s.begin(ctx, object, func(size int) uint32 { d, i := count(size); return d + i })
	if err != nil {
		return nil, nil, err
	}
	defer func() {
		if err != nil {
			s.intents.release(gen)
		}
	}()
	size := gen.Spec().StripeSize
	data, index := count(size)
	sent := &sentBytes{total: length, progress: progress}
	g := &segment{s: s, gen: gen}
	err = g.parallel(ctx, 0, data+index, func(ctx context.Context, stripe uint32) error {
		src, sq, total := f, stripe, length
		var end codec.End
		if stripe >= data {
			src, sq, total = bytes.NewReader(facts), stripe-data, int64(len(facts))
		} else if stripe == data-1 {
			end |= codec.EndOfData
		}
		if stripe == data+index-1 {
			end |= codec.EndOfObject
		}
		off, n := codec.StripeSpan(sq, total, size)
		err := gen.WriteStripe(ctx, stripe, end, int(n), func(p []byte) error { return readFull(src, p, off) })
		if err == nil && stripe < data {
			sent.add(n)
		}
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	man, err := gen.Manifest(length, int64(len(facts)))
	return gen, man, err
}

// putFileManifest roots a file: its manifest is found by the object alone, the newest one counts.
func (s *Store) putFileManifest(ctx context.Context, m *record.Manifest) error {
	body, err := m.Encode()
	if err != nil {
		return err
	}
	_, err = s.set.Put(ctx, record.KindManifest, m.Object, body)
	if s.noteFenced(err) {
		return fmt.Errorf("%w: %w", client.ErrFenced, err)
	}
	if err == nil {
		s.chores.made(m.Object)
	}
	return err
}

func (s *Store) fileManifest(ctx context.Context, name string) (*record.Manifest, error) {
	m, err := s.manifestOfFile(ctx, fileObject(name))
	if err == nil && m == nil {
		return nil, fmt.Errorf("%w: no file %q is stored", client.ErrNotDispersed, name)
	}
	return m, err
}

// outlive makes sure, before the shards of a file's generation are deleted that an earlier process left, that its manifest
// never counts. It may be on a metadata node that is away, and would be the newest one when the node is back: what counts
// now is written again, as a newer version. It reports whether the shards may go.
func (s *Store) outlive(ctx context.Context, e *intentEntry) (bool, error) {
	unlock := s.names.tryLock(e.Object)
	if unlock == nil {
		return false, nil // the name is being stored: later
	}
	defer unlock()
	f, err := s.set.Newest(ctx, record.KindManifest, e.Object)
	if errors.Is(err, quorum.ErrNotFound) {
		if _, err := s.set.Tombstone(ctx, record.KindManifest, e.Object, f.Version); err != nil {
			return false, err
		}
		s.chores.deleted(e.Object, s.tombstoneGrace())
		return true, nil
	}
	if err != nil {
		return false, err
	}
	m, err := record.DecodeManifest(f.Body)
	if err != nil {
		return false, err
	}
	if m.Generation == e.Generation {
		s.rooted(m) // it counts after all
		return false, nil
	}
	if err := s.putFileManifest(ctx, m); err != nil {
		return false, err
	}
	s.chores.superseded(e.Object)
	return true, nil
}

// manifestOfFile reads the manifest that counts of a file's object; nil when there is none.
func (s *Store) manifestOfFile(ctx context.Context, object string) (*record.Manifest, error) {
	f, err := s.set.Newest(ctx, record.KindManifest, object)
	switch {
	case errors.Is(err, quorum.ErrNotFound):
		return nil, nil
	case errors.Is(err, quorum.ErrQuorum):
		return nil, fmt.Errorf("%w: %w", client.ErrUnavailable, err)
	case err != nil:
		return nil, err
	}
	return record.DecodeManifest(f.Body)
}

func (s *Store) facts(ctx context.Context, m *record.Manifest) (fileFacts, error) {
	var b []byte
	for stripe := m.DataStripes; stripe < m.DataStripes+m.IndexStripes; stripe++ {
		plain, release, err := s.readPatiently(ctx, m, stripe)
		if err != nil {
			return fileFacts{}, wireError(err)
		}
		b = append(b, plain...)
		release()
	}
	var facts fileFacts
	if err := json.Unmarshal(b, &facts); err != nil || int64(len(b)) != m.IndexLen {
		return facts, fmt.Errorf("%w: the facts of %s do not parse", client.ErrDamaged, m.Object)
	}
	return facts, nil
}

// RetrieveFile writes a dispersed file to a path, whole or not at all.
func (s *Store) RetrieveFile(ctx context.Context, r client.FileRequest, progress func(client.Progress)) (err error) {
	name, err := s.fileName(r)
	if err != nil {
		return err
	}
	if !filepath.IsAbs(r.Path) {
		return fmt.Errorf("%w: %q is not an absolute path", client.ErrBadRequest, r.Path)
	}
	if _, err := os.Lstat(r.Path); err == nil && !r.Replace {
		return fmt.Errorf("%w: %s exists", client.ErrBadRequest, r.Path)
	}
	m, err := s.fileManifest(ctx, name)
	if err != nil {
		return err
	}
	facts, err := s.facts(ctx, m)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(r.Path), ".zstor*")
	if err != nil {
		return fmt.Errorf("%w: %w", client.ErrBadRequest, err)
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name()) // what matters is the first error
		}
	}()
	err = s.receiveFile(ctx, f, m, progress)
	if err == nil {
		err = f.Chmod(facts.Mode.Perm())
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Chtimes(f.Name(), time.Time{}, facts.ModTime); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), r.Path); err != nil {
		return err
	}
	return note.SyncDir(filepath.Dir(r.Path))
}

func (s *Store) receiveFile(ctx context.Context, f *os.File, m *record.Manifest, progress func(client.Progress)) error {
	got := &sentBytes{total: m.DataLen, progress: progress}
	grp, ctx := errgroup.WithContext(ctx)
	grp.SetLimit(stripesAtOnce)
	for stripe := range m.DataStripes {
		grp.Go(func() error {
			plain, release, err := s.readPatiently(ctx, m, stripe)
			if err != nil {
				return wireError(err)
			}
			defer release()
			off, n := codec.StripeSpan(stripe, m.DataLen, int(m.StripeSize))
			if int64(len(plain)) != n {
				return fmt.Errorf("%w: stripe %d has %d bytes, %d were expected", client.ErrDamaged, stripe, len(plain), n)
			}
			_, err = f.WriteAt(plain, off)
			got.add(n)
			return err
		})
	}
	return grp.Wait()
}

// Files lists the files that were stored by name.
func (s *Store) Files(ctx context.Context) ([]client.FileInfo, error) {
	l, err := s.set.List(ctx, record.KindManifest)
	if errors.Is(err, quorum.ErrQuorum) {
		return nil, fmt.Errorf("%w: %w", client.ErrUnavailable, err)
	}
	if err != nil {
		return nil, err
	}
	out := []client.FileInfo{}
	for _, r := range l.Records {
		if !strings.HasPrefix(r.Object, filePrefix) {
			continue
		}
		m, err := record.DecodeManifest(r.Body)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", client.ErrDamaged, err)
		}
		facts, err := s.facts(ctx, m)
		if err != nil {
			return nil, err
		}
		out = append(out, client.FileInfo{
			Name: facts.Name, Size: m.DataLen, Time: m.Time, Generation: m.Generation.String(),
			Code: fmt.Sprintf("%d-of-%d", m.K, m.N), Checksum: hex.EncodeToString(m.Checksum[:]), Full: full(m),
		})
	}
	return out, nil
}

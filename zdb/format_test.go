package zdb

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"qsfs/zdb/internal/batch"
	"qsfs/zdb/segfile"
)

var writeTestdata = flag.Bool("write-testdata", false, "write testdata for the present format version anew")

// TestReleased opens files of every released format version.
func TestReleased(t *testing.T) {
	current := fmt.Sprintf("v%d", segfile.FooterVersion)
	if *writeTestdata {
		writeReleased(t, filepath.Join("testdata", current))
	}
	dirs, err := filepath.Glob("testdata/v*")
	if err != nil || len(dirs) < segfile.FooterVersion {
		t.Fatalf("released versions: %v, %v", dirs, err)
	}
	for _, from := range dirs {
		dir := t.TempDir()
		if err := os.CopyFS(dir, os.DirFS(from)); err != nil {
			t.Fatal(err)
		}
		db := openAt(t, dir, func(o *Options) { o.Epoch = 1 })
		n := openNS(t, db, "ns", NamespaceOptions{InlineMax: 16})
		wantKeys(t, n, "empty large moved small tail")
		wantValue(t, n, "small", "new")
		wantValue(t, n, "large", strings.Repeat("0123456789", 5000))
		wantValue(t, n, "tail", "after the clean stop")
		if e, err := n.Get(t.Context(), []byte("moved")); err != nil || e.Seq != MakeSeq(1, 2) || e.Time.UnixNano() != 1e18 {
			t.Errorf("moved entry: %+v, %v", e, err)
		}
		if s := n.Segments(); len(s) != 2 || !s[0].Sealed || s[1].Sealed {
			t.Errorf("segments %+v", s)
		}
		put(t, n, "more", "x")
		if _, err := n.Seal(t.Context()); err != nil {
			t.Fatal(err)
		}
		// Each i<N> is what d<N> gives in the version of its footer.
		res, err := n.Check(t.Context(), CheckOptions{})
		if err != nil {
			t.Fatal(err)
		}
		wantClean(t, from, res)
		for i, want := range []uint16{releasedFooter(t, from), segfile.FooterVersion} {
			f, err := segfile.ReadFooter(filepath.Join(dir, "index", "ns", SegmentID(i).IndexName()))
			if err != nil || f.Version != want {
				t.Errorf("%s: i%d has version %d, want %d, %v", from, i, f.Version, want, err)
			}
		}
	}
}

func releasedFooter(t *testing.T, dir string) (version uint16) {
	t.Helper()
	if _, err := fmt.Sscanf(filepath.Base(dir), "v%d", &version); err != nil {
		t.Fatal(err)
	}
	return version
}

// TestReleasedSums: the sum over all of every released version is computed anew and compared; what differs is mended.
func TestReleasedSums(t *testing.T) {
	dirs, err := filepath.Glob("testdata/v*")
	if err != nil || len(dirs) < segfile.FooterVersion {
		t.Fatalf("released versions: %v, %v", dirs, err)
	}
	for _, from := range dirs {
		dir := t.TempDir()
		if err := os.CopyFS(dir, os.DirFS(from)); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, "index", "ns", "i0")
		good, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		f, err := segfile.ReadFooter(path)
		if err != nil || f.Version != releasedFooter(t, from) {
			t.Fatalf("%s: version %d, %v", from, f.Version, err)
		}
		data, err := os.ReadFile(filepath.Join(dir, "data", "ns", "d0"))
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(f.Verify(bytes.NewReader(data)), f.VerifyIndex(bytes.NewReader(good))); err != nil {
			t.Errorf("%s: %v", from, err)
		}
		f.Sum[7] ^= 4
		bad := segfile.AppendFooter(bytes.Clone(good[:segfile.IndexHeaderSize+f.RecordBytes]), f)
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		o := Options{DataDir: filepath.Join(dir, "data"), IndexDir: filepath.Join(dir, "index")}
		res, err := Check(t.Context(), o, "ns", CheckOptions{Repair: true})
		if err != nil || len(res.Findings) != 1 || res.Unrepaired != 0 || res.Findings[0].File != path || res.Findings[0].Offset != segfile.IndexHeaderSize+f.RecordBytes+112+7 {
			t.Errorf("%s: another sum over all: %+v, %v", from, res, err)
		}
		if f, err = segfile.ReadFooter(path); err != nil || f.Version != segfile.FooterVersion || f.Verify(bytes.NewReader(data)) != nil {
			t.Errorf("%s: made again: version %d, %v", from, f.Version, err)
		}
	}
}

func writeReleased(t *testing.T, to string) {
	t.Helper()
	if err := os.RemoveAll(to); err != nil {
		t.Fatal(err)
	}
	db := openAt(t, to, func(o *Options) { o.Epoch = 1 })
	n := openNS(t, db, "ns", NamespaceOptions{})
	put(t, n, "small", "old", "moved", "x", "gone", "y", "empty", "", "large", strings.Repeat("0123456789", 5000))
	b := NewBatch()
	b.Set([]byte("small"), []byte("new"))
	b.Delete([]byte("gone"))
	moved := batch.Moved{Key: []byte("moved"), Seq: MakeSeq(1, 2), Time: 1e18}
	if err := b.b.Move(moved, 1, func(p []byte) error { copy(p, "x"); return nil }); err != nil {
		t.Fatal(err)
	}
	b.SetNeeds(MakeSeq(1, 99))
	if _, err := n.Commit(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	if _, err := n.Seal(t.Context()); err != nil {
		t.Fatal(err)
	}
	put(t, n, "tail", "after the clean stop")
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"index/ns/badger", "data/.lock"} {
		if err := os.RemoveAll(filepath.Join(to, name)); err != nil {
			t.Fatal(err)
		}
	}
}

// TestExample compares the example in FORMAT.md with what the codec writes.
func TestExample(t *testing.T) {
	inc := segfile.Incarnation{0xa0, 0xa1, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7, 0xa8, 0xa9, 0xaa, 0xab, 0xac, 0xad, 0xae, 0xaf}
	p := segfile.AppendHeader(nil, segfile.Header{
		Namespace: "ns", ID: 3, Incarnation: inc, Session: 0x1122334455667788, Epoch: 1, Created: time.Unix(1, 0),
		NextSeq: MakeSeq(1, 42), Needs: MakeSeq(1, 7), Prev: 2, PrevLength: 4096, Initial: 256,
	})
	var b batch.Builder
	b.Set([]byte("key"), []byte("value"))
	b.Delete([]byte("old"))
	p = append(p, b.Finish(batch.Header{
		Seq: MakeSeq(1, 42), Session: 0x1122334455667788, Needs: MakeSeq(1, 7), Segment: 3, Incarnation: inc,
		DurableSegment: 3, DurableOffset: 256, Time: 2e9, Offset: 256,
	})...)
	text, err := os.ReadFile("FORMAT.md")
	if err != nil {
		t.Fatal(err)
	}
	if want := hex.Dump(p); !strings.Contains(strings.ReplaceAll(string(text), "\n    ", "\n"), want) {
		t.Errorf("FORMAT.md does not have this:\n%s", want)
	}
}

package zdbfs

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"qsfs/zdbfs/internal/meta"
)

var update = flag.Bool("update", false, "write the files of the present version to testdata")

const (
	version1Rows = "testdata/v1n.rows" // namespace, key, value in hex
	version1Tree = "testdata/v1n.tree"
	// The same from before the number of inodes was kept.
	uncountedRows = "testdata/v1.rows"
	uncountedTree = "testdata/v1.tree"
)

// TestVersion1 opens a filesystem as version 1 wrote it, with every kind of row in it. Its files stay for ever.
func TestVersion1(t *testing.T) {
	if *update {
		writeVersion1(t)
	}
	t.Run("counted", func(t *testing.T) { testVersion1(t, version1Rows, version1Tree, "BCDEFGILNOPTXs") })
	t.Run("uncounted", func(t *testing.T) { testVersion1(t, uncountedRows, uncountedTree, "BCDEFGILOPTXs") })
}

func testVersion1(t *testing.T, rows, tree, all string) {
	m, d := readRows(t, rows)
	want, err := os.ReadFile(tree)
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[byte]bool{}
	for k := range m.rows {
		kinds[k[0]] = true
	}
	for _, k := range all {
		if !kinds[byte(k)] {
			t.Errorf("no row of kind %c", k)
		}
	}
	if len(kinds) != len(all) {
		t.Errorf("%d kinds of rows, want %q", len(kinds), all)
	}
	f := openTestFS(t, m, d, Options{})
	f.waitReaped()
	f.check()
	files := 0
	for k := range m.rows {
		if k[0] == meta.KindInode {
			files++
		}
	}
	if got := m.rows[string(meta.FilesKey())].Value; !bytes.Equal(got, meta.AppendUint64(nil, uint64(files))) {
		t.Errorf("the number of inodes: got %x, want %d", got, files)
	}
	if got := f.dump(); got != string(want) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	for k := range m.rows {
		if k[0] == meta.KindOrphan || k[0] == meta.KindTruncate {
			t.Errorf("row %q is left: it was not replayed", k)
		}
	}
	// It is written on as well.
	f.file(RootIno, "new", "new")
	f = f.reopen()
	f.check()
}

func writeVersion1(t *testing.T) {
	f := newTestFS(t)
	dir := f.dir(RootIno, "dir")
	blob := f.file(dir, "blob", strings.Repeat("0123456789", 50))
	f.want(f.Sync(ctx), nil)
	f.write(blob, 100, "inline")
	f.want(f.Fsync(ctx, blob, false), nil)
	shared := f.file(RootIno, "shared", "")
	_, err := f.CopyFileRange(ctx, blob, 200, shared, 10, 100)
	f.want(err, nil)
	zero := f.file(RootIno, "zero", "")
	f.want(f.Fallocate(ctx, zero, 0, 0, 0, 1000), nil)
	f.want(f.Setxattr(ctx, zero, "user.name", []byte("value"), 0, false), nil)
	_, err = f.Symlink(ctx, alice, dir, "symlink", "../zero")
	f.want(err, nil)
	_, err = f.Mknod(ctx, alice, dir, "null", syscall.S_IFCHR|0o666, 1<<8|3, 0)
	f.want(err, nil)
	_, err = f.Link(ctx, alice, zero, dir, "link")
	f.want(err, nil)
	gone := f.file(RootIno, "gone", strings.Repeat("g", 300))
	f.want(f.Sync(ctx), nil)
	f.write(gone, 0, strings.Repeat("G", 300)) // makes garbage
	f.want(f.Sync(ctx), nil)
	f.Open(ctx, alice, gone, 0)
	f.want(f.Unlink(ctx, alice, RootIno, "gone"), nil)
	cut := f.file(dir, "cut", "kept")
	f.write(cut, 1000, "dead")
	f.want(f.Sync(ctx), nil)
	// A truncation of which only the first batch was written.
	in, _ := f.inode(ctx, cut)
	tx := f.begin()
	tx.update(in, func(a *meta.Inode) { a.Size = 4 })
	tx.storeSize(in, 4)
	tx.set(meta.TruncateKey(uint64(cut)), meta.AppendUint64(nil, 4))
	f.want(tx.commit(), nil)
	want := f.dump()
	var b bytes.Buffer
	for ns, s := range map[string]*memSpace{"m": f.meta, "d": f.data} {
		for _, k := range s.keys {
			fmt.Fprintf(&b, "%s %x %x\n", ns, k, s.rows[k].Value)
		}
	}
	if err := os.WriteFile(version1Rows, b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(version1Tree, []byte(want), 0o644); err != nil {
		t.Fatal(err)
	}
}

func readRows(t *testing.T, path string) (m, d *memSpace) {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	m, d = newMemSpace(), newMemSpace()
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		parts := strings.Split(lines.Text(), " ")
		key, err1 := hex.DecodeString(parts[1])
		value, err2 := hex.DecodeString(parts[2])
		if err1 != nil || err2 != nil {
			t.Fatal(err1, err2)
		}
		var b batch
		b.set(key, value)
		s := map[string]*memSpace{"m": m, "d": d}[parts[0]]
		if _, err := s.commit(ctx, &b, 0); err != nil {
			t.Fatal(err)
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return m, d
}

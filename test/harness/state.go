package harness

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"qsfs/zstor/client"
)

// emptySegment is more than the header of a segment without any entry: a recovery leaves one behind where the tail was empty.
const emptySegment = 512

// SealedDataSegments lists the sealed segments of zdbfs-data whose content is local. One without any entry does not count.
func (f *Front) SealedDataSegments() []string {
	var local []string
	indexes, _ := filepath.Glob(filepath.Join(f.State, "index", client.NamespaceData, "i*"))
	for _, index := range indexes {
		number := strings.TrimPrefix(filepath.Base(index), "i")
		path := filepath.Join(f.State, "data", client.NamespaceData, "d"+number)
		if st, err := os.Stat(path); err == nil && st.Size() > emptySegment {
			local = append(local, path)
		}
	}
	return local
}

// HeldBytes counts the bytes below dir in blocks of 4 KiB that hold anything but zeros. Space that is only reserved
// (pre-written logs, the ballast) holds nothing.
func HeldBytes(t TB, dir string) int64 {
	t.Helper()
	var sum int64
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // a running daemon renames and removes
		}
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		n, err := heldBytes(path)
		sum += n
		return err
	})
	if err != nil {
		t.Fatalf("measure %s: %v", dir, err)
	}
	return sum
}

func heldBytes(path string) (int64, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer f.Close()
	var sum int64
	block, zeros := make([]byte, 4096), make([]byte, 4096)
	for {
		n, err := io.ReadFull(f, block)
		if !bytes.Equal(block[:n], zeros[:n]) {
			sum += int64(n)
		}
		if err == io.EOF || errors.Is(err, io.ErrUnexpectedEOF) {
			return sum, nil
		}
		if err != nil {
			return sum, err
		}
	}
}

package main

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sync/errgroup"
)

// contents is what a tree holds: the SHA-256 of each file, the target of each link.
type contents struct {
	files map[string][32]byte
	links map[string]string
	dirs  int
	bytes int64
}

// readTree reads every file below root, several at a time.
func readTree(root string) (*contents, error) {
	c := &contents{files: make(map[string][32]byte), links: make(map[string]string)}
	var mu sync.Mutex
	var group errgroup.Group
	group.SetLimit(8)
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		switch {
		case d.IsDir():
			c.dirs++
		case d.Type()&fs.ModeSymlink != 0:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			c.links[rel] = target
		default:
			group.Go(func() error {
				sum, n, err := sumFile(path)
				mu.Lock()
				defer mu.Unlock()
				c.files[rel] = sum
				c.bytes += n
				return err
			})
		}
		return nil
	})
	return c, errors.Join(err, group.Wait())
}

func sumFile(path string) (sum [32]byte, n int64, err error) {
	f, err := os.Open(path)
	if err != nil {
		return sum, 0, err
	}
	defer f.Close()
	h := sha256.New()
	n, err = io.Copy(h, f)
	return [32]byte(h.Sum(nil)), n, err
}

// differences says what in got is not as in want.
func differences(got, want *contents) []string {
	var out []string
	for path, sum := range want.files {
		if g, ok := got.files[path]; !ok {
			out = append(out, path+" is missing")
		} else if g != sum {
			out = append(out, path+" has other content")
		}
	}
	for path, target := range want.links {
		if got.links[path] != target {
			out = append(out, fmt.Sprintf("%s points to %q, not to %q", path, got.links[path], target))
		}
	}
	if len(got.files) > len(want.files) || got.dirs != want.dirs {
		out = append(out, fmt.Sprintf("%d files and %d directories, want %d and %d", len(got.files), got.dirs, len(want.files), want.dirs))
	}
	return out
}

// compressedBytes is what zstd makes of the tree, a mebibyte at a time: a measure that owes nothing to the programs shown.
func compressedBytes(root string) (int64, error) {
	enc, err := zstd.NewWriter(nil)
	if err != nil {
		return 0, err
	}
	defer enc.Close()
	var sum int64
	var chunk bytes.Buffer
	flush := func() {
		sum += int64(len(enc.EncodeAll(chunk.Bytes(), nil)))
		chunk.Reset()
	}
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for len(b) > 0 {
			n := min(len(b), 1<<20-chunk.Len())
			chunk.Write(b[:n])
			b = b[n:]
			if chunk.Len() == 1<<20 {
				flush()
			}
		}
		return nil
	})
	flush()
	return sum, err
}

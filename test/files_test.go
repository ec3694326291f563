package test

import (
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// writeSynced writes a file and fsyncs it and its directory, which it makes where it is missing.
func writeSynced(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := trySynced(path, content); err != nil {
		t.Fatal(err)
	}
}

func trySynced(path string, content []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	if _, err := f.Write(content); err != nil {
		_ = f.Close()
		return err
	}
	if err := f.Sync(); err != nil {
		_ = f.Close()
		return err
	}
	return f.Close()
}

// fillRandom makes content that does not compress.
func fillRandom(b []byte, seed uint64) {
	var key [32]byte
	key[0], key[1] = byte(seed), byte(seed>>8)
	_, _ = rand.NewChaCha8(key).Read(b)
}

func isEIO(err error) bool { return errors.Is(err, syscall.EIO) }

func errString(err error) string {
	if err == nil {
		return "no error, wrong content"
	}
	return err.Error()
}

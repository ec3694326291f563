package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/pflag"

	"qsfs/zdb"
	"qsfs/zdb/server"
)

// A store is the directories of a server that does not run.
type store struct {
	data, index string
}

func (s *store) register(fl *pflag.FlagSet) {
	fl.StringVar(&s.data, "data", "", "data `DIR` of a server that does not run")
	fl.StringVar(&s.index, "index", "", "index `DIR` of a server that does not run")
}

// given says whether directories were named, so that no server is asked.
func (s *store) given() (bool, error) {
	switch {
	case s.data == "" && s.index == "":
		return false, nil
	case s.data == "" || s.index == "":
		return false, usageError{errors.New("--data and --index are needed both, as zdb serve was given them")}
	}
	for _, dir := range []string{s.data, s.index} {
		if info, err := os.Stat(dir); err != nil {
			return false, usageError{err}
		} else if !info.IsDir() {
			return false, usageError{fmt.Errorf("%s is no directory", dir)}
		}
	}
	return true, nil
}

func (s *store) options() zdb.Options {
	warn := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	return zdb.Options{DataDir: s.data, IndexDir: s.index, Epoch: server.Epoch, Log: warn}
}

// find looks the namespace up.
func (s *store) find(namespace string) (store string, sequential bool, err error) {
	if store, sequential, err = server.Stored(s.data, namespace); err != nil {
		return "", false, err
	}
	dir, err := zdb.DirName(store)
	if err != nil {
		return "", false, usageError{err}
	}
	for _, parent := range []string{s.data, s.index} {
		if _, err = os.Stat(filepath.Join(parent, dir)); !errors.Is(err, fs.ErrNotExist) {
			return store, sequential, err
		}
	}
	return "", false, usageError{fmt.Errorf("there is no namespace %q in %s", namespace, s.data)}
}

// open opens an existing namespace for fn, as a server would, and closes it.
func (s *store) open(ctx context.Context, namespace string, fn func(n *zdb.Namespace, sequential bool) error) (err error) {
	store, sequential, err := s.find(namespace)
	if err != nil {
		return err
	}
	db, err := zdb.Open(ctx, s.options())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	n, err := db.Namespace(ctx, store, server.OfflineOptions(sequential))
	if err != nil {
		return err
	}
	return fn(n, sequential)
}

// turned is a key as clients have it, or the engine, for the other side: ids are big endian there.
func turned(key []byte, sequential bool) []byte {
	if sequential && len(key) == 8 {
		key = slices.Clone(key)
		slices.Reverse(key)
	}
	return key
}

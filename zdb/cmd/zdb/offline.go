package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"

	"github.com/spf13/pflag"

	"qsfs/zdb"
	"qsfs/zdb/server"
)

// A store is the directories of a server that does not run.
type store struct {
	data, index string
}

func (s *store) register(fl *pflag.FlagSet, what string) {
	fl.StringVar(&s.data, "data", "", "data `DIR`"+what)
	fl.StringVar(&s.index, "index", "", "index `DIR`"+what)
}

const ofStopped = " of a server that does not run"

// given says whether directories were named; required makes their absence a fault.
func (s *store) given(required bool) (bool, error) {
	switch {
	case s.data == "" && s.index == "" && !required:
		return false, nil
	case s.data == "" || s.index == "":
		return false, usageError{errors.New("--data and --index are needed, as zdb serve was given them")}
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

// open opens an existing namespace for fn, as a server would, and closes it.
func (s *store) open(ctx context.Context, namespace string, fn func(*zdb.Namespace) error) (err error) {
	db, err := zdb.Open(ctx, s.options())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if err := exists(db, namespace); err != nil {
		return err
	}
	n, err := db.Namespace(ctx, namespace, zdb.NamespaceOptions{})
	if err != nil {
		return err
	}
	return fn(n)
}

func exists(db *zdb.DB, namespace string) error {
	names, err := db.Namespaces()
	if err != nil {
		return err
	}
	for _, name := range names {
		if name == namespace {
			return nil
		}
	}
	return fmt.Errorf("there is no namespace %q", namespace)
}

package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"qsfs/zdb"
	"qsfs/zdb/client"
)

type historyFlags struct {
	place
	hex     bool
	get     uint64
	deleted bool
	removed bool
	json    bool
}

func historyCommand() *cobra.Command {
	var f historyFlags
	c := &cobra.Command{
		Use:   "history [key]",
		Short: "Show what a namespace keeps of the past",
		Long: `Show what a namespace keeps of the past (keep_last, keep_deleted), for its admin.

  zdb history KEY             the versions of a key, the newest first: sequence, time, length
  zdb history KEY --get SEQ   writes the value of that version to standard output
  zdb history --deleted       the keys that are deleted and of which a value is kept
  zdb history --removed       namespaces that were emptied or removed and are kept; --namespace takes their names`,
		Args: func(_ *cobra.Command, args []string) error {
			lists := f.deleted || f.removed
			if lists && len(args) > 0 || !lists && len(args) != 1 || f.deleted && f.removed || lists && f.get > 0 {
				return usageError{errors.New("want one key, or --deleted, or --removed")}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return runHistory(cmd.Context(), cmd.OutOrStdout(), f, append(args, "")[0])
		},
	}
	fl := c.Flags()
	f.place.registerAdmin(fl)
	fl.BoolVar(&f.hex, "hex", false, "the key is given in hexadecimal digits; ids of a sequential namespace are")
	fl.Uint64Var(&f.get, "get", 0, "write the value of the version with this `SEQUENCE`")
	fl.BoolVar(&f.deleted, "deleted", false, "list keys that are deleted and still kept")
	fl.BoolVar(&f.removed, "removed", false, "list namespaces that are removed and still kept")
	fl.BoolVar(&f.json, "json", false, "the list as JSON; keys are in base64")
	return c
}

// A versionLine is one version of a key.
type versionLine struct {
	Seq     string    `json:"sequence"` // 64 bits: too many for the numbers of JSON
	Time    time.Time `json:"time"`
	Deleted bool      `json:"deleted,omitempty"`
	Length  int64     `json:"length"`
}

// A deletedLine is one deleted key.
type deletedLine struct {
	Key     []byte    `json:"key"`
	Deleted time.Time `json:"deleted"`
	Written time.Time `json:"written"`
	Length  int64     `json:"length"`
}

// A removedLine is a namespace that was emptied or removed.
type removedLine struct {
	Name    string    `json:"name"`
	Removed time.Time `json:"removed"`
	Until   time.Time `json:"kept_until"`
	Bytes   int64     `json:"bytes"`
}

func runHistory(ctx context.Context, out io.Writer, f historyFlags, text string) error {
	offline, err := f.store.given()
	if err != nil {
		return err
	}
	key := []byte(text)
	if f.hex {
		if key, err = hex.DecodeString(text); err != nil {
			return usageError{fmt.Errorf("key %q: %w", text, err)}
		}
	}
	if f.removed {
		return f.showRemoved(ctx, out, offline)
	}
	if offline {
		return f.store.open(ctx, f.namespace, func(n *zdb.Namespace, sequential bool) error {
			return f.show(ctx, out, key, &storedPast{n, sequential})
		})
	}
	c, err := f.dialAdmin(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	return f.show(ctx, out, key, &servedPast{c, f.namespace})
}

// A past is where what is kept is read from.
type past interface {
	versions(ctx context.Context, key []byte) ([]versionLine, error)
	value(ctx context.Context, key []byte, seq uint64) ([]byte, error)
	deleted(ctx context.Context) ([]deletedLine, error)
}

func (f *historyFlags) show(ctx context.Context, out io.Writer, key []byte, p past) error {
	switch {
	case f.deleted:
		list, err := p.deleted(ctx)
		if err != nil || f.json {
			return jsonUnless(out, list, err)
		}
		for _, l := range list {
			fmt.Fprintf(out, "%q\tdeleted %s\twritten %s\t%d bytes\n", l.Key, l.Deleted.UTC().Format(time.RFC3339), l.Written.UTC().Format(time.RFC3339), l.Length)
		}
	case f.get > 0:
		value, err := p.value(ctx, key, f.get)
		if err != nil {
			return err
		}
		_, err = out.Write(value)
		return err
	default:
		list, err := p.versions(ctx, key)
		if err == nil && len(list) == 0 {
			err = fmt.Errorf("nothing is kept of %q", key)
		}
		if err != nil || f.json {
			return jsonUnless(out, list, err)
		}
		for _, l := range list {
			what := fmt.Sprintf("%d bytes", l.Length)
			if l.Deleted {
				what = "deleted"
			}
			fmt.Fprintf(out, "%s\t%s\t%s\n", l.Seq, l.Time.UTC().Format(time.RFC3339Nano), what)
		}
	}
	return nil
}

// jsonUnless writes a result as JSON unless there is an error.
func jsonUnless(out io.Writer, v any, err error) error {
	if err != nil {
		return err
	}
	return writeJSON(out, v)
}

func (f *historyFlags) showRemoved(ctx context.Context, out io.Writer, offline bool) error {
	if offline {
		return usageError{errors.New("--removed asks a running server; of directories, zdb stat --data lists them too")}
	}
	c, err := f.dialAdmin(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	all, err := c.RemovedNamespaces(ctx)
	list := make([]removedLine, 0, len(all))
	for _, r := range all {
		list = append(list, removedLine(r))
	}
	if err != nil || f.json {
		return jsonUnless(out, list, err)
	}
	for _, r := range list {
		fmt.Fprintf(out, "%s\tremoved %s\tkept until %s\t%.1f MiB\n", r.Name, r.Removed.UTC().Format(time.RFC3339), r.Until.UTC().Format(time.RFC3339), mib(r.Bytes))
	}
	return nil
}

// servedPast asks a running server.
type servedPast struct {
	c         *client.Client
	namespace string
}

func (p *servedPast) versions(ctx context.Context, key []byte) ([]versionLine, error) {
	list := []versionLine{}
	for before := uint64(0); ; {
		page, err := p.c.Versions(ctx, p.namespace, key, before)
		if err != nil || len(page) == 0 {
			return list, err
		}
		for _, v := range page {
			list = append(list, versionLine{strconv.FormatUint(v.Seq, 10), v.Time, v.Deleted, v.Length})
			before = v.Seq
		}
	}
}

func (p *servedPast) value(ctx context.Context, key []byte, seq uint64) ([]byte, error) {
	return p.c.VersionValue(ctx, p.namespace, key, seq)
}

func (p *servedPast) deleted(ctx context.Context) ([]deletedLine, error) {
	list := []deletedLine{}
	for cursor, first := []byte(nil), true; first || cursor != nil; first = false {
		page, next, err := p.c.DeletedKeys(ctx, p.namespace, nil, cursor, 1000)
		if err != nil {
			return nil, err
		}
		for _, k := range page {
			list = append(list, deletedLine(k))
		}
		cursor = next
	}
	return list, nil
}

// storedPast reads the files of a server that does not run.
type storedPast struct {
	n          *zdb.Namespace
	sequential bool
}

// versionsAtOnce bounds a list that is held in memory.
const versionsAtOnce = 1_000_000

func (p *storedPast) versions(ctx context.Context, key []byte) ([]versionLine, error) {
	all, err := p.n.History(ctx, turned(key, p.sequential), 0, versionsAtOnce)
	list := make([]versionLine, 0, len(all))
	for _, v := range all {
		list = append(list, versionLine{strconv.FormatUint(uint64(v.Seq), 10), v.Time, v.Deleted, v.Length})
	}
	return list, err
}

func (p *storedPast) value(ctx context.Context, key []byte, seq uint64) ([]byte, error) {
	hold := p.n.Hold()
	defer hold.Release()
	list, err := p.n.History(ctx, turned(key, p.sequential), zdb.Seq(seq+1), 1)
	if err != nil {
		return nil, err
	}
	if len(list) == 0 || uint64(list[0].Seq) != seq || list[0].Deleted {
		return nil, zdb.ErrNotFound
	}
	value := make([]byte, list[0].Length)
	if len(value) > 0 {
		_, err = p.n.ReadLocation(ctx, list[0].Location, 0, value)
	}
	return value, err
}

func (p *storedPast) deleted(ctx context.Context) ([]deletedLine, error) {
	list := []deletedLine{}
	it, err := p.n.NewDeletedIter(ctx, zdb.IterOptions{})
	if err != nil {
		return nil, err
	}
	for ok := it.Seek(nil); ok; ok = it.Next() {
		key := turned(append([]byte(nil), it.Key()...), p.sequential)
		list = append(list, deletedLine{key, it.Deleted().Time, it.Last().Time, it.Last().Length})
	}
	return list, errors.Join(it.Err(), it.Close())
}

package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"qsfs/zdb"
	"qsfs/zdb/client"
	"qsfs/zdb/server"
)

type statFlags struct {
	place
	json bool
}

func statCommand() *cobra.Command {
	var f statFlags
	c := &cobra.Command{
		Use:   "stat [namespace…]",
		Short: "Show how much there is in namespaces, and what it takes",
		Long: `Show how much there is in namespaces, and what it takes: what a running server says of them, or, with --data and
--index, what the files of one that does not run hold, what keep_deleted keeps of removed ones too. These are opened one
after the other and counted.`,
		RunE: func(cmd *cobra.Command, names []string) error {
			return runStat(cmd.Context(), cmd.OutOrStdout(), f, names)
		},
	}
	fl := c.Flags()
	fl.StringVar(&f.address, "address", "127.0.0.1:9900", addressUsage)
	f.target.registerAdmin(fl)
	f.store.register(fl)
	fl.BoolVar(&f.json, "json", false, "all fields, as JSON")
	return c
}

const statTimeout = 10 * time.Second

func runStat(ctx context.Context, out io.Writer, f statFlags, names []string) error {
	offline, err := f.store.given()
	if err != nil {
		return err
	}
	var all []client.Info
	if offline {
		all, err = f.offline(ctx, names)
	} else {
		all, err = f.online(ctx, names)
	}
	if err != nil {
		return err
	}
	if f.json {
		return writeJSON(out, all)
	}
	fmt.Fprintf(out, "%-24s %12s %14s %14s %14s  %s\n", "NAMESPACE", "ENTRIES", "PAYLOAD MiB", "DISK MiB", "DEAD MiB", "STATE")
	for _, i := range all {
		fmt.Fprintf(out, "%-24s %12s %14.2f %14.2f %14.2f  %s\n", i["name"], i["entries"], mib(i.Int("data_size_bytes")),
			mib(i.Int("disk_used_bytes")), mib(i.Int("log_dead_bytes")), state(i))
	}
	return nil
}

func (f *statFlags) online(ctx context.Context, names []string) ([]client.Info, error) {
	ctx, cancel := context.WithTimeout(ctx, statTimeout)
	defer cancel()
	c, err := f.dialAdmin(ctx)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	if len(names) == 0 {
		if names, err = c.NSList(ctx); err != nil {
			return nil, err
		}
	}
	all := make([]client.Info, 0, len(names))
	for _, name := range names {
		info, err := c.NSInfo(ctx, name)
		if err != nil {
			return nil, fmt.Errorf("namespace %s: %w", name, err)
		}
		all = append(all, info)
	}
	return all, nil
}

// offline gives the same fields, as far as files tell them.
func (f *statFlags) offline(ctx context.Context, names []string) ([]client.Info, error) {
	if len(names) == 0 {
		listed, found, err := server.Names(f.data)
		if err != nil {
			return nil, err
		}
		if !found {
			return nil, usageError{fmt.Errorf("%s is not the data directory of a server: name the namespaces", f.data)}
		}
		for _, name := range listed {
			// The default namespace has no files before it is used.
			var missing usageError
			if _, _, err := f.store.find(name); err == nil {
				names = append(names, name)
			} else if !errors.As(err, &missing) {
				return nil, err
			}
		}
	}
	b := newBar("stat", f.json, false)
	defer b.close()
	all := make([]client.Info, 0, len(names))
	for i, name := range names {
		b.show(int64(i), int64(len(names)))
		err := f.store.open(ctx, name, func(n *zdb.Namespace, sequential bool) error {
			info, err := counted(ctx, n, name, sequential)
			all = append(all, info)
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("namespace %s: %w", name, err)
		}
	}
	return all, nil
}

// counted walks a namespace.
func counted(ctx context.Context, n *zdb.Namespace, name string, sequential bool) (client.Info, error) {
	it, err := n.NewIter(ctx, zdb.IterOptions{KeysOnly: true})
	if err != nil {
		return nil, err
	}
	var keys, payload int64
	for ok := it.First(); ok; ok = it.Next() {
		e, err := it.Entry()
		if err != nil {
			return nil, errors.Join(err, it.Close())
		}
		if sequential && len(e.Key) != 8 {
			continue // the server's own
		}
		keys++
		payload += int64(e.Location.Length)
	}
	st := n.Stats()
	retention, incarnation := n.Retention(), n.Incarnation()
	mode := "userkey"
	if sequential {
		mode = "sequential"
	}
	number := func(n int64) string { return strconv.FormatInt(n, 10) }
	return client.Info{
		"name": name, "mode": mode, "entries": number(keys), "data_size_bytes": number(payload), "segments": number(int64(st.Segments)),
		"data_disk_used_bytes": number(st.LocalBytes), "disk_used_bytes": number(st.DiskBytes),
		"log_bytes": number(st.LogBytes), "log_dead_bytes": number(st.DeadBytes), "versions_kept": number(st.Versions),
		"keep_last": number(int64(max(retention.KeepLast, 1))), "keep_deleted": server.FormatAge(retention.KeepFor),
		"incarnation": hex.EncodeToString(incarnation[:]),
	}, errors.Join(it.Err(), it.Close())
}

// state puts the properties that are out of the ordinary in words.
func state(i client.Info) string {
	var words []string
	for _, w := range []struct{ key, value, word string }{
		{"password", "yes", "password"}, {"public", "no", "private"}, {"worm", "yes", "worm"}, {"locked", "yes", "locked"},
		{"writable", "no", "READ-ONLY: the disk is full or failed, see the server's log"},
	} {
		if i[w.key] == w.value {
			words = append(words, w.word)
		}
	}
	return strings.Join(words, ", ")
}

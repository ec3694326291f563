package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"qsfs/zdb/client"
)

type statFlags struct {
	address string
	admin   string
	json    bool
}

func statCommand() *cobra.Command {
	var f statFlags
	c := &cobra.Command{
		Use:   "stat [namespace…]",
		Short: "Show what a running server says of its namespaces",
		RunE: func(cmd *cobra.Command, names []string) error {
			return runStat(cmd.Context(), cmd.OutOrStdout(), f, names)
		},
	}
	fl := c.Flags()
	fl.StringVar(&f.address, "address", "127.0.0.1:9900", addressUsage)
	fl.StringVar(&f.admin, "admin", os.Getenv("ZDB_ADMIN"), "admin `PASSWORD`, also from ZDB_ADMIN; shows more")
	fl.BoolVar(&f.json, "json", false, "all fields, as JSON")
	return c
}

const statTimeout = 10 * time.Second

func runStat(ctx context.Context, out io.Writer, f statFlags, names []string) error {
	if _, _, err := client.ParseAddress(f.address); err != nil {
		return usageError{err}
	}
	ctx, cancel := context.WithTimeout(ctx, statTimeout)
	defer cancel()
	c, err := client.Dial(ctx, client.Options{Address: f.address, Admin: client.Secret(f.admin)})
	if err != nil {
		return err
	}
	defer c.Close()
	if len(names) == 0 {
		if names, err = c.NSList(ctx); err != nil {
			return err
		}
	}
	all := make([]client.Info, 0, len(names))
	for _, name := range names {
		info, err := c.NSInfo(ctx, name)
		if err != nil {
			return fmt.Errorf("namespace %s: %w", name, err)
		}
		all = append(all, info)
	}
	if f.json {
		enc := json.NewEncoder(out)
		enc.SetIndent("", "  ")
		return enc.Encode(all)
	}
	fmt.Fprintf(out, "%-24s %12s %14s %14s  %s\n", "NAMESPACE", "ENTRIES", "PAYLOAD MiB", "DISK MiB", "STATE")
	for _, i := range all {
		fmt.Fprintf(out, "%-24s %12s %14s %14.2f  %s\n", i["name"], i["entries"], i["data_size_mb"],
			float64(i.Int("data_disk_used_bytes"))/(1<<20), state(i))
	}
	return nil
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

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"qsfs/zstor/client"
	"qsfs/zstor/config"
)

// target fills a request: with a name given, the argument is only where the bytes lie.
func target(arg, name string) (client.FileRequest, error) {
	r := client.FileRequest{Name: name}
	if arg != "" {
		abs, err := filepath.Abs(arg)
		if err != nil {
			return r, &usageError{err}
		}
		r.Path = abs
	}
	return r, nil
}

type fileOp func(files, context.Context, client.FileRequest, func(client.Progress)) error

func runFile(ctx context.Context, g *global, r client.FileRequest, op fileOp) error {
	return withFiles(ctx, g, func(_ *config.Config, f files) error {
		b := newBar()
		defer b.close()
		return op(f, ctx, r, b.show)
	})
}

func fileCommand(g *global, use, short string, op fileOp, flags func(*cobra.Command, *client.FileRequest)) *cobra.Command {
	var name string
	var extra client.FileRequest
	cmd := &cobra.Command{
		Use: use, Short: short, Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := target(args[0], name)
			if err != nil {
				return err
			}
			r.Replace, r.Deep = extra.Replace, extra.Deep
			return runFile(cmd.Context(), g, r, op)
		},
	}
	cmd.Flags().StringVarP(&name, "name", "n", "", "name of the object (default: the path)")
	if flags != nil {
		flags(cmd, &extra)
	}
	return cmd
}

func storeCmd(g *global) *cobra.Command {
	return fileCommand(g, "store FILE", "Disperse a file by itself", files.StoreFile, func(c *cobra.Command, r *client.FileRequest) {
		c.Flags().BoolVar(&r.Replace, "replace", false, "supersede an object of the same name")
	})
}

func retrieveCmd(g *global) *cobra.Command {
	return fileCommand(g, "retrieve FILE", "Bring a dispersed file back, whole or not at all", files.RetrieveFile, func(c *cobra.Command, r *client.FileRequest) {
		c.Flags().BoolVar(&r.Replace, "replace", false, "replace an existing file")
	})
}

func checkCmd(g *global) *cobra.Command {
	return fileCommand(g, "check FILE", "Look at every shard of a dispersed file", files.CheckFile, func(c *cobra.Command, r *client.FileRequest) {
		c.Flags().BoolVar(&r.Deep, "deep", false, "read and verify the shards instead of asking for them")
	})
}

func rebuildCmd(g *global) *cobra.Command {
	return fileCommand(g, "rebuild FILE", "Make the missing and damaged shards of a dispersed file again", files.RebuildFile, nil)
}

func listCmd(g *global) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "list", Short: "List the files that were dispersed by store", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withFiles(cmd.Context(), g, func(_ *config.Config, f files) error {
				list, err := f.Files(cmd.Context())
				if err != nil {
					return err
				}
				return printFiles(list, asJSON)
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func printFiles(list []client.FileInfo, asJSON bool) error {
	if asJSON {
		enc := json.NewEncoder(os.Stdout)
		enc.SetIndent("", "  ")
		return enc.Encode(list)
	}
	w := tabwriter.NewWriter(os.Stdout, 2, 8, 2, ' ', 0)
	fmt.Fprintln(w, "NAME\tSIZE\tSTORED\tCODE\tCOMPLETE")
	for _, f := range list {
		fmt.Fprintf(w, "%s\t%d\t%s\t%s\t%v\n", f.Name, f.Size, f.Time.Local().Format(time.DateTime), f.Code, f.Full)
	}
	return w.Flush()
}

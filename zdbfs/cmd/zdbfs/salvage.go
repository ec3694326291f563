package main

import (
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"qsfs/zdbfs/internal/control"
	"qsfs/zdbfs/internal/exit"
	"qsfs/zdbfs/internal/service"
)

func newSalvage(g *global) *cobra.Command {
	var from, to string
	var all bool
	c := &cobra.Command{
		Use:   "salvage",
		Short: "List, and with --to copy, what changed after the last cut of a state that was put aside",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, log, err := g.start()
			if err != nil {
				return err
			}
			failed := 0
			n, err := service.Salvage(cmd.Context(), service.SalvageOptions{
				Config: cfg, From: from, To: to, All: all, Log: log,
				Found: func(f service.Salvaged, err error) {
					if err != nil {
						failed++
						fmt.Fprintf(os.Stderr, "%s: %v\n", f.Path, err)
						return
					}
					fmt.Printf("%s  %10s  %s\n", f.Attr.Mtime.Time().Local().Format(time.DateTime), control.Bytes(int64(f.Attr.Size)), f.Path)
				},
			})
			if err != nil {
				return err
			}
			verb := "found"
			if to != "" {
				verb = "copied to " + to
			}
			fmt.Fprintf(os.Stderr, "%d files %s\n", n, verb)
			if failed > 0 {
				return exit.Errorf(exit.Damaged, "%d files could not be taken", failed)
			}
			return nil
		},
	}
	c.Flags().StringVar(&from, "from", "", "`directory` of the state; default: the one that was put aside last")
	c.Flags().StringVar(&to, "to", "", "`directory` to copy to")
	c.Flags().BoolVar(&all, "all", false, "every file, not only those that changed after the last cut")
	return c
}

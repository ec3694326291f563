package main

import (
	"encoding/json"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"qsfs/zdbfs/internal/control"
	"qsfs/zdbfs/internal/exit"
)

func newCheck(g *global) *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "check",
		Short: "Check the tree of the mounted filesystem; changes nothing",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, _, err := g.start()
			if err != nil {
				return err
			}
			r, err := daemon(cfg).Check(cmd.Context())
			if err != nil {
				return downError(err)
			}
			if asJSON {
				if err := json.NewEncoder(os.Stdout).Encode(r); err != nil {
					return fmt.Errorf("write: %w", err)
				}
			} else {
				printCheck(r)
			}
			if len(r.Problems) > 0 {
				return exit.Errorf(exit.Damaged, "the tree has %d problems", len(r.Problems))
			}
			return nil
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func printCheck(r control.CheckReply) {
	fmt.Printf("%d inodes, %d names, %d extents, %d blobs, %d orphans, %s of content\n",
		r.Inodes, r.Dirents, r.Extents, r.Blobs, r.Orphans, control.Bytes(int64(r.Bytes)))
	for _, p := range r.Problems {
		fmt.Println("problem: " + p)
	}
	if len(r.Problems) == 0 {
		fmt.Println("consistent")
	}
}

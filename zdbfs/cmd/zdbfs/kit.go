package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"time"

	"qsfs/zdbfs/internal/exit"
	"qsfs/zstor/config"
)

// printKit writes everything that a recovery needs, for a piece of paper or a safe.
func printKit(cfg *config.Config, text []byte, path string) error {
	key, err := os.ReadFile(cfg.QSFS.KeyFile)
	if err != nil {
		return exit.Errorf(exit.Key, "read the key: %w", err)
	}
	var b bytes.Buffer
	kitText(&b, cfg, text, key)
	if path != "" {
		if err := writeNew(path, b.Bytes()); err != nil {
			return exit.Errorf(exit.Usage, "write the recovery kit: %w", err)
		}
		fmt.Fprintf(os.Stderr, "recovery kit written to %s: move it away from this machine\n", path)
		return nil
	}
	_, err = os.Stdout.Write(b.Bytes())
	return err
}

func kitText(w io.Writer, cfg *config.Config, text, key []byte) {
	fmt.Fprintf(w, `QSFS RECOVERY KIT, made %s

Whoever has this kit can read all data that the nodes hold. Without it, when
this machine is lost, nobody can. Keep it in a safe place away from this
machine and from the nodes; a copy on paper is a good one.

To bring the data back on a new machine, with at least %d of the %d data nodes
reachable:
  1. install qsfs
  2. write the first part below to %s, mode 0600
  3. write the second part below to %s, mode 0600
  4. zdbfs recover --config %s
  5. zdbfs mount --config %s

----- %s -----
%s----- %s -----
%s----- end -----
`, time.Now().UTC().Format(time.DateOnly), cfg.MinimalShards, len(cfg.Nodes()),
		cfg.File, cfg.QSFS.KeyFile, cfg.File, cfg.File,
		cfg.File, endWithNewline(text), cfg.QSFS.KeyFile, endWithNewline(key))
}

func endWithNewline(b []byte) string {
	if len(b) > 0 && b[len(b)-1] != '\n' {
		return string(b) + "\n"
	}
	return string(b)
}

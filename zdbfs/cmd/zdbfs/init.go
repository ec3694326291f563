package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"qsfs/zdbfs/internal/exit"
	"qsfs/zstor/config"
)

func newInit(g *global) *cobra.Command {
	p := plan{minimal: 4, expected: 6, redundantGroups: 1}
	var passwordFile, kit string
	c := &cobra.Command{
		Use:   "init",
		Short: "Write configuration and key, and print the recovery kit",
		Long: `Write a configuration and a key, and print the recovery kit: everything that is
needed to get the data back when this machine is lost. Keep it away from here.

With --group, once for each site, the configuration is made:

  zdbfs init --group a=10.0.0.1:9900,10.0.0.2:9900 --group b=10.0.1.1:9900,10.0.1.2:9900 \
             --group c=10.0.2.1:9900,10.0.2.2:9900 --password-file nodes.password

Without it the configuration must be there already, and only the key is made.
Files that exist are never replaced.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if passwordFile != "" {
				b, err := os.ReadFile(passwordFile)
				if err != nil {
					return exit.Errorf(exit.Usage, "--password-file: %w", err)
				}
				p.password = strings.TrimRight(string(b), "\r\n")
			}
			return runInit(g, p, kit)
		},
	}
	f := c.Flags()
	f.StringArrayVar(&p.groups, "group", nil, "`name=host:port,…` of the nodes of one site")
	f.IntVar(&p.minimal, "minimal", p.minimal, "shards that are needed to read")
	f.IntVar(&p.expected, "expected", p.expected, "shards that are stored")
	f.IntVar(&p.redundantGroups, "redundant-groups", p.redundantGroups, "whole groups that may be lost")
	f.IntVar(&p.redundantNodes, "redundant-nodes", 0, "nodes of each remaining group that may be lost as well")
	f.StringVar(&p.fallback, "fallback", "", "`K-of-N` to be used while the main policy cannot be met; lowers the secrecy to K")
	f.StringVar(&p.dataNS, "namespace", "qsfs-data", "namespace for data on each node")
	f.StringVar(&p.metaNS, "meta-namespace", "qsfs-meta", "namespace for records on each node")
	f.StringVar(&passwordFile, "password-file", "", "`file` with the password of the namespaces")
	f.StringVar(&p.state, "state", "/var/lib/qsfs", "state `directory`")
	f.StringVar(&p.mount, "mount", "/mnt/qsfs", "mount point")
	f.StringVar(&p.key, "key-file", "/etc/qsfs/key", "key `file`")
	f.StringVar(&p.socket, "socket", "/run/qsfs/zstor.sock", "control `socket` of zstor")
	f.StringVar(&kit, "kit", "", "write the recovery kit to this `file` instead of printing it")
	return c
}

func runInit(g *global, p plan, kit string) error {
	_, statErr := os.Stat(g.config)
	switch {
	case len(p.groups) > 0 && statErr == nil:
		return exit.Errorf(exit.Usage, "%s exists and is not replaced; name another file with --config, or leave --group away to make only the key", g.config)
	case len(p.groups) == 0 && errors.Is(statErr, fs.ErrNotExist):
		return exit.Errorf(exit.Usage, "there is no %s; name the nodes with --group, or write it by hand", g.config)
	}
	text, err := configText(g, p)
	if err != nil {
		return err
	}
	cfg, err := config.Parse(g.config, text)
	if err != nil {
		return &exit.Error{Code: exit.Usage, Line: err.Error(), Err: err}
	}
	if strings.HasPrefix(cfg.QSFS.KeyFile, "credential:") || len(cfg.QSFS.Argon2id) > 0 {
		return exit.Errorf(exit.Usage, "the configuration takes its key from elsewhere than a file; there is nothing to make")
	}
	// The key first: a configuration without its key would look complete.
	if err := os.MkdirAll(filepath.Dir(cfg.QSFS.KeyFile), 0o700); err != nil {
		return exit.Errorf(exit.Key, "make the directory of the key: %w", err)
	}
	if want := cfg.QSFS.KeyCheck; want != "" {
		return exit.Errorf(exit.Key, "%s names a key already (key_check = %q): put that key back, from the recovery kit, or remove the line to begin with a new one", g.config, want)
	}
	check, err := config.GenerateKey(cfg.QSFS.KeyFile)
	if err != nil {
		return exit.Errorf(exit.Key, "make the key: %w", err)
	}
	if len(p.groups) > 0 {
		// From now on any other key file is known to be wrong when the configuration is loaded.
		p.check = check
		if text, err = p.text(); err != nil {
			return err
		}
		if err := writeNew(g.config, text); err != nil {
			return exit.Errorf(exit.Usage, "write the configuration: %w", err)
		}
	} else {
		fmt.Fprintf(os.Stderr, "%s is yours and not changed; add under [qsfs], so that a wrong key is known at once: key_check = %q\n", g.config, check)
	}
	fmt.Fprintf(os.Stderr, "key %s written (check value %s), configuration %s\n", cfg.QSFS.KeyFile, check, g.config)
	return printKit(cfg, text, kit)
}

// configText makes a configuration, or reads the one that is there.
func configText(g *global, p plan) ([]byte, error) {
	if len(p.groups) == 0 {
		b, err := os.ReadFile(g.config)
		if err != nil {
			return nil, exit.Errorf(exit.Usage, "%w", err)
		}
		return b, nil
	}
	return p.text()
}

// writeNew writes a file that must not exist, private and synced.
func writeNew(path string, b []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	return errors.Join(err, f.Sync(), f.Close())
}

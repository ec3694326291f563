package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"qsfs/zdb/server"
)

type passwdFlags struct {
	adminFile string
	address   string
	admin     string
	dataDir   string
	stdin     bool
	clear     bool
	json      bool
}

func passwdCommand() *cobra.Command {
	var f passwdFlags
	c := &cobra.Command{
		Use:   "passwd [namespace]",
		Short: "Set the password of a namespace, or the hash of an admin password",
		Long: `Set a password. It is asked for twice on the terminal, or read as one line with --stdin.

  zdb passwd --admin-file FILE    writes its Argon2id hash to FILE, for zdb serve --admin-file. A running server reads
                                  the file anew on SIGHUP.
  zdb passwd NAME                 changes it at a running server, which needs --admin. Sessions keep their rights.
  zdb passwd NAME --data DIR      changes it in the data directory of a server that does not run.

A namespace that gets a password is still readable without it unless it is private (NSSET NAME public 0).`,
		Args: func(_ *cobra.Command, args []string) error {
			if f.adminFile == "" && len(args) != 1 || f.adminFile != "" && len(args) != 0 {
				return usageError{errors.New("want one namespace, or --admin-file and none")}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return runPasswd(cmd.Context(), cmd.InOrStdin(), cmd.OutOrStdout(), f, append(args, "")[0])
		},
	}
	fl := c.Flags()
	fl.StringVar(&f.adminFile, "admin-file", "", "`FILE` to write the hash of the admin password to")
	fl.StringVar(&f.address, "address", "127.0.0.1:9900", addressUsage)
	fl.StringVar(&f.admin, "admin", os.Getenv("ZDB_ADMIN"), "admin `PASSWORD` of the running server, also from ZDB_ADMIN")
	fl.Lookup("admin").DefValue = ""
	fl.StringVar(&f.dataDir, "data", "", "data `DIR` of a server that does not run")
	fl.BoolVar(&f.stdin, "stdin", false, "read the password as a line from standard input")
	fl.BoolVar(&f.clear, "clear", false, "remove the password of the namespace")
	fl.BoolVar(&f.json, "json", false, "the result as JSON")
	return c
}

func runPasswd(ctx context.Context, in io.Reader, out io.Writer, f passwdFlags, name string) error {
	if f.clear && f.adminFile != "" {
		return usageError{errors.New("--clear: an admin file without a password is refused by zdb serve; leave out --admin-file there")}
	}
	var password string
	if !f.clear {
		var err error
		if password, err = askPassword(in, f.stdin); err != nil {
			return usageError{err}
		}
	}
	what := "namespace " + name
	var err error
	switch {
	case f.adminFile != "":
		what = "admin file " + f.adminFile
		err = server.WriteAdminFile(f.adminFile, password)
	case f.dataDir != "":
		err = server.SetPassword(f.dataDir, name, password)
	default:
		if f.clear {
			password = "*"
		} else if password == "*" {
			return usageError{errors.New("the password * is how the protocol writes none; use --clear")}
		}
		t := target{address: f.address, admin: f.admin}
		c, derr := t.dial(ctx)
		if derr != nil {
			return derr
		}
		defer c.Close()
		err = c.NSSet(ctx, name, "password", password)
	}
	if err != nil {
		return err
	}
	if f.json {
		return writeJSON(out, map[string]any{"changed": what, "cleared": f.clear})
	}
	fmt.Fprintln(out, "changed:", what)
	return nil
}

// askPassword reads a password from a terminal, twice, or a line of in.
func askPassword(in io.Reader, line bool) (string, error) {
	if line {
		text, err := bufio.NewReader(io.LimitReader(in, 4096)).ReadString('\n')
		if err != nil && err != io.EOF {
			return "", err
		}
		if text = strings.TrimRight(text, "\r\n"); text == "" {
			return "", errors.New("no password on standard input")
		}
		return text, nil
	}
	fd := int(os.Stdin.Fd())
	if !term.IsTerminal(fd) {
		return "", errors.New("standard input is not a terminal: use --stdin to send the password there")
	}
	var typed [2]string
	for i, prompt := range []string{"New password: ", "Again: "} {
		fmt.Fprint(os.Stderr, prompt)
		raw, err := term.ReadPassword(fd)
		fmt.Fprintln(os.Stderr)
		if err != nil {
			return "", err
		}
		typed[i] = string(raw)
	}
	switch {
	case typed[0] == "":
		return "", errors.New("the password is empty")
	case typed[0] != typed[1]:
		return "", errors.New("the two differ")
	}
	return typed[0], nil
}

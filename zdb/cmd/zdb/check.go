package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"qsfs/zdb/client"
)

type checkFlags struct {
	address   string
	namespace string
	password  string
}

// errDamaged says that entries did not verify; they have been listed.
var errDamaged = errors.New("entries are damaged or cannot be read")

func checkCommand() *cobra.Command {
	var f checkFlags
	c := &cobra.Command{
		Use:   "check",
		Short: "Let a running server read and verify every entry of a namespace",
		Long: `Let a running server read and verify every entry of a namespace. Nothing is changed, and others are served meanwhile.
Bad entries are listed, one key per line. The exit code is 7 when there are any.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runCheck(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr(), f)
		},
	}
	fl := c.Flags()
	fl.StringVar(&f.address, "address", "127.0.0.1:9900", addressUsage)
	fl.StringVar(&f.namespace, "namespace", "default", "`NAME` of the namespace")
	fl.StringVar(&f.password, "password", os.Getenv("ZDB_PASSWORD"), "`PASSWORD` of the namespace, also from ZDB_PASSWORD")
	return c
}

// checkPage is how many entries one pipeline verifies.
const checkPage = 64

func runCheck(ctx context.Context, out, talk io.Writer, f checkFlags) error {
	if _, _, err := client.ParseAddress(f.address); err != nil {
		return usageError{err}
	}
	c, err := client.Dial(ctx, client.Options{Address: f.address, Namespace: f.namespace, Password: client.Secret(f.password)})
	if err != nil {
		return err
	}
	defer c.Close()
	var checked, bad int
	var page [][]byte
	verify := func() error {
		n, b, err := checkKeys(ctx, c, out, page)
		checked, bad, page = checked+n, bad+b, page[:0]
		return err
	}
	for key, err := range c.Keys(ctx, nil) {
		if err != nil {
			return err
		}
		if page = append(page, key); len(page) == checkPage {
			if err := verify(); err != nil {
				return err
			}
		}
	}
	if err := verify(); err != nil {
		return err
	}
	fmt.Fprintf(talk, "%d entries checked, %d bad\n", checked, bad)
	if bad > 0 {
		return errDamaged
	}
	return nil
}

// checkKeys verifies some entries. Those that were deleted meanwhile do not count.
func checkKeys(ctx context.Context, c *client.Client, out io.Writer, keys [][]byte) (checked, bad int, err error) {
	cmds := make([]client.Command, 0, len(keys))
	for _, key := range keys {
		cmds = append(cmds, client.Cmd("CHECK", key))
	}
	results, err := c.Pipeline(ctx, cmds...)
	if err != nil {
		return 0, 0, err
	}
	for i, r := range results {
		if r.Err != nil {
			return checked, bad, r.Err
		}
		switch err := client.CheckResult(r.Value); {
		case errors.Is(err, client.ErrNotFound):
			continue
		case errors.Is(err, client.ErrReadFailed):
			bad++
			fmt.Fprintf(out, "%q\n", keys[i])
		case err != nil:
			return checked, bad, err
		}
		checked++
	}
	return checked, bad, nil
}

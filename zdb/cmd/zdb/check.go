package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"qsfs/zdb"
	"qsfs/zdb/client"
	"qsfs/zdb/server"
)

type checkFlags struct {
	place
	repair bool
	keys   bool
	rate   string
	json   bool
}

// errDamaged says that something did not verify; it has been listed.
var errDamaged = errors.New("there is damage, see above")

func checkCommand() *cobra.Command {
	var f checkFlags
	c := &cobra.Command{
		Use:   "check",
		Short: "Check the files of a namespace against each other, and mend what can be mended",
		Long: `Check the files of a namespace against each other: each sum in the log, the index segments against the data segments,
the index against the log in both directions. A running server does it while it serves; it takes the admin's password.
Of a server that does not run, name the directories.

--repair writes damaged index segments and a wrong index again from the log. What the log itself has lost cannot be
brought back: it stays as it is, and its keys are named as far as they are known.

--keys reads and verifies every present value through a running server, with the password of the namespace only.

What is found goes to standard output, a line each. The exit code is 7 when there is damage that was not mended.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runCheck(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr(), f)
		},
	}
	fl := c.Flags()
	f.place.register(fl)
	fl.BoolVar(&f.repair, "repair", false, "mend what can be mended")
	fl.BoolVar(&f.keys, "keys", false, "read every present value through the server instead")
	fl.StringVar(&f.rate, "rate", "0", "`SIZE` read per second at most, of directories; 0 for no bound")
	fl.BoolVar(&f.json, "json", false, "the result as JSON; keys are in base64")
	return c
}

func runCheck(ctx context.Context, out, talk io.Writer, f checkFlags) error {
	offline, err := f.store.given()
	if err != nil {
		return err
	}
	rate, err := parseSize(f.rate)
	switch {
	case err != nil:
		return usageError{fmt.Errorf("--rate %q: %w", f.rate, err)}
	case f.keys && (offline || f.repair):
		return usageError{errors.New("--keys asks a running server and changes nothing: leave out --data, --index and --repair")}
	case f.keys:
		return f.checkKeys(ctx, out, talk)
	case rate > 0 && !offline:
		return usageError{errors.New("--rate is for directories, with --data and --index")}
	}
	b := newBar("check "+f.namespace, f.json, true)
	defer b.close()
	var r client.CheckReport
	if offline {
		r, err = f.offline(ctx, b, rate)
	} else {
		r, err = f.online(ctx, b)
	}
	if err != nil {
		return err
	}
	b.close()
	if f.json {
		err = writeJSON(out, r)
	} else {
		showReport(out, talk, &r)
	}
	if err == nil && r.Unrepaired > 0 {
		err = errDamaged
	}
	return err
}

func (f *checkFlags) offline(ctx context.Context, b *bar, rate int64) (r client.CheckReport, err error) {
	store, _, err := f.store.find(f.namespace)
	if err != nil {
		return r, err
	}
	res, err := zdb.Check(ctx, f.store.options(), store, zdb.CheckOptions{
		Repair: f.repair, RateBytes: rate, Progress: func(p zdb.CheckProgress) { b.step(p.Step, p.Done, p.Total) },
	})
	return server.CheckReport(f.namespace, &res), err
}

func (f *checkFlags) online(ctx context.Context, b *bar) (r client.CheckReport, err error) {
	c, err := f.dialAdmin(ctx)
	if err != nil {
		return r, err
	}
	defer c.Close()
	if err := c.StartCheck(ctx, f.namespace, f.repair); err != nil {
		return r, err
	}
	state, err := await(ctx, c, f.namespace, b)
	if err == nil && state.Check == nil {
		err = errors.New("the server has forgotten the check: the namespace was emptied, or another task was begun")
	}
	if err != nil {
		return r, err
	}
	return *state.Check, nil
}

// showReport writes what was found, a line each.
func showReport(out, talk io.Writer, r *client.CheckReport) {
	for _, x := range r.Findings {
		place := x.File
		switch {
		case x.Length > 0:
			place = fmt.Sprintf("%s at %d, %d bytes", x.File, x.Offset, x.Length)
		case x.Offset > 0:
			place = fmt.Sprintf("%s from %d on", x.File, x.Offset)
		}
		line := place + ": " + strings.ReplaceAll(x.What, "\n", "; ")
		if len(x.Keys) > 0 {
			line += fmt.Sprintf("; keys %q", x.Keys)
			if more := x.Entries - int64(len(x.Keys)); more > 0 {
				line += fmt.Sprintf(" and %d more", more)
			}
		}
		if x.Done != "" {
			line += " [" + x.Done + "]"
		}
		fmt.Fprintln(out, line)
	}
	if r.More > 0 {
		fmt.Fprintf(out, "%d more findings\n", r.More)
	}
	found := int64(len(r.Findings)) + r.More
	fmt.Fprintf(talk, "%s: %d segments, %d entries, %d keys, %.1f MiB read: %d findings, %d not mended\n",
		r.Namespace, r.Segments, r.Entries, r.Keys, mib(r.Bytes), found, r.Unrepaired)
	if r.Missing > 0 {
		fmt.Fprintf(talk, "%d data segments are not on this machine: only their index segments were read\n", r.Missing)
	}
	if r.IndexSkipped != "" {
		fmt.Fprintln(talk, "the index was not compared:", r.IndexSkipped)
	}
}

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"qsfs/zdb"
	"qsfs/zdb/client"
	"qsfs/zdb/resp"
)

type dumpFlags struct {
	place
	prefix string
	values bool
	json   bool
}

func dumpCommand() *cobra.Command {
	var f dumpFlags
	c := &cobra.Command{
		Use:   "dump",
		Short: "List the entries of a namespace",
		Long: `List the entries of a namespace, a line each. Of the directories of a server that does not run: every entry of the log
that is still there, in its order, superseded ones and deletes too; nothing is changed, not even by recovery. Of a running
server: the present entries in the order of their keys. The exit code is 7 when entries are damaged (of a running server:
values, with --values); they are listed with what is known of them.

The columns are time, sequence (of the log), place (segment:offset), kind (set, delete, moved by compaction, damaged),
key, length, and with --values the value.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runDump(cmd.Context(), cmd.OutOrStdout(), f)
		},
	}
	fl := c.Flags()
	f.place.register(fl)
	fl.StringVar(&f.prefix, "prefix", "", "only keys that begin with `TEXT`")
	fl.BoolVar(&f.values, "values", false, "the values too")
	fl.BoolVar(&f.json, "json", false, "an object per line; keys and values are in base64")
	return c
}

// A dumpLine is one entry. What only the log knows is empty in that of a running server.
type dumpLine struct {
	Key     []byte    `json:"key"`
	Value   []byte    `json:"value,omitempty"`
	Length  int64     `json:"length"`
	Time    time.Time `json:"time,omitzero"`
	Seq     string    `json:"sequence,omitempty"` // 64 bits: too many for the numbers of JSON
	Segment *uint32   `json:"segment,omitempty"`
	Offset  int64     `json:"offset,omitempty"` // of the value
	Deleted bool      `json:"deleted,omitempty"`
	Moved   bool      `json:"moved,omitempty"`
	Damaged string    `json:"damaged,omitempty"`

	lost bool // damaged, and not just elsewhere
}

func (l *dumpLine) text(values bool) string {
	kind, place, seq := "set", "-", "-"
	switch {
	case l.Damaged != "":
		kind = "damaged"
	case l.Deleted:
		kind = "delete"
	case l.Moved:
		kind = "moved"
	}
	if l.Segment != nil {
		place = fmt.Sprintf("%d:%d", *l.Segment, l.Offset)
	}
	if l.Seq != "" {
		seq = l.Seq
	}
	line := fmt.Sprintf("%s\t%s\t%s\t%s\t%q\t%d", l.Time.UTC().Format(time.RFC3339), seq, place, kind, l.Key, l.Length)
	if l.Damaged != "" {
		line += "\t" + strings.ReplaceAll(l.Damaged, "\n", "; ")
	} else if values && !l.Deleted {
		line += fmt.Sprintf("\t%q", l.Value)
	}
	return line
}

func runDump(ctx context.Context, out io.Writer, f dumpFlags) error {
	offline, err := f.store.given()
	if err != nil {
		return err
	}
	b := newBar("dump "+f.namespace, f.json || term.IsTerminal(int(os.Stdout.Fd())), false)
	defer b.close()
	w := bufio.NewWriterSize(out, 64<<10)
	enc := json.NewEncoder(w)
	var lines int64
	damaged := false
	emit := func(l *dumpLine) error {
		lines++
		damaged = damaged || l.lost
		b.show(lines, -1)
		if f.json {
			return enc.Encode(l)
		}
		_, err := fmt.Fprintln(w, l.text(f.values))
		return err
	}
	if offline {
		err = f.offline(ctx, emit)
	} else {
		err = f.online(ctx, emit)
	}
	if ferr := w.Flush(); err == nil {
		err = ferr
	}
	if err == nil && damaged {
		err = errDamaged
	}
	return err
}

func (f *dumpFlags) offline(ctx context.Context, emit func(*dumpLine) error) error {
	store, sequential, err := f.store.find(f.namespace)
	if err != nil {
		return err
	}
	for e, err := range zdb.Dump(ctx, f.store.options(), store) {
		if err != nil {
			return err
		}
		key := turned(e.Key, sequential)
		if e.Key != nil && !strings.HasPrefix(string(key), f.prefix) { // one that is not known may have had it
			continue
		}
		id := uint32(e.Segment)
		l := dumpLine{
			Key: key, Length: int64(e.Length), Time: e.Time, Seq: strconv.FormatUint(uint64(e.Seq), 10), Segment: &id, Offset: e.Offset,
			Deleted: e.Deleted, Moved: e.Moved,
		}
		if f.values {
			l.Value = e.Value
		}
		// What is elsewhere is not damaged.
		if missing := (*zdb.MissingError)(nil); e.Damaged != nil {
			l.Damaged = e.Damaged.Error()
			l.lost = !errors.As(e.Damaged, &missing)
		}
		if err := emit(&l); err != nil {
			return err
		}
	}
	return nil
}

// dumpPage is how many entries one pipeline asks for; with values fewer.
const (
	dumpPage       = 256
	dumpPageValues = 16
)

func (f *dumpFlags) online(ctx context.Context, emit func(*dumpLine) error) error {
	c, err := f.target.dial(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	size := dumpPage
	if f.values {
		size = dumpPageValues
	}
	var page [][]byte
	for key, err := range keysOf(ctx, c, f.namespace, f.prefix) {
		if err != nil {
			return err
		}
		if page = append(page, key); len(page) == size {
			if err := f.page(ctx, c, page, emit); err != nil {
				return err
			}
			page = page[:0]
		}
	}
	return f.page(ctx, c, page, emit)
}

// page asks for some entries. Those that were deleted meanwhile are left out.
func (f *dumpFlags) page(ctx context.Context, c *client.Client, keys [][]byte, emit func(*dumpLine) error) error {
	if len(keys) == 0 {
		return nil
	}
	names := []string{"KEYTIME", "LENGTH"}
	if f.values {
		names = append(names, "GET")
	}
	var cmds []client.Command
	for _, key := range keys {
		for _, name := range names {
			cmds = append(cmds, client.Cmd(name, key))
		}
	}
	results, err := c.Pipeline(ctx, cmds...)
	if err != nil {
		return err
	}
	for i, key := range keys {
		l, gone := dumpLine{Key: key}, false
		for k, r := range results[i*len(names) : (i+1)*len(names)] {
			switch {
			case names[k] == "GET" && errors.Is(r.Err, client.ErrReadFailed): // the others are worth having
				l.Damaged, l.lost = r.Err.Error(), true
			case r.Err != nil:
				return fmt.Errorf("%s %q: %w", names[k], key, r.Err)
			case r.Value.Kind == resp.Nil:
				gone = true
			case k == 0:
				l.Time = time.Unix(r.Value.Int, 0)
			case k == 1:
				l.Length = r.Value.Int
			default:
				l.Value = r.Value.Data
			}
		}
		if gone {
			continue
		}
		if err := emit(&l); err != nil {
			return err
		}
	}
	return nil
}

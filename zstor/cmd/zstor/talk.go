package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"

	"qsfs/zstor"
	"qsfs/zstor/client"
	"qsfs/zstor/config"
)

// files is what the file commands need: the daemon over its socket, or a store in this process.
type files interface {
	StoreFile(ctx context.Context, r client.FileRequest, progress func(client.Progress)) error
	RetrieveFile(ctx context.Context, r client.FileRequest, progress func(client.Progress)) error
	CheckFile(ctx context.Context, r client.FileRequest, progress func(client.Progress)) error
	RebuildFile(ctx context.Context, r client.FileRequest, progress func(client.Progress)) error
	Files(ctx context.Context) ([]client.FileInfo, error)
}

// withFiles runs f against the daemon, or, when none runs, against a store opened for this one
// command: the lock of the state directory keeps the two apart.
func withFiles(ctx context.Context, g *global, f func(*config.Config, files) error) error {
	c, err := g.load()
	if err != nil {
		return err
	}
	cl := client.New(c.Socket)
	defer cl.Close()
	if _, err := cl.Status(ctx); err == nil {
		return f(c, cl)
	} else if !errors.Is(err, client.ErrDown) {
		return err
	}
	s, err := zstor.Open(ctx, zstor.Options{Config: c, Log: newLog(g.debug)})
	if err != nil {
		return err
	}
	err = f(c, s)
	stopCtx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return errors.Join(err, s.Close(stopCtx))
}

// bar shows progress lines on stderr when that is a terminal, else a line per phase.
type bar struct {
	b     *progressbar.ProgressBar
	phase string
	tty   bool
}

func newBar() *bar { return &bar{tty: term.IsTerminal(int(os.Stderr.Fd()))} }

func (p *bar) show(x client.Progress) {
	if x.Phase != p.phase {
		p.close()
		p.phase = x.Phase
		if !p.tty && !x.Done {
			fmt.Fprintln(os.Stderr, "zstor: "+x.Phase)
		}
	}
	if x.Message != "" && !p.tty {
		fmt.Fprintln(os.Stderr, "zstor: "+x.Message)
	}
	total, done := x.BytesTotal, x.Bytes
	if total == 0 {
		total, done = x.ItemsTotal, x.Items
	}
	if !p.tty || x.Done || total == 0 {
		return
	}
	if p.b == nil {
		opts := []progressbar.Option{progressbar.OptionSetWriter(os.Stderr), progressbar.OptionSetDescription(x.Phase),
			progressbar.OptionThrottle(100 * time.Millisecond), progressbar.OptionShowCount(), progressbar.OptionClearOnFinish(),
			progressbar.OptionSetPredictTime(true), progressbar.OptionFullWidth()}
		if x.BytesTotal > 0 {
			opts = append(opts, progressbar.OptionShowBytes(true))
		}
		p.b = progressbar.NewOptions64(total, opts...)
	}
	p.b.ChangeMax64(total)
	_ = p.b.Set64(done) // a bar that cannot be drawn is no reason to stop
}

func (p *bar) close() {
	if p.b != nil {
		_ = p.b.Finish() // see show
		p.b = nil
	}
}

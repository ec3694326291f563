package service

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"qsfs/zdbfs/internal/exit"
	"qsfs/zstor/client"
)

const (
	daemonStart = 60 * time.Second
	daemonStop  = 30 * time.Second
)

// zstorDaemon is a zstor daemon that was started for a recovery; its zero value is one that ran already.
type zstorDaemon struct {
	cmd  *exec.Cmd
	once sync.Once
	done chan struct{}
	err  error // of its end, valid after done
}

// ensureZstor gives a daemon that answers: the one that runs, or one that ends with stop.
func ensureZstor(ctx context.Context, z *client.Client, config string, log *slog.Logger) (*zstorDaemon, error) {
	if _, err := z.Status(ctx); err == nil {
		return &zstorDaemon{}, nil
	} else if !errors.Is(err, client.ErrDown) {
		return nil, fmt.Errorf("ask zstor: %w", err)
	}
	path, err := zstorProgram()
	if err != nil {
		return nil, err
	}
	d := &zstorDaemon{cmd: exec.Command(path, "daemon", "--config", config), done: make(chan struct{})}
	d.cmd.Stderr = os.Stderr
	// It must not outlive us, whatever becomes of us, nor take the signals of our terminal.
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	log.Info("starting zstor for the duration", "program", path)
	if err := d.cmd.Start(); err != nil {
		return nil, exit.Errorf(exit.Unreachable, "zstor does not run and cannot be started: %w", err)
	}
	go func() {
		d.err = d.cmd.Wait()
		close(d.done)
	}()
	if err := d.await(ctx, z); err != nil {
		d.stop()
		return nil, err
	}
	return d, nil
}

// await waits until the daemon answers, or has ended.
func (d *zstorDaemon) await(ctx context.Context, z *client.Client) error {
	deadline := time.Now().Add(daemonStart)
	for {
		if _, err := z.Status(ctx); err == nil {
			return nil
		} else if time.Now().After(deadline) {
			return exit.Errorf(exit.Unreachable, "zstor was started but does not answer: %w", err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-d.done:
			var ee *exec.ExitError
			if errors.As(d.err, &ee) && ee.ExitCode() > int(exit.Internal) && ee.ExitCode() < int(exit.Unsafe) {
				// Its codes are ours, and it has said why.
				return exit.Errorf(exit.Code(ee.ExitCode()), "zstor could not start, its message stands above")
			}
			return exit.Errorf(exit.Unreachable, "zstor could not start (%w), its message stands above", d.err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// stop ends a daemon that ensureZstor started.
func (d *zstorDaemon) stop() {
	if d.cmd == nil {
		return
	}
	d.once.Do(func() {
		_ = d.cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-d.done:
		case <-time.After(daemonStop):
			_ = d.cmd.Process.Kill()
			<-d.done
		}
	})
}

// zstorProgram finds zstor beside this program, or on the path.
func zstorProgram() (string, error) {
	if self, err := os.Executable(); err == nil {
		if path := filepath.Join(filepath.Dir(self), "zstor"); isProgram(path) {
			return path, nil
		}
	}
	path, err := exec.LookPath("zstor")
	if err != nil {
		return "", exit.Errorf(exit.Unreachable, "zstor does not answer on its socket, and the program zstor is neither beside zdbfs nor on the path; start it: systemctl start qsfs-zstor")
	}
	return path, nil
}

func isProgram(path string) bool {
	fi, err := os.Stat(path)
	return err == nil && fi.Mode().IsRegular() && fi.Mode()&0o111 != 0
}

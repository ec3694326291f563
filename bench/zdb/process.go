package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// program gives the path of our server, built from the tree if none is named.
func program(ctx context.Context, path, dir string) (string, error) {
	if path != "" {
		return filepath.Abs(path)
	}
	path = filepath.Join(dir, "zdb")
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", path, "qsfs/zdb/cmd/zdb")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build zdb: %w\n%s", err, out)
	}
	return path, nil
}

// A server is a running server of either kind, on TCP and on a unix socket.
type server struct {
	b      *bench
	ours   bool
	dir    string
	port   string
	socket string
	args   []string
	cmd    *exec.Cmd
	done   chan struct{}
	log    string
}

// startOurs starts our server with its state in a new directory.
func (b *bench) startOurs(name string, extra ...string) (*server, error) {
	s, err := b.place(name)
	if err != nil {
		return nil, err
	}
	s.ours = true
	s.args = append([]string{
		b.ours, "serve", "--data", filepath.Join(s.dir, "data"), "--index", filepath.Join(s.dir, "index"),
		"--listen", "127.0.0.1:" + s.port, "--listen", "unix:" + s.socket,
	}, extra...)
	return s, s.start()
}

var errNoOriginal = errors.New("the original server was not given")

// startTheirs is the same for the original.
func (b *bench) startTheirs(name string, extra ...string) (*server, error) {
	if b.theirs == "" {
		return nil, errNoOriginal
	}
	s, err := b.place(name)
	if err != nil {
		return nil, err
	}
	s.args = append([]string{
		b.theirs, "--data", filepath.Join(s.dir, "data"), "--index", filepath.Join(s.dir, "index"), "--mode", "user",
		"--listen", "127.0.0.1", "--port", s.port, "--socket", s.socket, "--dualnet",
	}, extra...)
	return s, s.start()
}

// place makes a directory and finds a free port.
func (b *bench) place(name string) (*server, error) {
	dir, err := os.MkdirTemp(b.dir, name+"-")
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	defer l.Close()
	return &server{
		b: b, dir: dir, socket: filepath.Join(dir, "s"), log: filepath.Join(dir, "log"),
		port: strconv.Itoa(l.Addr().(*net.TCPAddr).Port),
	}, nil
}

// start runs the program and returns when it answers.
func (s *server) start() error {
	log, err := os.OpenFile(s.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	s.cmd = exec.Command(s.args[0], s.args[1:]...)
	s.cmd.Stderr = log
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := s.cmd.Start(); err != nil {
		return err
	}
	s.done = make(chan struct{})
	go func() {
		_ = s.cmd.Wait()
		close(s.done)
	}()
	for {
		c, err := dial("tcp", s.tcp())
		if err == nil {
			_, err = c.do("PING")
			c.close()
			if err == nil {
				return nil
			}
		}
		select {
		case <-s.done:
			return fmt.Errorf("%s ended: %s", filepath.Base(s.args[0]), s.lastWords())
		case <-s.b.ctx.Done():
			s.kill()
			return fmt.Errorf("waiting for %s: %w", filepath.Base(s.args[0]), s.b.ctx.Err())
		case <-time.After(2 * time.Millisecond):
		}
	}
}

func (s *server) lastWords() string {
	raw, err := os.ReadFile(s.log)
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(raw[max(0, len(raw)-300):]))
}

// who is the name of its side in notes.
func (s *server) who() string {
	if s.ours {
		return "ours"
	}
	return "theirs"
}

func (s *server) tcp() string { return "127.0.0.1:" + s.port }

// stop ends it in order and kill at once; both return when it is gone.
func (s *server) stop() error {
	if s.cmd == nil {
		return nil
	}
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-s.done:
		return nil
	case <-time.After(time.Minute):
		s.kill()
		return errors.New("it did not stop within a minute")
	}
}

func (s *server) kill() {
	_ = s.cmd.Process.Kill()
	<-s.done
}

// remove ends the server and removes what it stored. A nil server is none.
func (s *server) remove() {
	if s == nil || s.cmd == nil {
		return
	}
	s.kill()
	_ = os.RemoveAll(s.dir)
}

// rssAnon is the anonymous resident memory in MiB.
func (s *server) rssAnon() (float64, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	kib, err := strconv.ParseFloat(strings.Fields(field(string(raw), "RssAnon") + " ")[0], 64)
	return kib / 1024, err
}

// cpuTime is what the process has used.
func (s *server) cpuTime() time.Duration {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	f := strings.Fields(string(raw[strings.LastIndexByte(string(raw), ')')+1:]))
	if len(f) < 13 {
		return 0
	}
	user, _ := strconv.ParseInt(f[11], 10, 64)
	system, _ := strconv.ParseInt(f[12], 10, 64)
	return time.Duration(user+system) * 10 * time.Millisecond
}

// settle waits until the server works on nothing any more, so that it does not disturb what is measured next.
func (s *server) settle(most time.Duration) {
	const step = 200 * time.Millisecond
	end := time.Now().Add(most)
	for last := s.cpuTime(); time.Now().Before(end) && s.b.ctx.Err() == nil; {
		time.Sleep(step)
		now := s.cpuTime()
		if now-last <= step/20 {
			return
		}
		last = now
	}
}

// diskBytes is what its files take up.
func (s *server) diskBytes() int64 {
	var sum int64
	_ = filepath.WalkDir(s.dir, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return nil // removed meanwhile
		}
		if info, err := d.Info(); err == nil {
			if st, ok := info.Sys().(*syscall.Stat_t); ok && info.Mode().IsRegular() {
				sum += st.Blocks * 512
			}
		}
		return nil
	})
	return sum
}

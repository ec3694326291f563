package server

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"slices"
	"time"
)

// A gauge is a client that asks for keys at a steady pace, whatever the replies do, and notes how long each took since it was due:
// a server that stalls for a tenth of the time shows in a tenth of the figures. It is a process of its own, so that what keeps
// the server's threads busy does not keep the client from asking.
type gauge struct {
	ts   *testServer
	what gaugeTask
}

// A gaugeTask is what the process is told.
type gaugeTask struct {
	Address    string
	Keys, Size int
}

const (
	gaugeEnv   = "ZDB_TEST_GAUGE"
	gaugePace  = 2 * time.Millisecond
	gaugeLeast = 200 // questions
)

func (ts *testServer) gauge(keys, size int) *gauge {
	return &gauge{ts, gaugeTask{ts.address, keys, size}}
}

// during measures while f runs, and returns the times in order of length.
// watched is how long it reads at least, from the beginning of what takes less: of 50 reads the longest would be the p99.
const watched = 500 * time.Millisecond

func (g *gauge) during(f func()) (took []time.Duration, ran time.Duration) {
	t := g.ts.t
	t.Helper()
	task, err := json.Marshal(g.what)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), gaugeEnv+"="+string(task))
	cmd.Stderr = os.Stderr
	stop, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	in := bufio.NewReader(out)
	if _, err := in.ReadString('\n'); err != nil {
		t.Errorf("the parallel reader does not begin: %v", err)
	}
	began := time.Now()
	f()
	ran = time.Since(began)
	time.Sleep(watched - ran)
	stop.Close()
	derr := json.NewDecoder(in).Decode(&took)
	if err := cmd.Wait(); err != nil || derr != nil {
		t.Fatalf("the parallel reader: %v, %v", err, derr)
	}
	slices.Sort(took)
	return took, ran
}

// gaugeMain is the process: it asks until its standard input ends.
func gaugeMain(task string) int {
	var g gaugeTask
	err := json.Unmarshal([]byte(task), &g)
	var nc net.Conn
	if err == nil {
		nc, err = net.Dial("tcp", g.Address)
	}
	var took []time.Duration
	if err == nil {
		defer nc.Close()
		done := make(chan struct{})
		go func() {
			io.Copy(io.Discard, os.Stdin)
			close(done)
		}()
		fmt.Println("ready")
		took, err = g.run(nc, done)
	}
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(took)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func (g *gaugeTask) run(nc net.Conn, done <-chan struct{}) (took []time.Duration, err error) {
	due := make(chan time.Time, 1<<20)
	failed := make(chan error, 1)
	go func() {
		defer close(due)
		var out []byte
		next := time.Now()
		for i := 0; ; i++ {
			select {
			case <-done:
				if i >= gaugeLeast {
					return
				}
			default:
			}
			time.Sleep(time.Until(next))
			due <- next
			out = append(out[:0], request("GET", stallKey(rand.IntN(g.Keys)))...)
			if _, err := nc.Write(out); err != nil {
				failed <- err
				return
			}
			next = next.Add(gaugePace)
		}
	}()
	in := bufio.NewReader(nc)
	for at := range due {
		nc.SetReadDeadline(time.Now().Add(time.Minute))
		line, err := in.ReadString('\n')
		if err == nil && line != fmt.Sprintf("$%d\r\n", g.Size) {
			err = fmt.Errorf("reply %q", line)
		}
		if err == nil {
			_, err = io.CopyN(io.Discard, in, int64(g.Size)+2)
		}
		if err != nil {
			return nil, err
		}
		took = append(took, time.Since(at))
	}
	select {
	case err := <-failed:
		return nil, err
	default:
		return took, nil
	}
}

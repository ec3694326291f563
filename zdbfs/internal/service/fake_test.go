package service

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"qsfs/zstor/client"
)

// fakeZstor answers on zstor's socket. Its nodes are a map: what it was told of sealed segments.
type fakeZstor struct {
	t      *testing.T
	socket string
	state  string

	mu        sync.Mutex
	srv       *http.Server
	formatted bool
	verdict   client.Verdict
	fencedBy  string // reason; heads fail with it
	problem   string // nothing ships
	consent   string // reason of refusal; empty: yes
	weak      bool   // one node is away: segments are above the floor, and not at full strength
	asked     []fakeEvict
	cut       client.CutNote
	stash     map[uint32][]byte // data segments
	stripes   int
	attached  int
	recover   func() error
	password  bool // nodes refuse the password
}

const fakeStripe = 1 << 20

// fakeEvict is a call for consent, of a segment that was dispersed.
type fakeEvict struct {
	segment   uint32
	spare     int
	emergency bool
}

// spare of a segment while a node is away.
func (z *fakeZstor) spare(segment uint32) int { return 1 + int(segment)%2 }

func newFakeZstor(t *testing.T, socket, state string) *fakeZstor {
	z := &fakeZstor{t: t, socket: socket, state: state, verdict: client.Verified, stash: make(map[uint32][]byte)}
	z.up()
	t.Cleanup(z.down)
	return z
}

func (z *fakeZstor) up() {
	z.t.Helper()
	_ = os.Remove(z.socket)
	l, err := net.Listen("unix", z.socket)
	if err != nil {
		z.t.Fatal(err)
	}
	srv := &http.Server{Handler: z.handler()}
	z.mu.Lock()
	z.srv = srv
	z.mu.Unlock()
	go func() { _ = srv.Serve(l) }()
}

func (z *fakeZstor) down() {
	z.mu.Lock()
	srv := z.srv
	z.srv = nil
	z.mu.Unlock()
	if srv != nil {
		_ = srv.Close()
	}
}

// with changes the fake.
func (z *fakeZstor) with(f func()) {
	z.mu.Lock()
	defer z.mu.Unlock()
	f()
}

func (z *fakeZstor) handler() http.Handler {
	mux := http.NewServeMux()
	handle := func(path string, f func(r *http.Request) (any, error)) {
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			z.mu.Lock()
			defer z.mu.Unlock()
			out, err := f(r)
			if err != nil {
				status, code := client.StatusOf(err)
				w.WriteHeader(status)
				_ = json.NewEncoder(w).Encode(client.ErrorBody{Code: code, Error: err.Error()})
				return
			}
			_ = json.NewEncoder(w).Encode(out)
		})
	}
	handle("POST /v1/format", func(*http.Request) (any, error) {
		switch {
		case z.password:
			return nil, fmt.Errorf("%w: node n1", client.ErrPassword)
		case z.formatted:
			return nil, client.ErrFormatted
		}
		z.formatted = true
		return z.own(client.Owner{Epoch: 1, ID: "one", Since: time.Now()})
	})
	handle("POST /v1/takeover", func(*http.Request) (any, error) {
		old, err := client.ReadOwner(z.state)
		if err != nil {
			return nil, err
		}
		o, err := z.own(client.Owner{Epoch: old.Epoch + 1, ID: "again", Since: time.Now()})
		z.fencedBy = ""
		return client.TakeoverReply{Verdict: z.verdict, Reason: "a newer cut is there", Owner: o}, err
	})
	handle("POST /v1/attach", func(*http.Request) (any, error) {
		if z.fencedBy != "" {
			return client.AttachReply{Verdict: client.Fenced, Reason: z.fencedBy}, nil
		}
		z.attached++
		r := client.AttachReply{Verdict: z.verdict, Reason: "as the test wants"}
		if z.cut.Number > 0 {
			c := z.cut
			r.Cut = &c
		}
		return r, nil
	})
	handle("POST /v1/heads", z.heads)
	handle("POST /v1/evict", func(r *http.Request) (any, error) {
		var in client.EvictRequest
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
			return nil, err
		}
		if _, ok := z.stash[in.Segment]; !ok {
			return client.EvictReply{Reason: "not dispersed"}, nil
		}
		if z.weak {
			c := fakeEvict{in.Segment, z.spare(in.Segment), in.Emergency}
			z.asked = append(z.asked, c)
			return client.EvictReply{OK: in.Emergency, Reason: "a node is away", Spare: c.spare}, nil
		}
		return client.EvictReply{OK: z.consent == "", Reason: z.consent}, nil
	})
	handle("GET /v1/status", func(*http.Request) (any, error) {
		return client.Status{
			Safety: client.Safe, Headline: "all is well", Formatted: z.formatted,
			Policy: client.Policy{MinimalShards: 4, ExpectedShards: 6},
			Nodes:  []client.NodeStatus{{ID: "n1", Role: "data", Up: true, Free: 6 << 30}},
		}, nil
	})
	mux.HandleFunc("GET /v1/stripe", z.stripe)
	mux.HandleFunc("POST /v1/recover", func(w http.ResponseWriter, _ *http.Request) {
		enc := json.NewEncoder(w)
		_ = enc.Encode(client.Progress{Phase: "claim"})
		p := client.Progress{Done: true}
		if err := z.recover(); err != nil {
			p.Error, p.Code = err.Error(), client.CodeUnavailable
		}
		_ = enc.Encode(p)
	})
	return mux
}

// own writes the owner note, as the daemon does.
func (z *fakeZstor) own(o client.Owner) (client.Owner, error) {
	b, err := json.Marshal(o)
	if err != nil {
		return o, err
	}
	return o, os.WriteFile(filepath.Join(z.state, client.OwnerFile), b, 0o600)
}

// heads takes a cut at once: copies what is sealed and writes receipts.
func (z *fakeZstor) heads(r *http.Request) (any, error) {
	var in client.HeadsRequest
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		return nil, err
	}
	if z.fencedBy != "" {
		return nil, fmt.Errorf("%w: %s", client.ErrFenced, z.fencedBy)
	}
	if z.problem != "" || z.verdict != client.Verified {
		return client.HeadsReply{Verdict: z.verdict, Problem: z.problem, Cut: z.cut.Number, Meta: z.cut.Meta, Data: z.cut.Data}, nil
	}
	if in.Meta.Needs > in.Data.Seq {
		z.t.Errorf("announced metadata needs %d, data ends at %d", in.Meta.Needs, in.Data.Seq)
	}
	if err := z.disperse(); err != nil {
		z.t.Errorf("disperse: %v", err)
	}
	z.cut = client.CutNote{Epoch: 1, Number: z.cut.Number + 1, Time: time.Now(), Meta: in.Meta, Data: in.Data}
	b, err := json.Marshal(z.cut)
	if err == nil {
		err = os.WriteFile(filepath.Join(z.state, client.CutFile), b, 0o600)
	}
	return client.HeadsReply{Verdict: client.Verified, Cut: z.cut.Number, Meta: in.Meta, Data: in.Data, Covered: true}, err
}

// disperse keeps every sealed data segment and writes its receipt.
func (z *fakeZstor) disperse() error {
	dir := filepath.Join(z.state, "data", client.NamespaceData)
	sealed, err := filepath.Glob(filepath.Join(z.state, "index", client.NamespaceData, "i*"))
	if err != nil {
		return err
	}
	for _, i := range sealed {
		n := strings.TrimPrefix(filepath.Base(i), "i")
		id, err := strconv.ParseUint(n, 10, 32)
		if err != nil {
			continue
		}
		receipt := "receipt"
		if z.weak {
			receipt = "weak receipt"
		}
		if _, ok := z.stash[uint32(id)]; ok {
			if b, err := os.ReadFile(filepath.Join(dir, "r"+n)); err == nil && string(b) == receipt {
				continue
			}
		}
		b, err := os.ReadFile(filepath.Join(dir, "d"+n))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		z.stash[uint32(id)] = b
		if err := os.WriteFile(filepath.Join(dir, "r"+n), []byte(receipt), 0o600); err != nil {
			return err
		}
	}
	return nil
}

func (z *fakeZstor) stripe(w http.ResponseWriter, r *http.Request) {
	z.mu.Lock()
	defer z.mu.Unlock()
	id, _ := strconv.ParseUint(r.FormValue("segment"), 10, 32)
	off, _ := strconv.ParseInt(r.FormValue("offset"), 10, 64)
	b, ok := z.stash[uint32(id)]
	if !ok || off >= int64(len(b)) {
		status, code := client.StatusOf(client.ErrNotDispersed)
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(client.ErrorBody{Code: code, Error: "no such segment"})
		return
	}
	z.stripes++
	from := off / fakeStripe * fakeStripe
	to := min(from+fakeStripe, int64(len(b)))
	w.Header().Set(client.HeaderStripeOffset, strconv.FormatInt(from, 10))
	w.Header().Set(client.HeaderSegmentLength, strconv.Itoa(len(b)))
	w.Header().Set("Content-Length", strconv.FormatInt(to-from, 10))
	_, _ = w.Write(b[from:to])
}

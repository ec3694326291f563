package harness

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Fault is how a Proxy treats the bytes between a client and a node.
type Fault struct {
	Delay     time.Duration // before each chunk of a reply
	Rate      int64         // bytes per second of each direction, 0 = unlimited
	Silent    bool          // requests are read, nothing is forwarded, nothing answered
	Refuse    bool          // new connections are closed at once
	DropReply bool          // requests reach the node, replies do not come back; the connection then closes
	CutAfter  int64         // each connection is closed after so many reply bytes, 0 = never
	FlipEvery int64         // one bit is flipped in every so many reply bytes, 0 = never
}

// Proxy stands between clients and a node and does what its Fault says.
type Proxy struct {
	Address string
	target  string
	fault   atomic.Pointer[Fault]
	flips   atomic.Int64
	drops   atomic.Int64

	listener net.Listener
	group    sync.WaitGroup

	mu     sync.Mutex
	open   map[net.Conn]bool
	closed bool
}

// NewProxy listens on a port of its own until the test ends; at first it passes everything.
func NewProxy(t TB, target string) *Proxy {
	t.Helper()
	l, err := net.Listen("tcp", FreeAddress(t))
	if err != nil {
		t.Fatalf("listen for a proxy: %v", err)
	}
	p := &Proxy{Address: l.Addr().String(), target: target, listener: l, open: make(map[net.Conn]bool)}
	p.fault.Store(&Fault{})
	p.group.Go(p.accept)
	t.Cleanup(p.close)
	return p
}

// Set changes the fault, also for what is under way.
func (p *Proxy) Set(f Fault) { p.fault.Store(&f) }

// Cut closes every connection that is open now.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.open {
		_ = c.Close()
	}
}

// Flips is how many bits the proxy has flipped, Drops how many replies it has kept back.
func (p *Proxy) Flips() int64 { return p.flips.Load() }

// Drops is how many replies the proxy has kept back although the node had done the work.
func (p *Proxy) Drops() int64 { return p.drops.Load() }

func (p *Proxy) close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	_ = p.listener.Close()
	p.Cut()
	p.group.Wait()
}

func (p *Proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		if p.fault.Load().Refuse || !p.track(client) {
			_ = client.Close()
			continue
		}
		p.group.Go(func() { p.serve(client) })
	}
}

func (p *Proxy) serve(client net.Conn) {
	defer p.untrack(client)
	node, err := net.DialTimeout("tcp", p.target, 5*time.Second)
	if err != nil || !p.track(node) {
		return
	}
	defer p.untrack(node)
	var both sync.WaitGroup
	both.Go(func() { p.requests(node, client) })
	both.Go(func() { p.replies(client, node) })
	both.Wait()
}

func (p *Proxy) requests(node, client net.Conn) {
	defer node.Close()
	p.pump(client, func(chunk []byte) bool {
		if p.fault.Load().Silent {
			return true
		}
		_, err := node.Write(chunk)
		return err == nil
	})
}

func (p *Proxy) replies(client, node net.Conn) {
	defer client.Close()
	var sent int64
	p.pump(node, func(chunk []byte) bool {
		f := p.fault.Load()
		time.Sleep(f.Delay)
		if f.DropReply {
			p.drops.Add(1)
			return false
		}
		if f.Silent {
			return true
		}
		if f.CutAfter > 0 && sent+int64(len(chunk)) > f.CutAfter {
			_, _ = client.Write(chunk[:max(0, f.CutAfter-sent)])
			return false
		}
		if f.FlipEvery > 0 {
			for at := f.FlipEvery - 1 - sent%f.FlipEvery; at < int64(len(chunk)); at += f.FlipEvery {
				chunk[at] ^= 1 << (at % 8)
				p.flips.Add(1)
			}
		}
		sent += int64(len(chunk))
		_, err := client.Write(chunk)
		return err == nil
	})
}

// pump reads chunks until the end and hands them on, at the rate that the fault allows.
func (p *Proxy) pump(from io.Reader, pass func([]byte) bool) {
	buf := make([]byte, 64<<10)
	for {
		size := int64(len(buf))
		if rate := p.fault.Load().Rate; rate > 0 {
			size = min(size, max(1, rate/20))
		}
		n, err := from.Read(buf[:size])
		if n > 0 {
			if rate := p.fault.Load().Rate; rate > 0 {
				time.Sleep(time.Duration(int64(n) * int64(time.Second) / rate))
			}
			if !pass(buf[:n]) {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

func (p *Proxy) track(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		_ = c.Close()
		return false
	}
	p.open[c] = true
	return true
}

func (p *Proxy) untrack(c net.Conn) {
	_ = c.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.open, c)
}

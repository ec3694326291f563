package harness

import (
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
)

var addresses struct {
	mu    sync.Mutex
	given map[int]bool
}

// FreeAddress gives a loopback address that nobody listens on. It lies below the range from which the kernel takes ports for
// outgoing connections, or a node that is down could lose its port to somebody else's client.
func FreeAddress(t TB) string {
	t.Helper()
	addresses.mu.Lock()
	defer addresses.mu.Unlock()
	if addresses.given == nil {
		addresses.given = make(map[int]bool)
	}
	for range 1000 {
		port := 10000 + rand.IntN(22000)
		address := fmt.Sprintf("127.0.0.1:%d", port)
		if addresses.given[port] {
			continue
		}
		l, err := net.Listen("tcp", address)
		if err != nil {
			continue
		}
		_ = l.Close()
		addresses.given[port] = true
		return address
	}
	t.Fatalf("no free loopback port")
	return ""
}

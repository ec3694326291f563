package server

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// BenchmarkSet measures writes over loopback, client included.
func BenchmarkSet(b *testing.B) {
	for _, bc := range []struct {
		name              string
		noSync            bool
		clients, pipeline int
		size              int
	}{
		{"sync=none/clients=1/pipeline=64/size=4KiB", true, 1, 64, 4 << 10},
		{"sync=none/clients=16/pipeline=16/size=4KiB", true, 16, 16, 4 << 10},
		{"sync=always/clients=1/pipeline=64/size=4KiB", false, 1, 64, 4 << 10},
		{"sync=always/clients=50/pipeline=1/size=4KiB", false, 50, 1, 4 << 10},
		{"sync=always/clients=8/pipeline=1/size=256KiB", false, 8, 1, 256 << 10},
	} {
		b.Run(bc.name, func(b *testing.B) {
			dir := b.TempDir()
			srv, err := Open(b.Context(), Options{DataDir: filepath.Join(dir, "d"), IndexDir: filepath.Join(dir, "i"), Ballast: -1, NoSync: bc.noSync})
			if err != nil {
				b.Fatal(err)
			}
			defer srv.Close()
			l, err := Listen(b.Context(), "127.0.0.1:0")
			if err != nil {
				b.Fatal(err)
			}
			go srv.Serve(l)
			var next atomic.Int64
			var wg sync.WaitGroup
			value := strings.Repeat("v", bc.size)
			b.SetBytes(int64(len(value)))
			b.ReportAllocs()
			b.ResetTimer()
			for range bc.clients {
				wg.Go(func() {
					nc, err := net.Dial("tcp", l.Addr().String())
					if err != nil {
						b.Error(err)
						return
					}
					defer nc.Close()
					in := bufio.NewReaderSize(nc, 64<<10)
					var out []byte
					for {
						first := next.Add(int64(bc.pipeline)) - int64(bc.pipeline)
						n := min(int64(b.N)-first, int64(bc.pipeline))
						if n <= 0 {
							return
						}
						out = out[:0]
						for i := range n {
							out = append(out, fmt.Sprintf("*3\r\n$3\r\nSET\r\n$16\r\nkey-%012d\r\n$%d\r\n", first+i, bc.size)...)
							out = append(append(out, value...), "\r\n"...)
						}
						if _, err := nc.Write(out); err != nil {
							b.Error(err)
							return
						}
						// $16 CRLF, the key, CRLF
						if _, err := io.CopyN(io.Discard, in, n*(5+16+2)); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "set/s")
		})
	}
}

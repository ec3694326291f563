package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"syscall"
	"time"

	"qsfs/zdb/client"
)

// Listen opens a listener on "host:port", "tcp:host:port" or "unix:/path". A socket file that nobody answers on is
// replaced; the new one is open to the owner only.
func Listen(ctx context.Context, address string) (net.Listener, error) {
	network, addr, err := client.ParseAddress(address)
	if err != nil {
		return nil, err
	}
	if network == "unix" {
		if err := removeStaleSocket(addr); err != nil {
			return nil, err
		}
	}
	lc := net.ListenConfig{KeepAlive: 15 * time.Second}
	l, err := lc.Listen(ctx, network, addr)
	if err == nil && network == "unix" {
		// Not by umask, which would also hit files that the engine makes at this moment.
		if err := os.Chmod(addr, 0o600); err != nil {
			return nil, errors.Join(err, l.Close())
		}
	}
	return l, err
}

func removeStaleSocket(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("%s exists and is not a socket", path)
	}
	nc, err := net.DialTimeout("unix", path, time.Second)
	if err == nil {
		nc.Close()
		return fmt.Errorf("%s is in use by a running server", path)
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("socket %s: %w", path, err)
	}
	return os.Remove(path)
}

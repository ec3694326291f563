package server

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"qsfs/zdb/client"
)

// Certificates are the files that make a server's connections secure. TLS 1.3 is the only version; its key exchange is
// the best of what Go and the client have in common, which is X25519MLKEM768 between a server and a client of ours.
type Certificates struct {
	certFile, keyFile, caFile string
	log                       *slog.Logger

	mu      sync.Mutex
	config  *tls.Config
	pin     client.Fingerprint
	checked time.Time
	seen    [3]fileState
}

// A fileState tells a file from one that took its place.
type fileState struct {
	modified time.Time
	size     int64
	mode     fs.FileMode
}

// certificateAge is how long new certificate files may lie there before a connection finds them.
const certificateAge = 5 * time.Second

// LoadCertificates reads the certificate chain and its key, both in PEM. caFile, when not empty, names the authorities
// that must vouch for clients; without it clients need no certificate.
func LoadCertificates(certFile, keyFile, caFile string, log *slog.Logger) (*Certificates, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	c := &Certificates{certFile: certFile, keyFile: keyFile, caFile: caFile, log: log}
	return c, c.Reload()
}

// Fingerprint is what clients pin.
func (c *Certificates) Fingerprint() client.Fingerprint {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.pin
}

// Reload reads the files anew, for connections that are made from now on. When it fails, the old ones stay.
func (c *Certificates) Reload() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.reloadLocked()
}

func (c *Certificates) reloadLocked() error {
	c.seen, c.checked = c.look(), time.Now() // before reading: a change meanwhile is found later
	pair, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	if err != nil {
		return fmt.Errorf("TLS certificate: %w", err)
	}
	config := &tls.Config{
		Certificates: []tls.Certificate{pair},
		MinVersion:   tls.VersionTLS13,
		// A ticket would outlive the authority that vouched for its holder.
		SessionTicketsDisabled: true,
	}
	if c.caFile != "" {
		pem, err := os.ReadFile(c.caFile)
		if err != nil {
			return fmt.Errorf("TLS client authorities: %w", err)
		}
		config.ClientCAs, config.ClientAuth = x509.NewCertPool(), tls.RequireAndVerifyClientCert
		if !config.ClientCAs.AppendCertsFromPEM(pem) {
			return fmt.Errorf("TLS client authorities: no certificate in %s", c.caFile)
		}
	}
	c.config, c.pin = config, client.FingerprintOf(pair.Certificate[0])
	c.log.Info("TLS certificate read", "file", c.certFile, "sha256", c.pin.String())
	return nil
}

func (c *Certificates) look() (seen [3]fileState) {
	for i, name := range []string{c.certFile, c.keyFile, c.caFile} {
		if info, err := os.Stat(name); err == nil {
			seen[i] = fileState{info.ModTime(), info.Size(), info.Mode()}
		}
	}
	return seen
}

// current is the configuration for a new connection; changed files are found here.
func (c *Certificates) current(*tls.ClientHelloInfo) (*tls.Config, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.checked) >= certificateAge {
		if c.checked = time.Now(); c.look() != c.seen {
			if err := c.reloadLocked(); err != nil {
				c.log.Error("new TLS files are not usable, the old ones stay", "err", err)
			}
		}
	}
	return c.config, nil
}

// Listener makes the connections of l secure.
func (c *Certificates) Listener(l net.Listener) net.Listener {
	return tls.NewListener(l, &tls.Config{GetConfigForClient: c.current, MinVersion: tls.VersionTLS13})
}

const errNeedsTLS = "This port needs TLS"

// shakeHands is the first thing that a secure session does. Who does not finish within the time of a request is cut off.
func (s *session) shakeHands() error {
	tc, ok := s.nc.(*tls.Conn)
	if !ok {
		return nil
	}
	ctx, cancel := context.WithTimeout(s.srv.ctx, min(s.srv.o.RequestTimeout, handshakeTime))
	defer cancel()
	err := tc.HandshakeContext(ctx)
	if err == nil {
		return nil
	}
	s.srv.stats.handshakes.Add(1)
	var record tls.RecordHeaderError
	if errors.As(err, &record) && record.Conn != nil && strings.HasPrefix(string(record.RecordHeader[:]), "*") {
		record.Conn.SetWriteDeadline(time.Now().Add(acceptPause))
		record.Conn.Write([]byte("-" + errNeedsTLS + "\r\n"))
		linger(record.Conn, lingerDraining)
	}
	return err
}

// handshakeTime is more than any honest client needs.
const handshakeTime = 10 * time.Second

package client

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"
)

// TLS says how a Client makes sure that it talks to the right server, over TLS 1.3.
//
// A node of one's own needs no authority: pin its certificate. `zdb serve` logs the fingerprint at its start, and
// `openssl x509 -in cert.pem -noout -fingerprint -sha256` prints it.
type TLS struct {
	// Pins are fingerprints of certificates, any of which the server may show; two while a certificate is being
	// replaced. With a pin, names and dates of the certificate do not count, and authorities only if CA is set too.
	Pins []Fingerprint
	// CA holds PEM certificates of the authorities that may vouch for the server. Without pins and CA, those of the
	// system count.
	CA []byte
	// ServerName is what the certificate must be made out for. Default: the host of the address.
	ServerName string
	// Certificate shows who the client is, to a server that asks (`zdb serve --tls-client-ca`).
	Certificate *tls.Certificate
}

// A Fingerprint is the SHA-256 of a certificate in DER.
type Fingerprint [sha256.Size]byte

// ParseFingerprint reads hex digits, with or without colons, in any case.
func ParseFingerprint(s string) (f Fingerprint, err error) {
	raw, err := hex.DecodeString(strings.ReplaceAll(s, ":", ""))
	if err != nil || len(raw) != len(f) {
		return f, fmt.Errorf("%q is not a SHA-256 fingerprint: want 64 hex digits", s)
	}
	return Fingerprint(raw), nil
}

// FingerprintOf returns the fingerprint of a certificate in DER.
func FingerprintOf(der []byte) Fingerprint { return sha256.Sum256(der) }

func (f Fingerprint) String() string { return hex.EncodeToString(f[:]) }

var (
	// ErrPin says that the server showed another certificate than the pinned one.
	ErrPin = errors.New("the server's certificate is not the pinned one")
	// ErrNotTLS says that the server does not speak TLS at this address.
	ErrNotTLS = errors.New("the server does not speak TLS here")
)

// config is for the connections to host.
func (t *TLS) config(host string) (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS13, ServerName: t.ServerName}
	if c.ServerName == "" {
		c.ServerName = host
	}
	if len(t.CA) > 0 {
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(t.CA) {
			return nil, errors.New("the CA holds no certificate in PEM")
		}
	}
	if t.Certificate != nil {
		c.Certificates = []tls.Certificate{*t.Certificate}
	}
	if len(t.Pins) > 0 {
		c.InsecureSkipVerify = c.RootCAs == nil // what is pinned needs nobody to vouch for it
		c.VerifyConnection = t.pinned
	}
	return c, nil
}

func (t *TLS) pinned(s tls.ConnectionState) error {
	if len(s.PeerCertificates) == 0 {
		return ErrPin
	}
	got := FingerprintOf(s.PeerCertificates[0].Raw)
	for _, pin := range t.Pins {
		if bytes.Equal(pin[:], got[:]) {
			return nil
		}
	}
	return fmt.Errorf("%w: its fingerprint is %v", ErrPin, got)
}

// handshake wraps a connection. Its time is that of ctx.
func handshake(ctx context.Context, nc net.Conn, config *tls.Config) (net.Conn, error) {
	tc := tls.Client(nc, config)
	err := tc.HandshakeContext(ctx)
	if record := (tls.RecordHeaderError{}); errors.As(err, &record) {
		err = ErrNotTLS
	}
	if err != nil {
		nc.Close()
		return nil, err
	}
	return tc, nil
}

// An endpoint is an address taken apart.
type endpoint struct {
	network, address string
	tls              *TLS
}

// parseEndpoint reads all forms of Options.Address. Files that a query names are read.
func parseEndpoint(s string) (e endpoint, err error) {
	if path, ok := strings.CutPrefix(s, "unix:"); ok {
		if path == "" {
			return e, fmt.Errorf("address %q: the path is missing", s)
		}
		return endpoint{network: "unix", address: path}, nil
	}
	e.network = "tcp"
	rest, secure := strings.CutPrefix(s, "tls:")
	if secure {
		e.tls = &TLS{}
		var query string
		rest, query, _ = strings.Cut(strings.TrimPrefix(rest, "//"), "?")
		if err := e.tls.parse(query); err != nil {
			return e, fmt.Errorf("address %q: %w", s, err)
		}
	} else {
		rest = strings.TrimPrefix(s, "tcp:")
	}
	if _, _, err := net.SplitHostPort(rest); err != nil {
		return e, fmt.Errorf("address %q: want host:port, tls:host:port or unix:/path: %w", s, err)
	}
	e.address = rest
	return e, nil
}

// parse reads what stands behind the question mark of an address.
func (t *TLS) parse(query string) error {
	values, err := url.ParseQuery(query)
	if err != nil {
		return err
	}
	for key, list := range values {
		for _, v := range list {
			switch key {
			case "sha256":
				pin, err := ParseFingerprint(v)
				if err != nil {
					return err
				}
				t.Pins = append(t.Pins, pin)
			case "name":
				t.ServerName = v
			case "ca":
				if t.CA, err = os.ReadFile(v); err != nil {
					return err
				}
			case "cert", "key":
			default:
				return fmt.Errorf("%q is none of sha256, ca, name, cert, key", key)
			}
		}
	}
	if values.Has("cert") || values.Has("key") {
		pair, err := tls.LoadX509KeyPair(values.Get("cert"), values.Get("key"))
		if err != nil {
			return fmt.Errorf("client certificate: %w", err)
		}
		t.Certificate = &pair
	}
	return nil
}

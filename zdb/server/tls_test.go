package server

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"qsfs/zdb/client"
)

// An authority issues certificates for tests.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
}

func newAuthority(t *testing.T) *authority {
	a := &authority{t: t}
	a.key, a.cert, a.pem = issue(t, nil, nil, func(c *x509.Certificate) {
		c.IsCA, c.BasicConstraintsValid, c.KeyUsage = true, true, x509.KeyUsageCertSign
	})
	return a
}

// issue makes a certificate, signed by itself when there is no authority.
func issue(t *testing.T, by *x509.Certificate, signer *ecdsa.PrivateKey, change func(*x509.Certificate)) (*ecdsa.PrivateKey, *x509.Certificate, []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	serial, _ := rand.Int(rand.Reader, big.NewInt(1<<62))
	c := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "test"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if change != nil {
		change(c)
	}
	if by == nil {
		by, signer = c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, by, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	if c, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return key, c, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// files writes a new certificate and its key.
func (a *authority) files(dir string, change func(*x509.Certificate)) (cert, key string, fingerprint client.Fingerprint) {
	a.t.Helper()
	k, c, text := issue(a.t, a.cert, a.key, change)
	der, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		a.t.Fatal(err)
	}
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	err = errors.Join(os.WriteFile(cert, text, 0o600),
		os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600))
	if err != nil {
		a.t.Fatal(err)
	}
	return cert, key, client.FingerprintOf(c.Raw)
}

// startTLS starts a server with one secure listener.
func startTLS(t *testing.T, clientCA string, a *authority, change func(*Options)) (*testServer, *Certificates, string) {
	t.Helper()
	ts := start(t, change)
	dir := t.TempDir()
	cert, key, _ := a.files(dir, nil)
	certs, err := LoadCertificates(cert, key, clientCA, nil)
	if err != nil {
		t.Fatal(err)
	}
	l, err := Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- ts.Serve(certs.Listener(l)) }()
	t.Cleanup(func() { ts.Close(); <-served })
	return ts, certs, l.Addr().String()
}

func tryTLS(t *testing.T, address string, config *client.TLS) error {
	t.Helper()
	c, err := client.Dial(t.Context(), client.Options{Address: address, TLS: config, Admin: adminPassword, DialTimeout: 10 * time.Second})
	if err != nil {
		return err
	}
	defer c.Close()
	large := bytes.Repeat([]byte("0123456789abcdef"), 100<<10)
	if _, err := c.Set(t.Context(), []byte("large"), large); err != nil {
		return err
	}
	got, err := c.Get(t.Context(), []byte("large"))
	if err == nil && !bytes.Equal(got, large) {
		err = errors.New("the value changed on the way")
	}
	return err
}

func TestTLS(t *testing.T) {
	t.Parallel()
	a, other := newAuthority(t), newAuthority(t)
	_, certs, address := startTLS(t, "", a, nil)
	pin := certs.Fingerprint()
	wrong := pin
	wrong[5] ^= 1
	var untrusted *tls.CertificateVerificationError
	for name, tc := range map[string]struct {
		config *client.TLS
		want   func(error) bool
	}{
		"pin":                    {&client.TLS{Pins: []client.Fingerprint{wrong, pin}}, nil},
		"authority":              {&client.TLS{CA: a.pem}, nil},
		"pin and authority":      {&client.TLS{Pins: []client.Fingerprint{pin}, CA: a.pem}, nil},
		"wrong pin":              {&client.TLS{Pins: []client.Fingerprint{wrong}}, func(err error) bool { return errors.Is(err, client.ErrPin) }},
		"wrong pin, right CA":    {&client.TLS{Pins: []client.Fingerprint{wrong}, CA: a.pem}, func(err error) bool { return errors.Is(err, client.ErrPin) }},
		"right pin, wrong CA":    {&client.TLS{Pins: []client.Fingerprint{pin}, CA: other.pem}, func(err error) bool { return errors.As(err, &untrusted) }},
		"another authority":      {&client.TLS{CA: other.pem}, func(err error) bool { return errors.As(err, &untrusted) }},
		"the system's":           {&client.TLS{}, func(err error) bool { return errors.As(err, &untrusted) }},
		"made out for elsewhere": {&client.TLS{CA: a.pem, ServerName: "elsewhere"}, func(err error) bool { return errors.As(err, &untrusted) }},
	} {
		err := tryTLS(t, address, tc.config)
		switch {
		case tc.want == nil && err != nil:
			t.Errorf("%s: %v", name, err)
		case tc.want != nil && (err == nil || !tc.want(err) || client.Temporary(err)):
			t.Errorf("%s: got %v, temporary %v", name, err, client.Temporary(err))
		}
	}
	if err := tryTLS(t, "tls:"+address+"?sha256="+pin.String(), nil); err != nil {
		t.Errorf("pin in the address: %v", err)
	}
	if err := tryTLS(t, "tls://"+address+"?sha256="+wrong.String(), nil); !errors.Is(err, client.ErrPin) {
		t.Errorf("wrong pin in the address: %v", err)
	}
}

// What is agreed on is TLS 1.3 with a key exchange that a quantum computer does not undo later.
func TestTLSVersionAndExchange(t *testing.T) {
	_, _, address := startTLS(t, "", newAuthority(t), nil)
	nc, err := tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	if s := nc.ConnectionState(); s.Version != tls.VersionTLS13 || s.CurveID != tls.X25519MLKEM768 {
		t.Errorf("got version %x and exchange %v", s.Version, s.CurveID)
	}
	old, err := tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12})
	if err == nil {
		old.Close()
		t.Error("TLS 1.2 was accepted")
	}
}

func TestTLSAndPlainMeet(t *testing.T) {
	ts, certs, address := startTLS(t, "", newAuthority(t), nil)
	// A plain client on the secure port is told, and let go.
	w := &testServer{t: t, address: address}
	plain := w.dial()
	plain.want("-"+errNeedsTLS, "PING")
	plain.closed()
	// A secure client on the plain port.
	err := tryTLS(t, ts.address, &client.TLS{Pins: []client.Fingerprint{certs.Fingerprint()}})
	if !errors.Is(err, client.ErrNotTLS) || client.Temporary(err) {
		t.Errorf("TLS on the plain port: %v", err)
	}
	// Bytes that are neither.
	raw := w.dial()
	raw.raw([]byte("GET / HTTP/1.1\r\n\r\n"))
	raw.closed()
	if n := ts.stats.handshakes.Load(); n != 2 {
		t.Errorf("%d failed handshakes counted, want 2", n)
	}
}

func TestTLSSlowHandshake(t *testing.T) {
	ts, certs, address := startTLS(t, "", newAuthority(t), func(o *Options) { o.RequestTimeout = 200 * time.Millisecond })
	w := &testServer{t: t, address: address}
	var slow []*wire
	for i := range 20 {
		s := w.dial()
		s.raw([]byte{0x16, 0x03, 0x01, 0x02, 0x00, 0x01}[:1+i%6]) // the beginning of a hello, and no more
		slow = append(slow, s)
	}
	began := time.Now()
	if err := tryTLS(t, address, &client.TLS{Pins: []client.Fingerprint{certs.Fingerprint()}}); err != nil {
		t.Errorf("beside slow ones: %v", err)
	}
	for _, s := range slow {
		s.closed()
	}
	if took := time.Since(began); took > 15*time.Second {
		t.Errorf("slow handshakes took %v", took)
	}
	eventually(t, "the end of slow sessions", func() bool { return ts.Connections() == 0 })
	// One that is cut in its handshake does not hold up a stop.
	w.dial()
	eventually(t, "a session in its handshake", func() bool { return ts.Connections() == 1 })
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := ts.Shutdown(ctx); err != nil || ctx.Err() != nil {
		t.Errorf("shutdown: %v, %v", err, ctx.Err())
	}
}

func TestTLSClientCertificates(t *testing.T) {
	t.Parallel()
	a, stranger := newAuthority(t), newAuthority(t)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, a.pem, 0o600); err != nil {
		t.Fatal(err)
	}
	_, certs, address := startTLS(t, ca, a, nil)
	pin := []client.Fingerprint{certs.Fingerprint()}
	if err := tryTLS(t, address, &client.TLS{Pins: pin}); err == nil {
		t.Error("a client without a certificate was let in")
	}
	for _, by := range []*authority{a, stranger} {
		cert, key, _ := by.files(t.TempDir(), nil)
		err := tryTLS(t, "tls:"+address+"?sha256="+pin[0].String()+"&cert="+cert+"&key="+key, nil)
		if (err == nil) != (by == a) {
			t.Errorf("certificate of the authority %v: %v", by == a, err)
		}
	}
}

func TestTLSReload(t *testing.T) {
	a := newAuthority(t)
	dir := t.TempDir()
	cert, key, first := a.files(dir, nil)
	certs, err := LoadCertificates(cert, key, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := certs.Fingerprint(); got != first {
		t.Errorf("fingerprint %v, want %v", got, first)
	}
	// A connection finds changed files by itself.
	_, _, second := a.files(dir, nil)
	age := func() {
		certs.mu.Lock()
		certs.checked = time.Time{}
		certs.mu.Unlock()
	}
	serves := func() client.Fingerprint {
		config, err := certs.current(nil)
		if err != nil {
			t.Fatal(err)
		}
		return client.FingerprintOf(config.Certificates[0].Certificate[0])
	}
	if got := serves(); got != first {
		t.Error("files were looked at again at once")
	}
	age()
	if got := serves(); got != second {
		t.Error("new files were not found")
	}
	// Broken ones are not taken, and an explicit reload says so.
	if err := os.WriteFile(cert, []byte("nothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	age()
	if got := serves(); got != second {
		t.Error("broken files were taken")
	}
	if err := certs.Reload(); err == nil {
		t.Error("a reload of broken files succeeded")
	}
	_, _, third := a.files(dir, nil)
	if err := certs.Reload(); err != nil || serves() != third {
		t.Errorf("after a reload: %v", err)
	}
}

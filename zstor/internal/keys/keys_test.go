package keys

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestGenerateLoadRotate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	r, err := Generate(path)
	if err != nil {
		t.Fatal(err)
	}
	if info, _ := os.Stat(path); info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", info.Mode())
	}
	if _, err := Generate(path); !errors.Is(err, ErrKey) || !strings.Contains(err.Error(), "not replaced") {
		t.Errorf("second Generate: %v", err)
	}
	again, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	c1, _ := r.Check(1)
	if err := again.Expect(1, c1); err != nil {
		t.Error(err)
	}
	two, err := Rotate(path)
	if err != nil {
		t.Fatal(err)
	}
	if two.Epoch() != 2 || fmt.Sprint(two.Epochs()) != "[1 2]" || two.Expect(1, c1) != nil {
		t.Errorf("after Rotate: %v %v", two.Epoch(), two.Epochs())
	}
	if c2, _ := two.Check(2); c2 == c1 {
		t.Error("two masters have one check value")
	}
	if err := two.Expect(2, c1); !errors.Is(err, ErrWrong) {
		t.Errorf("Expect of another key: %v", err)
	}
	if _, err := r.Data(2); !errors.Is(err, ErrNoEpoch) {
		t.Errorf("unknown epoch: %v", err)
	}
	left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), ".key-*"))
	if len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestRefusedFiles(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "key")
	if _, err := Load(path); !errors.Is(err, ErrMissing) || !errors.Is(err, ErrKey) {
		t.Errorf("missing: %v", err)
	}
	if _, err := Generate(path); err != nil {
		t.Fatal(err)
	}
	for _, mode := range []os.FileMode{0o640, 0o604, 0o660} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		if _, err := Load(path); !errors.Is(err, ErrPermissions) || !strings.Contains(err.Error(), "chmod 600 "+path) {
			t.Errorf("mode %o: %v", mode, err)
		}
	}
	fifo := filepath.Join(dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(fifo); !errors.Is(err, ErrDamaged) {
		t.Errorf("fifo: %v", err)
	}
	if err := os.Truncate(path, 0); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(path); !errors.Is(err, ErrDamaged) {
		t.Errorf("empty: %v", err)
	}
}

// Every changed digit of a key file is noticed, and no message shows the key.
func TestEveryDigitCounts(t *testing.T) {
	m := Secret{1, 2, 3}
	doc := format(map[Epoch]Secret{1: m, 7: {4}})
	if _, err := parse(doc); err != nil {
		t.Fatal(err)
	}
	start := strings.Index(string(doc), "key 1 ") + len("key 1 ")
	key := string(doc[start : start+64])
	for i := start; i < start+64+len(" check ")+16; i++ {
		if doc[i] == ' ' {
			continue
		}
		bad := append([]byte(nil), doc...)
		bad[i] ^= 1
		_, err := parse(bad)
		if !errors.Is(err, ErrDamaged) {
			t.Fatalf("byte %d changed: %v", i, err)
		}
		if s := err.Error(); strings.Contains(s, key[8:40]) || strings.Contains(s, string(bad[start+32:start+60])) {
			t.Fatalf("the message shows the key: %s", s)
		}
	}
}

func TestCredential(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("CREDENTIALS_DIRECTORY", "")
	if _, err := Load("credential:qsfs.key"); !errors.Is(err, ErrMissing) {
		t.Errorf("no directory: %v", err)
	}
	t.Setenv("CREDENTIALS_DIRECTORY", dir)
	if _, err := Generate(filepath.Join(dir, "qsfs.key")); err != nil {
		t.Fatal(err)
	}
	// An ACL's mask shows as group permission.
	if err := os.Chmod(filepath.Join(dir, "qsfs.key"), 0o440); err != nil {
		t.Fatal(err)
	}
	if _, err := Load("credential:qsfs.key"); err != nil {
		t.Error(err)
	}
	if err := os.Chmod(filepath.Join(dir, "qsfs.key"), 0o444); err != nil {
		t.Fatal(err)
	}
	if _, err := Load("credential:qsfs.key"); !errors.Is(err, ErrPermissions) {
		t.Errorf("world-readable credential: %v", err)
	}
	if _, err := Load("credential:../x"); !errors.Is(err, ErrMissing) {
		t.Errorf("path as credential: %v", err)
	}
}

func TestPassphrase(t *testing.T) {
	pass := []byte("correct horse battery staple")
	p, err := NewArgon2id(1, pass)
	if err != nil {
		t.Fatal(err)
	}
	r, err := FromPassphrase(pass, []Argon2id{p})
	if err != nil {
		t.Fatal(err)
	}
	if c, _ := r.Check(1); c != p.Check {
		t.Error("check value differs")
	}
	if _, err := FromPassphrase([]byte("wrong"), []Argon2id{p}); !errors.Is(err, ErrPassphrase) {
		t.Errorf("wrong passphrase: %v", err)
	}
	if _, err := FromPassphrase(nil, []Argon2id{p}); !errors.Is(err, ErrPassphrase) {
		t.Errorf("empty passphrase: %v", err)
	}
	p.Memory = 1 << 50
	if _, err := FromPassphrase(pass, []Argon2id{p}); !errors.Is(err, ErrKey) {
		t.Errorf("huge memory: %v", err)
	}
	file := filepath.Join(t.TempDir(), "pass")
	if err := os.WriteFile(file, append(pass, '\n'), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := LoadPassphrase(file); err != nil || string(got) != string(pass) {
		t.Errorf("LoadPassphrase = %q, %v", got, err)
	}
}

// The derived keys are a promise: all that was ever written depends on them.
func TestDerivationIsPinned(t *testing.T) {
	var m Secret
	for i := range m {
		m[i] = byte(i)
	}
	d := derive(&m)
	for _, tc := range []struct {
		name string
		got  []byte
		want string
	}{
		{"data", d.data.Secret[:], "397badd59369f779493206fa68d9f54ea5140a5779c5380ac55a303824d30ff4"},
		{"name", d.name.Secret[:], "c1f1bb4c22e0f71fd4314113924757cf404504dc790f2cf6fb99ffa34c2ae99b"},
		{"header", d.header.Secret[:], "0fa15b4a926a7c67270f65145625c4300fc387dd9d290518a17b06934629b93b"},
		{"mac", d.mac.Secret[:], "c13985c0135faa1e2a4bf7e2e849ccb7c33a56336eaeaefadf9051a9bff02f01"},
		{"record", d.record.Secret[:], "4d747aae582c71262451370c858b9238835a6c6a1a25893855928e785462b3ce"},
		{"check", d.check[:], "d6126213d3cbb996"},
	} {
		if got := hex.EncodeToString(tc.got); got != tc.want {
			t.Errorf("%s = %s, want %s", tc.name, got, tc.want)
		}
	}
}

func TestSecretsDoNotPrint(t *testing.T) {
	var m Secret
	for i := range m {
		m[i] = 0xAB
	}
	r, err := New(map[Epoch]Secret{1: m})
	if err != nil {
		t.Fatal(err)
	}
	dk, _ := r.Data(1)
	mk, _ := r.MAC(1)
	j, err := json.Marshal(map[string]any{"m": m, "d": dk})
	if err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "m", m, "d", dk, "ring", r)
	all := fmt.Sprintf("%v %+v %#v %x %X %s %q %d %v %x %#v %v", m, m, m, m, m, m, m, m, dk, dk, dk, mk) + string(j) + log.String()
	// Several bytes each: one alone also turns up in times and addresses.
	for _, leak := range []string{"abababab", "ABABABAB", "171 171", "171,171", "0xab, 0xab", hex.EncodeToString(dk.Secret[:4]), hex.EncodeToString(mk.Secret[:4])} {
		if strings.Contains(all, leak) {
			t.Errorf("%q shows in %s", leak, all)
		}
	}
}

func TestRepairBundle(t *testing.T) {
	r, err := New(map[Epoch]Secret{1: {9}})
	if err != nil {
		t.Fatal(err)
	}
	b := r.WithoutData()
	if _, err := b.Data(1); !errors.Is(err, ErrNoDataKey) {
		t.Errorf("Data: %v", err)
	}
	m1, _ := r.MAC(1)
	m2, err := b.MAC(1)
	if err != nil || m1 != m2 {
		t.Errorf("MAC: %v", err)
	}
	if d, _ := r.Data(1); d == (DataKey{}) {
		t.Error("the original lost its data key")
	}
}

func FuzzKeyFile(f *testing.F) {
	f.Add(format(map[Epoch]Secret{1: {1}}))
	f.Add(format(map[Epoch]Secret{1: {1}, 2: {2}, 77: {3}}))
	f.Add([]byte("qsfs key file 1\n"))
	f.Add([]byte("qsfs key file 1\n\n# x\nkey 1 00 check 00\n"))
	f.Add([]byte("qsfs key file 1\nkey 0 00 check 00\n"))
	f.Add([]byte("qsfs key file 2\nkey"))
	f.Add(append(format(map[Epoch]Secret{5: {1}}), format(map[Epoch]Secret{5: {1}})[len(fileHead)+1:]...))
	f.Fuzz(func(t *testing.T, doc []byte) {
		masters, err := parse(doc)
		if err != nil {
			if !errors.Is(err, ErrDamaged) {
				t.Fatalf("error of another kind: %v", err)
			}
			return
		}
		again, err := parse(format(masters))
		if err != nil || len(again) != len(masters) {
			t.Fatalf("what was read does not read again: %v", err)
		}
	})
}

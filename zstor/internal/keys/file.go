package keys

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// The key file is text, so that it can be printed and typed in again:
//
//	qsfs key file 1
//	key 1 <64 hex digits> check <16 hex digits>
//
// with one key line per epoch. Lines that are empty or begin with # are
// comments. The check value finds a typing error.
const fileHead = "qsfs key file 1"

// maxFile bounds what is read.
const maxFile = 64 << 10

// CredentialPrefix marks a path that names a systemd credential.
const CredentialPrefix = "credential:"

// Load reads the key file at path, or the credential that credential:NAME
// names. A key file that others could read is refused.
func Load(path string) (*Ring, error) {
	masters, err := loadMasters(path)
	if err != nil {
		return nil, err
	}
	return New(masters)
}

func loadMasters(path string) (map[Epoch]Secret, error) {
	doc, err := readPrivate(path)
	if err != nil {
		return nil, err
	}
	masters, err := parse(doc)
	clear(doc)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return masters, nil
}

// readPrivate reads a small file that nobody else may read.
func readPrivate(path string) ([]byte, error) {
	file, credential := path, false
	if name, ok := strings.CutPrefix(path, CredentialPrefix); ok {
		dir := os.Getenv("CREDENTIALS_DIRECTORY")
		if dir == "" {
			return nil, fmt.Errorf("%w: %s is a systemd credential, but this process was given none (LoadCredential= in the unit)", ErrMissing, path)
		}
		if name == "" || strings.ContainsRune(name, '/') || name == "." || name == ".." {
			return nil, fmt.Errorf("%w: %q does not name a credential", ErrMissing, path)
		}
		file, credential = filepath.Join(dir, name), true
	}
	f, err := os.OpenFile(file, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a FIFO must not block us
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %s does not exist; restore it from the recovery kit (zdbfs init makes a new one, for a new filesystem only)", ErrMissing, path)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKey, err)
	}
	defer f.Close()
	if err := checkPrivate(f, path, credential); err != nil {
		return nil, err
	}
	doc, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("%w: read %s: %w", ErrKey, path, err)
	}
	if len(doc) > maxFile {
		return nil, fmt.Errorf("%s: %w: larger than %d bytes", path, ErrDamaged, maxFile)
	}
	return doc, nil
}

// checkPrivate refuses what others can read. systemd keeps a credential in a
// directory of its own and may give it to a user by an ACL, whose mask shows as
// group permission; only what the world may do is looked at there.
func checkPrivate(f *os.File, path string, credential bool) error {
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("%w: %w", ErrKey, err)
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s: %w: not a regular file", path, ErrDamaged)
	}
	others := fs.FileMode(0o077)
	if credential {
		others = 0o007
	}
	if perm := info.Mode().Perm(); perm&others != 0 {
		return fmt.Errorf("%w: %s has mode %04o; run: chmod 600 %s", ErrPermissions, path, perm, path)
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok && st.Uid != 0 && int(st.Uid) != os.Geteuid() {
		return fmt.Errorf("%w: %s belongs to user %d, not to user %d who runs this", ErrPermissions, path, st.Uid, os.Geteuid())
	}
	return nil
}

// parse reads a key file. Its errors name lines and never show their text.
func parse(doc []byte) (map[Epoch]Secret, error) {
	masters := make(map[Epoch]Secret)
	sc := bufio.NewScanner(bytes.NewReader(doc))
	head := false
	for n := 1; sc.Scan(); n++ {
		line := strings.TrimSpace(sc.Text())
		switch {
		case line == "" || strings.HasPrefix(line, "#"):
		case !head:
			if line != fileHead {
				return nil, fmt.Errorf("%w: line %d is not %q", ErrDamaged, n, fileHead)
			}
			head = true
		default:
			e, m, err := parseLine(line)
			if err != nil {
				return nil, fmt.Errorf("%w: line %d: %s", ErrDamaged, n, err.Error())
			}
			if _, twice := masters[e]; twice {
				return nil, fmt.Errorf("%w: line %d: key epoch %d is there twice", ErrDamaged, n, e)
			}
			masters[e] = m
		}
	}
	if err := sc.Err(); err != nil {
		return nil, fmt.Errorf("%w: a line is too long", ErrDamaged)
	}
	if len(masters) == 0 {
		return nil, fmt.Errorf("%w: there is no key in it", ErrDamaged)
	}
	return masters, nil
}

func parseLine(line string) (Epoch, Secret, error) {
	f := strings.Fields(line)
	if len(f) != 5 || f[0] != "key" || f[3] != "check" {
		return 0, Secret{}, errors.New(`not of the form "key EPOCH HEX check HEX"`)
	}
	e, err := strconv.ParseUint(f[1], 10, 32)
	if err != nil || e == 0 {
		return 0, Secret{}, errors.New("the key epoch is not a number from 1")
	}
	var m Secret
	if raw, err := hex.DecodeString(f[2]); err != nil || len(raw) != len(m) {
		return 0, Secret{}, errors.New("the key is not 64 hex digits")
	} else {
		copy(m[:], raw)
	}
	if check := derive(&m).check; f[4] != check.String() {
		return 0, Secret{}, errors.New("the check value does not fit the key: a digit is wrong")
	}
	return Epoch(e), m, nil
}

func format(masters map[Epoch]Secret) []byte {
	var b bytes.Buffer
	b.WriteString(fileHead + "\n# Whoever has this and the nodes reads everything; without it nobody does. Keep a copy offline.\n")
	for _, e := range slices.Sorted(maps.Keys(masters)) {
		m := masters[e]
		fmt.Fprintf(&b, "key %d %s check %v\n", e, hex.EncodeToString(m[:]), derive(&m).check)
	}
	return b.Bytes()
}

// Generate makes a key file with a fresh master of key epoch 1. It never
// replaces a file: losing a key is losing the data. When it returns nil the
// file is on stable storage.
func Generate(path string) (*Ring, error) {
	masters := map[Epoch]Secret{1: newMaster()}
	err := writeFile(path, format(masters), func(tmp string) error {
		err := os.Link(tmp, path)
		if errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("%w: %s is already there and is not replaced", ErrKey, path)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return New(masters)
}

// Rotate adds a fresh master of the next key epoch to a key file. The older
// ones stay: they read what was written with them.
func Rotate(path string) (*Ring, error) {
	masters, err := loadMasters(path)
	if err != nil {
		return nil, err
	}
	newest := slices.Max(slices.Collect(maps.Keys(masters)))
	if newest == 1<<32-1 {
		return nil, fmt.Errorf("%w: no key epoch is left", ErrKey)
	}
	masters[newest+1] = newMaster()
	if err := writeFile(path, format(masters), func(tmp string) error { return os.Rename(tmp, path) }); err != nil {
		return nil, err
	}
	return New(masters)
}

func newMaster() (m Secret) {
	_, _ = rand.Read(m[:]) // never fails: the runtime ends the process instead
	return m
}

// writeFile writes doc beside path, mode 0600, and lets place put it there.
func writeFile(path string, doc []byte, place func(tmp string) error) error {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, ".key-*")
	if err != nil {
		return fmt.Errorf("%w: %w", ErrKey, err)
	}
	defer os.Remove(f.Name()) // gone already after a rename
	_, err = f.Write(doc)
	clear(doc)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = place(f.Name())
	}
	if err == nil {
		err = syncDir(dir)
	}
	if err != nil && !errors.Is(err, ErrKey) {
		err = fmt.Errorf("%w: write %s: %w", ErrKey, path, err)
	}
	return err
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

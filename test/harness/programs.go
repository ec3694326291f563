package harness

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
)

// Programs is the directory that holds zdb, zstor and zdbfs.
type Programs string

// Path of one program.
func (p Programs) Path(name string) string { return filepath.Join(string(p), name) }

var built struct {
	once sync.Once
	dir  string
	err  error
}

// binVar names a directory with programs to test instead of building them: a package that was installed, say.
const binVar = "QSFS_BIN"

// Build compiles the three programs once per test run, from the tree that the test was compiled from.
func Build(t TB) Programs {
	t.Helper()
	if dir := os.Getenv(binVar); dir != "" {
		return Programs(dir)
	}
	built.once.Do(func() {
		lookAtSources()
		built.dir, built.err = build()
	})
	if built.err != nil {
		t.Fatalf("build the programs: %v", built.err)
	}
	return Programs(built.dir)
}

// lookAtSources makes `go test` see what the programs are built from: it takes an earlier result for this one's unless a file
// changed that the test looked at, and the compiler's looks do not count.
func lookAtSources() {
	root, err := os.Getwd()
	for err == nil && root != "/" {
		if _, err := os.Stat(filepath.Join(root, "go.mod")); err == nil {
			break
		}
		root = filepath.Dir(root)
	}
	for _, dir := range []string{"zdb", "zstor", "zdbfs"} {
		_ = filepath.WalkDir(filepath.Join(root, dir), func(path string, d fs.DirEntry, err error) error {
			if err == nil && filepath.Ext(path) == ".go" && !strings.HasSuffix(path, "_test.go") {
				_, err = os.Stat(path)
			}
			return err
		})
	}
}

func build() (string, error) {
	dir, err := os.MkdirTemp("", "qsfs-bin-")
	if err != nil {
		return "", err
	}
	announce("+", "dir", dir)
	cmd := exec.Command("go", "build", "-o", dir+"/", "qsfs/zdb/cmd/zdb", "qsfs/zstor/cmd/zstor", "qsfs/zdbfs/cmd/zdbfs")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return dir, fmt.Errorf("%w\n%s", err, out)
	}
	return dir, nil
}

func removeBuild() {
	if built.dir != "" {
		_ = os.RemoveAll(built.dir)
		announce("-", "dir", built.dir)
	}
}

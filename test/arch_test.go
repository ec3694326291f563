// Package test holds the end-to-end tests of QSFS: real programs, real mounts, real kills.
package test

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// goPackage is what `go list -json` says of one package of this module.
type goPackage struct {
	ImportPath string
	Dir        string
	Imports    []string
}

// importRule says what the packages below one directory may use of the rest of the module.
type importRule struct {
	of      string   // packages at or below this path
	closed  []string // they import nothing at or below these …
	allowed []string // … but for exactly these packages
}

// importRules is the direction zdbfs → zstor → zdb, with the few doors that are open.
var importRules = []importRule{
	{of: "qsfs/zdb", closed: []string{"qsfs/zstor", "qsfs/zdbfs"}},
	{of: "qsfs/zstor", closed: []string{"qsfs/zdbfs"}},
	{
		of:      "qsfs/zstor",
		closed:  []string{"qsfs/zdb"},
		allowed: []string{"qsfs/zdb/client", "qsfs/zdb/resp", "qsfs/zdb/crashpoint", "qsfs/zdb/segfile"},
	},
	{
		of:      "qsfs/zdbfs",
		closed:  []string{"qsfs/zdb"},
		allowed: []string{"qsfs/zdb", "qsfs/zdb/crashpoint"},
	},
	{
		of:      "qsfs/zdbfs",
		closed:  []string{"qsfs/zstor"},
		allowed: []string{"qsfs/zstor/client", "qsfs/zstor/config", "qsfs/zstor/unixhttp"},
	},
}

func TestArchitectureImports(t *testing.T) {
	for _, p := range modulePackages(t) {
		for _, rule := range importRules {
			if !below(p.ImportPath, rule.of) {
				continue
			}
			for _, imported := range p.Imports {
				if rule.forbids(imported) {
					t.Errorf("%s imports %s", p.ImportPath, imported)
				}
			}
		}
	}
}

func TestArchitectureProgramsAreLeaves(t *testing.T) {
	for _, p := range modulePackages(t) {
		for _, imported := range p.Imports {
			if strings.HasPrefix(imported, "qsfs/") && strings.Contains(imported, "/cmd/") {
				t.Errorf("%s imports the program %s", p.ImportPath, imported)
			}
			if below(imported, "qsfs/test") && !below(p.ImportPath, "qsfs/test") && !below(p.ImportPath, "qsfs/bench") {
				t.Errorf("%s imports the test package %s", p.ImportPath, imported)
			}
		}
	}
}

// TestArchitectureTransportsAreClosed keeps FUSE types out of the core, so that a second transport fits.
func TestArchitectureTransportsAreClosed(t *testing.T) {
	for _, p := range modulePackages(t) {
		if below(p.ImportPath, "qsfs/zdbfs/bazil") || below(p.ImportPath, "qsfs/zdbfs/gofuse") {
			continue
		}
		for _, imported := range p.Imports {
			if below(imported, "bazil.org/fuse") || below(imported, "github.com/hanwen/go-fuse") {
				t.Errorf("%s imports %s: only a transport may", p.ImportPath, imported)
			}
		}
	}
}

func TestArchitectureTopLevel(t *testing.T) {
	want := map[string]bool{"zdb": true, "zdbfs": true, "zstor": true, "systemd": true, "packaging": true, "bench": true, "test": true}
	root := moduleRoot(t)
	entries, err := os.ReadDir(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.IsDir() && !strings.HasPrefix(e.Name(), ".") && e.Name() != "bin" && !want[e.Name()] {
			t.Errorf("directory %s at the top level is none of the design's", e.Name())
		}
	}
}

func (r importRule) forbids(path string) bool {
	for _, open := range r.allowed {
		if path == open {
			return false
		}
	}
	for _, c := range r.closed {
		if below(path, c) {
			return true
		}
	}
	return false
}

// below reports whether path is dir or lies under it.
func below(path, dir string) bool {
	return path == dir || strings.HasPrefix(path, dir+"/")
}

func modulePackages(t *testing.T) []goPackage {
	t.Helper()
	cmd := exec.Command("go", "list", "-e", "-json=ImportPath,Dir,Imports", "./...")
	cmd.Dir = moduleRoot(t)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []goPackage
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p goPackage
		err := dec.Decode(&p)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("read go list: %v", err)
		}
		all = append(all, p)
	}
	if len(all) == 0 {
		t.Fatal("go list names no package")
	}
	return all
}

func moduleRoot(t *testing.T) string {
	t.Helper()
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	return root
}

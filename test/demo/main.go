// Command demo shows what QSFS promises, on a real tree, and proves each line.
//
// It copies a tree into a mount over six nodes in three groups (4-of-6), stops a whole group, compares every file; wipes the
// front machine, recovers on an empty one with configuration and key alone, compares again; stops a third node and shows that
// what cannot be read says so. The report goes to stdout and to a file. The exit code is 0 only if every line held.
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"qsfs/test/harness"
)

func main() {
	bin := flag.String("bin", "bin", "directory with zdb, zstor and zdbfs")
	tree := flag.String("tree", "", "tree to copy; $(go env GOROOT)/src when empty")
	report := flag.String("report", "demo-report.md", "file for the report")
	flag.Parse()
	os.Exit(harness.Main(func() int {
		if err := harness.CheckMachine(); err != nil {
			fmt.Fprintln(os.Stderr, "demo:", err)
			return 1
		}
		return harness.RunProgram(func(p *harness.Program) { run(p, *bin, *tree, *report) })
	}))
}

func run(p *harness.Program, bin, tree, report string) {
	if tree == "" {
		tree = filepath.Join(strings.TrimSpace(harness.MustRun(p, time.Minute, "go", "env", "GOROOT")), "src")
	}
	programs, err := filepath.Abs(bin)
	if err != nil {
		p.Fatalf("%v", err)
	}
	r := newReport(p, report)
	defer r.close()
	d := &demo{p: p, report: r, tree: tree}
	d.begin(harness.Programs(programs))
	d.copyTree()
	d.loseGroup()
	d.loseFront()
	d.loseThirdNode()
	d.end()
}

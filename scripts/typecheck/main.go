// Command typecheck reports what does not compile on other systems, without compiling: it reads
// packages, and all that they import, from source. That takes seconds, where a first build for a
// system takes minutes. What only the linker finds is left to `make cross`.
//
//	go run ./scripts/typecheck linux/arm64,freebsd/amd64 ./cmd/postern
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

func main() {
	if len(os.Args) < 3 {
		fmt.Fprintln(os.Stderr, "usage: typecheck SYSTEM,... PACKAGE...")
		os.Exit(2)
	}
	status := 0
	for system := range strings.SplitSeq(os.Args[1], ",") {
		if err := check(".", system, os.Args[2:]); err != nil {
			fmt.Fprintf(os.Stderr, "%s:\n%v\n", system, err)
			status = 1
		}
	}
	os.Exit(status)
}

// listed is a package as `go list` prints it.
type listed struct {
	ImportPath, Dir string
	GoFiles         []string
	ImportMap       map[string]string // from what the source says to the import path, where they differ
	Module          *struct{ Main bool }
}

// check returns what does not compile on a system in packages of the module in dir, and in those of the
// module that they import.
func check(dir, system string, patterns []string) error {
	goos, goarch, _ := strings.Cut(system, "/")
	list := exec.Command("go", append([]string{"list", "-deps", "-json=ImportPath,Dir,GoFiles,ImportMap,Module"}, patterns...)...)
	list.Dir = dir
	list.Env = append(os.Environ(), "GOOS="+goos, "GOARCH="+goarch, "CGO_ENABLED=0")
	var problems bytes.Buffer
	list.Stderr = &problems
	out, err := list.Output()
	if err != nil {
		return fmt.Errorf("go list: %w: %s", err, problems.String())
	}
	c := checker{sizes: types.SizesFor("gc", goarch), files: token.NewFileSet(), done: map[string]*types.Package{"unsafe": types.Unsafe}}
	for dec := json.NewDecoder(bytes.NewReader(out)); ; { // what is imported comes first
		var p listed
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return errors.Join(c.errs...)
		} else if err != nil {
			return err
		}
		c.add(p)
	}
}

// checker has the packages of a system.
type checker struct {
	sizes types.Sizes
	files *token.FileSet
	done  map[string]*types.Package
	errs  []error
}

// add reads a package whose imports have been added. Of other modules only the declarations matter, and
// their errors are not reported.
func (c *checker) add(p listed) {
	if p.ImportPath == "unsafe" {
		return
	}
	own := p.Module != nil && p.Module.Main
	report := func(err error) {
		if own {
			c.errs = append(c.errs, err)
		}
	}
	var files []*ast.File
	for _, name := range p.GoFiles {
		file, err := parser.ParseFile(c.files, filepath.Join(p.Dir, name), nil, parser.SkipObjectResolution)
		if err != nil {
			report(err)
			continue
		}
		files = append(files, file)
	}
	config := types.Config{Sizes: c.sizes, IgnoreFuncBodies: !own, FakeImportC: true, Error: report, Importer: importer{p, c.done}}
	c.done[p.ImportPath], _ = config.Check(p.ImportPath, c.files, files, nil) // its error was reported
}

// importer finds what a package imports.
type importer struct {
	listed
	done map[string]*types.Package
}

func (i importer) Import(path string) (*types.Package, error) {
	if mapped, ok := i.ImportMap[path]; ok {
		path = mapped
	}
	if p := i.done[path]; p != nil {
		return p, nil
	}
	return nil, fmt.Errorf("%s was not listed", path)
}

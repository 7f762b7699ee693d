// Command costs prints what each direct dependency of postern costs: the packages that nothing else needs, the
// seconds of processor time that compiling them takes, and the bytes of code and data that they are in the program.
// It compiles everything anew, in a cache of its own, which takes minutes.
//
//	go run ./scripts/costs
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

const program = "./cmd/postern"

func main() {
	if err := run(os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "costs:", err)
		os.Exit(1)
	}
}

// pkg is a package as `go list` prints it.
type pkg struct {
	ImportPath string
	Imports    []string
	Standard   bool
	Module     *struct {
		Path           string
		Main, Indirect bool
	}
}

// graph is the packages of the program by import path.
type graph map[string]pkg

func run(out io.Writer) error {
	dir, err := os.MkdirTemp("", "costs")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	actions, binary := filepath.Join(dir, "actions.json"), filepath.Join(dir, "postern")
	if _, err := goTool("GOCACHE="+filepath.Join(dir, "cache"), "build", "-debug-actiongraph="+actions, "-o", binary, program); err != nil {
		return err
	}
	all, err := load()
	if err != nil {
		return err
	}
	seconds, err := compileTimes(actions)
	if err != nil {
		return err
	}
	bytes, err := sizes(binary)
	if err != nil {
		return err
	}
	return report(out, all, seconds, bytes)
}

// goTool runs the go command with one more variable of the environment.
func goTool(env string, args ...string) ([]byte, error) {
	var complaint bytes.Buffer
	cmd := exec.Command("go", args...)
	cmd.Env, cmd.Stderr = append(os.Environ(), env), &complaint
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go %s: %w: %s", args[0], err, complaint.String())
	}
	return out, nil
}

func load() (graph, error) {
	out, err := goTool("", "list", "-deps", "-json=ImportPath,Imports,Standard,Module", program)
	if err != nil {
		return nil, err
	}
	all := graph{}
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return all, nil
		} else if err != nil {
			return nil, err
		}
		all[p.ImportPath] = p
	}
}

// direct lists the modules that go.mod requires for packages of the program.
func (g graph) direct() (modules []string) {
	for _, p := range g {
		if p.Module != nil && !p.Module.Main && !p.Module.Indirect && !slices.Contains(modules, p.Module.Path) {
			modules = append(modules, p.Module.Path)
		}
	}
	return modules
}

// without lists the packages that the program would not have without a module.
func (g graph) without(module string) (gone []string) {
	left := map[string]bool{}
	var visit func(path string)
	visit = func(path string) {
		p, ok := g[path]
		if left[path] || !ok || p.Module != nil && p.Module.Path == module {
			return
		}
		left[path] = true
		for _, next := range p.Imports {
			visit(next)
		}
	}
	visit("postern/cmd/postern")
	for path := range g {
		if !left[path] {
			gone = append(gone, path)
		}
	}
	return gone
}

// compileTimes returns the processor time of compiling each package, from a graph of actions.
func compileTimes(file string) (map[string]time.Duration, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var actions []struct {
		Mode, Package   string
		CmdUser, CmdSys time.Duration
	}
	if err := json.Unmarshal(text, &actions); err != nil {
		return nil, err
	}
	times := map[string]time.Duration{}
	for _, a := range actions {
		if a.Mode == "build" {
			times[a.Package] += a.CmdUser + a.CmdSys
		}
	}
	return times, nil
}

// symbolPackage finds the package of a symbol: up to the first point behind the last slash, before what a generic
// function is instantiated with.
var symbolPackage = regexp.MustCompile(`^(?:type:\.eq\.|type:\.hash\.|go:itab\.\*?|go:struct\{ )?([^\[({;]*/)?([^./\[({;]+)\.`)

// sizes returns the bytes of code and data of each package in a program. The tables that the linker makes of all
// packages are not among them.
func sizes(binary string) (map[string]int, error) {
	out, err := goTool("", "tool", "nm", "-size", binary)
	if err != nil {
		return nil, err
	}
	bytesOf := map[string]int{}
	for lines := bufio.NewScanner(bytes.NewReader(out)); lines.Scan(); {
		f := strings.Fields(lines.Text()) // address, size, kind, name
		if len(f) < 4 || !strings.ContainsAny(f[2], "TtRrDd") {
			continue
		}
		size, err := strconv.Atoi(f[1])
		m := symbolPackage.FindStringSubmatch(f[3])
		if err == nil && m != nil {
			bytesOf[strings.ReplaceAll(m[1]+m[2], "%2e", ".")] += size
		}
	}
	return bytesOf, nil
}

func report(out io.Writer, all graph, seconds map[string]time.Duration, bytes map[string]int) error {
	type row struct {
		name     string
		packages int
		time     time.Duration
		size     int
	}
	sum := func(name string, packages []string) row {
		r := row{name: name, packages: len(packages)}
		for _, path := range packages {
			r.time += seconds[path]
			r.size += bytes[path]
		}
		return r
	}
	var everything, own, std []string
	for path, p := range all {
		everything = append(everything, path)
		switch {
		case p.Standard:
			std = append(std, path)
		case p.Module != nil && p.Module.Main:
			own = append(own, path)
		}
	}
	var rows []row
	for _, module := range all.direct() {
		rows = append(rows, sum(module, all.without(module)))
	}
	slices.SortFunc(rows, func(a, b row) int { return int(b.time - a.time) })
	rows = append(rows, sum("the standard library", std), sum("postern", own), sum("all", everything))
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "packages\tseconds\tkB\t  module")
	for _, r := range rows {
		fmt.Fprintf(w, "%d\t%.1f\t%d\t  %s\n", r.packages, r.time.Seconds(), r.size/1000, r.name)
	}
	return w.Flush()
}

package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// profileConns is the number of connections of each path while profiles are taken.
const profileConns = 64

// profile drives the hot path against a server that writes profiles (built with -tags profile), with 1
// processor and with all, and prints which actors and locks take how much of it.
func profile(s settings) error {
	b := &bench{settings: s}
	var err error
	if b.dir, err = os.MkdirTemp("", "pprofile"); err != nil {
		return err
	}
	b.defers = append(b.defers, func() { _ = os.RemoveAll(b.dir) })
	defer b.close()
	if b.cloud, err = b.started(startSelf("cloud")); err != nil {
		return err
	}
	fmt.Println(machine())
	t := new(table)
	for procs := 1; procs <= min(2, runtime.NumCPU()); procs++ {
		if err := b.profileWith(t, procs); err != nil {
			return err
		}
	}
	t.printAims()
	return t.anyMissed()
}

// profileWith measures with a number of processors.
func (b *bench) profileWith(t *table, procs int) (err error) {
	dir := b.file(fmt.Sprint("procs", procs))
	out := dir + ".profiles"
	err = errors.Join(os.Mkdir(out, 0o700), os.Setenv("POSTERN_PROFILE", out), os.Setenv("GOMAXPROCS", strconv.Itoa(procs)))
	if err != nil {
		return err
	}
	b.postern, err = b.startConfigured(dir, func(string) error { return nil })
	if err = errors.Join(err, os.Unsetenv("GOMAXPROCS"), os.Unsetenv("POSTERN_PROFILE")); err != nil {
		return err
	}
	all, err := b.posternPaths()
	if err != nil {
		b.postern.stop()
		return err
	}
	var paths []*path
	for _, p := range all {
		if p.name == "token jsxc" || p.name == "hot cache" {
			paths = append(paths, p)
		}
	}
	length := max(b.length(), 3*time.Second)
	rates, err := together(paths, func(_ int, p *path) (sample, error) { return closedLoop(p, profileConns, 1, length) })
	b.postern.stop()
	if err != nil {
		return err
	}
	rate := 0.0
	for _, r := range rates {
		rate += r
	}
	fmt.Printf("\nGOMAXPROCS=%d: %.0f/s, %s over %d connections, in %v\n", procs, rate, "token jsxc and hot cache", len(paths)*profileConns, length)
	return b.readProfiles(t, out, procs, rate, length*time.Duration(len(paths)*profileConns))
}

// readProfiles prints what the profiles say. waited is the time that all requests took together.
func (b *bench) readProfiles(t *table, dir string, procs int, rate float64, waited time.Duration) error {
	what := fmt.Sprintf("GOMAXPROCS=%d: ", procs)
	nodes, total, err := b.top(filepath.Join(dir, "cpu"))
	if err != nil {
		return err
	}
	used := total.Seconds() / (waited.Seconds() / (2 * profileConns)) // processors
	for _, n := range nodes {
		actor := actorOf.FindStringSubmatch(n.name)
		if actor == nil || actor[1] == "supervise" { // which wraps all
			continue
		}
		share := n.cum.Seconds() / total.Seconds()
		fmt.Printf("  %-20s %4.1f%% of the processors' time, %.2f us for each request\n", actor[1]+" "+actor[2], 100*share, share*used/rate*1e6)
		if actor[2] == "router" {
			// Of both paths; all requests are of one domain.
			fmt.Printf("  the router of one domain becomes the limit at %.0f/s\n", rate/(share*used))
			t.atMost(what+"router of the one domain: of the hot path", share, "", 0.1)
		}
	}
	for _, name := range []string{"mutex", "block"} {
		nodes, _, err := b.top(filepath.Join(dir, name))
		if err != nil {
			return err
		}
		worst := node{}
		fmt.Printf("  %s, in parts of the time of all requests:\n", name)
		for i, n := range nodes {
			if n.flat > worst.flat {
				worst = n
			}
			if i < 12 && n.cum > 0 {
				fmt.Printf("    %5.1f%%  %s\n", 100*n.cum.Seconds()/waited.Seconds(), n.name)
			}
		}
		if name == "mutex" {
			t.atMost(what+"the most contended lock: of the time of all requests", worst.flat.Seconds()/waited.Seconds(), "", 0.1)
		}
	}
	return nil
}

// actorOf finds the actor that a method receives messages for.
var actorOf = regexp.MustCompile(`^postern/actors/(\w+)\.\(?\*?(\w+)\)?\.Receive$`)

// node is a function in a profile.
type node struct {
	name      string
	flat, cum time.Duration
}

// top reads a profile by `go tool pprof`: its functions, and the total.
func (b *bench) top(file string) (nodes []node, total time.Duration, err error) {
	out, err := exec.Command("go", "tool", "pprof", "-top", "-cum", "-nodecount=2000", "-nodefraction=0", "-unit=us", b.binary, file).Output()
	if err != nil {
		return nil, 0, fmt.Errorf("%s (is -postern built with -tags profile?): %w", filepath.Base(file), err)
	}
	for line := range strings.Lines(string(out)) {
		if _, of, ok := strings.Cut(strings.TrimSpace(line), " of "); ok && strings.HasPrefix(line, "Showing nodes") {
			total = microseconds(strings.TrimSuffix(of, " total"))
		}
		words := strings.Fields(line)
		if len(words) < 6 || !strings.HasSuffix(words[1], "%") {
			continue
		}
		nodes = append(nodes, node{strings.Join(words[5:], " "), microseconds(words[0]), microseconds(words[3])})
	}
	return nodes, total, nil
}

// microseconds reads a figure of pprof.
func microseconds(text string) time.Duration {
	us, _ := strconv.ParseFloat(strings.TrimSuffix(text, "us"), 64)
	return time.Duration(us * float64(time.Microsecond))
}

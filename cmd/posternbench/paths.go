package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"text/tabwriter"
	"time"
)

// configText is the configuration under test: one domain per path. The users backend's
// passwords have the lowest bcrypt cost, so that the figure shows the broker and not bcrypt.
const configText = `
data_dir = %q
listen "generic" { address = "127.0.0.1:0" }
backend "jsxc" "at_once" {
  url    = "http://%[2]s/0"
  secret = "bench-secret"
  slots  = 64
  queue  = 1024
}
backend "jsxc" "slow" {
  url    = "http://%[2]s/20"
  secret = "bench-secret"
  slots  = 64
  queue  = 1024
}
backend "users" "local" { bcrypt_cost = 4 }
domain "hot.bench" { backends = [backend.jsxc.at_once] }
domain "direct.bench" {
  backends = [backend.jsxc.at_once]
  cache { storage = "none" }
}
domain "slow.bench" {
  backends = [backend.jsxc.slow]
  cache { storage = "none" }
}
domain "users.bench" {
  backends = [backend.users.local]
  cache { storage = "none" }
}
`

// path is one way through the broker.
type path struct {
	name string
	line func(conn, n int) string
}

// fixed sends one user's login for each connection, in any case the same text.
func fixed(domain, password string) func(int, int) string {
	return func(conn, _ int) string {
		return fmt.Sprintf("auth:user%d:%s:%s\n", conn, domain, password)
	}
}

// distinct sends a login that nobody else sends at the moment, so that none is joined.
func distinct(domain string) func(int, int) string {
	return func(conn, n int) string { return fmt.Sprintf("auth:user%d:%s:pw%d\n", conn, domain, n) }
}

type row struct {
	Path  string
	Conns int
	sample
	Ratio float64 // of the rate to the echo's at the same number of connections
}

func measure(s settings) error {
	dir, err := os.MkdirTemp("", "posternbench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	echo, err := startSelf("echo")
	if err != nil {
		return err
	}
	defer echo.stop()
	cloud, err := startSelf("jsxc")
	if err != nil {
		return err
	}
	defer cloud.stop()
	file := filepath.Join(dir, "config.hcl")
	if err := os.WriteFile(file, fmt.Appendf(nil, configText, filepath.Join(dir, "data"), cloud.addr), 0o600); err != nil {
		return err
	}
	paths, err := preparePaths(s, file)
	if err != nil {
		return err
	}
	postern, err := startPostern(s.postern, file)
	if err != nil {
		return err
	}
	defer postern.stop()
	if err := warmUp(s, postern, paths); err != nil {
		return err
	}
	rows, err := run(s, echo, postern, paths)
	if err != nil {
		return err
	}
	print(rows)
	if s.jsonFile == "" {
		return nil
	}
	data, err := json.MarshalIndent(rows, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(s.jsonFile, append(data, '\n'), 0o644)
}

// preparePaths makes tokens and an account, with the program under test itself.
func preparePaths(s settings, config string) ([]path, error) {
	tokens := make(map[int]string)
	for conn := range s.conns[len(s.conns)-1] {
		user := fmt.Sprintf("user%d@hot.bench", conn%8)
		if conn < 8 {
			out, err := exec.Command(s.postern, "token", "issue", "--config", config, user).Output()
			if err != nil {
				return nil, fmt.Errorf("issue a token: %w", err)
			}
			tokens[conn] = strings.TrimSpace(string(out))
		}
	}
	add := exec.Command(s.postern, "user", "add", "--config", config, "joe@users.bench")
	add.Stdin = strings.NewReader("good\n")
	if out, err := add.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("add an account: %w: %s", err, out)
	}
	all := []path{
		{"token jsxc", func(conn, _ int) string {
			return fmt.Sprintf("auth:user%d:hot.bench:%s\n", conn%8, tokens[conn%8])
		}},
		{"hot cache", fixed("hot.bench", "password")},
		{"users, bcrypt 4", func(int, int) string { return "auth:joe:users.bench:good\n" }},
		{"jsxc 0 ms", distinct("direct.bench")},
		{"jsxc 20 ms", distinct("slow.bench")},
	}
	var chosen []path
	for _, p := range all {
		if strings.Contains(p.name, s.only) {
			chosen = append(chosen, p)
		}
	}
	return chosen, nil
}

// warmUp takes every path once and waits until the server has nothing left to do: new
// passwords are hashed after their answer.
func warmUp(s settings, postern *child, paths []path) error {
	for _, p := range paths {
		if _, err := closedLoop(postern, s.conns[len(s.conns)-1], 100*time.Millisecond, p.line, "1\n"); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
	}
	for before, now := time.Duration(-1), postern.cpu(); now != before; {
		time.Sleep(500 * time.Millisecond)
		before, now = now, postern.cpu()
	}
	return nil
}

// run measures every path beside the echo, round by round, so that a noisy moment of the
// machine falls on all of them.
func run(s settings, echo, postern *child, paths []path) ([]row, error) {
	var rows []row
	for _, conns := range s.conns {
		samples := make(map[string][]sample)
		for range s.rounds {
			one, err := closedLoop(echo, conns, s.length(), fixed("echo.bench", "password"), "1\n")
			if err != nil {
				return nil, fmt.Errorf("echo: %w", err)
			}
			samples["echo"] = append(samples["echo"], one)
			for _, p := range paths {
				one, err := closedLoop(postern, conns, s.length(), p.line, "1\n")
				if err != nil {
					return nil, fmt.Errorf("%s at %d connections: %w", p.name, conns, err)
				}
				samples[p.name] = append(samples[p.name], one)
			}
		}
		ceiling := median(samples["echo"])
		rows = append(rows, row{"echo", conns, ceiling, 1})
		for _, p := range paths {
			m := median(samples[p.name])
			rows = append(rows, row{p.name, conns, m, m.Rate / ceiling.Rate})
		}
	}
	return rows, nil
}

func print(rows []row) {
	fmt.Printf("%s, %s/%s, %d processors, client included\n", runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.NumCPU())
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "path\tconns\treq/s\tof echo\tp50\tp99\tserver CPU/req\t")
	for _, r := range rows {
		fmt.Fprintf(w, "%s\t%d\t%.0f\t%.2f\t%v\t%v\t%v\t\n", r.Path, r.Conns, r.Rate, r.Ratio,
			r.P50.Round(time.Microsecond), r.P99.Round(time.Microsecond), r.CPU.Round(100*time.Nanosecond))
	}
	_ = w.Flush()
}

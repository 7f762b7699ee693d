package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"testing"
	"time"
)

// TestMain runs this program as one of the servers that the benchmark starts, as main does.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && slices.Contains([]string{"echo", "cloud", "relay"}, os.Args[1]) {
		main()
		return
	}
	os.Exit(m.Run())
}

// brief returns settings for a run of a moment with the real program.
func brief(t *testing.T, only string) settings {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "postern")
	if out, err := exec.Command("go", "build", "-o", binary, "../../cmd/postern").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return settings{binary: binary, seconds: 0.05, rounds: 1, conns: []int{1, 16}, only: only, level: "info", minutes: 0.05}
}

// A run measures the selected paths and their baselines, and compares them with the aims.
func TestMeasure(t *testing.T) {
	s := brief(t, "hot cache,jsxc 0 ms,dovecot")
	s.conns = append(s.conns, 128) // the aims are for 128 connections
	s.jsonFile = filepath.Join(t.TempDir(), "out.json")
	if err := measure(s); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(s.jsonFile)
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Rows []row
		Aims []aim
	}
	if err := json.Unmarshal(data, &got); err != nil {
		t.Fatal(err)
	}
	there := make(map[string]bool)
	for _, r := range got.Rows {
		if r.Rate <= 0 || r.P50 <= 0 || r.P99 < r.P50 || r.Ratio <= 0 {
			t.Errorf("%s %s at %d connections: %+v", r.Path, r.Mode, r.Conns, r.sample)
		}
		there[r.Path+" "+r.Mode] = true
	}
	for _, want := range []string{
		"echo closed", "echo pipelined", "echo open", "hot cache closed", "hot cache pipelined", "hot cache open",
		"http.Client 0 ms closed", "bare relay 0 ms closed", "jsxc 0 ms closed",
		"echo dovecot closed", "dovecot closed", "dovecot pipelined",
	} {
		if !there[want] {
			t.Errorf("%s was not measured", want)
		}
		delete(there, want)
	}
	for _, odd := range []string{"token jsxc closed", "echo saslauthd closed", "http.Client 20 ms closed"} {
		if there[odd] {
			t.Errorf("%s was measured", odd)
		}
	}
	if len(got.Aims) < 4 {
		t.Errorf("the aims are %+v", got.Aims)
	}
}

// A soak run of a few seconds reads every gauge more than once.
func TestSoak(t *testing.T) {
	s := brief(t, "token jsxc")
	out, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	was := os.Stdout
	os.Stdout = out
	err = soak(s)
	os.Stdout = was
	if err != nil {
		t.Fatal(err)
	}
	said, err := os.ReadFile(out.Name())
	if err != nil {
		t.Fatal(err)
	}
	line := regexp.MustCompile(`(?m)^\d+s  resident MiB [1-9]\d*\.\d  goroutines [1-9]\d*\.0  descriptors [1-9]\d*\.0  store MiB \d+\.\d$`)
	if n := len(line.FindAll(said, -1)); n < 2 {
		t.Errorf("%d lines of figures in:\n%s", n, said)
	}
}

func TestGrown(t *testing.T) {
	steady := func(n int, at func(i int) float64) (out []float64) {
		for i := range n {
			out = append(out, at(i))
		}
		return out
	}
	for name, c := range map[string]struct {
		values []float64
		want   bool
	}{
		"steady":                  {steady(30, func(int) float64 { return 100 }), false},
		"warming up":              {steady(30, func(i int) float64 { return 100 - 90/float64(1+i*i) }), false},
		"growing":                 {steady(30, func(i int) float64 { return 100 + 5*float64(i) }), true},
		"growing within bounds":   {steady(30, func(i int) float64 { return 100 + float64(i) }), false},
		"a step in the last part": {steady(30, func(i int) float64 { return 100 + 50*float64(i/21) }), true},
		"one high value":          {steady(30, func(i int) float64 { return 100 + 500*float64(i/29) }), false},
		"too few":                 {[]float64{1, 1000}, false},
	} {
		t.Run(name, func(t *testing.T) {
			g := &gauge{name: "x", unit: 1, share: 0.1, spare: 5, values: c.values}
			if by, got := g.grown(); got != c.want {
				t.Errorf("grown by %v: %t", by, got)
			}
			if err := verdict([]*gauge{g}); (err != nil) != c.want {
				t.Errorf("the verdict is %v", err)
			}
		})
	}
}

func TestFigures(t *testing.T) {
	var times []time.Duration
	for i := range 100 {
		times = append(times, time.Duration(100-i))
	}
	if p50, p99 := percentiles(times); p50 != 51 || p99 != 100 {
		t.Errorf("the percentiles of 1 to 100 are %d and %d", p50, p99)
	}
	if p50, p99 := percentiles(nil); p50 != 0 || p99 != 0 {
		t.Errorf("the percentiles of nothing are %d and %d", p50, p99)
	}
	if m := median([]float64{9, 1, 2}); m != 2 {
		t.Errorf("the median of 1, 2, 9 is %v", m)
	}
	if m := median([]float64{9, 1, 2, 4}); m != 3 {
		t.Errorf("the median of 1, 2, 4, 9 is %v", m)
	}
	// The ratio is the median of the rounds, not the ratio of the medians.
	own, other := &path{name: "own", baseline: "other"}, &path{name: "other", baseline: "other"}
	var tab table
	at := cell{"closed", 1}
	tab.add(at, []*path{own, other}, map[*path][]sample{
		own:   {{Rate: 10}, {Rate: 20}, {Rate: 90}},
		other: {{Rate: 100}, {Rate: 20}, {Rate: 180}},
	})
	if r := tab.of("own", at); r.Rate != 20 || r.Ratio != 0.5 {
		t.Errorf("own has %v, ratio %v", r.Rate, r.Ratio)
	}
}

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"strings"
	"text/tabwriter"
	"time"
)

// row is a line of the table.
type row struct {
	Path  string
	Mode  string
	Conns int
	sample
	Baseline string  `json:"Beside"`
	Ratio    float64 // of the rate to that of the baseline, the median of the rounds
	rounds   []round
}

// round is one measurement of a row, and its ratio.
type round struct {
	sample
	ratio float64
}

// aim is a target, the figure that was measured and whether it is met.
type aim struct {
	What   string
	Figure float64
	Unit   string
	Bound  string // "at-least" or "at-most"
	Aim    string
	Met    bool
}

// table is the result of a run.
type table struct {
	rows    []row
	aims    []aim
	missing []string // peers that could not be measured, and why
}

// add adds the rows of a cell. samples has one sample for each round of a path.
func (t *table) add(c cell, paths []*path, samples map[*path][]sample) {
	byName := make(map[string][]sample)
	for p, s := range samples {
		byName[p.name] = s
	}
	for _, p := range paths {
		if len(samples[p]) == 0 {
			continue
		}
		r := row{Path: p.name, Mode: c.mode, Conns: c.conns, sample: medians(samples[p]), Baseline: p.baseline}
		var ratios []float64
		for i, other := range byName[p.baseline] {
			ratios = append(ratios, samples[p][i].Rate/other.Rate)
			r.rounds = append(r.rounds, round{samples[p][i], ratios[i]})
		}
		if len(ratios) > 0 {
			r.Ratio = median(ratios)
		}
		t.rows = append(t.rows, r)
	}
}

// of returns the row of a path in a cell, or a zero row if it was not measured.
func (t *table) of(name string, c cell) row {
	for _, r := range t.rows {
		if r.Path == name && r.Mode == c.mode && r.Conns == c.conns {
			return r
		}
	}
	return row{}
}

// machine describes the conditions of the run.
func machine() string {
	load, _, _ := strings.Cut(firstLine("/proc/loadavg"), " ")
	return fmt.Sprintf("%s; %s, %d processors, client included; Linux %s, %s %s/%s; load %s",
		time.Now().UTC().Format(time.DateOnly), processor(), runtime.NumCPU(), firstLine("/proc/sys/kernel/osrelease"),
		runtime.Version(), runtime.GOOS, runtime.GOARCH, load)
}

// processor is the model of the machine's processors.
func processor() string {
	info, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(info)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "unknown processor"
}

func firstLine(file string) string {
	text, _ := os.ReadFile(file)
	line, _, _ := strings.Cut(string(text), "\n")
	return line
}

// print writes the table, the aims and what is missing to standard output.
func (t *table) print() {
	fmt.Println(machine())
	t.printRows()
	t.printAims()
	for _, m := range t.missing {
		fmt.Println("not measured:", m)
	}
}

func (t *table) printRows() {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "path\tmode\tconns\treq/s\tratio\tto\tp50\tp99\tserver CPU/req\t")
	for _, r := range t.rows {
		fmt.Fprintf(w, "%s\t%s\t%d\t%.0f\t%.2f\t%s\t%v\t%v\t%v\t\n", r.Path, r.Mode, r.Conns, r.Rate, r.Ratio, r.Baseline,
			r.P50.Round(time.Microsecond), r.P99.Round(time.Microsecond), r.CPU.Round(100*time.Nanosecond))
	}
	_ = w.Flush()
	fmt.Println()
}

func (t *table) printAims() {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	for _, a := range t.aims {
		verdict := "missed"
		if a.Met {
			verdict = "met"
		}
		fmt.Fprintf(w, "%s\t%s\t%.4g%s\t(%s)\n", verdict, a.What, a.Figure, a.Unit, a.Aim)
	}
	_ = w.Flush()
}

// write writes the result as JSON, unless file is empty.
func (t *table) write(file string) error {
	if file == "" {
		return nil
	}
	data, err := json.MarshalIndent(map[string]any{"machine": machine(), "rows": t.rows, "aims": t.aims, "missing": t.missing}, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(data, '\n'), 0o644)
}

// atLeast and atMost add an aim and the figure that was measured.
func (t *table) atLeast(what string, figure float64, unit string, aimed float64) {
	t.note(what, figure, unit, "at-least", aimed, figure >= aimed)
}

func (t *table) atMost(what string, figure float64, unit string, aimed float64) {
	t.note(what, figure, unit, "at-most", aimed, figure <= aimed)
}

func (t *table) note(what string, figure float64, unit, bound string, aimed float64, met bool) {
	t.aims = append(t.aims, aim{what, figure, unit, bound, fmt.Sprintf("%s %.4g%s", strings.Replace(bound, "-", " ", 1), aimed, unit), met})
}

// judge adds the aims of the paths in the table.
func (t *table) judge() {
	for _, name := range []string{"token jsxc", "hot cache"} {
		if r := t.of(name, cell{"closed", 128}); r.Rate > 0 {
			t.atLeast(name+", 128 connections: of the echo", r.Ratio, "", 0.6)
		}
		if r, e := t.of(name, cell{"closed", 1}), t.of("echo", cell{"closed", 1}); r.Rate > 0 && e.Rate > 0 {
			t.atMost(name+", 1 connection: p50 of the echo's", float64(r.P50)/float64(e.P50), "", 3)
		}
	}
	if r := t.of("jsxc 0 ms", cell{"closed", 128}); r.Rate > 0 {
		t.atLeast("jsxc 0 ms, 128 connections: of an http.Client loop", r.Ratio, "", 0.7)
		t.atLeast("jsxc 0 ms, 128 connections: of a bare relay by http.Client",
			r.Rate/t.of("bare relay 0 ms", cell{"closed", 128}).Rate, "", 0.9)
	}
	t.queue()
	for _, peer := range []struct {
		own, other string
		ratio      float64
	}{{"saslauthd", "Cyrus saslauthd", 1.2}, {"dovecot", "Dovecot auth", 1.1}} {
		r, o := t.of(peer.own, cell{"closed", 16}), t.of(peer.other, cell{"closed", 16})
		if r.Rate > 0 && o.Rate > 0 {
			t.atLeast(peer.own+", 16 connections: of "+peer.other, r.Ratio/o.Ratio, "", peer.ratio)
		}
	}
}

// queue compares 1000 connections in front of 64 slots of 20 ms with queueing theory: the rate is
// 64/20ms, and in a closed loop each request waits for all others.
func (t *table) queue() {
	r := t.of("jsxc 20 ms", cell{"closed", 1000})
	if r.Rate == 0 {
		return
	}
	const capacity = slots / 0.020
	t.atLeast("jsxc 20 ms, 1000 connections: of 64/20ms", r.Rate/capacity, "", 0.95)
	if plain := t.of("64 http.Clients 20 ms", cell{"closed", 1000}); plain.Rate > 0 {
		t.atLeast("jsxc 20 ms, 1000 connections: of what 64 http.Clients get", r.Rate/plain.Rate, "", 0.95)
	}
	t.atMost("jsxc 20 ms, 1000 connections: p99 of 1000/(64/20ms)", r.P99.Seconds()/(1000/capacity), "", 1.1)
}

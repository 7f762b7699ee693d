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

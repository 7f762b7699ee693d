package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
)

// Bounds of aims, as they are named in the file of figures.
const (
	atLeast = "at-least"
	atMost  = "at-most"
)

// aim is what must hold, what is aimed at, and what was measured.
type aim struct {
	What      string
	Figure    float64
	Unit      string
	Bound     string // atLeast or atMost
	Must, Aim float64
}

// reaches reports whether the figure is within a bound.
func (a *aim) reaches(bound float64) bool {
	if a.Bound == atLeast {
		return a.Figure >= bound
	}
	return a.Figure <= bound
}

// missed reports whether what must hold does not.
func (a *aim) missed() bool { return !a.reaches(a.Must) }

// verdict is "met", "must" for what only must hold, or "missed".
func (a *aim) verdict() string {
	switch {
	case a.missed():
		return "missed"
	case !a.reaches(a.Aim):
		return "must"
	}
	return "met"
}

// printAims prints a line for each aim.
func printAims(to io.Writer, aims []aim) {
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "verdict\t\tmeasured\tmust\taim")
	for _, a := range aims {
		sign := "<="
		if a.Bound == atLeast {
			sign = ">="
		}
		fmt.Fprintf(w, "%s\t%s\t%.4g%s\t%s %.4g\t%s %.4g\n", a.verdict(), a.What, a.Figure, a.Unit, sign, a.Must, sign, a.Aim)
	}
	_ = w.Flush()
}

func (t *table) printAims() { printAims(os.Stdout, t.aims) }

// anyMissed is errMissed if something that must hold does not.
func (t *table) anyMissed() error {
	if slices.ContainsFunc(t.aims, func(a aim) bool { return a.missed() }) {
		return errMissed
	}
	return nil
}

// atLeast and atMost add what must hold, and is all that is aimed at.
func (t *table) atLeast(what string, figure float64, unit string, must float64) {
	t.aims = append(t.aims, aim{what, figure, unit, atLeast, must, must})
}

func (t *table) atMost(what string, figure float64, unit string, must float64) {
	t.aims = append(t.aims, aim{what, figure, unit, atMost, must, must})
}

// ofBaseline adds the ratio of a path to its baseline, where it was measured.
func (t *table) ofBaseline(name string, c cell, must, aimed float64) {
	r := t.of(name, c)
	if r.Rate == 0 {
		return
	}
	how := fmt.Sprint(c.conns, " connection")
	if c.conns > 1 {
		how += "s"
	}
	if c.mode == "pipelined" {
		how = fmt.Sprintf("pipelined %d x %d", c.conns, pipeDepth)
	}
	t.aims = append(t.aims, aim{fmt.Sprintf("%s, %s: of the %s", name, how, r.Baseline), r.Ratio, "", atLeast, must, aimed})
}

// ofPath adds the ratio of the rates of two paths, where both were measured.
func (t *table) ofPath(name, other string, conns int, must, aimed float64) {
	r, o := t.of(name, cell{"closed", conns}), t.of(other, cell{"closed", conns})
	if r.Rate > 0 && o.Rate > 0 {
		t.aims = append(t.aims, aim{fmt.Sprintf("%s, %d connections: of the %s", name, conns, other), r.Rate / o.Rate, "", atLeast, must, aimed})
	}
}

// judge adds the aims of the paths in the table.
func (t *table) judge() {
	for i, conns := range []int{1, 16, 128} {
		at := cell{"closed", conns}
		for _, name := range []string{"token jsxc", "hot cache"} {
			t.ofBaseline(name, at, 0.65, []float64{0.72, 0.72, 0.75}[i])
		}
		for name, must := range map[string][]float64{"dovecot": {0.7, 0.5, 0.5}, "saslauthd": {0.83, 0.88, 0.83}, "token totp": {0.6, 0.6, 0.6}} {
			t.ofBaseline(name, at, must[i], must[i])
		}
	}
	for _, name := range []string{"token jsxc", "hot cache", "dovecot"} {
		t.ofBaseline(name, cell{"pipelined", 16}, 0.25, 0.25)
	}
	for _, conns := range []int{16, 128} {
		t.ofPath("jsxc 0 ms", "bare relay 0 ms", conns, 1, 1)
		t.ofPath("json 0 ms", "bare relay 0 ms", conns, 1, 1)
		t.ofPath("nextcloud 0 ms", "bare relay 0 ms", conns, 0.9, 0.9)
	}
	t.ofPath("saslauthd", "Cyrus saslauthd", 16, 1, 1.2)
	t.ofPath("dovecot", "Dovecot auth", 16, 1.1, 1.1)
	if r, e := t.of("http", cell{"closed", 128}), t.of("bare net/http", cell{"closed", 128}); r.Rate > 0 && e.CPU > 0 {
		t.atMost("http, 128 connections: CPU of a bare net/http handler", float64(r.CPU)/float64(e.CPU), "", 1.5)
	}
	for _, name := range []string{"token jsxc", "hot cache"} {
		if r, e := t.of(name, cell{"closed", 1}), t.of("echo", cell{"closed", 1}); r.Rate > 0 && e.Rate > 0 {
			t.atMost(name+", 1 connection: p50 of the echo's", float64(r.P50)/float64(e.P50), "", 3)
		}
	}
	if r := t.of("app password", cell{"closed", 128}); r.Ratio > 0 {
		t.atLeast("app password, 128 connections: of the hot cache", r.Ratio, "", 0.9)
	}
	if r := t.of("jsxc 0 ms", cell{"closed", 128}); r.Rate > 0 {
		t.atLeast("jsxc 0 ms, 128 connections: of an http.Client loop", r.Ratio, "", 0.7)
	}
	t.queue()
	slices.SortStableFunc(t.aims, func(a, b aim) int { return strings.Compare(a.What, b.What) })
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

// showAims prints the aims in files that runs with -out have written, as one table.
func showAims(files []string) error {
	var aims []aim
	for _, file := range files {
		f, err := os.Open(file)
		if err != nil {
			return err
		}
		for lines := bufio.NewScanner(f); lines.Scan(); {
			if a, ok := readAim(lines.Text()); ok {
				aims = append(aims, a)
			}
		}
		_ = f.Close()
	}
	printAims(os.Stdout, aims)
	return nil
}

// line is the aim as a line of a Go benchmark.
func (a *aim) line() string {
	name := word(a.What)
	if unit := word(a.Unit); unit != "" {
		name += "/" + unit
	}
	return fmt.Sprintf("BenchmarkAim/%s 1 %.4f %s %.4f must %.4f aim\n", name, a.Figure, a.Bound, a.Must, a.Aim)
}

// readAim reads what line has written.
func readAim(text string) (a aim, ok bool) {
	words := strings.Fields(text)
	if len(words) != 8 || !strings.HasPrefix(words[0], "BenchmarkAim/") {
		return a, false
	}
	name, unit, _ := strings.Cut(strings.TrimPrefix(words[0], "BenchmarkAim/"), "/")
	a.What, a.Bound = strings.ReplaceAll(name, "_", " "), words[3]
	if unit != "" {
		a.Unit = " " + unit
	}
	for i, to := range map[int]*float64{2: &a.Figure, 4: &a.Must, 6: &a.Aim} {
		f, err := strconv.ParseFloat(words[i], 64)
		if err != nil {
			return a, false
		}
		*to = f
	}
	return a, true
}

package main

import (
	"fmt"
	"os"
	"runtime"
	"strings"
)

// units has the direction of each unit for benchstat, which takes an increase for worse otherwise.
const units = `Unit ratio better=higher
Unit req/s better=higher
Unit at-least better=higher
Unit at-most better=lower
`

// writeLines appends the table to a file in the format of Go's benchmarks, unless file is empty: a line for
// each round of a row, and one for each aim.
func (t *table) writeLines(file string) error {
	if file == "" {
		return nil
	}
	var b strings.Builder
	b.WriteString(units)
	fmt.Fprintf(&b, "goos: %s\ngoarch: %s\ncpu: %s\nmachine: %s\npkg: postern/scripts/bench\n", runtime.GOOS, runtime.GOARCH, processor(), machine())
	for _, r := range t.rows {
		for _, one := range r.rounds {
			fmt.Fprintf(&b, "BenchmarkPath/%s/%s/conns=%d 1 %.0f req/s %d cpu-ns/req", word(r.Path), r.Mode, r.Conns, one.Rate, one.CPU.Nanoseconds())
			if r.Path != r.Baseline {
				fmt.Fprintf(&b, " %.4f ratio", one.ratio)
			}
			b.WriteByte('\n')
		}
	}
	for _, a := range t.aims {
		b.WriteString(a.line())
	}
	f, err := os.OpenFile(file, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	if _, err := f.WriteString(b.String()); err != nil {
		_ = f.Close()
		return err
	}
	return f.Close()
}

// word makes a name of a benchmark, which has no blanks.
func word(name string) string {
	return strings.Trim(strings.Map(func(r rune) rune {
		switch {
		case r == ' ', r == '/', r == '=':
			return '_'
		case r == ',', r == ':', r == '(', r == ')':
			return -1
		}
		return r
	}, name), "_-")
}

package doctor

import (
	"fmt"
	"io"
	"strings"
)

// Colours of the terminal.
const (
	red    = "\x1b[31m"
	yellow = "\x1b[33m"
	green  = "\x1b[32m"
	plain  = "\x1b[0m"
)

// Write prints a report as text, with colours for a terminal.
func (r *Report) Write(w io.Writer, colours bool) error {
	var b strings.Builder
	hop := ""
	for _, f := range r.Findings {
		if f.Hop != hop {
			hop = f.Hop
			fmt.Fprintln(&b, hop)
		}
		word, colour := string(f.Status), green
		switch f.Status {
		case Failure:
			word, colour = "FAILURE", red
		case Warning:
			word, colour = "WARNING", yellow
		case Skipped:
			word, colour = "-", plain
		}
		word = fmt.Sprintf("%-7s", word)
		if colours {
			word = colour + word + plain
		}
		fmt.Fprintf(&b, "  %s  %-12s  %s\n", word, f.Check, oneLine(f.Text))
		if f.Cure != "" {
			fmt.Fprintf(&b, "  %-7s  %-12s  -> %s\n", "", "", oneLine(f.Cure))
		}
	}
	fmt.Fprintf(&b, "%s, %s\n", plural(r.Failures, "failure"), plural(r.Warnings, "warning"))
	_, err := io.WriteString(w, b.String())
	return err
}

// oneLine replaces control characters, which a server or a file may have sent, with spaces.
func oneLine(text string) string {
	return strings.Map(func(r rune) rune {
		if r < 0x20 || r >= 0x7f && r < 0xa0 {
			return ' '
		}
		return r
	}, text)
}

func plural(n int, word string) string {
	if n == 1 {
		return "1 " + word
	}
	return fmt.Sprintf("%d %ss", n, word)
}

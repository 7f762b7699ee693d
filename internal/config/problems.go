package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/hashicorp/hcl/v2"
)

// Severity tells what stops the configuration from what only deserves a look.
type Severity uint8

// The severities.
const (
	Error   Severity = iota // no Config comes of it
	Warning                 // the Config is usable
)

// String returns "error" or "warning".
func (s Severity) String() string {
	if s == Warning {
		return "warning"
	}
	return "error"
}

// Problem is one complaint about a configuration. It holds no secret.
type Problem struct {
	Severity Severity
	File     string
	Line     int    // from 1; 0: the file as a whole
	Column   int    // from 1
	Message  string // what is wrong
	Cure     string // what to do about it
	Source   string // the line, with secrets blanked
	Marker   string // goes under Source and points at the place; may be empty
}

// String is the problem on one line, for a log.
func (p Problem) String() string {
	text := fmt.Sprintf("%s: %s: %s", p.position(), p.Severity, p.Message)
	if p.Cure != "" {
		text += "; " + p.Cure
	}
	return text
}

func (p Problem) position() string {
	if p.Line == 0 {
		return p.File
	}
	return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Column)
}

// Problems are the complaints about one configuration, in the order of the file.
type Problems []Problem

// Failed reports whether one of them is an error.
func (ps Problems) Failed() bool { return ps.Count(Error) > 0 }

// Count returns how many there are of a severity.
func (ps Problems) Count(s Severity) int {
	n := 0
	for _, p := range ps {
		if p.Severity == s {
			n++
		}
	}
	return n
}

// Err returns nil if no problem is an error, and otherwise an error of one line per
// error.
func (ps Problems) Err() error {
	var all []error
	for _, p := range ps {
		if p.Severity == Error {
			all = append(all, errors.New(p.String()))
		}
	}
	return errors.Join(all...)
}

// Write prints every problem with its line and a marker under the place.
func (ps Problems) Write(w io.Writer) error {
	for _, p := range ps {
		var b strings.Builder
		fmt.Fprintf(&b, "%s: %s: %s\n", p.position(), p.Severity, p.Message)
		if p.Source != "" {
			fmt.Fprintf(&b, "%5d | %s\n", p.Line, p.Source)
			if p.Marker != "" {
				fmt.Fprintf(&b, "      | %s\n", p.Marker)
			}
		}
		if p.Cure != "" {
			fmt.Fprintf(&b, "        %s\n", p.Cure)
		}
		if _, err := io.WriteString(w, b.String()); err != nil {
			return err
		}
	}
	return nil
}

// complain records an error at a place.
func (p *parser) complain(at hcl.Range, message, cure string) {
	p.report(Error, at, message, cure)
}

// warn records a warning at a place.
func (p *parser) warn(at hcl.Range, message, cure string) {
	p.report(Warning, at, message, cure)
}

func (p *parser) report(s Severity, at hcl.Range, message, cure string) {
	source, marker := p.snippet(at)
	p.problems = append(p.problems, Problem{
		Severity: s, File: p.file, Line: at.Start.Line, Column: at.Start.Column,
		Message: message, Cure: cure, Source: source, Marker: marker,
	})
}

// maxSyntax bounds complaints about syntax: a file that is no configuration at all has one for
// every byte.
const maxSyntax = 20

// syntax records what the parser of HCL complains about.
func (p *parser) syntax(diags hcl.Diagnostics) {
	for i, d := range diags {
		at := hcl.Range{}
		if d.Subject != nil {
			at = *d.Subject
		}
		if i == maxSyntax {
			p.complain(at, fmt.Sprintf("syntax: there are %d further faults from here on", len(diags)-i),
				"is this the right file? the faults before may have caused them")
			return
		}
		p.complain(at, "syntax: "+lowerFirst(d.Summary), lowerFirst(ownWords(d.Detail)))
	}
}

// ownWords blanks what a message of the parser of HCL quotes: in a broken file a
// word may be part of a secret, so only words of our own vocabulary stay.
func ownWords(text string) string {
	parts := strings.Split(text, `"`)
	for i := 1; i < len(parts); i += 2 {
		if !blockWord(parts[i]) && !publicWord(parts[i]) {
			parts[i] = "..."
		}
	}
	return strings.Join(parts, `"`)
}

func lowerFirst(s string) string {
	if s == "" || s[0] < 'A' || s[0] > 'Z' {
		return s
	}
	return string(s[0]+'a'-'A') + s[1:]
}

// maxShown bounds a quoted line, in runes, and maxQuoted the problems that quote one: to look
// for secrets in a long line once for each of its faults takes long.
const (
	maxShown  = 160
	maxQuoted = 100
)

// snippet returns the line at a place, fit to be shown, and the marker under it.
func (p *parser) snippet(at hcl.Range) (source, marker string) {
	if len(p.problems) >= maxQuoted {
		return "", ""
	}
	line, offset, ok := p.line(at)
	if !ok {
		return "", ""
	}
	if p.redactor == nil {
		p.redactor = newRedactor()
	}
	shown := p.redactor.line(line)
	if utf8.RuneCountInString(shown) > maxShown {
		shown = string([]rune(shown)[:maxShown]) + " ..."
	}
	if offset > len(shown) || line[:offset] != shown[:offset] {
		return plain(shown), ""
	}
	length := 1
	if at.End.Line == at.Start.Line {
		length = max(1, at.End.Byte-at.Start.Byte)
	}
	length = max(1, min(length, len(shown)-offset))
	under := shown[offset:min(offset+length, len(shown))]
	return plain(shown), padding(shown[:offset]) + strings.Repeat("^", max(1, utf8.RuneCountInString(under)))
}

// line returns the line that a place starts on and the place's byte offset in it.
func (p *parser) line(at hcl.Range) (line string, offset int, ok bool) {
	start := at.Start.Byte
	if at.Start.Line == 0 || start < 0 || start > len(p.src) {
		return "", 0, false
	}
	from := bytes.LastIndexByte(p.src[:start], '\n') + 1
	rest := p.src[from:]
	if end := bytes.IndexByte(rest, '\n'); end >= 0 {
		rest = rest[:end]
	}
	line = strings.ToValidUTF8(strings.TrimSuffix(string(rest), "\r"), "?")
	return line, min(start-from, len(line)), true
}

// padding is white space as wide as text, with its tabs kept.
func padding(text string) string {
	return strings.Map(func(r rune) rune {
		if r == '\t' {
			return r
		}
		return ' '
	}, text)
}

// plain replaces what could move the cursor of a terminal.
func plain(text string) string {
	return strings.Map(func(r rune) rune {
		if r != '\t' && (r < 0x20 || r >= 0x7f && r <= 0x9f || r == 0x2028 || r == 0x2029) {
			return '?'
		}
		return r
	}, text)
}

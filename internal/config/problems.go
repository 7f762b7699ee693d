package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"unicode/utf8"

	"github.com/hashicorp/hcl/v2"
)

// Severity says whether a Problem makes the configuration unusable.
type Severity uint8

// The severities.
const (
	Error   Severity = iota // there is no Config
	Warning                 // the Config is usable
)

// String returns "error" or "warning".
func (s Severity) String() string {
	if s == Warning {
		return "warning"
	}
	return "error"
}

// Problem is a diagnostic of a configuration. It holds no secret.
type Problem struct {
	Severity Severity
	File     string
	Line     int    // from 1; 0: the file as a whole
	Column   int    // from 1
	Message  string // what is wrong
	Cure     string // what to do about it
	Source   string // the line, redacted
	Marker   string // a line to print under Source that points at the place; may be empty
	Denied   bool   // this user may not read a file; another one may
}

// String returns the problem on one line, for a log.
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

// Problems are the diagnostics of one configuration, in the order of the file.
type Problems []Problem

// Failed reports whether one of them is an error.
func (ps Problems) Failed() bool { return ps.Count(Error) > 0 }

// Count returns the number of problems of a severity.
func (ps Problems) Count(s Severity) int {
	n := 0
	for _, p := range ps {
		if p.Severity == s {
			n++
		}
	}
	return n
}

// denied is the error of a Problem that is Denied.
type denied string

// Error implements error.
func (d denied) Error() string { return string(d) }

// Is makes it an fs.ErrPermission.
func (denied) Is(target error) bool { return target == fs.ErrPermission }

// Err returns the problems that are errors as one error, a line for each, or nil. It is an
// fs.ErrPermission if another user may be able to read the configuration.
func (ps Problems) Err() error {
	var all []error
	for _, p := range ps {
		switch {
		case p.Severity == Error && p.Denied:
			all = append(all, denied(p.String()))
		case p.Severity == Error:
			all = append(all, errors.New(p.String()))
		}
	}
	return errors.Join(all...)
}

// Write prints every problem, with its line and a marker under the place.
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

// maxSyntax bounds the syntax errors that are reported: a binary file has one for every byte.
const maxSyntax = 20

// syntax records the diagnostics of the HCL parser.
func (p *parser) syntax(diags hcl.Diagnostics) {
	for i, d := range diags {
		at := hcl.Range{}
		if d.Subject != nil {
			at = *d.Subject
		}
		if i == maxSyntax {
			p.complain(at, fmt.Sprintf("syntax: there are %d further errors from here on", len(diags)-i),
				"is this the right file? the errors before may have caused these")
			return
		}
		p.complain(at, "syntax: "+lowerFirst(d.Summary), lowerFirst(ownWords(d.Detail)))
	}
}

// ownWords blanks the words that a message of the HCL parser quotes, but for those of the
// schema: in a broken file a word may be part of a secret.
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
	first := min(1, len(s))
	return strings.ToLower(s[:first]) + s[first:]
}

// Bounds on quoted lines: redacting a long line once for each of its errors would take too long.
const (
	maxShown  = 160 // runes of a line
	maxQuoted = 100 // problems that quote a line
)

// snippet returns the redacted line at a place, and the marker to print under it.
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

// line returns the line of a place and the byte offset of the place in it.
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

// padding returns white space as wide as text, with the tabs of text.
func padding(text string) string {
	return strings.Map(func(r rune) rune {
		if r == '\t' {
			return r
		}
		return ' '
	}, text)
}

// plain replaces characters that could move the cursor of a terminal.
func plain(text string) string {
	return strings.Map(func(r rune) rune {
		if r != '\t' && (r < 0x20 || r >= 0x7f && r <= 0x9f || r == 0x2028 || r == 0x2029) {
			return '?'
		}
		return r
	}, text)
}

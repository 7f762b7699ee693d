package xcauth

import (
	"strings"
	"testing"
)

// FuzzReadDump: no input panics, and what is written with either form of escapes reads back.
func FuzzReadDump(f *testing.F) {
	f.Add("VERSION=3\nformat=print\ntype=hash\nHEADER=END\n a\\5cb\n \\\\\nDATA=END\n")
	f.Add("VERSION=3\nformat=bytevalue\nHEADER=END\n 6162\n 00ff\nDATA=END\n")
	f.Add("VERSION=3\nHEADER=END\n")
	f.Add("")
	f.Fuzz(func(t *testing.T, text string) {
		var d Data
		_ = ReadDump(strings.NewReader(text), d.AddRecord)
		var b strings.Builder
		for i := range len(text) {
			const hex = "0123456789abcdef"
			b.WriteString(`\` + string(hex[text[i]>>4]) + string(hex[text[i]&15]))
		}
		if got, err := decodePrintable(b.String()); err != nil || got != text {
			t.Errorf("%q became %q, %v", text, got, err)
		}
	})
}

// FuzzConfigFile: no file panics, a key is never empty, and no fault shows a value.
func FuzzConfigFile(f *testing.F) {
	for _, line := range []string{"secret=cAnArY", "url: x # y", "debug", "a = [b, \"c\"]", "--x 'y'", "[s]\n;c\n---\n"} {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, text string) {
		entries, err := parseConfig(text)
		if err != nil {
			return
		}
		for _, e := range entries {
			if e.key == "" || strings.ContainsAny(e.key, ":=;#\n") || len(e.values) == 0 && !e.list {
				t.Errorf("%q: %+v", text, e)
			}
		}
		_, _ = Parse(Defaults(), nil, func(string) ([]byte, error) { return []byte(text), nil }, "x")
	})
}

// FuzzArguments: no command line panics; what is accepted has its values.
func FuzzArguments(f *testing.F) {
	for _, line := range []string{"-u\nx\n-s\ny\n-tgeneric", "-A\na\nb\nc", "--cache-q=1h", "-dit=x", "--", "-\n-5"} {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, text string) {
		args := strings.Split(text, "\n")
		list, err := arguments(args)
		for _, s := range list {
			if err == nil && len(s.values) != s.option.args {
				t.Errorf("%q: %s has %q", args, s.option.long, s.values)
			}
		}
		_, _ = Parse(Defaults(), args, noFiles)
		_, _ = ParseEjabberdAuth(args)
		_ = GuessType(args)
	})
}

// FuzzTimes: no text is a moment that could prolong a lifetime beyond belief.
func FuzzTimes(f *testing.F) {
	f.Add("2026-03-01 12:30:05.678901")
	f.Add("1772368205")
	f.Fuzz(func(t *testing.T, text string) {
		if at, err := ParseTime(text); err == nil && !at.IsZero() && (at.Unix() < 0 || at.Unix() >= latestMoment) {
			t.Errorf("%q: %v", text, at)
		}
	})
}

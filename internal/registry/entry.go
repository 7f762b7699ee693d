package registry

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"postern/internal/auth"
)

// Bounds on what is imported, so that a mistyped path does not fill the memory.
const (
	maxLine     = 64 << 10 // bytes of a line
	maxRecords  = 1_000_000
	maxProblems = 20 // shown
)

// Entry is a record in a list outside of postern. All fields are text, and the secret is present on
// request only.
type Entry struct {
	Domain     string `json:"domain"`
	Secret     string `json:"secret,omitempty"`
	URL        string `json:"url,omitempty"`
	AuthDomain string `json:"auth_domain,omitempty"`
	Contact    string `json:"contact,omitempty"`
	First      string `json:"first,omitempty"`
	Latest     string `json:"latest,omitempty"`
	Kind       string `json:"backend"`
}

// Show returns the entry of a record, with or without its secret.
func Show(r Record, secrets bool) Entry {
	e := Entry{
		Domain: r.Domain, URL: r.URL, AuthDomain: r.AuthDomain, Contact: r.Contact, Kind: r.Kind,
		First: formatTime(r.First), Latest: formatTime(r.Latest),
	}
	if secrets {
		e.Secret = r.Secret.Reveal()
	}
	return e
}

// Record parses an entry. Its secret may be missing, as in a list exported without secrets; the
// stored one is then kept. Without a backend the entry is of jsxc, the only one that xcauth has.
func (e Entry) Record() (Record, error) {
	r := Record{
		Kind: e.Kind, URL: e.URL, Secret: auth.NewSecret(e.Secret), AuthDomain: e.AuthDomain, Contact: e.Contact,
	}
	if r.Kind == "" {
		r.Kind = KindJSXC
	}
	var err error
	if r.Domain, err = auth.FoldDomain(e.Domain); err != nil {
		return Record{}, fmt.Errorf("%w: %q is not a domain: write one as in \"example.org\"", ErrInvalid, clip(e.Domain))
	}
	for _, f := range []struct {
		text string
		to   *time.Time
	}{{e.First, &r.First}, {e.Latest, &r.Latest}} {
		var ok bool
		if *f.to, ok = parseTime(f.text); !ok {
			return Record{}, r.complain("a time cannot be read: write it as in 2026-01-31T12:00:00Z, or leave it out")
		}
	}
	return r, r.checkShape()
}

func formatTime(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

// parseTime parses a time as export or SQLite writes it, the latter in UTC. The empty text is the
// zero time.
func parseTime(text string) (t time.Time, ok bool) {
	if text == "" {
		return t, true
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02 15:04:05.999999999", "2006-01-02"} {
		if t, err := time.Parse(layout, text); err == nil && t.Year() > 0 && t.Year() < 10000 {
			return t.UTC().Truncate(time.Second), true
		}
	}
	return t, false
}

// collector gathers the records and the errors of an import.
type collector struct {
	where   string // "line" or "record"
	records []Record
	seen    map[string]int
	errs    []error
}

func newCollector(where string) *collector {
	return &collector{where: where, seen: make(map[string]int)}
}

func (c *collector) add(n int, e Entry) {
	r, err := e.Record()
	if err != nil {
		c.complain(n, err)
		return
	}
	if first, twice := c.seen[r.Domain]; twice {
		c.complain(n, fmt.Errorf("%w: %s is in %s %d already: keep one of them", ErrInvalid, r.Domain, c.where, first))
		return
	}
	if len(c.records) == maxRecords {
		c.complain(n, fmt.Errorf("%w: there are more than %d: import them in parts", ErrInvalid, maxRecords))
		return
	}
	c.seen[r.Domain] = n
	c.records = append(c.records, r)
}

func (c *collector) complain(n int, err error) {
	c.errs = append(c.errs, fmt.Errorf("%s %d: %w", c.where, n, err))
}

// full reports whether there are so many errors that the rest need not be read.
func (c *collector) full() bool { return len(c.errs) >= maxProblems }

// end returns all records or, if there are errors, only these.
func (c *collector) end() ([]Record, error) {
	if len(c.errs) > 0 {
		return nil, errors.Join(c.errs...)
	}
	return c.records, nil
}

// columns are the fields of an entry in the order in which they are written, with postern's and
// xcauth's names.
var columns = [...]struct {
	name, xcauth string
	field        func(*Entry) *string
}{
	{"domain", "xmppdomain", func(e *Entry) *string { return &e.Domain }},
	{"secret", "authsecret", func(e *Entry) *string { return &e.Secret }},
	{"url", "authurl", func(e *Entry) *string { return &e.URL }},
	{"auth_domain", "authdomain", func(e *Entry) *string { return &e.AuthDomain }},
	{"contact", "regcontact", func(e *Entry) *string { return &e.Contact }},
	{"first", "regfirst", func(e *Entry) *string { return &e.First }},
	{"latest", "reglatest", func(e *Entry) *string { return &e.Latest }},
	{"backend", "", func(e *Entry) *string { return &e.Kind }},
}

func columnNames() string {
	names := make([]string, len(columns))
	for i, c := range columns {
		names[i] = c.name
	}
	return strings.Join(names, ", ")
}

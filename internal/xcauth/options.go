// Package xcauth understands what xcauth, its predecessors and kongo2002's ejabberd-auth leave
// behind: their command lines and configuration files, SQLite tables and Berkeley DB dumps
// (PROTOCOLS 6). It is pure: files are read by the caller.
package xcauth

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"postern/internal/auth"
)

// Options are xcauth's settings, from its command line and configuration files.
type Options struct {
	URL    string
	Secret auth.Secret
	Type   string // as written: generic, prosody, ejabberd, saslauthd or postfix; empty: none

	DB                          string // the SQLite database
	DomainDB, CacheDB, RosterDB string // Berkeley DB files of versions before 2

	Log         string // the directory
	Debug       bool
	Interactive bool

	ConnectTimeout, ReadTimeout time.Duration
	Storage                     string // of the cache: none, memory or db
	QueryTTL                    time.Duration
	VerifyTTL                   time.Duration
	OutageTTL                   time.Duration
	BcryptCost                  int    // of hashes in the database
	Ejabberdctl                 string // empty: no shared rosters

	Test          auth.Operation // of -A, -I or -R, or OpUnknown
	User, Domain  string
	Password      auth.Secret
	Help, Version bool

	ConfigFile string   // as named on the command line; empty: none
	Warnings   []string // about what has no effect here
}

// UsageError is a fault of a command line or a configuration file.
type UsageError struct{ text string }

// Error implements error.
func (e *UsageError) Error() string { return e.text }

func usage(format string, args ...any) error { return &UsageError{fmt.Sprintf(format, args...)} }

// option is one of xcauth's options.
type option struct {
	long  string
	short byte
	args  int // values that it takes; 0: a flag
	set   func(o *Options, values []string) error
	exact bool // of a version before 2: only the whole name is meant
}

// text is an option that fills a field with its value.
func text(long string, short byte, field func(*Options) *string) option {
	return option{long: long, short: short, args: 1, set: func(o *Options, v []string) error {
		*field(o) = v[0]
		return nil
	}}
}

// flag is an option that takes no value.
func flag(long string, short byte, field func(*Options) *bool) option {
	return option{long: long, short: short, set: func(o *Options, _ []string) error {
		*field(o) = true
		return nil
	}}
}

// span is an option whose value is a timespan.
func span(long string, field func(*Options) *time.Duration) option {
	return option{long: long, args: 1, set: func(o *Options, v []string) (err error) {
		*field(o), err = ParseSpan(v[0])
		return err
	}}
}

// choice is an option whose value is one of some words.
func choice(long string, short byte, field func(*Options) *string, words ...string) option {
	return option{long: long, short: short, args: 1, set: func(o *Options, v []string) error {
		for _, w := range words {
			if v[0] == w {
				*field(o) = w
				return nil
			}
		}
		return usage("%q is not one of %s", v[0], strings.Join(words, ", "))
	}}
}

// test is a one-shot test.
func test(long string, short byte, op auth.Operation, args int) option {
	return option{long: long, short: short, args: args, set: func(o *Options, v []string) error {
		if o.Test == auth.OpNone || rank(op) < rank(o.Test) {
			o.Test, o.User, o.Domain, o.Password = op, v[0], v[1], auth.Secret{}
			if args == 3 {
				o.Password = auth.NewSecret(v[2])
			}
		}
		return nil
	}}
}

// rank is the order in which xcauth looks at its tests, of which it makes one.
func rank(op auth.Operation) int {
	switch op {
	case auth.OpIsUser:
		return 0
	case auth.OpRoster:
		return 1
	}
	return 2
}

// ignored is an option that makes no sense any more.
func ignored(long string, short byte, args int, why string) option {
	return option{long: long, short: short, args: args, set: func(o *Options, _ []string) error {
		o.warn("--%s has no effect: %s", long, why)
		return nil
	}}
}

func (o *Options) warn(format string, args ...any) {
	o.Warnings = append(o.Warnings, fmt.Sprintf(format, args...))
}

// options is everything that a command line may say.
var options = []option{
	flag("help", 'h', func(o *Options) *bool { return &o.Help }),
	flag("version", 0, func(o *Options) *bool { return &o.Version }),
	text("config-file", 'c', func(o *Options) *string { return &o.ConfigFile }),
	text("url", 'u', func(o *Options) *string { return &o.URL }),
	{long: "secret", short: 's', args: 1, set: setSecret},
	choice("type", 't', func(o *Options) *string { return &o.Type },
		"generic", "prosody", "ejabberd", "saslauthd", "postfix"),
	text("db", 0, func(o *Options) *string { return &o.DB }),
	text("domain-db", 'b', func(o *Options) *string { return &o.DomainDB }),
	text("cache-db", 0, func(o *Options) *string { return &o.CacheDB }),
	text("shared-roster-db", 0, func(o *Options) *string { return &o.RosterDB }),
	text("log", 'l', func(o *Options) *string { return &o.Log }),
	flag("debug", 'd', func(o *Options) *bool { return &o.Debug }),
	flag("interactive", 'i', func(o *Options) *bool { return &o.Interactive }),
	{long: "timeout", args: 1, set: setTimeout},
	choice("cache-storage", 0, func(o *Options) *string { return &o.Storage }, "none", "memory", "db"),
	span("cache-query-ttl", func(o *Options) *time.Duration { return &o.QueryTTL }),
	span("cache-verification-ttl", func(o *Options) *time.Duration { return &o.VerifyTTL }),
	span("cache-unreachable-ttl", func(o *Options) *time.Duration { return &o.OutageTTL }),
	{long: "cache-bcrypt-rounds", args: 1, set: setRounds},
	text("ejabberdctl", 0, func(o *Options) *string { return &o.Ejabberdctl }),
	test("auth-test", 'A', auth.OpAuth, 3),
	test("isuser-test", 'I', auth.OpIsUser, 2),
	test("roster-test", 'R', auth.OpRoster, 2),
	ignored("update-roster", 'T', 0, "rosters are kept after logins"),
	older(ignored("per-domain-config", 0, 1, "enter its domains into the database")),
	older(ignored("shared-roster-domain", 0, 1, "groups are made in the domain of who logs in")),
}

// older marks an option that version 2 does not have.
func older(o option) option {
	o.exact = true
	return o
}

func setSecret(o *Options, v []string) error {
	o.Secret = auth.NewSecret(v[0])
	return nil
}

// setTimeout reads "CONNECT,READ", or one number for both, in seconds.
func setTimeout(o *Options, v []string) error {
	connect, read, two := strings.Cut(strings.Trim(v[0], "()"), ",")
	if !two {
		read = connect
	}
	var err error
	if o.ConnectTimeout, err = seconds(connect); err == nil {
		o.ReadTimeout, err = seconds(read)
	}
	if err != nil {
		return usage("%q is not a number of seconds, or two with a comma between", v[0])
	}
	return nil
}

func seconds(text string) (time.Duration, error) {
	n, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
	if err != nil || !(n > 0) || n > 3600 {
		return 0, usage("%q is not a time-out", text)
	}
	return time.Duration(n * float64(time.Second)), nil
}

// setRounds reads "DATABASE,MEMORY", or one number for both.
func setRounds(o *Options, v []string) error {
	disk, memory, two := strings.Cut(strings.Trim(v[0], "()"), ",")
	cost, err := strconv.Atoi(strings.TrimSpace(disk))
	if err == nil && two {
		_, err = strconv.Atoi(strings.TrimSpace(memory))
	}
	if err != nil || cost < 4 || cost > 31 {
		return usage("%q is not a number of rounds from 4 to 31, or two with a comma between", v[0])
	}
	if o.BcryptCost = cost; cost > 16 {
		o.BcryptCost = 16
		o.warn("--cache-bcrypt-rounds is taken for 16: %d would take minutes for each login", cost)
	}
	return nil
}

// longestSpan is the longest lifetime that is kept: ten years.
const longestSpan = 3650 * 24 * time.Hour

// ParseSpan reads a timespan: a whole number with one of the units s, m, h, d and w, or none,
// which means seconds.
func ParseSpan(text string) (time.Duration, error) {
	number, unit := strings.TrimSpace(text), time.Second
	for _, u := range [...]struct {
		name string
		unit time.Duration
	}{{"s", time.Second}, {"m", time.Minute}, {"h", time.Hour}, {"d", 24 * time.Hour}, {"w", 7 * 24 * time.Hour}} {
		if rest, ok := strings.CutSuffix(number, u.name); ok {
			number, unit = rest, u.unit
			break
		}
	}
	n, err := strconv.ParseInt(strings.TrimSpace(number), 10, 64)
	if err != nil || n < 0 {
		return 0, usage("%q is not a timespan: write a whole number with s, m, h, d or w", text)
	}
	if n > int64(longestSpan/unit) {
		return longestSpan, nil
	}
	return time.Duration(n) * unit, nil
}

// Protocol is postern's name of a type of xcauth's.
func Protocol(kind string) string {
	switch kind {
	case "prosody":
		return "generic"
	case "postfix":
		return "tcp_table"
	}
	return kind
}

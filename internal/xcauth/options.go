// Package xcauth reads what xcauth, its versions before 2 and kongo2002's ejabberd-auth left on a
// machine, so that postern can take their place: started under their names with their command
// lines, or once by `postern import xcauth`.
//
// Options are xcauth's settings. [Parse] reads a command line and configuration files as Python's
// argparse and ConfigArgParse do, with their abbreviations, precedence and messages, because both
// are found in ejabberd's and systemd's configuration and must go on working. [Writer] turns the
// options and xcauth's domain table into a configuration of postern.
//
// [Data] collects the rows of xcauth's SQLite database ([Data.AddRow]) or of the Berkeley DB files
// of older versions ([ReadDump], [Data.AddRecord]): domains with a server of their own, cached
// password hashes with the times of their verification, and the shared rosters that ejabberd was
// given. Rows are validated one by one. One that cannot be used is reported in Skipped instead of
// ending the import: old databases hold years of mistyped names.
//
// Nothing here touches a file: callers read and write. Errors do not show misplaced values, which
// may be passwords.
package xcauth

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"postern/internal/auth"
)

// Options are xcauth's settings, from its command line and configuration files.
type Options struct {
	URL    string
	Secret auth.Secret
	Type   string // as written: generic, prosody, ejabberd, saslauthd or postfix; may be empty

	DB                          string // the SQLite database
	DomainDB, CacheDB, RosterDB string // Berkeley DB files of versions before 2
	DomainConfig                string // per-domain-config: the file of domains of other versions

	Log         string // the directory
	Debug       bool
	Interactive bool

	ConnectTimeout, ReadTimeout time.Duration
	Storage                     string // of the cache: none, memory or db
	QueryTTL                    time.Duration
	VerifyTTL                   time.Duration
	OutageTTL                   time.Duration
	BcryptCost                  int           // of hashes in the database
	Ejabberdctl                 string        // empty for no shared rosters
	RosterInterval              time.Duration // between two updates for one user; an option of postern's
	RosterForeign               []string      // other domains whose accounts rosters change; an option of postern's

	Test          auth.Operation // of -A, -I or -R, or OpUnknown
	User, Domain  string
	Password      auth.Secret
	Help, Version bool

	ConfigFile string   // as named on the command line; may be empty
	Warnings   []string // about settings without effect
}

// UsageError is an error in a command line or a configuration file.
type UsageError struct{ text string }

// Error implements error.
func (e *UsageError) Error() string { return e.text }

func usage(format string, args ...any) error { return &UsageError{fmt.Sprintf(format, args...)} }

func (o *Options) warn(format string, args ...any) {
	o.Warnings = append(o.Warnings, fmt.Sprintf(format, args...))
}

// flags returns all options of a command line, which set the fields of o. The usage of a flag is
// what Usage prints for its value. Hidden flags are those that version 2 of xcauth does not have.
func (o *Options) flags() *pflag.FlagSet {
	fs := pflag.NewFlagSet("xcauth", pflag.ContinueOnError)
	fs.SortFlags = false
	fs.BoolVarP(&o.Help, "help", "h", o.Help, "")
	fs.BoolVar(&o.Version, "version", o.Version, "")
	fs.StringVarP(&o.ConfigFile, "config-file", "c", o.ConfigFile, "FILE")
	fs.StringVarP(&o.URL, "url", "u", o.URL, "URL")
	fs.FuncP("secret", "s", "SECRET", func(v string) error { o.Secret = auth.NewSecret(v); return nil })
	fs.FuncP("type", "t", "generic|prosody|ejabberd|saslauthd|postfix", oneOf(&o.Type, "generic", "prosody", "ejabberd", "saslauthd", "postfix"))
	fs.StringVar(&o.DB, "db", o.DB, "DB")
	fs.StringVarP(&o.DomainDB, "domain-db", "b", o.DomainDB, "DB")
	fs.StringVar(&o.CacheDB, "cache-db", o.CacheDB, "DB")
	fs.StringVar(&o.RosterDB, "shared-roster-db", o.RosterDB, "DB")
	fs.StringVarP(&o.Log, "log", "l", o.Log, "LOG")
	fs.BoolVarP(&o.Debug, "debug", "d", o.Debug, "")
	fs.BoolVarP(&o.Interactive, "interactive", "i", o.Interactive, "")
	fs.Func("timeout", "CONNECT,READ", o.setTimeout)
	fs.Func("cache-storage", "none|memory|db", oneOf(&o.Storage, "none", "memory", "db"))
	fs.Func("cache-query-ttl", "TTL", timespan(&o.QueryTTL))
	fs.Func("cache-verification-ttl", "TTL", timespan(&o.VerifyTTL))
	fs.Func("cache-unreachable-ttl", "TTL", timespan(&o.OutageTTL))
	fs.Func("cache-bcrypt-rounds", "N", o.setRounds)
	fs.StringVar(&o.Ejabberdctl, "ejabberdctl", o.Ejabberdctl, "EJABBERDCTL")
	fs.Func("roster-min-interval", "TTL", timespan(&o.RosterInterval))
	fs.Func("roster-foreign", "DOMAIN,...", o.setForeign)
	fs.VarP(multiple{3, o.setTest(auth.OpAuth)}, "auth-test", "A", "USER DOMAIN PASSWORD")
	fs.VarP(multiple{2, o.setTest(auth.OpIsUser)}, "isuser-test", "I", "USER DOMAIN")
	fs.VarP(multiple{2, o.setTest(auth.OpRoster)}, "roster-test", "R", "USER DOMAIN")
	fs.BoolFuncP("update-roster", "T", "", o.ignored("update-roster", "rosters are kept after logins"))
	fs.Func("per-domain-config", "", func(v string) error {
		o.DomainConfig = v
		return o.ignored("per-domain-config", "enter its domains into the database")(v)
	})
	fs.Func("shared-roster-domain", "", o.ignored("shared-roster-domain", "groups are made in the domain of who logs in"))
	for _, own := range []string{"roster-min-interval", "roster-foreign"} {
		fs.Lookup(own).Hidden = true
	}
	fs.Lookup("per-domain-config").Hidden = true
	fs.Lookup("shared-roster-domain").Hidden = true
	return fs
}

// timespan returns the setter of an option that takes a timespan.
func timespan(field *time.Duration) func(string) error {
	return func(v string) (err error) {
		*field, err = parseTimespan(v)
		return err
	}
}

// oneOf returns the setter of an option that takes one of some words.
func oneOf(field *string, words ...string) func(string) error {
	return func(v string) error {
		if !slices.Contains(words, v) {
			return usage("%q is not one of %s", v, strings.Join(words, ", "))
		}
		*field = v
		return nil
	}
}

// setTest returns the setter of a one-shot test. Of several tests xcauth makes one: isuser before
// roster before auth.
func (o *Options) setTest(op auth.Operation) func([]string) error {
	rank := map[auth.Operation]int{auth.OpIsUser: 1, auth.OpRoster: 2, auth.OpAuth: 3, auth.OpNone: 4}
	return func(v []string) error {
		if rank[op] < rank[o.Test] {
			o.Test, o.User, o.Domain, o.Password = op, v[0], v[1], auth.Secret{}
			if op == auth.OpAuth {
				o.Password = auth.NewSecret(v[2])
			}
		}
		return nil
	}
}

// ignored returns the setter of an option that is obsolete.
func (o *Options) ignored(name, why string) func(string) error {
	return func(string) error {
		o.warn("--%s has no effect: %s", name, why)
		return nil
	}
}

// setForeign reads a list of domains, or * for all.
func (o *Options) setForeign(v string) error {
	o.RosterForeign = nil
	for name := range strings.SplitSeq(v, ",") {
		if name = strings.TrimSpace(name); name != "*" {
			folded, err := auth.FoldDomain(name)
			if err != nil {
				return usage("%q is not a list of domains separated by commas, or *", v)
			}
			name = folded
		}
		o.RosterForeign = append(o.RosterForeign, name)
	}
	return nil
}

// setTimeout reads "CONNECT,READ", or one number for both, in seconds.
func (o *Options) setTimeout(v string) error {
	connect, read, two := strings.Cut(strings.Trim(v, "()"), ",")
	if !two {
		read = connect
	}
	var err error
	if o.ConnectTimeout, err = seconds(connect); err == nil {
		o.ReadTimeout, err = seconds(read)
	}
	if err != nil {
		return usage("%q is not a number of seconds, or two separated by a comma", v)
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
func (o *Options) setRounds(v string) error {
	disk, memory, two := strings.Cut(strings.Trim(v, "()"), ",")
	cost, err := strconv.Atoi(strings.TrimSpace(disk))
	if err == nil && two {
		_, err = strconv.Atoi(strings.TrimSpace(memory))
	}
	if err != nil || cost < 4 || cost > 31 {
		return usage("%q is not a number of rounds from 4 to 31, or two separated by a comma", v)
	}
	if o.BcryptCost = cost; cost > 16 {
		o.BcryptCost = 16
		o.warn("--cache-bcrypt-rounds is taken for 16: %d would take minutes for each login", cost)
	}
	return nil
}

// maxTimespan is the longest lifetime: ten years.
const maxTimespan = 3650 * 24 * time.Hour

// units are the units of timespans in xcauth's options and in postern's configuration.
var units = [...]struct {
	name string
	unit time.Duration
}{{"w", 7 * 24 * time.Hour}, {"d", 24 * time.Hour}, {"h", time.Hour}, {"m", time.Minute}, {"s", time.Second}}

// parseTimespan reads a whole number with one of the units s, m, h, d and w, or none, which means
// seconds.
func parseTimespan(text string) (time.Duration, error) {
	number, unit := strings.TrimSpace(text), time.Second
	for _, u := range units {
		if rest, ok := strings.CutSuffix(number, u.name); ok {
			number, unit = rest, u.unit
			break
		}
	}
	n, err := strconv.ParseInt(strings.TrimSpace(number), 10, 64)
	if err != nil || n < 0 {
		return 0, usage("%q is not a timespan: write a whole number with s, m, h, d or w", text)
	}
	if n > int64(maxTimespan/unit) {
		return maxTimespan, nil
	}
	return time.Duration(n) * unit, nil
}

// Protocol returns postern's name for one of xcauth's protocol types.
func Protocol(kind string) string {
	switch kind {
	case "prosody":
		return "generic"
	case "postfix":
		return "tcp_table"
	}
	return kind
}

// DefaultConfigs returns the files that xcauth reads if they exist, besides the one named with -c.
// The later one has priority.
func DefaultConfigs() []string { return []string{"/etc/xcauth.conf", "/etc/external_cloud.conf"} }

// Defaults returns xcauth's defaults.
func Defaults() Options {
	return Options{
		DB: "/var/lib/xcauth/xcauth.sqlite3", Log: "/var/log/xcauth", Storage: "none",
		ConnectTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second,
		RosterInterval: time.Minute,
		QueryTTL:       time.Hour, VerifyTTL: 24 * time.Hour, OutageTTL: 7 * 24 * time.Hour, BcryptCost: 12,
	}
}

// Parse reads a command line without the program's name, and configuration files through read: the
// one named with -c, which must exist, and others, which need not. The command line has priority
// over -c, and that over the others. base are the defaults. Errors say what to write, and never
// show a value that may be secret.
func Parse(base Options, args []string, read func(file string) ([]byte, error), others ...string) (*Options, error) {
	o := &base
	fs := o.flags()
	given, err := arguments(fs, args)
	if err != nil {
		return nil, err
	}
	for _, s := range given {
		if s.flag.Name == "help" || s.flag.Name == "version" {
			return o, s.apply()
		}
		if s.flag.Name == "config-file" {
			o.ConfigFile = s.values[0]
		}
	}
	list, err := o.files(fs, read, others)
	if err != nil {
		return nil, err
	}
	last := map[*pflag.Flag]setting{}
	for _, s := range append(list, given...) {
		last[s.flag] = s
	}
	fs.VisitAll(func(f *pflag.Flag) {
		if s, ok := last[f]; ok && err == nil {
			err = s.apply()
		}
	})
	if err != nil {
		return nil, err
	}
	return o, nil
}

// files reads the configuration files in order of increasing priority.
func (o *Options) files(fs *pflag.FlagSet, read func(string) ([]byte, error), names []string) (list []setting, err error) {
	if o.ConfigFile != "" {
		names = append(names[:len(names):len(names)], o.ConfigFile)
	}
	for i, name := range names {
		data, err := read(name)
		if errors.Is(err, os.ErrNotExist) && (i < len(names)-1 || o.ConfigFile == "") {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("configuration file %s: %w", name, err)
		}
		entries, err := parseConfig(string(data))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		more, warnings, err := settings(fs, entries)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		for _, w := range warnings {
			o.warn("%s: %s", name, w)
		}
		list = append(list, more...)
	}
	return list, nil
}

// Complete reports required options that are missing.
func (o *Options) Complete() error {
	switch {
	case o.URL == "" && o.Secret.Empty():
		return usage("the following arguments are required: --url/-u, --secret/-s")
	case o.URL == "":
		return usage("the following arguments are required: --url/-u")
	case o.Secret.Empty():
		return usage("the following arguments are required: --secret/-s")
	case !plainSecret(o.Secret.Reveal()):
		return usage("argument --secret/-s: it is not a line of text")
	}
	return nil
}

package xcauth

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/pflag"
)

// DefaultConfigs returns the files that xcauth reads if they exist, besides the one named with -c.
// The later one has priority.
func DefaultConfigs() []string { return []string{"/etc/xcauth.conf", "/etc/external_cloud.conf"} }

// Defaults returns xcauth's defaults.
func Defaults() Options {
	return Options{
		DB: "/var/lib/xcauth/xcauth.sqlite3", Log: "/var/log/xcauth", Storage: "none",
		ConnectTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second,
		QueryTTL: time.Hour, VerifyTTL: 24 * time.Hour, OutageTTL: 7 * 24 * time.Hour, BcryptCost: 12,
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

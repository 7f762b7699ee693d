package xcauth

import (
	"errors"
	"fmt"
	"io/fs"
	"time"
)

// DefaultConfigs are the files that xcauth reads if they are there, besides the one that it is
// told. The later one counts for more.
func DefaultConfigs() []string { return []string{"/etc/xcauth.conf", "/etc/external_cloud.conf"} }

// Defaults are the options that nobody gave.
func Defaults() Options {
	return Options{
		DB: "/var/lib/xcauth/xcauth.sqlite3", Log: "/var/log/xcauth", Storage: "none",
		ConnectTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second,
		QueryTTL: time.Hour, VerifyTTL: 24 * time.Hour, OutageTTL: 7 * 24 * time.Hour, BcryptCost: 12,
	}
}

// Parse reads a command line without the program's name, and the configuration files that read
// gives: the one named with -c, which must be there, and others, which need not. What the
// command line says counts for more than a file. base are the options that nobody gives. An
// error tells a person what to write; it never shows a value that may be secret.
func Parse(base Options, args []string, read func(file string) ([]byte, error), others ...string) (*Options, error) {
	o := base
	given, err := arguments(args)
	if err != nil {
		return nil, err
	}
	for _, s := range given {
		if s.option.long == "help" || s.option.long == "version" {
			return &o, s.option.set(&o, nil)
		}
		if s.option.long == "config-file" {
			o.ConfigFile = s.values[0]
		}
	}
	list, err := o.files(read, others)
	if err != nil {
		return nil, err
	}
	byOption := map[*option]setting{}
	for _, s := range append(list, given...) {
		byOption[s.option] = s
	}
	for i := range options {
		s, ok := byOption[&options[i]]
		if !ok {
			continue
		}
		if err := s.option.set(&o, s.values); err != nil {
			return nil, usage("argument %s: %v", s.option.title(), err)
		}
	}
	return &o, nil
}

// files reads the configuration files, those first that count for less.
func (o *Options) files(read func(string) ([]byte, error), names []string) (list []setting, err error) {
	if o.ConfigFile != "" {
		names = append(names[:len(names):len(names)], o.ConfigFile)
	}
	for i, name := range names {
		data, err := read(name)
		if errors.Is(err, fs.ErrNotExist) && (i < len(names)-1 || o.ConfigFile == "") {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("configuration file %s: %w", name, err)
		}
		entries, err := parseConfig(string(data))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		more, warnings, err := settings(entries)
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

// Complete reports what is missing for the work that the options ask for.
func (o *Options) Complete() error {
	switch {
	case o.URL == "" && o.Secret.Empty():
		return usage("the following arguments are required: --url/-u, --secret/-s")
	case o.URL == "":
		return usage("the following arguments are required: --url/-u")
	case o.Secret.Empty():
		return usage("the following arguments are required: --secret/-s")
	case !plainSecret(o.Secret.Reveal()):
		return usage("argument --secret/-s: it is no line of text")
	}
	return nil
}

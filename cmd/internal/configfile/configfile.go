// Package configfile reads the configuration that the command line names: a file, or the built-in
// configuration of --embedded. A daemon that pipes start is given the same flags.
package configfile

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"postern/cmd/internal/datadir"
	"postern/internal/config"
)

// Flags name a configuration.
type Flags struct {
	File     string // --config
	Embedded bool   // --embedded: the built-in configuration
	DataDir  string // --data-dir of the built-in configuration; empty: the default
}

// demoDirs are where `make run` and `postern serve --embedded` have their data.
var demoDirs = [...]string{"run", defaultDemo}

// defaultDemo is the data directory of --embedded without --data-dir.
const defaultDemo = "postern-data"

// DataDirectory returns the data directory of the configuration that the flags name, as far as that can be read; ok is
// false if it is not known.
func (f Flags) DataDirectory() (dir string, ok bool) {
	if f.Embedded {
		return cmp.Or(f.DataDir, defaultDemo), true
	}
	return config.DataDir(f.File)
}

// RunningDemo returns the data directory of the built-in configuration's daemon that this user runs in the
// working directory; "" if there is none, or a configuration file at the default place.
func RunningDemo() string {
	if _, err := os.Stat(config.DefaultPath); !errors.Is(err, fs.ErrNotExist) {
		return ""
	}
	for _, dir := range demoDirs {
		// Not that of another user, who would get the password.
		if datadir.Closed(dir, os.Geteuid()) && datadir.Owned(dir) {
			return dir
		}
	}
	return ""
}

// Beside returns flags that name the configuration of a running demo, if there is one and these flags name
// none.
func (f Flags) Beside() Flags {
	if dir := RunningDemo(); dir != "" && f == (Flags{File: config.DefaultPath}) {
		return Flags{File: f.File, Embedded: true, DataDir: dir}
	}
	return f
}

// Load reads the configuration. Each warning is passed to warn, which may be nil.
func (f Flags) Load(warn func(config.Problem)) (*config.Config, error) {
	return f.load(config.Load, warn)
}

// Reload is Load for a daemon that runs on an older state of the configuration already.
func (f Flags) Reload(warn func(config.Problem)) (*config.Config, error) {
	return f.load(config.Reload, warn)
}

func (f Flags) load(read func(string) (*config.Config, config.Problems), warn func(config.Problem)) (*config.Config, error) {
	if !f.Embedded && f.DataDir != "" {
		return nil, errors.New("--data-dir goes with --embedded: set data_dir in the configuration file instead")
	}
	var cfg *config.Config
	var problems config.Problems
	if f.Embedded {
		dir := f.DataDir
		if dir == "" {
			dir = defaultDemo
		}
		cfg, problems = config.Default(dir)
	} else {
		if _, err := os.Stat(f.File); errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("there is no configuration %s: write one with `postern config new`, name another with --config FILE, or try the built-in one with --embedded", f.File)
		}
		cfg, problems = read(f.File)
	}
	if problems.Failed() && f.Embedded {
		return nil, fmt.Errorf("the built-in configuration does not work with --data-dir %q: choose another one: %w", f.DataDir, problems.Err())
	}
	if problems.Failed() {
		return nil, fmt.Errorf("the configuration is not valid; `postern config check %s` shows more: %w", f.File, problems.Err())
	}
	for _, p := range problems {
		if warn != nil {
			warn(p)
		}
	}
	return cfg, nil
}

// Absolute returns the same flags for a process with another working directory. dataDir is that
// of the configuration they name.
func (f Flags) Absolute(dataDir string) (Flags, error) {
	if f.Embedded {
		return Flags{Embedded: true, DataDir: dataDir}, nil
	}
	file, err := filepath.Abs(f.File)
	if err != nil {
		return f, fmt.Errorf("configuration: %w", err)
	}
	return Flags{File: file}, nil
}

// Shell is what a person adds to commands of postern so that they use the same configuration: "" if they do by
// themselves, or flags with a space before them.
func (f Flags) Shell() string {
	if f == (Flags{File: config.DefaultPath}) {
		return ""
	}
	var b strings.Builder
	for _, word := range f.Args() {
		b.WriteString(" " + config.QuoteShell(word))
	}
	return b.String()
}

// Args are the flags on a command line of postern.
func (f Flags) Args() []string {
	switch {
	case f.Embedded && f.DataDir != "":
		return []string{"--embedded", "--data-dir", f.DataDir}
	case f.Embedded:
		return []string{"--embedded"}
	}
	return []string{"--config", f.File}
}

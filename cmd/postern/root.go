package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"postern/internal/config"
)

// stdio is the process's surroundings, passed in so that tests can watch them.
type stdio struct{ in, out, err *os.File }

// app is what the commands share.
type app struct {
	stdio
	configFile string
	embedded   bool
	dataDir    string
	again      bool // the configuration is read by a daemon that runs on it
}

// newRoot builds the command line.
func newRoot(io stdio) *cobra.Command {
	a := &app{stdio: io}
	root := &cobra.Command{
		Use:   "postern",
		Short: "One authentication broker behind XMPP and mail servers",
		Long: `postern answers ejabberd, Prosody, Cyrus SASL clients and Postfix: is this password
right, does this user exist, who is in this roster? It answers from time-limited tokens,
from a cache, or from a backend: Nextcloud with JSXC, a web application's JSON API, or its
own users file.`,
		Example: `  postern serve --embedded --data-dir ./run
  postern config check /etc/postern/config.hcl
  postern test auth alice@example.org`,
		Args:          cobra.ArbitraryArgs,
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return cmd.Help()
			}
			return unknownCommand(cmd, args[0])
		},
	}
	root.SetIn(io.in)
	root.SetOut(io.out)
	root.SetErr(io.err)
	flags := root.PersistentFlags()
	flags.StringVar(&a.configFile, "config", config.DefaultPath, "configuration `FILE`")
	flags.BoolVar(&a.embedded, "embedded", false, "use the built-in configuration: every protocol on loopback, passwords from the users file")
	flags.StringVar(&a.dataDir, "data-dir", "", "data `DIRECTORY` of the built-in configuration (with --embedded)")
	root.AddCommand(
		newServe(a), newReload(a), newPipe(a), newTest(a), newDoctor(a), newUser(a), newDomain(a), newToken(a), newCache(a),
		newLimit(a), newRoster(a), newForget(a), newImport(a), newConfig(a), newVersion(a),
	)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return fmt.Errorf("%w: see `%s --help`", err, cmd.CommandPath())
	})
	explainArgs(root)
	return root
}

// explainArgs lets every complaint about arguments show how the command is used.
func explainArgs(cmd *cobra.Command) {
	if check := cmd.Args; check != nil {
		cmd.Args = func(cmd *cobra.Command, args []string) error {
			if err := check(cmd, args); err != nil {
				return fmt.Errorf("%w: write `%s`", err, cmd.UseLine())
			}
			return nil
		}
	}
	for _, sub := range cmd.Commands() {
		explainArgs(sub)
	}
}

// group makes cmd a command that does nothing without one of its own. A word that is none of
// them is an error: help and exit status 0 would tell a script that all went well.
func group(cmd *cobra.Command, commands ...*cobra.Command) *cobra.Command {
	cmd.AddCommand(commands...)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return fmt.Errorf("`%s` needs a command: see `%[1]s --help`", cmd.CommandPath())
		}
		return unknownCommand(cmd, args[0])
	}
	return cmd
}

func unknownCommand(cmd *cobra.Command, word string) error {
	cmd.SuggestionsMinimumDistance = 2
	if alike := cmd.SuggestionsFor(word); len(alike) > 0 {
		return fmt.Errorf("unknown command %q: did you mean `%s %s`?", word, cmd.CommandPath(), alike[0])
	}
	return fmt.Errorf("unknown command %q: see `%s --help`", word, cmd.CommandPath())
}

// load reads the configuration that the flags name. Warnings are for warn, which may be nil.
func (a *app) load(warn func(config.Problem)) (*config.Config, error) {
	if !a.embedded && a.dataDir != "" {
		return nil, errors.New("--data-dir goes with --embedded: set data_dir in the configuration file instead")
	}
	var cfg *config.Config
	var problems config.Problems
	if a.embedded {
		dir := a.dataDir
		if dir == "" {
			dir = "postern-data"
		}
		cfg, problems = config.Default(dir)
	} else {
		if _, err := os.Stat(a.configFile); errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("there is no configuration %s: name one with --config FILE, or try the built-in one with --embedded", a.configFile)
		}
		read := config.Load
		if a.again {
			read = config.Reload
		}
		cfg, problems = read(a.configFile)
	}
	if problems.Failed() && a.embedded {
		return nil, fmt.Errorf("the built-in configuration does not work with --data-dir %q: choose another one: %w", a.dataDir, problems.Err())
	}
	if problems.Failed() {
		return nil, fmt.Errorf("the configuration is not valid; `postern config check %s` shows more: %w", a.configFile, problems.Err())
	}
	for _, p := range problems {
		if warn != nil {
			warn(p)
		}
	}
	return cfg, nil
}

// storeDir is where the store lives.
func storeDir(cfg *config.Config) string { return filepath.Join(cfg.DataDir, "store") }

// controlSocket is the file in a data directory on which its owner takes commands.
const controlSocket = "control.sock"

// controlPath is the control socket of a running daemon: in its data directory or, if nobody is
// there, where one has taken it that cannot write there.
func controlPath(cfg *config.Config) string {
	own := filepath.Join(cfg.DataDir, controlSocket)
	if someoneAt(own) {
		return own
	}
	if service := filepath.Join(runtimeStandIn(runtimeDir, cfg), controlSocket); someoneAt(service) {
		return service
	}
	if !errors.Is(unix.Access(cfg.DataDir, unix.W_OK), unix.EROFS) {
		return own
	}
	dir, err := relayDir(cfg)
	if err != nil {
		return own
	}
	return filepath.Join(dir, controlSocket)
}

// someoneAt reports whether somebody may listen on a socket, whom perhaps we may not ask.
func someoneAt(path string) bool {
	c, err := net.DialTimeout("unix", path, dialPatience)
	if err == nil {
		_ = c.Close()
	}
	return err == nil || !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ECONNREFUSED) &&
		!errors.Is(err, unix.ENOTDIR) && !errors.Is(err, unix.EINVAL)
}

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"postern/cmd/internal/configfile"
	"postern/cmd/internal/datadir"
	"postern/cmd/internal/pipe"
	"postern/internal/auth"
	"postern/internal/config"
)

// app is what the commands share: the standard streams and the flags of all commands.
type app struct {
	pipe.Stdio
	configfile.Flags
}

// newRoot builds the command line.
func newRoot(std pipe.Stdio) *cobra.Command {
	a, version := &app{Stdio: std}, false
	root := &cobra.Command{
		Use:   "postern",
		Short: "One authentication broker behind XMPP and mail servers",
		Long: `postern answers ejabberd, Prosody, Postfix, Exim, Dovecot and Cyrus SASL clients: is this
password right, does this user exist, who is in this roster? It answers from time-limited
tokens, from a cache, or from a backend: Nextcloud with or without its JSXC app, an OpenID
Connect provider, a web application, or its own users file and app passwords.

` + "`postern help`" + ` lists the pages of the manual: recipes for each server, and what to do when
nobody can log in.`,
		Example: `  postern config new
  postern help prosody
  postern serve --embedded --data-dir ./run
  postern test auth alice@example.org`,
		Args:          cobra.ArbitraryArgs,
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case version:
				_, err := fmt.Fprintln(cmd.OutOrStdout(), versionLine())
				return err
			case len(args) == 0:
				return cmd.Help()
			}
			return unknownCommand(cmd, args[0])
		},
	}
	// Not by root.Version: its templates call methods by name, and then the linker keeps every exported method of every
	// type (see scripts/check.sh).
	root.Flags().BoolVarP(&version, "version", "v", false, "print the version")
	root.SetHelpFunc(func(cmd *cobra.Command, _ []string) { fmt.Fprint(cmd.OutOrStdout(), helpPage(cmd)) })
	root.SetIn(std.In)
	root.SetOut(std.Out)
	root.SetErr(std.Err)
	flags := root.PersistentFlags()
	flags.StringVar(&a.File, "config", config.DefaultPath, "configuration `FILE`")
	flags.BoolVar(&a.Embedded, "embedded", false, "use the built-in configuration, with passwords from the users file")
	flags.StringVar(&a.DataDir, "data-dir", "", "data `DIRECTORY` of the built-in configuration (with --embedded)")
	root.AddCommand(
		newServe(a), newReload(a), newPipe(a), newCheckpassword(a), newTest(a), newDoctor(a), newUser(a), newPassword(a), newDomain(a), newToken(a), newCache(a), newStore(a),
		newLimit(a), newRoster(a), newForget(a), newImport(a), newConfig(a), newVersion(a), newCompletion(a), newGenDocs(),
	)
	root.SetHelpCommand(newHelp(a))
	root.InitDefaultHelpCmd()
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return fmt.Errorf("%w: see `%s --help`", err, cmd.CommandPath())
	})
	a.addCures(root)
	a.addCompletions(root)
	return root
}

// addCures adds to errors about arguments how the command is used, and to those about permissions which user
// may do it.
func (a *app) addCures(cmd *cobra.Command) {
	if do := cmd.RunE; do != nil {
		cmd.RunE = func(cmd *cobra.Command, args []string) error { return a.permitted(do(cmd, args)) }
	}
	if check := cmd.Args; check != nil {
		cmd.Args = func(cmd *cobra.Command, args []string) error {
			if err := check(cmd, args); err != nil {
				return fmt.Errorf("%w: write `%s`", err, cmd.UseLine())
			}
			return nil
		}
	}
	for _, sub := range cmd.Commands() {
		a.addCures(sub)
	}
}

// permitted adds to an error for want of a permission which user has it.
func (a *app) permitted(err error) error { return permittedAs(os.Geteuid(), a.owner, err) }

func permittedAs(euid int, owner func() string, err error) error {
	if !errors.Is(err, fs.ErrPermission) || euid == 0 { // the configuration is not read for others: it may be a FIFO by now
		return err
	}
	if has := owner(); has != "" && has != "root" && has != datadir.UserName(euid) {
		return fmt.Errorf("%w: run it as root or as %[2]s (sudo -u %[2]s postern ...)", err, has)
	}
	return fmt.Errorf("%w: run it as root", err)
}

// owner returns the user that the configuration's data directory belongs to or, if it is not there, the user of
// the service; "" if there is neither.
func (a *app) owner() string {
	dir, known := a.Beside().DataDirectory()
	if !known { // the file cannot be read
		dir = config.DataDirOrDefault(a.File)
	}
	if uid, ok := datadir.Owner(dir); ok {
		return datadir.UserName(uid)
	}
	if datadir.ServiceUserExists() {
		return datadir.ServiceUserName
	}
	return ""
}

// group makes cmd a command that does nothing without a command of its own. Any other word is an
// error: printing help with exit status 0 would look like success to a script.
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

// command makes a command that needs the configuration; path is that of its parent. Each line of the
// examples goes on after it.
func (a *app) command(path, use, short, examples string, args cobra.PositionalArgs, do configFunc) *cobra.Command {
	lines := "  " + path + " " + strings.ReplaceAll(examples, "\n", "\n  "+path+" ")
	return &cobra.Command{Use: use, Short: short, Args: args, Example: lines, RunE: a.withConfig(do)}
}

// Load reads the configuration that the flags name or, if they name none and there is none, that of the demo
// which runs here.
func (a *app) Load(warn func(config.Problem)) (*config.Config, error) {
	return a.Beside().Load(warn)
}

// configFunc carries out a command with the configuration and the command's arguments.
type configFunc = func(context.Context, *config.Config, []string) error

// withConfig makes the function of a command that needs the configuration.
func (a *app) withConfig(do configFunc) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		cfg, err := a.Load(nil)
		if err != nil {
			return err
		}
		return do(cmd.Context(), cfg, args)
	}
}

// parseAddress reads USER@DOMAIN, split at the last '@'.
func parseAddress(text string) (auth.Identity, error) {
	i := strings.LastIndexByte(text, '@')
	if i < 0 {
		return auth.Identity{}, fmt.Errorf("%q has no domain: write USER@DOMAIN", text)
	}
	id, err := auth.NewIdentity(text[:i], text[i+1:])
	if err != nil {
		return id, fmt.Errorf("%q is not an address: write USER@DOMAIN: %w", text, err)
	}
	return id, nil
}

// parseScope reads USER@DOMAIN, or DOMAIN as an identity without a user.
func parseScope(text string) (id auth.Identity, err error) {
	if strings.Contains(text, "@") {
		return parseAddress(text)
	}
	if id.Domain, err = auth.FoldDomain(text); err != nil {
		return id, fmt.Errorf("%q is not a domain: write USER@DOMAIN or DOMAIN: %w", text, err)
	}
	return id, nil
}

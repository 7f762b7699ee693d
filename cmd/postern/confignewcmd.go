package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"postern/cmd/internal/configfile"
	"postern/cmd/internal/datadir"
	"postern/internal/auth"
	"postern/internal/config"
	"postern/internal/starter"
	"postern/internal/unit"
)

// newOptions are the flags of `postern config new`.
type newOptions struct {
	starter.Answers
	secretFile string
	force, dry bool
}

func newConfigNew(a *app) *cobra.Command {
	var o newOptions
	cmd := &cobra.Command{
		Use:   "new [FILE]",
		Short: "Write a first configuration from a few answers",
		Long: `Asks what the logins come from, which servers ask, and for which domains, as far as flags do
not say it. It writes a short configuration, which passes ` + "`postern config check`" + `, and files for
its secrets, which only root and the daemon can read, and prints the lines for the configurations
of the servers. Nothing that exists is overwritten without --force. The backend's secret is asked
for, or read from standard input or --secret-file; it is never on the command line.`,
		Example: `  postern config new
  postern config new --logins users --server prosody --server postfix --domain example.org
  postern config new --logins users --server exim --domain example.org`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			file := a.File
			if len(args) == 1 {
				file = args[0]
			}
			return a.configNew(file, o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.Logins, "logins", "", "what logins come from: nextcloud, users, jsxc, json or oidc")
	f.StringVar(&o.URL, "url", "", "`URL` of that, except for users; the issuer for oidc")
	f.StringVar(&o.AdminUser, "admin-user", "", "`NAME` of Nextcloud's service account")
	f.StringVar(&o.secretFile, "secret-file", "", "`FILE` with the API secret, or the password of the service account")
	f.StringSliceVar(&o.Servers, "server", nil, "`NAME` of a server that asks: "+strings.Join(starter.Servers(), ", ")+"; may be repeated")
	f.StringSliceVar(&o.Domains, "domain", nil, "`DOMAIN` of accounts; may be repeated")
	f.BoolVar(&o.Credentials, "credentials", false, "pass secrets to the service as credentials of systemd, by a drop-in")
	f.BoolVar(&o.force, "force", false, "overwrite files that exist")
	f.BoolVar(&o.dry, "dry-run", false, "print the configuration, and write nothing")
	return cmd
}

// configNew asks what is missing in o, and writes a configuration.
func (a *app) configNew(file string, o newOptions) (err error) {
	if o.File, err = filepath.Abs(file); err != nil {
		return err
	}
	if a.DataDir != "" {
		if o.DataDir, err = filepath.Abs(a.DataDir); err != nil {
			return err
		}
	}
	if err := a.askMissing(&o); err != nil {
		return err
	}
	if err := o.Check(); err != nil {
		return err
	}
	if err := mayWrite(&o); err != nil { // before the last question
		return err
	}
	conf := configfile.File{Path: o.File, Data: []byte(o.Config()), Readers: configfile.Everyone}
	files, credentials, err := a.starterFiles(&o)
	if err != nil {
		return err
	}
	_, problems := configfile.Parse(conf, files, credentials...)
	if err := problems.Write(a.Err); err != nil {
		return err
	}
	if problems.Failed() {
		return errors.New("the answers make no valid configuration: nothing is written")
	}
	if text := o.DropIn(); text != "" {
		files = append(files, configfile.File{Path: dropInPath(), Data: []byte(text), Readers: configfile.Everyone})
	}
	if o.dry {
		if _, err := a.Out.Write(conf.Data); err != nil {
			return err
		}
	}
	w := configfile.Writing{Out: a.Out, Force: o.force, Dry: o.dry, Cure: overwriteCure}
	if err := w.Write(append(files, conf)...); err != nil {
		return err
	}
	_, err = io.WriteString(a.Out, nextSteps(&o))
	return err
}

// starterFiles reads and makes the secrets that the answers need, and returns their files and credentials.
func (a *app) starterFiles(o *newOptions) (files []configfile.File, credentials []unit.Credential, err error) {
	for _, s := range []struct {
		name string
		get  func() (string, error)
	}{
		{o.SecretName(), func() (string, error) {
			secret, err := a.starterSecret(o)
			return secret.Reveal() + "\n", err
		}},
		{o.MadeName(), func() (string, error) { return madeSecret(o.SecretFile(o.MadeName())) }},
	} {
		if s.name == "" {
			continue
		}
		text, err := s.get()
		if err != nil {
			return nil, nil, err
		}
		f := configfile.File{Path: o.SecretFile(s.name), Data: []byte(text)}
		if o.Credentials { // systemd reads it
			f.Readers = configfile.None
			credentials = append(credentials, unit.Credential{Name: s.name, Source: f.Path})
		}
		files = append(files, f)
	}
	return files, credentials, nil
}

// madeSecret returns what a file has, so that servers which know it go on, or a new secret.
func madeSecret(file string) (string, error) {
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return strings.ToLower(rand.Text()) + "\n", nil
	}
	return string(text), err
}

// overwriteCure is what to do about a file that exists.
const overwriteCure = "add --force to overwrite it, or write elsewhere: postern config new FILE"

// dropInPath is the drop-in of the unit, where systemd looks first.
func dropInPath() string {
	return filepath.Join(unit.Dirs(os.LookupEnv)[0], unit.Name+".d", "config-new.conf")
}

// mayWrite returns an error if the configuration exists and differs.
func mayWrite(o *newOptions) error {
	if before, err := os.ReadFile(o.File); err == nil && !o.force && string(before) != o.Config() {
		return fmt.Errorf("%s exists with different content: %s", o.File, overwriteCure)
	}
	return nil
}

// starterSecret reads the secret from its file, or asks for it.
func (a *app) starterSecret(o *newOptions) (auth.Secret, error) {
	if o.secretFile == "" {
		return a.readSecret(starter.FindSource(o.Logins).Secret, false)
	}
	f, err := os.Open(o.secretFile)
	if err != nil {
		return auth.Secret{}, err
	}
	defer f.Close()
	return readLine(f)
}

// askMissing asks for what the flags do not say, if standard input is a terminal.
func (a *app) askMissing(o *newOptions) error {
	asks := term.IsTerminal(int(a.In.Fd()))
	byHand := o.URL == "" // the address is asked for, so its service account is, too
	for _, q := range []struct {
		flag string
		need func() bool
		ask  func() error
	}{
		{"logins", func() bool { return o.Logins == "" }, func() error { return a.askSource(o) }},
		{"url", func() bool { s := starter.FindSource(o.Logins); return s != nil && s.URL != "" && o.URL == "" }, func() error { return a.askAddress(o) }},
		{"server", func() bool { return len(o.Servers) == 0 }, func() error { return a.askServers(o) }},
		{"admin-user", func() bool { return asks && o.AdminUser == "" && (o.NeedsAdmin() || byHand) }, func() error { return a.askAdmin(o) }},
		{"domain", func() bool { return len(o.Domains) == 0 }, func() (err error) {
			o.Domains, err = a.askWords("Domains of the accounts, the first for logins without one", nil)
			return err
		}},
	} {
		if !q.need() {
			continue
		}
		if !asks {
			return fmt.Errorf("--%s is missing, and standard input is no terminal to ask on: see `postern config new --help`", q.flag)
		}
		if err := q.ask(); err != nil {
			return err
		}
	}
	return nil
}

func (a *app) askSource(o *newOptions) error {
	var kinds []string
	fmt.Fprintln(a.Err, "What do the logins come from?")
	for i, s := range starter.Sources {
		kinds = append(kinds, s.Kind)
		fmt.Fprintf(a.Err, "  %d  %-10s %s\n", i+1, s.Kind, s.About)
	}
	words, err := a.askWords("Number or name", kinds)
	if err == nil {
		o.Logins = words[0]
	}
	return err
}

// askAddress asks for the address of a backend.
func (a *app) askAddress(o *newOptions) error {
	words, err := a.askWords(starter.FindSource(o.Logins).URL, nil)
	if err == nil {
		o.URL = words[0]
	}
	return err
}

// askAdmin asks for the service account of a backend, if it may have one.
func (a *app) askAdmin(o *newOptions) (err error) {
	s := starter.FindSource(o.Logins)
	if s == nil || !s.Admin {
		return nil
	}
	if !o.NeedsAdmin() {
		o.AdminUser, err = a.askLine("Service account that looks up users (empty: none)")
		return err
	}
	for err == nil && o.AdminUser == "" {
		o.AdminUser, err = a.askLine("Service account that looks up users, which Postfix needs")
	}
	return err
}

func (a *app) askServers(o *newOptions) (err error) {
	fmt.Fprintln(a.Err, "Which servers ask postern?")
	for i, name := range starter.Servers() {
		fmt.Fprintf(a.Err, "  %d  %s\n", i+1, name)
	}
	o.Servers, err = a.askWords("Numbers or names, one or more", starter.Servers())
	return err
}

// askWords asks for words, separated by spaces or commas, until there is one at least and all are
// choices or their numbers, if there are choices.
func (a *app) askWords(question string, choices []string) ([]string, error) {
	for {
		line, err := a.askLine(question)
		if err != nil {
			return nil, err
		}
		words := strings.FieldsFunc(line, func(r rune) bool { return r == ' ' || r == ',' })
		bad := len(words) == 0
		for i, word := range words {
			if n, err := strconv.Atoi(word); err == nil && n > 0 && n <= len(choices) {
				words[i] = choices[n-1]
			}
			bad = bad || choices != nil && !slices.Contains(choices, words[i])
		}
		if !bad {
			return words, nil
		}
		if choices != nil {
			fmt.Fprintf(a.Err, "Choose from: %s\n", strings.Join(choices, ", "))
		}
	}
}

// askLine asks a question and returns the line that is typed, without spaces around it. It reads no
// further, since a password may come next.
func (a *app) askLine(question string) (string, error) {
	fmt.Fprint(a.Err, question+": ")
	var line []byte
	for one := make([]byte, 1); ; {
		n, err := a.In.Read(one)
		switch {
		case n == 1 && one[0] == '\n':
			return strings.TrimSpace(string(line)), nil
		case n == 1 && len(line) < 4096:
			line = append(line, one[0])
		case n == 1:
			return "", errors.New("the line is too long")
		case err != nil:
			return "", fmt.Errorf("nothing is written: %w", err)
		}
	}
}

// nextSteps says what goes where, and which commands come next.
func nextSteps(o *newOptions) string {
	var b strings.Builder
	for _, l := range o.Lines() {
		for _, p := range l.Places {
			fmt.Fprintf(&b, "\n%s: put this into %s\n\n", l.Server, p.Where)
			for line := range strings.Lines(p.Text) {
				b.WriteString("    " + line)
			}
		}
		if len(l.Commands) > 0 {
			b.WriteString("\n  and carry out\n\n    " + strings.Join(l.Commands, "\n    ") + "\n")
		}
		fmt.Fprintf(&b, "\n  The whole recipe: postern help %s\n", l.Topic)
	}
	b.WriteString("\nThen:\n\n")
	if o.DropIn() != "" {
		b.WriteString("    sudo systemctl daemon-reload\n")
	}
	for _, command := range firstCommands(o, datadir.ServiceUserExists()) {
		b.WriteString("    " + command + "\n")
	}
	return b.String()
}

// firstCommands are those that lead from the configuration to the first login. service is whether this machine has
// the user of the service; else one user does everything, root for the usual places.
func firstCommands(o *newOptions, service bool) []string {
	flags := configfile.Flags{File: o.File}.Shell()
	root, postern, start := "", "", "postern serve"+flags // where the service does not look
	if o.File == config.DefaultPath {
		root, postern, start = "sudo ", "sudo ", "sudo postern serve"
		if service {
			postern, start = "sudo -u "+datadir.ServiceUserName+" ", "sudo systemctl enable --now postern"
		}
		if service && o.force { // it may run already
			start += " && sudo systemctl reload-or-restart postern"
		}
	}
	commands := []string{root + "postern config check" + flags, start}
	if o.Logins == config.KindUsers {
		commands = append(commands, postern+"postern user add alice@"+o.Domains[0]+flags)
	}
	return append(commands, postern+"postern test auth alice@"+o.Domains[0]+flags)
}

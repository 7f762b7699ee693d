package main

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"postern/cmd/internal/admin"
	"postern/cmd/internal/control"
	"postern/cmd/internal/daemon"
	"postern/cmd/internal/datadir"
	"postern/internal/auth"
	"postern/internal/backend"
	"postern/internal/config"
	"postern/internal/doctor"
	"postern/internal/store"
	"postern/internal/version"
)

// infoTimeout is how long a daemon may take to describe itself.
const infoTimeout = 5 * time.Second

// doctorFailed is the exit status of a report with a failure, and of a command without a report.
const doctorFailed = 2

// doctorOptions are the flags of `postern doctor`.
type doctorOptions struct {
	as, ejabberd string
}

func newDoctor(a *app) *cobra.Command {
	var o doctorOptions
	out := &output{app: a}
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Check every step between a login and its answer, and print how to correct faults",
		Long: `Checks the configuration, the files, the daemon, the listeners and every backend, and prints
ok, a warning or a failure for each, with a remedy. Run it as the user that postern runs as. A
running daemon is only asked for its state; no password of a user is sent.

The exit status is 0 if all is well, 1 if there are warnings and 2 if there is a failure.`,
		Example: `  sudo -u postern postern doctor
  postern doctor --as alice@example.org --json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return out.doctor(cmd.Context(), o) },
	}
	cmd.Flags().StringVar(&o.as, "as", "", "an existing `USER` or USER@DOMAIN, for the checks that need one")
	cmd.Flags().StringVar(&o.ejabberd, "ejabberd", "", "ejabberd's configuration `FILE` (default /etc/ejabberd/ejabberd.yml, /opt/ejabberd/conf/ejabberd.yml)")
	return out.with(cmd, doctor.Report{})
}

func (out *output) doctor(ctx context.Context, o doctorOptions) error {
	a := out.app
	known, err := parseKnown(o.as)
	if err != nil {
		return err
	}
	a.Flags = a.Beside()
	findings, err := a.findings(ctx, known, o.ejabberd)
	if err != nil {
		return err
	}
	report := doctor.NewReport(version.Version, time.Now(), findings)
	err = out.print(report, nil, func(w io.Writer) error { return report.Write(w, a.colours()) })
	if err == nil && report.Exit != 0 {
		err = exitStatus(report.Exit)
	}
	return err
}

// findings examines the installation.
func (a *app) findings(ctx context.Context, known doctor.KnownUser, ejabberd string) ([]doctor.Finding, error) {
	cfg, problems, file, err := a.examine()
	if err != nil {
		return nil, err
	}
	env := doctorEnv()
	s := doctor.Subject{Version: version.Version, File: file, Flags: a.Shell(), Config: cfg, Problems: problems, Known: known, Ejabberd: ejabberd, Service: doctorService()}
	if cfg == nil {
		s.DataDir = config.DataDirOrDefault(file)
	}
	if cfg != nil {
		s.StoreDir, s.Daemon = datadir.Store(cfg.DataDir), askInfo(ctx, cfg)
		s.Registered, s.RegisteredErr = registered(ctx, cfg, s.Daemon)
		s.Keyless, s.KeylessErr = keylessApps(ctx, cfg, s.Daemon)
	}
	return doctor.Run(ctx, env.Chains(s)), nil
}

// registered asks a daemon for the registered domains. Without one they are not read: doctor opens no
// store for writing.
func registered(ctx context.Context, cfg *config.Config, d *doctor.Daemon) (all []doctor.Registered, err error) {
	if d.Info == nil || !cfg.NeedsStore() {
		return nil, nil
	}
	list, err := admin.ListDomains(ctx, cfg, true)
	if err != nil {
		return nil, err
	}
	for _, e := range list.Records {
		r, err := e.Record()
		if err != nil {
			continue // a record that cannot be read; the daemon has logged it
		}
		var one doctor.Registered
		one.Backend, one.Domain = cfg.Registered(r.Domain, r.Kind, r.URL, r.Secret, r.AuthDomain)
		all = append(all, one)
	}
	return all, nil
}

// keylessApps asks a daemon for the app passwords without SCRAM keys, where a domain is to have SCRAM.
func keylessApps(ctx context.Context, cfg *config.Config, d *doctor.Daemon) (map[string]int, error) {
	if d.Info == nil || !slices.ContainsFunc(cfg.Domains, func(d config.Domain) bool { return d.ScramSeed != "" && d.AppPasswords != nil }) {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, infoTimeout)
	defer cancel()
	var reply control.ScramReply
	err := control.Call(ctx, datadir.Control(cfg.DataDir), "/v1/scram", control.Request{}, &reply)
	return reply.Keyless, err
}

// doctorEnv is the real machine, as opposed to those of tests.
func doctorEnv() *doctor.Env {
	env := doctor.OSEnv()
	env.OpenDisk = store.CheckPebble
	env.LookAtStore = func(c *config.Store) (doctor.SharedStore, error) {
		h, err := daemon.LookAtShared(c)
		return doctor.SharedStore(h), err
	}
	env.Connect = func(b config.Backend, shape func(*backend.HTTPOptions)) (backend.Backend, error) {
		options := daemon.HTTPOptions(b)
		shape(&options)
		return daemon.NewBackend(b, options, func(_ context.Context, _ auth.Identity, run func()) error { run(); return nil })
	}
	return env
}

// parseKnown reads USER or USER@DOMAIN.
func parseKnown(as string) (doctor.KnownUser, error) {
	if as == "" || !strings.Contains(as, "@") {
		return doctor.KnownUser{User: as}, nil
	}
	id, err := parseAddress(as)
	return doctor.KnownUser{User: id.User, Domain: id.Domain}, err
}

// examine reads the configuration that the flags name; cfg is nil if it has errors.
func (a *app) examine() (cfg *config.Config, problems config.Problems, file string, err error) {
	if a.Embedded || a.DataDir != "" {
		cfg, err = a.Load(nil)
		return cfg, nil, "", err
	}
	if file, err = filepath.Abs(a.File); err != nil {
		return nil, nil, "", err
	}
	cfg, problems = config.Load(file)
	return cfg, problems, file, nil
}

// askInfo asks the owner of the data directory for its state.
func askInfo(ctx context.Context, cfg *config.Config) *doctor.Daemon {
	ctx, cancel := context.WithTimeout(ctx, infoTimeout)
	defer cancel()
	info := new(doctor.Info)
	switch err := control.Call(ctx, datadir.Control(cfg.DataDir), "/v1/info", control.Request{}, info); {
	case errors.Is(err, control.ErrNoDaemon):
		return &doctor.Daemon{}
	case errors.Is(err, control.ErrUnknownCall):
		return &doctor.Daemon{Err: doctor.ErrOldDaemon}
	case err != nil:
		return &doctor.Daemon{Err: err}
	}
	return &doctor.Daemon{Info: info}
}

// colours reports whether output goes to a terminal that shows colours.
func (a *app) colours() bool {
	_, none := os.LookupEnv("NO_COLOR")
	return !none && os.Getenv("TERM") != "dumb" && term.IsTerminal(int(a.Out.Fd()))
}

// failedExit returns the exit status of a command that failed.
func failedExit(cmd *cobra.Command) int {
	switch {
	case isQuestion(cmd):
		return auth.Unavailable.ExitCode() // 1 would be the answer "no"
	case cmd.Name() == "doctor":
		return doctorFailed // 1 would be "only warnings"
	}
	return 1
}

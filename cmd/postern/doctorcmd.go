package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"postern/internal/auth"
	"postern/internal/backend"
	"postern/internal/config"
	"postern/internal/doctor"
	"postern/internal/store"
)

// doctorPatience is how long a daemon may take to tell about itself.
const doctorPatience = 5 * time.Second

// doctorFailed is the exit status of a report with a failure, and of no report at all.
const doctorFailed = 2

// doctorOptions are the flags of `postern doctor`.
type doctorOptions struct {
	as, ejabberd string
	json         bool
}

func newDoctor(a *app) *cobra.Command {
	var o doctorOptions
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Look at every step between a login and its answer, and say what to mend",
		Long: `Looks at the configuration, the files, the daemon, the listeners and every backend, and
prints ok, a warning or a failure for each, with the cure. Run it as the user that postern
runs as. A running daemon is only asked what it runs; no password of a user is sent.

The exit status is 0 if all is well, 1 if there are warnings and 2 if there is a failure.`,
		Example: `  sudo -u postern postern doctor
  postern doctor --as alice@example.org --json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.doctor(cmd.Context(), o) },
	}
	cmd.Flags().StringVar(&o.as, "as", "", "a `USER` or USER@DOMAIN who exists, to prove what needs one")
	cmd.Flags().StringVar(&o.ejabberd, "ejabberd", "", "ejabberd's configuration `FILE` (default /etc/ejabberd/ejabberd.yml, /opt/ejabberd/conf/ejabberd.yml)")
	cmd.Flags().BoolVar(&o.json, "json", false, "print the report as JSON")
	return cmd
}

func (a *app) doctor(ctx context.Context, o doctorOptions) error {
	known, err := parseKnown(o.as)
	if err != nil {
		return err
	}
	cfg, problems, file, err := a.examine()
	if err != nil {
		return err
	}
	env := doctorEnv()
	s := doctor.Subject{Version: version, File: file, Config: cfg, Problems: problems, Known: known, Ejabberd: o.ejabberd}
	if cfg != nil {
		s.StoreDir, s.Daemon = storeDir(cfg), askInfo(ctx, cfg)
	}
	report := doctor.NewReport(version, time.Now(), doctor.Run(ctx, env.Chains(s)))
	if o.json {
		err = a.print(report)
	} else {
		err = report.Write(a.out, a.colours())
	}
	if err == nil && report.Exit != 0 {
		err = &exitError{code: report.Exit}
	}
	return err
}

// doctorEnv is this machine.
func doctorEnv() *doctor.Env {
	env := doctor.OSEnv()
	env.OpenDisk = store.CheckPebble
	env.Connect = func(b config.Backend, shape func(*backend.HTTPOptions)) (backend.Backend, error) {
		options := httpOptions(b)
		shape(&options)
		return makeBackend(b, options, func(_ context.Context, run func()) error { run(); return nil })
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

// examine reads the configuration that the flags name; cfg is nil if that cannot be used.
func (a *app) examine() (cfg *config.Config, problems config.Problems, file string, err error) {
	if a.embedded {
		cfg, err = a.load(nil)
		return cfg, nil, "", err
	}
	if a.dataDir != "" {
		_, err = a.load(nil)
		return nil, nil, "", err
	}
	if file, err = filepath.Abs(a.configFile); err != nil {
		return nil, nil, "", err
	}
	cfg, problems = config.Load(file)
	return cfg, problems, file, nil
}

// askInfo asks whoever owns the data directory what it is.
func askInfo(ctx context.Context, cfg *config.Config) *doctor.Daemon {
	ctx, cancel := context.WithTimeout(ctx, doctorPatience)
	defer cancel()
	info := new(doctor.Info)
	switch err := callControl(ctx, controlPath(cfg), "/v1/info", controlRequest{}, info); {
	case errors.Is(err, errNoDaemon):
		return &doctor.Daemon{}
	case errors.Is(err, errUnknownCall):
		return &doctor.Daemon{Err: doctor.ErrOldDaemon}
	case err != nil:
		return &doctor.Daemon{Err: err}
	}
	return &doctor.Daemon{Info: info}
}

// colours reports whether output is for a terminal that shall have them.
func (a *app) colours() bool {
	_, none := os.LookupEnv("NO_COLOR")
	return !none && os.Getenv("TERM") != "dumb" && term.IsTerminal(int(a.out.Fd()))
}

// failedExit is the exit status of a command that could not do its work.
func failedExit(cmd *cobra.Command) int {
	switch {
	case isQuestion(cmd):
		return auth.Unavailable.ExitCode() // 1 would be the answer "no"
	case cmd.Name() == "doctor":
		return doctorFailed // 1 would be "only warnings"
	}
	return 1
}

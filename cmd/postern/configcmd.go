package main

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"postern/internal/config"
	"postern/internal/doctor"
	"postern/internal/unit"
)

func newConfig(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use: "config", Short: "Write or check a configuration",
		Example: "  postern config new\n  postern config check /etc/postern/config.hcl",
	}
	return group(cmd, newConfigNew(a), newConfigCheck(a))
}

func newConfigCheck(a *app) *cobra.Command {
	out := &output{app: a}
	return out.with(&cobra.Command{
		Use:   "check [FILE]",
		Short: "Report what is wrong in a configuration file, where, and how to correct it",
		Long: `Reads a configuration as the daemon would and prints every error and warning with its
line and a remedy. As root it also checks that the user of the installed service can read what
the configuration names. Without FILE and --config it is the file that the installed service
reads, which a drop-in may have changed. The exit status is 1 if there is an error.`,
		Example: "  postern config check\n  postern config check /etc/postern/config.hcl",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			service := doctorService()
			file := serviceConfig(service)
			if cmd.Flags().Changed("config") {
				file = a.File
			}
			if len(args) == 1 {
				file = args[0]
			}
			cfg, problems := config.Load(file)
			if cfg != nil {
				problems = append(problems, machineProblems(service, file, cfg)...)
			}
			return out.checked(file, cfg, problems)
		},
	}, checkedConfig{})
}

// checkedConfig is what a configuration file has.
type checkedConfig struct {
	File      string          `json:"file"`
	OK        bool            `json:"ok"` // no problem is an error
	Listeners int             `json:"listeners"`
	Backends  int             `json:"backends"`
	Domains   int             `json:"domains"`
	Problems  []configProblem `json:"problems"`
	Notes     []string        `json:"notes"`
}

// configProblem is an error or a warning. A line of 0 is the file as a whole.
type configProblem struct {
	Severity string `json:"severity"`
	File     string `json:"file"`
	Line     int    `json:"line"`
	Column   int    `json:"column"`
	Message  string `json:"message"`
	Cure     string `json:"cure"`
}

// checked prints what is wrong in a file, and what it has.
func (o *output) checked(file string, cfg *config.Config, problems config.Problems) error {
	c := checkedConfig{File: file, OK: !problems.Failed(), Problems: []configProblem{}, Notes: []string{}}
	for _, p := range problems {
		c.Problems = append(c.Problems, configProblem{p.Severity.String(), p.File, p.Line, p.Column, p.Message, p.Cure})
	}
	if c.OK {
		c.Listeners, c.Backends, c.Domains = len(cfg.Listeners), len(cfg.Backends), len(cfg.Domains)
		c.Notes = append(c.Notes, cfg.Notes()...)
	}
	err := o.print(c, nil, func(w io.Writer) error {
		if err := problems.Write(w); err != nil || !c.OK {
			return err
		}
		for _, note := range c.Notes {
			if _, err := fmt.Fprintf(w, "%s: note: %s\n", file, note); err != nil {
				return err
			}
		}
		_, err := fmt.Fprintf(w, "%s: ok: %d listeners, %d backends, %d domains\n", file, c.Listeners, c.Backends, c.Domains)
		return err
	})
	if err == nil && !c.OK {
		err = exitStatus(1)
	}
	return err
}

// machineProblems returns what is wrong with a valid configuration on this machine.
func machineProblems(service doctor.Service, file string, cfg *config.Config) (problems config.Problems) {
	env := doctor.OSEnv()
	add := func(severity config.Severity, found []doctor.Outcome) {
		for _, o := range found {
			if o.Status != doctor.OK {
				problems = append(problems, config.Problem{Severity: severity, File: file, Message: o.Text, Cure: o.Cure})
			}
		}
	}
	if len(cfg.Listeners) == 0 {
		add(config.Warning, env.WayIn())
	}
	path, err := filepath.Abs(file)
	if err != nil || env.UID != 0 {
		return problems
	}
	severity := config.Warning
	if path == serviceConfig(service) { // the service would not start
		severity = config.Error
	}
	add(severity, env.ServiceUser(service, path, cfg))
	return problems
}

// serviceConfig is the configuration file of a service.
func serviceConfig(s doctor.Service) string {
	return cmp.Or(s.Unit.Option("--config"), config.DefaultPath)
}

// doctorService reads the unit of the daemon.
func doctorService() doctor.Service {
	u, err := unit.Load(os.DirFS("/"), unit.Dirs(os.LookupEnv), unit.Name)
	return doctor.Service{Unit: u, Err: err}
}

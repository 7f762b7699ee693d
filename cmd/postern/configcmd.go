package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"postern/internal/config"
)

func newConfig(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use: "config", Short: "Write or check a configuration",
		Example: "  postern config new\n  postern config check /etc/postern/config.hcl",
	}
	return group(cmd, newConfigNew(a), newConfigCheck(a))
}

func newConfigCheck(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "check [FILE]",
		Short: "Report what is wrong in a configuration file, where, and how to correct it",
		Long: `Reads a configuration as the daemon would and prints every error and warning with its
line and a remedy. The exit status is 1 if there is an error.`,
		Example: "  postern config check /etc/postern/config.hcl",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			file := a.File
			if len(args) == 1 {
				file = args[0]
			}
			cfg, problems := config.Load(file)
			if err := problems.Write(a.Out); err != nil {
				return err
			}
			if problems.Failed() {
				return exitStatus(1)
			}
			for _, note := range cfg.Notes() {
				if _, err := fmt.Fprintf(a.Out, "%s: note: %s\n", file, note); err != nil {
					return err
				}
			}
			_, err := fmt.Fprintf(a.Out, "%s: ok: %d listeners, %d backends, %d domains\n",
				file, len(cfg.Listeners), len(cfg.Backends), len(cfg.Domains))
			return err
		},
	}
}

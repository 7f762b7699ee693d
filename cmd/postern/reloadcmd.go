package main

import (
	"errors"
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"postern/internal/config"
)

func newReload(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "reload",
		Short: "Make the running daemon read its configuration again",
		Long: `Has the same effect as SIGHUP to the daemon, and waits for it. The log file is opened
anew. What did not change keeps
running, with its connections and its memory; what is not valid, or cannot be had, such as
an address in use, leaves the old configuration in force as a whole. The file itself and its
env() values are read by the daemon, from where it was started with.

The exit status is 0 when the new configuration is in force, and 1 otherwise.`,
		Example: `  postern reload
  postern reload --config /etc/postern/config.hcl`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir, err := a.runningDir()
			if err != nil {
				return err
			}
			var reply reloadReply
			err = callControl(cmd.Context(), controlPath(&config.Config{DataDir: dir}), "/v1/reload", controlRequest{}, &reply)
			if errors.Is(err, errNoDaemon) {
				return fmt.Errorf("%w on %s: start it with `postern serve`, or restart it if data_dir was changed", err, dir)
			}
			if err != nil {
				return err
			}
			return a.printReload(reply)
		},
	}
}

// runningDir is the data directory of the daemon that is meant, also if its configuration is
// not valid any more.
func (a *app) runningDir() (string, error) {
	if !a.embedded && a.dataDir == "" {
		if dir, ok := config.DataDir(a.configFile); ok {
			return dir, nil
		}
	}
	cfg, err := a.load(nil)
	if err != nil {
		return "", err
	}
	return filepath.Clean(cfg.DataDir), nil
}

func (a *app) printReload(reply reloadReply) error {
	for _, w := range reply.Warnings {
		if _, err := fmt.Fprintln(a.err, w); err != nil {
			return err
		}
	}
	for _, line := range append([]string{reply.Note}, reply.Changes...) {
		if _, err := fmt.Fprintln(a.out, line); err != nil {
			return err
		}
	}
	return nil
}

package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"postern/cmd/internal/control"
	"postern/cmd/internal/datadir"
	"postern/internal/config"
)

func newReload(a *app) *cobra.Command {
	out := &output{app: a}
	return out.with(&cobra.Command{
		Use:   "reload",
		Short: "Make the running daemon read its configuration again",
		Long: `Has the same effect as SIGHUP to the daemon, and waits for it. The log file is opened
again. What did not change keeps running, with its connections and its memory. If anything is
not valid or fails, such as an address that is in use, the old configuration stays in force as
a whole. The daemon reads the file and its env() values itself, with the environment that it
was started with.

The exit status is 0 when the new configuration is in force, and 1 otherwise.`,
		Example: `  postern reload
  postern reload --config /etc/postern/config.hcl`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := a.followMain(cmd); err != nil {
				return err
			}
			dir, err := a.runningDir()
			if err != nil {
				return err
			}
			var reply control.ReloadReply
			err = control.Call(cmd.Context(), datadir.Control(dir), "/v1/reload", control.Request{}, &reply)
			if errors.Is(err, control.ErrNoDaemon) {
				return fmt.Errorf("%w on %s: start it with `postern serve`, or restart it if data_dir was changed", err, dir)
			}
			if err != nil {
				return err
			}
			return out.reload(reply)
		},
	}, control.ReloadReply{})
}

// followMain takes over which configuration the main process of a service was started with, if this is an
// ExecReload= without flags: a drop-in that changes ExecStart= need not change that as well.
func (a *app) followMain(cmd *cobra.Command) error {
	pid, err := strconv.Atoi(os.Getenv("MAINPID"))
	if err != nil || cmd.Flags().Changed("config") || cmd.Flags().Changed("embedded") {
		return nil
	}
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		return nil // then it has the default
	}
	words := strings.Split(strings.TrimSuffix(string(line), "\x00"), "\x00")
	serve, rest, err := newRoot(a.Stdio).Find(words[1:])
	if err != nil || serve.Name() != "serve" || serve.ParseFlags(rest) != nil {
		return nil
	}
	work, _ := os.Readlink(fmt.Sprintf("/proc/%d/cwd", pid))
	serve.Flags().Visit(func(f *pflag.Flag) {
		value := f.Value.String()
		if (f.Name == "config" || f.Name == "data-dir") && !filepath.IsAbs(value) {
			value = filepath.Join(work, value)
		}
		if inherited := cmd.Flags().Lookup(f.Name); inherited != nil && err == nil {
			err = inherited.Value.Set(value)
		}
	})
	return err
}

// runningDir returns the data directory of the daemon, even if its configuration is not valid any
// more.
func (a *app) runningDir() (string, error) {
	if flags := a.Beside(); !flags.Embedded && flags.DataDir == "" {
		if dir, ok := config.DataDir(a.File); ok {
			return dir, nil
		}
	}
	cfg, err := a.Load(nil)
	if err != nil {
		return "", err
	}
	return filepath.Clean(cfg.DataDir), nil
}

func (o *output) reload(reply control.ReloadReply) error {
	for _, list := range []*[]string{&reply.Changes, &reply.Warnings} {
		*list = append([]string{}, *list...) // an empty list, not null
	}
	return o.print(reply, nil, func(w io.Writer) error {
		for _, warning := range reply.Warnings {
			if _, err := fmt.Fprintln(o.app.Err, warning); err != nil {
				return err
			}
		}
		for _, line := range append([]string{reply.Note}, reply.Changes...) {
			if _, err := fmt.Fprintln(w, line); err != nil {
				return err
			}
		}
		return nil
	})
}

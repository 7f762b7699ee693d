package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"

	"postern/actors"
	"postern/internal/config"
)

func newPipe(a *app) *cobra.Command {
	var protocol string
	cmd := &cobra.Command{
		Use:   "pipe --protocol NAME",
		Short: "Answer one peer on standard input and output",
		Long: `For servers that start the broker themselves, such as ejabberd's extauth_program. It ends
with status 0 when standard input ends, after the last answer. A broken configuration does
not end it: it is logged, and every question is answered "cannot tell".`,
		Example: `  postern pipe --protocol ejabberd --config /etc/postern/config.hcl`,
		Args:    cobra.NoArgs,
		RunE:    func(*cobra.Command, []string) error { return a.pipe(protocol) },
	}
	cmd.Flags().StringVar(&protocol, "protocol", "", "`NAME` of the protocol: ejabberd, generic, saslauthd or tcp_table")
	_ = cmd.MarkFlagRequired("protocol")
	return cmd
}

func (a *app) pipe(protocol string) error {
	front, err := pipeDefaults(protocol)
	if err != nil {
		return err
	}
	var warnings []config.Problem
	cfg, broken := a.load(func(p config.Problem) { warnings = append(warnings, p) })
	logConfig := config.Log{Level: "info", Format: "text"}
	if broken == nil {
		logConfig = cfg.Log
		for _, l := range cfg.Listeners {
			if l.Protocol == protocol {
				front = l // the limits of the first listener of this protocol
				break
			}
		}
	}
	front.Name = "pipe"
	log, sink := a.pipeLog(logConfig, cfg)
	defer sink.Close()
	for _, w := range warnings {
		log.Warn("configuration", "warning", w.String())
	}
	stop, err := a.answerPipe(front, cfg, broken, log)
	if stop != nil {
		stop()
	}
	return err
}

// answerPipe serves standard input. With a broken configuration, or a broker that does not
// start, it answers "cannot tell": a program that exits at once would end external
// authentication on all of ejabberd's virtual hosts (PROTOCOLS 3.1).
func (a *app) answerPipe(front config.Listener, cfg *config.Config, broken error, log *slog.Logger) (stop func(), err error) {
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGUSR1)
	signal.Ignore(syscall.SIGPIPE) // a peer that is gone is an error of its write, not our end
	var d *daemon
	if broken == nil {
		d, broken = startDaemon(cfg, log)
	}
	if broken != nil {
		log.Error("not usable; every question is answered \"cannot tell\" until postern is restarted with a valid configuration", "err", broken)
		d = &daemon{cfg: &config.Config{}, log: log}
		if d.broker, err = actors.Start(actors.Options{Config: d.cfg, Log: log, Broken: true}); err != nil {
			return nil, err
		}
	}
	ended := make(chan error, 1)
	go func() { ended <- d.broker.Pipe(front, a.in, a.out) }()
	for {
		select {
		case err = <-ended:
			return func() { d.stop(context.Background()) }, err
		case s := <-signals:
			if s == syscall.SIGUSR1 {
				logTree(log, d.broker.Tree())
				continue
			}
			log.Info("stopping", "signal", s.String())
			return func() { d.stop(context.Background()) }, nil
		}
	}
}

// pipeDefaults are the limits of a protocol when the configuration has no listener for it.
func pipeDefaults(protocol string) (config.Listener, error) {
	cfg, problems := config.Default(os.TempDir())
	if problems.Failed() {
		return config.Listener{}, problems.Err()
	}
	for _, l := range cfg.Listeners {
		if l.Protocol == protocol {
			l.DefaultDomain = ""
			return l, nil
		}
	}
	return config.Listener{}, fmt.Errorf("unknown protocol %q: use ejabberd, generic, saslauthd or tcp_table", protocol)
}

// pipeLog makes the log of a pipe. Standard error is the log only if it is not where the
// protocol goes: on a pseudo-terminal both are one line to the peer, and a log line there
// would be taken for an answer.
func (a *app) pipeLog(cfg config.Log, whole *config.Config) (*slog.Logger, *logSink) {
	out := io.Writer(a.err)
	if sameFile(a.out, a.err) {
		out = io.Discard
		if cfg.File == "" && whole != nil {
			cfg.File = filepath.Join(whole.DataDir, "pipe.log")
			_ = os.MkdirAll(whole.DataDir, 0o700)
		}
	}
	log, sink, err := newLogger(cfg, out)
	if err != nil {
		cfg.File = ""
		log, sink, _ = newLogger(cfg, out)
		log.Error("log file cannot be used", "err", err)
	}
	return log, sink
}

// sameFile reports whether two descriptors lead to the same place, or that cannot be told.
func sameFile(a, b *os.File) bool {
	x, errA := a.Stat()
	y, errB := b.Stat()
	return errors.Join(errA, errB) != nil || os.SameFile(x, y)
}

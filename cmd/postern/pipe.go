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
	"time"

	"github.com/spf13/cobra"

	"postern/actors"
	"postern/internal/config"
)

func newPipe(a *app) *cobra.Command {
	var protocol, socket string
	cmd := &cobra.Command{
		Use:   "pipe --protocol NAME",
		Short: "Answer one peer on standard input and output",
		Long: `For servers that start the broker themselves, such as ejabberd's extauth_program. Where a
daemon runs, it relays to it, and small: all its copies share the daemon's cache. When the
daemon is away for a moment, open questions wait for it. Where none runs, each copy is a
broker of its own.

It ends with status 0 when standard input ends, after the last answer. A broken
configuration does not end it: it is logged, and every question is answered "cannot tell".`,
		Example: `  postern pipe --protocol ejabberd --config /etc/postern/config.hcl
  postern pipe --protocol ejabberd --socket /var/lib/postern/relay.sock`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error { return a.pipe(protocol, socket) },
	}
	cmd.Flags().StringVar(&protocol, "protocol", "", "`NAME` of the protocol: ejabberd, generic, saslauthd or tcp_table")
	cmd.Flags().StringVar(&socket, "socket", "", "relay to the daemon at `PATH`, also while it is away, without reading a configuration")
	return cmd
}

func (a *app) pipe(protocol, socket string) error {
	front, err := pipeDefaults(protocol)
	if err != nil {
		return err
	}
	var warnings []config.Problem
	var cfg *config.Config
	var broken error
	if socket == "" {
		cfg, broken = a.load(func(p config.Problem) { warnings = append(warnings, p) })
	}
	logConfig := config.Log{Level: "info", Format: "text"}
	if cfg != nil {
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
	if socket != "" || cfg != nil && served(relayPath(cfg)) {
		if socket == "" {
			socket = relayPath(cfg)
		}
		a.relay(front, socket, sink.place(), log)
		return nil
	}
	stop, err := a.answerPipe(front, cfg, broken, log, sink)
	if stop != nil {
		stop()
	}
	return err
}

// answerPipe serves standard input. With a broken configuration, or a broker that does not
// start, it answers "cannot tell": a program that exits at once would end external
// authentication on all of ejabberd's virtual hosts (PROTOCOLS 3.1).
func (a *app) answerPipe(front config.Listener, cfg *config.Config, broken error, log *slog.Logger, sink *logSink) (stop func(), err error) {
	signals := make(chan os.Signal, 4)
	// SIGHUP, too, is taken: it comes when the peer closes a pseudo-terminal, and Prosody does
	// not start a program again that a signal has ended (PROTOCOLS 3.2).
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGUSR1)
	signal.Ignore(syscall.SIGPIPE) // a peer that is gone is an error of its write, not our end
	var d *daemon
	if broken == nil {
		d, broken = startDaemon(cfg, log)
	}
	if broken != nil {
		log.Error("not usable; every question is answered \"cannot tell\" until postern is restarted with a valid configuration", "err", broken)
		d = &daemon{cfg: &config.Config{DrainTimeout: time.Second}, log: log}
		if d.broker, err = actors.Start(actors.Options{Config: d.cfg, Log: log, Broken: true}); err != nil {
			return nil, err
		}
	}
	ended, stopping := make(chan error, 1), make(chan struct{})
	go func() { ended <- d.broker.Pipe(front, a.in, a.out) }()
	go func() {
		d.handle(signals, sink)
		close(stopping)
	}()
	select {
	case err = <-ended:
	case <-stopping:
	}
	return func() { d.stop(context.Background()) }, err
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
	return config.Listener{}, fmt.Errorf("--protocol %q is not one of ejabberd, generic, saslauthd and tcp_table: name the one that your server speaks", protocol)
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

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"postern/internal/config"
)

func newServe(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "serve",
		Short: "Run the broker on the listeners of the configuration",
		Long: `Runs in the foreground until SIGTERM or SIGINT, and then answers what is in flight before
it ends. SIGHUP reopens the log file; SIGUSR1 logs the tree of actors with their queues,
restarts and the requests in flight.`,
		Example: `  postern serve --config /etc/postern/config.hcl
  postern serve --embedded --data-dir ./run`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.serve(cmd.Context()) },
	}
}

func (a *app) serve(ctx context.Context) error {
	var warnings []config.Problem
	cfg, err := a.load(func(p config.Problem) { warnings = append(warnings, p) })
	if err != nil {
		return err
	}
	log, sink, err := newLogger(cfg.Log, a.err)
	if err != nil {
		return err
	}
	defer sink.Close()
	for _, w := range warnings {
		log.Warn("configuration", "warning", w.String())
	}
	// From here on a signal is not missed.
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGUSR1)
	defer signal.Stop(signals)
	signal.Ignore(syscall.SIGPIPE) // a peer that is gone is an error of its write, not our end

	control, err := openControl(cfg)
	if err != nil {
		return err
	}
	defer control.Close()
	d, err := startDaemon(cfg, log)
	if err != nil {
		return err
	}
	server := serveControl(d, control)
	if err = d.listenRelays(); err == nil {
		err = d.listen()
	}
	if err == nil {
		if a.embedded {
			err = a.banner(ctx, cfg)
		}
		log.Info("ready", "version", version, "listeners", len(cfg.Listeners), "domains", len(cfg.Domains), "data_dir", cfg.DataDir)
		sink.Flush()
	}
	if err == nil {
		d.handle(signals, sink)
	}
	server.close()
	d.stop(context.WithoutCancel(ctx))
	return err
}

// openControl takes the control socket, which is also the sign that a daemon owns the data
// directory.
func openControl(cfg *config.Config) (*unixListener, error) {
	if err := os.MkdirAll(cfg.DataDir, 0o700); err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	l, err := listenUnix(controlPath(cfg), 0o600, "", "")
	if errors.Is(err, syscall.EINVAL) {
		return nil, fmt.Errorf("control socket: the path %s is too long for a socket: choose a shorter data_dir", controlPath(cfg))
	}
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	return l, nil
}

// listen opens every listener, or none.
func (d *daemon) listen() error {
	for _, cfg := range d.cfg.Listeners {
		socket, err := openSocket(cfg)
		if err != nil {
			return err
		}
		if err := d.broker.Listen(cfg, socket); err != nil {
			return errors.Join(err, socket.Close())
		}
		d.log.Info("listening", "listener", cfg.Name, "protocol", cfg.Protocol, "address", shownAddress(cfg, socket))
	}
	return nil
}

// shownAddress is where a listener listens: with the port that was found for port 0, and the
// path that its socket file was given.
func shownAddress(cfg config.Listener, socket net.Listener) string {
	if cfg.Network == "unix" {
		return cfg.Address
	}
	return socket.Addr().String()
}

// handle acts on signals until one ends the process.
func (d *daemon) handle(signals <-chan os.Signal, sink *logSink) {
	for s := range signals {
		switch s {
		case syscall.SIGHUP:
			if err := sink.Reopen(); err != nil {
				d.log.Error("log file could not be reopened; the old one stays in use", "err", err)
			} else {
				d.log.Info("log file reopened")
			}
		case syscall.SIGUSR1:
			logTree(d.log, d.broker.Tree())
		default:
			d.log.Info("stopping", "signal", s.String())
			sink.Flush()
			return
		}
	}
}

func logTree(log *slog.Logger, lines []string) {
	for _, line := range lines {
		log.Info("tree", "actor", line)
	}
}

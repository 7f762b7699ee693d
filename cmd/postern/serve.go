package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"

	"postern/cmd/internal/systemd"
	"postern/internal/config"
)

func newServe(a *app) *cobra.Command {
	var o serveOptions
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the broker on the listeners of the configuration",
		Long: `Runs in the foreground until SIGTERM or SIGINT, and then answers what is in flight before
it ends. SIGHUP reopens the log file and reads the configuration again, as ` + "`postern reload`" + `
does: what did not change keeps running, and what is not valid leaves the old configuration
in force. SIGUSR1 logs the tree of actors with their queues, restarts and the requests in
flight.

Under systemd it tells when it is ready, reloads and stops, and keeps the watchdog content
as long as its actors work. It serves the sockets that systemd passes: those that a
listener names with address = "systemd:NAME", that stand at a listener's own address, or
whose FileDescriptorName is a listener's or a protocol's name.`,
		Example: `  postern serve --config /etc/postern/config.hcl
  postern serve --embedded --data-dir ./run`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.serve(cmd.Context(), o) },
	}
	// How `postern pipe` starts the broker of its copies; nobody else needs these.
	cmd.Flags().BoolVar(&o.forRelays, "for-relays", false, "")
	cmd.Flags().StringVar(&o.relayDir, "relay-dir", "", "")
	cmd.Flags().IntVar(&o.lockFD, "lock-fd", 0, "")
	for _, name := range []string{"for-relays", "relay-dir", "lock-fd"} {
		_ = cmd.Flags().MarkHidden(name)
	}
	return cmd
}

// serveOptions tell the owner that pipes start from the daemon.
type serveOptions struct {
	forRelays bool   // serve pipes only, and end after the last of them
	relayDir  string // where pipes meet, if it is not the data directory
	lockFD    int    // the lock of that directory, already held
}

func (a *app) serve(ctx context.Context, o serveOptions) error {
	var warnings []config.Problem
	cfg, err := a.load(func(p config.Problem) { warnings = append(warnings, p) })
	if err != nil {
		return err
	}
	if o.relayDir == "" {
		o.relayDir = cfg.DataDir
	}
	if cfg.Log.File != "" { // which may be in the data directory
		_ = os.MkdirAll(cfg.DataDir, 0o700)
	}
	log, sink, err := newLogger(cfg.Log, a.err)
	defer sink.Close()
	if err != nil && !o.forRelays {
		return err
	}
	if err != nil { // who logs in must not suffer
		log.Error("the log stands here instead", "err", err)
	}
	for _, w := range warnings {
		log.Warn("configuration", "warning", w.String())
	}
	// From here on a signal is not missed.
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGUSR1)
	defer signal.Stop(signals)
	hups := make(chan os.Signal, 1) // however many come during a reload, one more follows
	signal.Notify(hups, syscall.SIGHUP)
	defer close(hups)
	defer signal.Stop(hups)
	signal.Ignore(syscall.SIGPIPE) // a peer that is gone is an error of its write, not our end

	lock, err := takeOwnership(ctx, o.relayDir, o.lockFD)
	if errors.Is(err, syscall.EROFS) { // a disk with errors becomes so: who logs in must not suffer
		log.Error("data directory cannot be written: the sockets for pipes and commands stand elsewhere; "+readOnlyCure(cfg), "err", err)
		elsewhere := standInDir
		if o.forRelays { // pipes look for it there
			elsewhere = relayDir
		}
		if o.relayDir, err = elsewhere(cfg); err == nil {
			lock, err = takeOwnership(ctx, o.relayDir, o.lockFD)
		}
	}
	if err != nil {
		return err
	}
	defer lock.Close()
	control, err := openControl(o.relayDir)
	if err != nil {
		return err
	}
	defer control.Close()
	d := &daemon{log: log}
	if o.forRelays {
		ctx, d.yield = context.WithCancel(ctx)
		defer d.yield()
	} else {
		d.notify = systemd.NewNotifier(log)
		d.takeSockets()
	}
	return a.run(ctx, d, cfg, o, control, signals, hups, sink)
}

// readOnlyCure says what to do about a data directory on a read-only file system. In a service
// it may be read-only for this process alone.
func readOnlyCure(cfg *config.Config) string {
	if os.Getenv("INVOCATION_ID") == "" && os.Getenv("NOTIFY_SOCKET") == "" {
		return "check the disk"
	}
	return "check the disk, and whether the unit's sandbox lets postern write there (ReadWritePaths=" + cfg.DataDir + ")"
}

// run is the life of a daemon.
func (a *app) run(ctx context.Context, d *daemon, cfg *config.Config, o serveOptions, control net.Listener,
	signals, hups <-chan os.Signal, sink *logSink) error {
	// Sockets come before the store: who connects while it is opened waits, instead of finding
	// nobody, which would end Postfix's smtpd.
	cfg, list, err := d.served(cfg)
	if err != nil {
		return err
	}
	sockets, err := openAll(list)
	if err != nil {
		return err
	}
	metrics, err := openMetrics(cfg)
	if err != nil && o.forRelays { // nobody would see why no pipe is answered
		d.log.Error("metrics are not served", "err", err)
	} else if err != nil {
		closeAll(sockets)
		return err
	}
	if metrics != nil {
		defer metrics.Close()
	}
	starting, started := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT) // which handle sees, too
	err = d.start(starting, cfg)
	started()
	if err != nil {
		closeAll(sockets)
		return err
	}
	if d.reloads, err = a.newReloader(ctx, sink); err != nil {
		closeAll(sockets)
		d.stop(ctx)
		return err
	}
	server := serveControl(d, control)
	d.metrics = serveMetrics(d, metrics)
	if err = a.open(ctx, d, o, list, sockets); err == nil {
		sink.Flush()
		d.notify.Ready(d.status())
	}
	d.reloads.ready()
	if err == nil {
		watched, unwatch := context.WithCancel(ctx)
		go d.notify.Watch(watched, d.broker.Alive)
		go d.reloadOn(hups)
		d.handle(ctx, signals, sink)
		unwatch()
		d.notify.Stopping("answering what is in flight")
	}
	server.close()
	d.metrics.close()
	d.stop(context.WithoutCancel(ctx))
	return err
}

// open has the daemon serve what it is to serve, and says that it is ready.
func (a *app) open(ctx context.Context, d *daemon, o serveOptions, list []endpoint, sockets []net.Listener) error {
	for i, e := range list {
		if err := d.broker.Listen(e.Listener, sockets[i]); err != nil {
			closeAll(sockets[i:])
			return err
		}
		d.log.Info("listening", "listener", e.Name, "protocol", e.Protocol, "activated", e.passed != nil, "address", shownAddress(e.Listener, sockets[i]))
	}
	if err := d.listenRelays(o.relayDir); err != nil {
		return err
	}
	if o.forRelays {
		go func() {
			d.untilAlone(ctx)
			d.yield()
		}()
	} else if a.embedded {
		if err := a.banner(ctx, d.cfg); err != nil {
			return err
		}
	}
	d.log.Info("ready", "version", version, "listeners", len(d.cfg.Listeners), "domains", len(d.cfg.Domains), "data_dir", d.cfg.DataDir)
	return nil
}

// openControl takes the control socket, which is also the sign that a daemon owns the data
// directory.
func openControl(dir string) (*unixListener, error) {
	err := fitsSockets(dir)
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	l, err := listenPrivate(filepath.Join(dir, controlSocket))
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	return l, nil
}

// shownAddress is where a listener listens: with the port that was found for port 0, and the
// path that its socket file was given.
func shownAddress(cfg config.Listener, socket net.Listener) string {
	if cfg.Network == "unix" {
		return cfg.Address
	}
	return socket.Addr().String()
}

// handle acts on signals until one ends the process, or ctx ends.
func (d *daemon) handle(ctx context.Context, signals <-chan os.Signal, sink *logSink) {
	for {
		var s os.Signal
		select {
		case s = <-signals:
		case <-ctx.Done():
			d.log.Info("stopping", "reason", "no pipe is left, or a daemon takes over")
			sink.Flush()
			return
		}
		switch s {
		case syscall.SIGUSR1:
			logTree(d.log, d.broker.Tree())
		default:
			d.log.Info("stopping", "signal", s.String())
			sink.Flush()
			return
		}
	}
}

func (d *daemon) reopenLog(sink *logSink) {
	if d.cfg.Log.File == "" {
		return
	}
	if err := sink.Reopen(); err != nil {
		d.log.Error("log file could not be reopened; the old one stays in use", "err", err)
		return
	}
	d.log.Info("log file reopened")
}

func logTree(log *slog.Logger, lines []string) {
	for _, line := range lines {
		log.Info("tree", "actor", line)
	}
}

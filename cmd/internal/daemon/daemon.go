// Package daemon is the process that owns a data directory: it reads the configuration, opens
// listeners and store, runs a broker (package actors) on them, and serves the control socket, the
// socket of pipes and the metrics, until a signal ends it. See Run.
//
// The same process in a smaller form is the broker of pipes, which `postern pipe` starts where no
// daemon runs. It serves the relays of pipes only, ends after the last of them, and ends at once
// when a daemon wants to take its place.
package daemon

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"sync/atomic"
	"time"

	"postern/actors"
	"postern/cmd/internal/control"
	"postern/cmd/internal/datadir"
	"postern/cmd/internal/metrics"
	"postern/cmd/internal/pages"
	"postern/cmd/internal/systemd"
	"postern/internal/audit"
	"postern/internal/cache"
	"postern/internal/config"
	"postern/internal/doctor"
	"postern/internal/logfile"
	"postern/internal/recent"
	"postern/internal/store"
	"postern/internal/store/valkeystore"
)

// Daemon is a broker with its store and, if Run made it, all else that a daemon has.
type Daemon struct {
	log       *slog.Logger
	broker    *actors.Broker
	store     atomic.Pointer[store.Disk] // nil if it could not be opened, or no domain needs it
	storeFail atomic.Pointer[string]     // why the store could not be opened; nil if it could

	// The serials of the store, as a former process left it and as this one did; zero without a store that
	// can be written.
	former, serial store.Serial

	// What follows is not used by Start, and by Run from one goroutine or under reloads.mu.

	cfg     *config.Config // in force, with the listeners that are served
	sink    *logfile.Sink
	audit   *audit.Log // nil for a broker of a command
	started func()     // ends what holds for the start only
	reloads *reloads
	metrics *metrics.Server
	pages   map[string]*pages.Server               // of the web block, by its names
	web     config.Web                             // the pages that are served are those of it
	recent  *recent.Log                            // what the status page shows; off without it
	doctor  func(context.Context) []doctor.Finding // nil: it cannot be called
	yield   func()                                 // ends a broker of pipes; nil for a daemon
	notify  *systemd.Notifier                      // nil for a broker of pipes
	passed  []*systemd.Socket                      // by systemd
	kept    []*os.File                             // from a former process, until they are taken
	own     map[string]net.Listener                // that this process has opened, by the name of the listener
	keeps   map[string]net.Listener                // those that the service manager keeps, by the name there

	successors chan *net.UnixConn // a process that takes over
	successor  *net.UnixConn      // it, once this one ends for it; nil: there is none
	lockFile   *os.File           // the lock of the data directory
	unserved   atomic.Int64       // number of these that are not served
}

// Start starts a broker without listeners, for the questions of a command. The broker works without
// the store if another process uses it now.
func Start(cfg *config.Config) (*Daemon, error) {
	d := &Daemon{log: slog.New(slog.DiscardHandler)}
	// A daemon that starts now waits for the lock, until the files made here have their owner.
	if lock, err := datadir.TryLock(cfg.DataDir); err == nil {
		d.keep(d.openStore(cfg, cache.Open))
		_ = lock.Close()
	}
	if err := d.startBroker(cfg, nil); err != nil {
		return nil, err
	}
	return d, nil
}

// Broker returns the running broker.
func (d *Daemon) Broker() *actors.Broker { return d.broker }

// Audit returns the audit log.
func (d *Daemon) Audit() *audit.Log { return d.audit }

// Store returns the open store, or nil.
func (d *Daemon) Store() store.Disk {
	if p := d.store.Load(); p != nil {
		return *p
	}
	return nil
}

// keep takes a store into use, or nil.
func (d *Daemon) keep(s store.Disk) {
	if s != nil {
		d.store.Store(&s)
	}
}

// StoreFailed returns why there is no store, or why it has stopped working; "" if nothing is wrong.
func (d *Daemon) StoreFailed() string {
	if p := d.Store(); p != nil {
		return p.Failed()
	}
	if why := d.storeFail.Load(); why != nil {
		return *why
	}
	return ""
}

// Yield ends a broker of pipes, in favour of the daemon that asked for it. A daemon stays, and
// returns false.
func (d *Daemon) Yield() bool {
	if d.yield == nil {
		return false
	}
	d.yield()
	return true
}

// start opens the store and starts the broker. A store that cannot be opened is not fatal: the
// cache then lives in memory only. A store that a command is using is waited for, until ctx ends
// at most.
func (d *Daemon) start(ctx context.Context, cfg *config.Config) error {
	memory := d.takeMemory()
	if err := os.MkdirAll(cfg.DataDir, 0o700); err != nil {
		d.withoutStore("data directory cannot be made; nothing will be kept on disk", err)
	} else {
		d.keep(d.openStore(cfg, waitForStore(ctx)))
	}
	if d.Store() == nil {
		if err := store.MarkIncomplete(datadir.Store(cfg.DataDir)); err != nil {
			d.log.Error("store", "err", err)
		}
	}
	return d.startBroker(cfg, d.recall(memory))
}

// startBroker starts the broker, with the store if that is open, and with what a former process
// remembered, or nil.
func (d *Daemon) startBroker(cfg *config.Config, former *actors.Memory) error {
	d.cfg = cfg
	if name, backends := unusedProxy(cfg); name != "" {
		d.log.Warn(name+` is set in the environment, but not used: if this network needs it, add proxy = "environment" to the backends`, "backends", backends)
	}
	options := actors.Options{Config: cfg, Backend: d.newBackend, Log: d.log, Audit: d.audit, Recent: d.recent, Former: former}
	if p := d.Store(); p != nil {
		options.Store = p
	}
	var err error
	if d.broker, err = actors.Start(options); err != nil {
		d.closeStore()
		return err
	}
	return nil
}

// Times of the wait for a store.
const (
	storeWait = control.AskTimeout + 5*time.Second // longer than a command uses it for one question
	storePoll = 50 * time.Millisecond
)

// opener opens the store in a directory, or waits until that succeeds.
type opener = func(dir string, log *slog.Logger) (*store.Pebble, error)

// waitForStore returns an opener that waits, if another process has the store, for it to end.
func waitForStore(ctx context.Context) opener {
	return func(dir string, log *slog.Logger) (*store.Pebble, error) {
		ctx, cancel := context.WithTimeout(ctx, storeWait)
		defer cancel()
		for first := true; ; first = false {
			p, err := cache.Open(dir, log)
			if !errors.Is(err, store.ErrLocked) || ctx.Err() != nil {
				return p, err
			}
			if first {
				log.Warn("another process has the store: waiting for its end", "at_most", storeWait)
			}
			select {
			case <-ctx.Done():
			case <-time.After(storePoll):
			}
		}
	}
}

// openStore opens the store if a domain needs one and it is not open. It returns nil otherwise,
// and if it cannot be opened, which is not fatal.
func (d *Daemon) openStore(cfg *config.Config, open opener) store.Disk {
	if d.Store() != nil || !cfg.NeedsStore() {
		return nil
	}
	if cfg.Store.Kind != "" {
		return d.openShared(cfg)
	}
	p, err := open(datadir.Store(cfg.DataDir), d.log)
	if err != nil {
		d.withoutStore("cache works from memory only, and registered domains are not known, until a reload or restart opens the store", err)
		return nil
	}
	d.storeFail.Store(nil)
	d.giveToOwner(cfg)
	// Even a question may change what is remembered: what was made for the former serial ends here.
	if d.former, d.serial, err = p.Renew(); err != nil {
		d.log.Error("store cannot be written", "err", err)
	}
	return p
}

// openShared opens the store that other machines use as well. A former process's memory is not taken over with it:
// it has no serial.
func (d *Daemon) openShared(cfg *config.Config) store.Disk {
	// What the directory knows gets old from here on: a password that is refused now is not to be accepted when the
	// block store is removed again.
	if err := store.MarkIncomplete(datadir.Store(cfg.DataDir)); err != nil {
		d.log.Error("what this machine knew without the shared store may be used again when it works without it", "err", err)
	}
	s, err := OpenShared(cfg, d.log)
	if err != nil {
		d.withoutStore("cache works from memory only, until a restart opens the store", err)
		return nil
	}
	d.storeFail.Store(nil)
	return s
}

// OpenShared opens the store of a store block.
func OpenShared(cfg *config.Config, log *slog.Logger) (*valkeystore.Store, error) {
	return valkeystore.Open(sharedOptions(&cfg.Store), log)
}

// LookAtShared examines the server of a store block.
func LookAtShared(c *config.Store) (valkeystore.Health, error) {
	return valkeystore.Check(sharedOptions(c))
}

func sharedOptions(c *config.Store) valkeystore.Options {
	return valkeystore.Options{
		Addresses: c.Addresses, Username: c.Username, Password: c.Password, TLS: c.TLS.Config(), Prefix: c.Prefix, Cluster: c.Cluster,
		Sentinel: c.Sentinel.Master, SentinelUsername: c.Sentinel.Username, SentinelPassword: c.Sentinel.Password,
	}
}

// withoutStore logs the consequence of a store that cannot be opened, and keeps the reason for
// StoreFailed.
func (d *Daemon) withoutStore(consequence string, err error) {
	d.log.Error(consequence, "err", err)
	why := err.Error()
	d.storeFail.Store(&why)
}

// Stop waits until the requests in flight are answered, for drain_timeout at most, and ends
// everything.
func (d *Daemon) Stop(ctx context.Context) {
	d.reloads.close()
	d.closePages()
	ctx, cancel := context.WithTimeout(ctx, d.cfg.DrainTimeout)
	defer cancel()
	begun := time.Now()
	var sockets []*os.File
	if d.successor != nil {
		sockets = d.ownSockets()
	}
	clean := d.broker.Drain(ctx)
	memory := d.stopBroker()
	d.closeStore()
	d.leave(memory, sockets)
	d.audit.Note(audit.Event{Kind: audit.Daemon, Action: "stop"})
	d.log.Info("stopped", "clean", clean, "took", time.Since(begun).Round(time.Millisecond))
}

func (d *Daemon) closeStore() {
	p := d.Store()
	if p == nil {
		return
	}
	if err := p.Close(); err != nil {
		d.log.Error("store could not be closed", "err", err)
	}
	d.giveToOwner(d.cfg)
}

// giveToOwner gives the store to the data directory's owner, if this process is root. It is done
// after opening and after closing: if this process is killed, another daemon only has to read the
// files that were there when it opened the store.
func (d *Daemon) giveToOwner(cfg *config.Config) {
	if err := datadir.GiveToOwner(cfg.DataDir); err != nil {
		d.log.Error("store could not be given to the data directory's owner", "err", err)
	}
}

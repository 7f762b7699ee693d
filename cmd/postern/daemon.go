package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
	"time"

	"postern/actors"
	"postern/cmd/internal/systemd"
	"postern/internal/backend"
	"postern/internal/config"
	"postern/internal/store"
)

// daemon is a broker with what it stands on.
type daemon struct {
	cfg     *config.Config // in force, with the listeners that are served
	log     *slog.Logger
	broker  *actors.Broker
	store   atomic.Pointer[store.Pebble] // nil if it could not be opened, or no domain needs it
	trouble atomic.Pointer[string]       // why the store could not be opened; nil if it could
	reloads *reloader                    // nil for commands, which read the configuration once
	metrics *metricsServer               // nil if none are served
	yield   func()                       // ends an owner that relays have started; nil for others

	notify   *systemd.Notifier // nil: there is nobody to notify
	passed   []*systemd.Socket // by systemd
	unserved atomic.Int64      // of these
}

// start opens the store and starts the broker. A store that cannot be opened is not fatal: the
// cache then lives in memory only. For one that a command has for its question we wait, until ctx
// ends at most.
func (d *daemon) start(ctx context.Context, cfg *config.Config) error {
	if err := os.MkdirAll(cfg.DataDir, 0o700); err != nil {
		d.without("data directory cannot be made; nothing will be kept on disk", err)
	} else {
		d.store.Store(d.openStore(cfg, whenFree(ctx)))
	}
	if d.store.Load() == nil {
		if err := store.MarkIncomplete(storeDir(cfg)); err != nil {
			d.log.Error("store", "err", err)
		}
	}
	return d.startBroker(cfg)
}

// startBroker starts the broker on what there is.
func (d *daemon) startBroker(cfg *config.Config) error {
	d.cfg = cfg
	options := actors.Options{Config: cfg, Backend: newBackend, Log: d.log}
	if p := d.store.Load(); p != nil {
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
	storeWait = askPatience + 5*time.Second // longer than a command has it for one question
	storePoll = 50 * time.Millisecond
)

// opener is store.OpenPebble, or does it with patience.
type opener = func(dir string, log *slog.Logger) (*store.Pebble, error)

// whenFree opens a store when the process that has it ends, if it does so soon.
func whenFree(ctx context.Context) opener {
	return func(dir string, log *slog.Logger) (*store.Pebble, error) {
		ctx, cancel := context.WithTimeout(ctx, storeWait)
		defer cancel()
		for first := true; ; first = false {
			p, err := store.OpenPebble(dir, log)
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

// openStore opens the store if a domain wants one and it is not open. One that cannot be opened is
// not fatal.
func (d *daemon) openStore(cfg *config.Config, open opener) *store.Pebble {
	if d.store.Load() != nil || !cfg.NeedsStore() {
		return nil
	}
	p, err := open(storeDir(cfg), d.log)
	if err != nil {
		d.without(withoutStore, err)
		return nil
	}
	d.trouble.Store(nil)
	d.handOver(cfg)
	return p
}

// without tells of what is done without a store, and keeps why for cache stats.
func (d *daemon) without(what string, err error) {
	d.log.Error(what, "err", err)
	why := err.Error()
	d.trouble.Store(&why)
}

// storeFailed says why there is no store, or none any more; "" if nothing is wrong.
func (d *daemon) storeFailed() string {
	if p := d.store.Load(); p != nil {
		return p.Failed()
	}
	if why := d.trouble.Load(); why != nil {
		return *why
	}
	return ""
}

// withoutStore is what a store that cannot be opened comes to.
const withoutStore = "cache works from memory only, and registered domains are not known, until postern is restarted"

// stop answers what is in flight, at most for the configured time, and ends everything.
func (d *daemon) stop(ctx context.Context) {
	d.reloads.close()
	ctx, cancel := context.WithTimeout(ctx, d.cfg.DrainTimeout)
	defer cancel()
	begun := time.Now()
	clean := d.broker.Drain(ctx)
	d.broker.Stop()
	d.closeStore()
	d.log.Info("stopped", "clean", clean, "took", time.Since(begun).Round(time.Millisecond))
}

func (d *daemon) closeStore() {
	p := d.store.Load()
	if p == nil {
		return
	}
	if err := p.Close(); err != nil {
		d.log.Error("store could not be closed", "err", err)
	}
	d.handOver(d.cfg)
}

// handOver gives the store to the data directory's owner, if we are root. When it has been opened,
// that is enough for another daemon, which only reads the files that are there, should we be
// killed.
func (d *daemon) handOver(cfg *config.Config) {
	if err := ownAlike(cfg); err != nil {
		d.log.Error("store could not be given to the data directory's owner", "err", err)
	}
}

// newBackend makes the backend of a configuration block.
func newBackend(b config.Backend, hashing backend.Hashing) (backend.Backend, error) {
	return makeBackend(b, httpOptions(b), hashing)
}

func makeBackend(b config.Backend, o backend.HTTPOptions, hashing backend.Hashing) (backend.Backend, error) {
	switch b.Kind {
	case config.KindNextcloud:
		return backend.NewNextcloud(backend.NextcloudOptions{
			HTTPOptions: o, AdminUser: b.AdminUser, AdminPassword: b.AdminPassword,
			AcceptOtherID: b.AcceptOtherID, MaxDelay: b.MaxDelay, MaxMembers: b.MaxMembers,
		})
	case "jsxc":
		return backend.NewJSXC(o, b.Secret)
	case "json":
		return backend.NewJSON(o)
	case "users":
		return backend.NewUsers(backend.UsersOptions{Path: b.Path, Cost: b.BcryptCost}, hashing)
	}
	return nil, fmt.Errorf("unknown kind of backend %q", b.Kind)
}

func httpOptions(b config.Backend) backend.HTTPOptions {
	o := backend.HTTPOptions{
		URL: b.URL, CAFile: b.CAFile, UserAgent: b.UserAgent, ConnectTimeout: b.ConnectTimeout,
		Timeout: b.Timeout, MaxResponse: b.MaxResponse, Connections: b.Slots,
	}
	if o.UserAgent == "" {
		o.UserAgent = userAgent()
	}
	return o
}

// errNoDaemon means that no daemon owns the data directory.
var errNoDaemon = errors.New("no daemon is running")

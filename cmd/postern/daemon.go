package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"postern/actors"
	"postern/cmd/internal/systemd"
	"postern/internal/backend"
	"postern/internal/config"
	"postern/internal/store"
)

// daemon is a broker with what it stands on.
type daemon struct {
	cfg    *config.Config
	log    *slog.Logger
	broker *actors.Broker
	store  *store.Pebble // nil if it could not be opened, or no domain needs it
	yield  func()        // ends an owner that relays have started; nil for others

	notify    *systemd.Notifier // nil: there is nobody to notify
	passed    []*systemd.Socket // by systemd
	unserved  int               // of these
	listening int               // listeners
}

// startDaemon opens the store and starts the broker. A store that cannot be opened is not
// fatal: the cache then lives in memory only.
func startDaemon(cfg *config.Config, log *slog.Logger) (*daemon, error) {
	d := &daemon{cfg: cfg, log: log}
	if err := os.MkdirAll(cfg.DataDir, 0o700); err != nil {
		log.Error("data directory cannot be made; nothing will be kept on disk", "err", err)
	} else if needsStore(cfg) {
		p, err := store.OpenPebble(storeDir(cfg), log)
		if err != nil {
			log.Error("cache works from memory only", "err", err)
		} else {
			d.store = p
		}
	}
	options := actors.Options{Config: cfg, Backend: newBackend, Log: log}
	if d.store != nil {
		options.Store = d.store
	}
	var err error
	if d.broker, err = actors.Start(options); err != nil {
		d.closeStore()
		return nil, err
	}
	return d, nil
}

func needsStore(cfg *config.Config) bool {
	for _, d := range cfg.Domains {
		if d.Cache.Storage == config.StorageDisk {
			return true
		}
	}
	return false
}

// stop answers what is in flight, at most for the configured time, and ends everything.
func (d *daemon) stop(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, d.cfg.DrainTimeout)
	defer cancel()
	begun := time.Now()
	clean := d.broker.Drain(ctx)
	d.broker.Stop()
	d.closeStore()
	d.log.Info("stopped", "clean", clean, "took", time.Since(begun).Round(time.Millisecond))
}

func (d *daemon) closeStore() {
	if d.store == nil {
		return
	}
	if err := d.store.Close(); err != nil {
		d.log.Error("store could not be closed", "err", err)
	}
}

// newBackend makes the backend of a configuration block.
func newBackend(b config.Backend, hashing backend.Hashing) (backend.Backend, error) {
	switch b.Kind {
	case config.KindNextcloud:
		return backend.NewNextcloud(backend.NextcloudOptions{
			HTTPOptions: httpOptions(b), AdminUser: b.AdminUser, AdminPassword: b.AdminPassword,
			AcceptOtherID: b.AcceptOtherID, MaxDelay: b.MaxDelay, MaxMembers: b.MaxMembers,
		})
	case "jsxc":
		return backend.NewJSXC(httpOptions(b), b.Secret)
	case "json":
		return backend.NewJSON(httpOptions(b))
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

package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"time"

	"postern/actors"
	"postern/internal/config"
	"postern/internal/store"
)

// Commands that find no daemon work on the data directory themselves, often as root. What they
// make there must be the daemon's, which may start at any moment.

// withStore does something with the store of a data directory, which is ours meanwhile. A daemon
// that has it since the command looked for one is asked instead.
func withStore(ctx context.Context, cfg *config.Config, path string, req controlRequest, reply any, do func(*store.Pebble) error) error {
	err := ownStore(ctx, cfg, do)
	if errors.Is(err, errOwned) {
		return callControl(ctx, controlPath(cfg), path, req, reply)
	}
	return err
}

// ownStore is withStore for what no daemon does.
func ownStore(ctx context.Context, cfg *config.Config, do func(*store.Pebble) error) error {
	lock, err := takeOwnership(ctx, cfg.DataDir, 0)
	if err != nil {
		return err
	}
	defer lock.Close()
	p, err := store.OpenPebble(storeDir(cfg), slog.New(slog.DiscardHandler))
	if err == nil {
		err = errors.Join(do(p), p.Close())
	}
	return errors.Join(err, ownAlike(cfg))
}

// startDirect starts a daemon that listens nowhere, for a command's questions. It goes without
// the store if that is not to be had now.
func startDirect(cfg *config.Config) (*daemon, error) {
	d := &daemon{log: slog.New(slog.DiscardHandler)}
	// Who starts now waits until what is made here can be used by all who may.
	if lock, err := tryOwnership(cfg.DataDir); err == nil {
		d.store.Store(d.openStore(cfg, store.OpenPebble))
		_ = lock.Close()
	}
	if err := d.startBroker(cfg); err != nil {
		return nil, err
	}
	return d, nil
}

// rosterPatience bounds a roster command that runs without a daemon.
const rosterPatience = 10 * time.Minute

// errStarted ends what is done without a daemon when one starts.
var errStarted = errors.New("a daemon has started")

// withBroker has the daemon do something or, when none runs, does it with a broker of its own.
// That may take long: a daemon that starts meanwhile needs the store, and does it in our place.
func withBroker(ctx context.Context, cfg *config.Config, path string, req controlRequest, reply any, do func(context.Context, *actors.Broker) error) error {
	err := callControl(ctx, controlPath(cfg), path, req, reply)
	if !errors.Is(err, errNoDaemon) {
		return err
	}
	d, err := startDirect(cfg)
	if err != nil {
		return err
	}
	limited, cancel := context.WithTimeout(ctx, rosterPatience)
	defer cancel()
	limited, giveWay := context.WithCancelCause(limited)
	go func() {
		if listensAt(limited, controlPath(cfg)) {
			giveWay(errStarted)
		}
	}()
	err = do(limited, d.broker)
	started := errors.Is(context.Cause(limited), errStarted)
	giveWay(nil)
	d.stop(ctx)
	if err != nil && started {
		return callControl(ctx, controlPath(cfg), path, req, reply)
	}
	return err
}

// listensAt waits until somebody listens on a socket; it is false if ctx ends before.
func listensAt(ctx context.Context, path string) bool {
	tick := time.NewTicker(storePoll)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-tick.C:
			if c, err := net.Dial("unix", path); err == nil {
				_ = c.Close()
				return true
			}
		}
	}
}

// Package admin is what administrators' commands do to the state of a broker: look at the cache,
// forget, register domains, rebuild rosters, ask a question.
//
// Each function makes a call on the control socket of the process that owns the data directory.
// Where no process does, it takes the lock of the directory and carries the call out on the store
// itself, or with a broker of its own; a daemon that starts meanwhile waits for the lock, or takes
// the call over. The files that root makes doing so are given to the directory's owner.
package admin

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"time"

	"postern/actors"
	"postern/cmd/internal/control"
	"postern/cmd/internal/daemon"
	"postern/cmd/internal/datadir"
	"postern/internal/auth"
	"postern/internal/cache"
	"postern/internal/config"
	"postern/internal/logfile"
	"postern/internal/store"
)

// onStore makes a call to the daemon or, when none runs, has direct do the same to the store. If
// there is no store, nothing was ever kept, and reply is left as it is.
func onStore(ctx context.Context, cfg *config.Config, path string, req control.Request, reply any, direct func(store.Disk) error) error {
	err := control.Call(ctx, datadir.Control(cfg.DataDir), path, req, reply)
	if !errors.Is(err, control.ErrNoDaemon) {
		return err
	}
	if cfg.Store.Kind == "" && absent(datadir.Store(cfg.DataDir)) {
		return nil
	}
	return withStore(ctx, cfg, path, req, reply, direct)
}

// withStore is onStore after no daemon was found. A daemon that has started since is asked.
func withStore(ctx context.Context, cfg *config.Config, path string, req control.Request, reply any, direct func(store.Disk) error) error {
	err := OnStore(ctx, cfg, direct)
	if errors.Is(err, datadir.ErrOwned) {
		return control.Call(ctx, datadir.Control(cfg.DataDir), path, req, reply)
	}
	note(cfg, path, req, reply, err)
	return err
}

// OnStore locks the data directory and calls do with its store, which is created if it is missing.
// The error wraps datadir.ErrOwned if a daemon runs.
func OnStore(ctx context.Context, cfg *config.Config, do func(store.Disk) error) error {
	lock, err := datadir.Lock(ctx, cfg.DataDir, 0, control.Yield)
	if err != nil {
		return err
	}
	defer lock.Close()
	p, err := openDisk(cfg)
	if err == nil {
		err = errors.Join(do(p), p.Close())
	}
	return errors.Join(err, datadir.GiveToOwner(cfg.DataDir))
}

// openDisk opens the store that a configuration names.
func openDisk(cfg *config.Config) (store.Disk, error) {
	log := slog.New(logfile.NewHandler(os.Stderr, slog.LevelWarn))
	if cfg.Store.Kind != "" {
		return daemon.OpenShared(cfg, log)
	}
	return cache.Open(datadir.Store(cfg.DataDir), log)
}

func absent(path string) bool {
	_, err := os.Stat(path)
	return errors.Is(err, fs.ErrNotExist)
}

// AskDirectly asks a question of a broker in this process, which uses the store if no other process
// does.
func AskDirectly(ctx context.Context, cfg *config.Config, req auth.Request) (control.AskReply, error) {
	d, err := daemon.Start(cfg)
	if err != nil {
		return control.AskReply{}, err
	}
	defer d.Stop(ctx)
	return control.Ask(ctx, d.Broker(), req), nil
}

// Times of withBroker.
const (
	brokerTimeout = 10 * time.Minute
	daemonPoll    = 50 * time.Millisecond
)

// errStarted ends the work of withBroker when a daemon starts.
var errStarted = errors.New("a daemon has started")

// withBroker makes a call to the daemon or, when none runs, has direct do the same with a broker
// of its own. That may take long: a daemon that starts meanwhile needs the store, and gets the
// call.
func withBroker(ctx context.Context, cfg *config.Config, path string, req control.Request, reply any, direct func(context.Context, *actors.Broker) error) error {
	socket := datadir.Control(cfg.DataDir)
	err := control.Call(ctx, socket, path, req, reply)
	if !errors.Is(err, control.ErrNoDaemon) {
		return err
	}
	d, err := daemon.Start(cfg)
	if err != nil {
		return err
	}
	limited, cancel := context.WithTimeout(ctx, brokerTimeout)
	defer cancel()
	limited, giveWay := context.WithCancelCause(limited)
	go func() {
		if waitForListener(limited, socket) {
			giveWay(errStarted)
		}
	}()
	err = direct(limited, d.Broker())
	started := errors.Is(context.Cause(limited), errStarted)
	giveWay(nil)
	d.Stop(ctx)
	if err != nil && started {
		return control.Call(ctx, datadir.Control(cfg.DataDir), path, req, reply)
	}
	note(cfg, path, req, reply, err)
	return err
}

// waitForListener waits until a process listens on a socket; it returns false if ctx ends before.
func waitForListener(ctx context.Context, socket string) bool {
	tick := time.NewTicker(daemonPoll)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-tick.C:
			if c, err := net.Dial("unix", socket); err == nil {
				_ = c.Close()
				return true
			}
		}
	}
}

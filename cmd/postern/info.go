package main

import (
	"context"
	"errors"
	"os"
	"time"

	"postern/internal/config"
	"postern/internal/doctor"
)

// origin is where a daemon's configuration is from.
type origin struct {
	file    string // absolute; empty: the built-in one
	started time.Time
}

// info tells what runs, and what a reload would change. Nothing changes by being asked.
func (c *controlServer) info(context.Context, controlRequest) (any, error) {
	d := c.daemon
	r := d.reloads
	if !r.mu.TryLock() {
		return nil, errors.New("it is starting or reloading: try again")
	}
	defer r.mu.Unlock()
	out := doctor.Info{
		Version: version, PID: os.Getpid(), Started: r.origin.started, Config: r.origin.file, Loaded: r.state.Load().loaded,
		ForPipes: d.yield != nil, Listeners: []string{}, Pending: []string{}, Metrics: d.metrics.at(),
	}
	for _, l := range d.cfg.Listeners {
		out.Listeners = append(out.Listeners, l.Name)
	}
	if p := d.store.Load(); p != nil {
		out.Store, out.StoreFailed = true, p.Failed()
	}
	if r.load == nil {
		return out, nil
	}
	cfg, err := r.load(nil)
	if err == nil {
		out.Pending, err = d.pending(cfg)
	}
	if err != nil {
		out.Unloadable = err.Error()
	}
	return out, nil
}

// pending lists what a reload with cfg would change.
func (d *daemon) pending(cfg *config.Config) ([]string, error) {
	next := *cfg
	next.Listeners = nil
	if d.yield == nil {
		list, _, err := endpoints(cfg, d.passed)
		if err != nil {
			return nil, err
		}
		for _, e := range list {
			next.Listeners = append(next.Listeners, e.Listener)
		}
	}
	changes := config.Diff(d.cfg, &next)
	lines := describeChanges(changes)
	if changes.DataDir {
		lines = append(lines, "data_dir changed, which needs a restart")
	}
	return append([]string{}, lines...), nil
}

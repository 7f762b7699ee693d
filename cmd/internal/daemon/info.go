package daemon

import (
	"context"
	"errors"
	"os"
	"time"

	"postern/cmd/internal/metrics"
	"postern/internal/config"
	"postern/internal/doctor"
	"postern/internal/version"
)

// countsTimeout is how long the parts of the cache may take to report their counts at a scrape.
const countsTimeout = 2 * time.Second

// snapshot is the state of the daemon for its metrics.
func (d *Daemon) snapshot() metrics.Snapshot {
	ctx, cancel := context.WithTimeout(context.Background(), countsTimeout)
	defer cancel()
	counts, err := d.broker.Counts(ctx)
	state := d.reloads.state.Load()
	s := metrics.Snapshot{Counts: counts, Counters: d.broker.Collect, Stalled: err != nil, Loaded: state.loaded, ReloadFailed: state.failed != nil}
	p := d.store.Load()
	s.Store.Wanted = p != nil || d.storeFail.Load() != nil
	s.Store.Up = d.StoreFailed() == ""
	if p != nil {
		s.Store.Open, s.Store.Bytes = true, p.Size()
	}
	return s
}

// Info describes the daemon, and what a reload would change. It changes nothing.
func (d *Daemon) Info() (doctor.Info, error) {
	r := d.reloads
	if !r.mu.TryLock() {
		return doctor.Info{}, errors.New("it is starting or reloading: try again")
	}
	defer r.mu.Unlock()
	out := doctor.Info{
		Version: version.Version, PID: os.Getpid(), Started: r.started, Config: r.flags.File, Loaded: r.state.Load().loaded,
		ForPipes: d.yield != nil, Listeners: []string{}, Pending: []string{}, Metrics: d.metrics.Address(),
	}
	for _, l := range d.cfg.Listeners {
		out.Listeners = append(out.Listeners, l.Name)
	}
	if p := d.store.Load(); p != nil {
		out.Store, out.StoreFailed = true, p.Failed()
	}
	if r.flags.Embedded {
		return out, nil
	}
	cfg, err := r.flags.Reload(nil)
	if err == nil {
		out.Pending, err = d.pending(cfg)
	}
	if err != nil {
		out.Unloadable = err.Error()
	}
	return out, nil
}

// pending lists what a reload with cfg would change.
func (d *Daemon) pending(cfg *config.Config) ([]string, error) {
	next, _, _, err := d.match(cfg)
	if err != nil {
		return nil, err
	}
	changes := config.Diff(d.cfg, next)
	lines := describeChanges(changes)
	if changes.DataDir {
		lines = append(lines, "data_dir changed, which needs a restart")
	}
	return append([]string{}, lines...), nil
}

package daemon

import (
	"context"
	"errors"
	"os"
	"slices"
	"time"

	"postern/cmd/internal/metrics"
	"postern/internal/apppassword"
	"postern/internal/config"
	"postern/internal/doctor"
	"postern/internal/store"
	"postern/internal/store/valkeystore"
	"postern/internal/unixtime"
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
	p := d.Store()
	s.Store.Wanted = p != nil || d.storeFail.Load() != nil
	s.Store.Up = d.StoreFailed() == ""
	if p != nil {
		s.Store.Open, s.Store.Bytes = true, p.Size()
	}
	if shared, ok := p.(*valkeystore.Store); ok {
		c := shared.Counts()
		s.Store.Shared = &metrics.SharedStore{
			RoundTrips: c.RoundTrips, Invalidations: c.Invalidations, Losses: c.Losses, Restores: c.Restores, Epochs: c.Epochs, Lag: c.Lag, Up: c.Up,
		}
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
	if p := d.Store(); p != nil {
		out.Store, out.StoreFailed = true, p.Failed()
		out.AppPasswords = d.appPasswords(p)
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

// appPasswords counts the app passwords in the store. What cannot be read of it is left out: StoreFailed says so.
func (d *Daemon) appPasswords(p store.Disk) map[string]doctor.AppPasswords {
	if !slices.ContainsFunc(d.cfg.Domains, func(of config.Domain) bool { return of.AppPasswords != nil }) {
		return nil
	}
	counts, keys, now := map[string]apppassword.Count{}, map[string]*apppassword.Key{}, unixtime.At(time.Now())
	_ = p.Scan([]byte(store.AppPasswords), func(key, record []byte) bool {
		of := d.cfg.DomainFor(apppassword.RecordDomain(key))
		if of == nil || of.AppPasswords == nil {
			return true
		}
		name := of.AppPasswords.Backend.String()
		if keys[name] == nil {
			keys[name] = apppassword.NewKey(of.AppPasswords.Key)
		}
		count := counts[name]
		count.Add(record, keys[name], now)
		counts[name] = count
		return true
	})
	out := map[string]doctor.AppPasswords{}
	for name, c := range counts {
		out[name] = doctor.AppPasswords{Alive: c.Alive, OtherKey: c.Strange, Unreadable: c.Unreadable}
	}
	return out
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

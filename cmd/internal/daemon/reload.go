package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"postern/actors"
	"postern/cmd/internal/configfile"
	"postern/cmd/internal/control"
	"postern/cmd/internal/listen"
	"postern/internal/audit"
	"postern/internal/cache"
	"postern/internal/config"
	"postern/internal/logfile"
)

// reloadTimeout is how long a reload waits for the end of what it removes.
const reloadTimeout = 25 * time.Second

// errKept ends a reload that changed nothing.
var errKept = errors.New("the old configuration stays in force")

// reloads is what a daemon needs to read its configuration again.
type reloads struct {
	flags   configfile.Flags // absolute: the working directory may change
	started time.Time        // when the process was
	state   atomic.Pointer[reloadState]

	mu     sync.Mutex // held by a reload
	ctx    context.Context
	cancel context.CancelFunc
}

// reloadState is how the last reload went.
type reloadState struct {
	loaded time.Time      // when the configuration in force was read
	cfg    *config.Config // that
	failed error          // why a later one was refused; nil: none was
	at     time.Time      // when that was
}

// newReloads returns with mu held: reloads wait until allow is called.
func newReloads(ctx context.Context, flags configfile.Flags, cfg *config.Config) (*reloads, error) {
	flags, err := flags.Absolute(flags.DataDir)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	r := &reloads{flags: flags, started: now}
	r.state.Store(&reloadState{loaded: now, cfg: cfg})
	r.ctx, r.cancel = context.WithCancel(context.WithoutCancel(ctx))
	r.mu.Lock()
	return r, nil
}

// allow lets reloads begin.
func (r *reloads) allow() { r.mu.Unlock() }

// close waits for the reload under way, and refuses others from here on.
func (r *reloads) close() {
	if r == nil {
		return
	}
	r.cancel()
	r.mu.Lock()
	defer r.mu.Unlock()
}

// reloadOn reloads at each signal. Signals during a reload cause one more.
func (d *Daemon) reloadOn(hups <-chan os.Signal) {
	for range hups {
		_, _ = d.Reload(d.reloads.ctx) // it has been logged
	}
}

// Reload reads the configuration again and puts it in force, or returns why not. All that may
// fail is done before anything changes. The log file is opened again in any case. Besides lines
// about the log file, listeners and warnings, it logs one line.
func (d *Daemon) Reload(ctx context.Context) (reply control.ReloadReply, err error) {
	r := d.reloads
	r.mu.Lock()
	defer r.mu.Unlock()
	defer d.sink.Flush() // the caller may look there
	if r.ctx.Err() != nil {
		return reply, errors.New("postern is stopping")
	}
	d.reopenLog()
	if r.flags.Embedded {
		reply.Note = "the built-in configuration has nothing to reload"
		d.log.Info(reply.Note)
		return reply, nil
	}
	d.notify.Reloading()
	defer func() { d.notify.Ready(d.status()) }()
	ctx, cancel := context.WithTimeout(ctx, reloadTimeout)
	defer cancel()
	defer context.AfterFunc(r.ctx, cancel)()
	begun, was := time.Now(), r.state.Load()
	defer func() {
		if err != nil {
			r.state.Store(&reloadState{loaded: was.loaded, cfg: was.cfg, failed: err, at: begun})
		}
		d.noteReload(ctx, reply.Changes, err)
	}()
	cfg, err := r.flags.Reload(func(w config.Problem) { reply.Warnings = append(reply.Warnings, w.String()) })
	if err != nil {
		d.log.Error("configuration is invalid; the old one stays in force", "err", err)
		return reply, fmt.Errorf("%w: %w", errKept, err)
	}
	changes, err := d.replace(ctx, cfg)
	if err != nil {
		d.log.Error("configuration could not be reloaded; the old one stays in force", "err", err)
		return reply, fmt.Errorf("%w: %w", errKept, err)
	}
	r.state.Store(&reloadState{loaded: begun, cfg: d.cfg})
	for _, w := range reply.Warnings {
		d.log.Warn("configuration", "warning", w)
	}
	reply.Note, reply.Changes = "configuration reloaded", describeChanges(changes)
	if changes.Empty() {
		reply.Note += ": nothing has changed"
	}
	d.log.Info("configuration reloaded", "listeners", count(changes.Listeners), "backends", count(changes.Backends),
		"domains", count(changes.Domains), "log", changes.Log, "audit", changes.Audit, "drain_timeout", changes.DrainTimeout, "metrics", changes.Metrics, "web", changes.Web,
		"took", time.Since(begun).Round(time.Microsecond))
	return reply, nil
}

// noteReload writes how a reload went to the audit log.
func (d *Daemon) noteReload(ctx context.Context, changes []string, err error) {
	e := audit.Event{Kind: audit.Reload, Outcome: audit.Done, By: control.By(ctx), Changes: changes}
	if err != nil {
		e.Outcome, e.Reason = audit.Failed, err.Error()
	}
	d.audit.Note(e)
}

func (d *Daemon) reopenLog() {
	if err := d.audit.Reopen(); err != nil {
		d.log.Error("audit log could not be reopened; the old one stays in use", "err", err)
	}
	if d.cfg.Log.File == "" {
		return
	}
	if err := d.sink.Reopen(); err != nil {
		d.log.Error("log file could not be reopened; the old one stays in use", "err", err)
		return
	}
	d.log.Info("log file reopened")
}

// replace puts a valid configuration in force, as a whole or not at all.
func (d *Daemon) replace(ctx context.Context, cfg *config.Config) (changes config.Changes, err error) {
	var undo []func()
	defer func() {
		if err != nil {
			for _, u := range undo {
				u()
			}
		}
	}()
	cfg, list, err := d.served(cfg)
	if err != nil {
		return changes, err
	}
	changes = config.Diff(d.cfg, cfg)
	if changes.DataDir {
		return changes, fmt.Errorf("data_dir is another, %s: restart postern to move there, or restore %s", cfg.DataDir, d.cfg.DataDir)
	}
	if changes.Store {
		return changes, errors.New("the block store is another: restart postern, or restore it")
	}
	var logFile io.WriteCloser
	if cfg.Log.File != d.cfg.Log.File {
		if logFile, err = logfile.Open(cfg.Log.File); err != nil {
			return changes, err
		}
		if logFile != nil {
			undo = append(undo, func() { _ = logFile.Close() })
		}
	}
	var events audit.Target
	if changes.Audit {
		if events, err = audit.Open(audit.Config(cfg.Audit)); err != nil {
			return changes, err
		}
		if events != nil {
			undo = append(undo, events.Close)
		}
	}
	next := actors.Reload{Config: cfg}
	if next.Sockets, err = openChanged(changes.Listeners, list, &undo); err != nil {
		return changes, err
	}
	var metricsSocket net.Listener
	if changes.Metrics {
		if metricsSocket, err = openMetrics(cfg); err != nil {
			return changes, err
		}
		if metricsSocket != nil {
			undo = append(undo, func() { _ = metricsSocket.Close() })
		}
	}
	var pageSockets map[string]net.Listener
	if changes.Web {
		if pageSockets, err = d.openPages(cfg, &undo); err != nil {
			return changes, err
		}
	}
	opened := d.openStore(cfg, cache.Open) // without waiting: logins do not wait for a reload
	if opened != nil {
		next.Store = opened
		undo = append(undo, func() { _ = opened.Close() })
	}
	undo = append(undo, d.unkeep(changes.Listeners.Removed))
	if changes, err = d.broker.Reload(ctx, next); err != nil {
		return changes, err
	}
	if opened != nil {
		d.store.Store(&opened)
	}
	if changes.Audit {
		d.audit.SetTarget(events)
	}
	d.putInForce(cfg, changes, next.Sockets, logFile)
	d.noteOwn(list, next.Sockets, changes.Listeners.Removed)
	if changes.Metrics {
		d.metrics.Close()
		d.serveMetrics(metricsSocket)
	}
	if changes.Web {
		d.servePages(cfg, pageSockets)
	}
	return changes, nil
}

// openChanged opens the sockets of new listeners and sets the modes and owners of those that
// stay. What takes these steps back is added to undo.
func openChanged(d config.Delta[config.Listener], list []listen.Endpoint, undo *[]func()) (map[string]net.Listener, error) {
	sockets := make(map[string]net.Listener)
	for _, l := range d.Added {
		socket, err := list[slices.IndexFunc(list, func(e listen.Endpoint) bool { return e.Name == l.Name })].Open()
		if err != nil {
			return nil, err
		}
		*undo = append(*undo, func() { _ = socket.Close() })
		sockets[l.Name] = socket
	}
	for _, c := range d.Changed {
		if opens(c) {
			continue
		}
		restore, err := listen.Chown(c)
		if err != nil {
			return nil, err
		}
		*undo = append(*undo, restore)
	}
	return sockets, nil
}

// opens reports whether a socket is opened to all processes, of which the listener admits those of its
// users. Its mode may change only when the listener knows them.
func opens(c config.Change[config.Listener]) bool { return c.Old.Users == nil && c.New.Users != nil }

// putInForce does the steps of a reload that cannot fail.
func (d *Daemon) putInForce(cfg *config.Config, changes config.Changes, sockets map[string]net.Listener, logFile io.WriteCloser) {
	if cfg.Log.File != d.cfg.Log.File {
		d.sink.SetFile(cfg.Log.File, logFile)
	}
	if changes.Log {
		d.sink.Configure(logfile.Config(cfg.Log))
	}
	d.cfg = cfg
	for _, c := range changes.Listeners.Changed {
		if !opens(c) {
			continue
		}
		if _, err := listen.Chown(c); err != nil {
			d.log.Error("mode and owner of a socket could not be changed; the users of its listener may not reach it", "listener", c.New.Name, "err", err)
		}
	}
	for _, l := range changes.Listeners.Removed {
		d.log.Info("no longer listening", "listener", l.Name, "address", l.Address)
	}
	for _, l := range changes.Listeners.Added {
		d.log.Info("listening", "listener", l.Name, "protocol", l.Protocol, "address", listen.ShownAddress(l, sockets[l.Name]))
		d.noteChanges(listen.Endpoint{Listener: l})
	}
}

func count[T any](delta config.Delta[T]) string {
	return fmt.Sprintf("+%d -%d ~%d", len(delta.Added), len(delta.Removed), len(delta.Changed))
}

// describeChanges lists what a reload changed, one line each.
func describeChanges(c config.Changes) []string {
	lines := describe("listener", c.Listeners, func(l config.Listener) string { return l.Name })
	lines = append(lines, describe("backend", c.Backends, func(b config.Backend) string { return b.String() })...)
	lines = append(lines, describe("domain", c.Domains, func(d config.Domain) string { return d.Name })...)
	for _, setting := range []struct {
		name    string
		changed bool
	}{{"registry", c.Registry}, {"drain_timeout", c.DrainTimeout}, {"metrics", c.Metrics}, {"web", c.Web}, {"log", c.Log}, {"audit", c.Audit}} {
		if setting.changed {
			lines = append(lines, setting.name+" changed")
		}
	}
	return lines
}

func describe[T any](kind string, d config.Delta[T], name func(T) string) (lines []string) {
	for _, t := range d.Added {
		lines = append(lines, kind+" "+name(t)+" added")
	}
	for _, t := range d.Removed {
		lines = append(lines, kind+" "+name(t)+" removed")
	}
	for _, c := range d.Changed {
		line := kind + " " + name(c.New) + " changed"
		if was := name(c.Old); was != name(c.New) {
			line += ", it was " + was
		}
		lines = append(lines, line)
	}
	return lines
}

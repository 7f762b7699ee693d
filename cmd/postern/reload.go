package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"postern/actors"
	"postern/internal/config"
	"postern/internal/store"
)

// reloadPatience is how long a reload waits for what was removed before it.
const reloadPatience = 25 * time.Second

// errKept ends a reload that changed nothing.
var errKept = errors.New("the old configuration stays in force")

// reloader is what a daemon needs to read its configuration again.
type reloader struct {
	load func(warn func(config.Problem)) (*config.Config, error) // nil: there is nothing to read
	sink *logSink

	origin origin // under mu
	state  atomic.Pointer[reloadState]

	mu     sync.Mutex // one reload at a time
	ctx    context.Context
	cancel context.CancelFunc
}

// reloadState is how the last reload went.
type reloadState struct {
	loaded time.Time // when the configuration in force was read
	failed bool      // what came later was refused
}

// newReloader makes a reloader of the file that the flags name, wherever the process goes from
// here. Until ready is called, reloads wait.
func (a *app) newReloader(ctx context.Context, sink *logSink) (*reloader, error) {
	now := time.Now()
	r := &reloader{sink: sink, origin: origin{started: now}}
	r.state.Store(&reloadState{loaded: now})
	r.ctx, r.cancel = context.WithCancel(context.WithoutCancel(ctx))
	r.mu.Lock()
	if a.embedded {
		return r, nil
	}
	file, err := filepath.Abs(a.configFile)
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	again := &app{stdio: a.stdio, configFile: file, again: true}
	r.load, r.origin.file = again.load, file
	return r, nil
}

// ready lets reloads begin.
func (r *reloader) ready() { r.mu.Unlock() }

// close lets no reload begin any more, and waits for the one under way.
func (r *reloader) close() {
	if r == nil {
		return
	}
	r.cancel()
	r.mu.Lock()
	defer r.mu.Unlock()
}

// reloadReply is what a reload came to.
type reloadReply struct {
	Note     string   `json:"note"`
	Changes  []string `json:"changes"`
	Warnings []string `json:"warnings"`
}

// reloadOn reloads at each signal. Those that come while a reload is under way are one.
func (d *daemon) reloadOn(hups <-chan os.Signal) {
	for range hups {
		_, _ = d.reload(d.reloads.ctx) // it has been logged
	}
}

// reload reads the configuration again and puts it in the place of the one in force, or says
// why not. All that may fail is done before anything changes. The log file is opened anew in any
// case. It writes one line to the log, besides those for the log file, listeners and warnings.
func (d *daemon) reload(ctx context.Context) (reply reloadReply, err error) {
	r := d.reloads
	r.mu.Lock()
	defer r.mu.Unlock()
	defer r.sink.Flush() // whoever asked for it may look there
	if r.ctx.Err() != nil {
		return reply, errors.New("postern is stopping")
	}
	d.reopenLog(r.sink)
	if r.load == nil {
		reply.Note = "the built-in configuration has nothing to reload"
		d.log.Info(reply.Note)
		return reply, nil
	}
	d.notify.Reloading()
	defer func() { d.notify.Ready(d.status()) }()
	ctx, cancel := context.WithTimeout(ctx, reloadPatience)
	defer cancel()
	defer context.AfterFunc(r.ctx, cancel)()
	begun, was := time.Now(), r.state.Load()
	defer func() {
		if err != nil {
			r.state.Store(&reloadState{was.loaded, true})
		}
	}()
	cfg, err := r.load(func(w config.Problem) { reply.Warnings = append(reply.Warnings, w.String()) })
	if err != nil {
		d.log.Error("configuration is invalid; the old one stays in force", "err", err)
		return reply, fmt.Errorf("%w: %w", errKept, err)
	}
	changes, err := d.replace(ctx, cfg)
	if err != nil {
		d.log.Error("configuration could not be reloaded; the old one stays in force", "err", err)
		return reply, fmt.Errorf("%w: %w", errKept, err)
	}
	r.state.Store(&reloadState{loaded: begun})
	for _, w := range reply.Warnings {
		d.log.Warn("configuration", "warning", w)
	}
	reply.Note, reply.Changes = "configuration reloaded", describeChanges(changes)
	if changes.Empty() {
		reply.Note += ": nothing has changed"
	}
	d.log.Info("configuration reloaded", "listeners", count(changes.Listeners), "backends", count(changes.Backends),
		"domains", count(changes.Domains), "log", changes.Log, "drain_timeout", changes.DrainTimeout, "metrics", changes.Metrics,
		"took", time.Since(begun).Round(time.Microsecond))
	return reply, nil
}

// replace puts a valid configuration in the place of the one in force, as a whole or not at all.
func (d *daemon) replace(ctx context.Context, cfg *config.Config) (changes config.Changes, err error) {
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
		return changes, fmt.Errorf("data_dir is another, %s: restart postern to move there, or write %s again", cfg.DataDir, d.cfg.DataDir)
	}
	var logFile io.WriteCloser
	if cfg.Log.File != d.cfg.Log.File {
		if logFile, err = openLog(cfg.Log.File); err != nil {
			return changes, err
		}
		if logFile != nil {
			undo = append(undo, func() { _ = logFile.Close() })
		}
	}
	next := actors.Reload{Config: cfg}
	if next.Sockets, err = openChanged(changes.Listeners, list, &undo); err != nil {
		return changes, err
	}
	var metrics net.Listener
	if changes.Metrics {
		if metrics, err = openMetrics(cfg); err != nil {
			return changes, err
		}
		if metrics != nil {
			undo = append(undo, func() { _ = metrics.Close() })
		}
	}
	opened := d.openStore(cfg, store.OpenPebble) // logins do not wait for a reload
	if opened != nil {
		next.Store = opened
		undo = append(undo, func() { _ = opened.Close() })
	}
	if changes, err = d.broker.Reload(ctx, next); err != nil {
		return changes, err
	}
	if opened != nil {
		d.store.Store(opened)
	}
	d.adopt(cfg, changes, next.Sockets, logFile)
	if changes.Metrics {
		d.metrics.close()
		d.metrics = serveMetrics(d, metrics)
	}
	return changes, nil
}

// openChanged opens the sockets of new listeners and gives those that stay their new modes. What
// it did is taken back by what it adds to undo.
func openChanged(d config.Delta[config.Listener], list []endpoint, undo *[]func()) (map[string]net.Listener, error) {
	sockets := make(map[string]net.Listener)
	for _, l := range d.Added {
		socket, err := list[slices.IndexFunc(list, func(e endpoint) bool { return e.Name == l.Name })].open()
		if err != nil {
			return nil, err
		}
		*undo = append(*undo, func() { _ = socket.Close() })
		sockets[l.Name] = socket
	}
	for _, c := range d.Changed {
		back, err := chown(c)
		if err != nil {
			return nil, err
		}
		*undo = append(*undo, back)
	}
	return sockets, nil
}

// adopt ends a reload that can fail no more.
func (d *daemon) adopt(cfg *config.Config, changes config.Changes, sockets map[string]net.Listener, logFile io.WriteCloser) {
	if cfg.Log.File != d.cfg.Log.File {
		d.reloads.sink.move(cfg.Log.File, logFile)
	}
	if changes.Log {
		d.reloads.sink.configure(cfg.Log)
	}
	d.cfg = cfg
	for _, l := range changes.Listeners.Removed {
		d.log.Info("no longer listening", "listener", l.Name, "address", l.Address)
	}
	for _, l := range changes.Listeners.Added {
		d.log.Info("listening", "listener", l.Name, "protocol", l.Protocol, "address", shownAddress(l, sockets[l.Name]))
	}
}

func count[T any](delta config.Delta[T]) string {
	return fmt.Sprintf("+%d -%d ~%d", len(delta.Added), len(delta.Removed), len(delta.Changed))
}

// describeChanges lists what a reload changed, one line each, by name.
func describeChanges(c config.Changes) []string {
	lines := describe("listener", c.Listeners, func(l config.Listener) string { return l.Name })
	lines = append(lines, describe("backend", c.Backends, func(b config.Backend) string { return b.String() })...)
	lines = append(lines, describe("domain", c.Domains, func(d config.Domain) string { return d.Name })...)
	if c.Registry {
		lines = append(lines, "registry changed")
	}
	if c.DrainTimeout {
		lines = append(lines, "drain_timeout changed")
	}
	if c.Metrics {
		lines = append(lines, "metrics changed")
	}
	if c.Log {
		lines = append(lines, "log changed")
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

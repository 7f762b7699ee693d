package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"postern/cmd/internal/configfile"
	"postern/cmd/internal/control"
	"postern/cmd/internal/datadir"
	"postern/cmd/internal/listen"
	"postern/cmd/internal/metrics"
	"postern/cmd/internal/pages"
	"postern/cmd/internal/systemd"
	"postern/internal/audit"
	"postern/internal/config"
	"postern/internal/doctor"
	"postern/internal/logfile"
	"postern/internal/recent"
	"postern/internal/version"
	"postern/wire"
)

// Options shape a daemon.
type Options struct {
	Flags     configfile.Flags
	Log       io.Writer                                   // the log, if the configuration names no file
	Listening func(context.Context, *config.Config) error // called when all listeners are open; may be nil
	Doctor    func(context.Context) []doctor.Finding      // examines the installation, for the status page; may be nil
	TakeOver  bool                                        // from the daemon that owns the data directory, if there is one

	// Of the broker of pipes.

	ForPipes bool   // serve pipes only, and end after the last of them
	PipeDir  string // where pipes meet; empty: in the data directory
	LockFD   int    // descriptor of the lock of that directory, which is held already; or 0
}

// Args is the command line, without the program, that starts a broker of pipes.
func (o Options) Args() []string {
	args := []string{"serve", "--for-relays", "--lock-fd", fmt.Sprint(o.LockFD)}
	if o.PipeDir != "" {
		args = append(args, "--relay-dir", o.PipeDir)
	}
	return append(args, o.Flags.Args()...)
}

// Run is the life of a daemon. It returns when a signal has ended it, and all requests in flight
// are answered or drain_timeout is over.
func Run(ctx context.Context, o Options) error {
	started := sync.OnceFunc(rareGC())
	defer started()
	var warnings []config.Problem
	cfg, err := o.Flags.Load(func(p config.Problem) { warnings = append(warnings, p) })
	if err != nil {
		return err
	}
	if cfg.Log.File != "" || cfg.Audit.File != "" { // which may be in the data directory
		_ = os.MkdirAll(cfg.DataDir, 0o700)
	}
	log, sink, err := logfile.New(logfile.Config(cfg.Log), o.Log)
	defer sink.Close()
	if err != nil && !o.ForPipes {
		return err
	}
	if err != nil { // logins matter more than the log
		log.Error("log file cannot be opened; logging here instead", "err", err)
	}
	events, err := audit.Open(audit.Config(cfg.Audit))
	if err != nil && !o.ForPipes {
		return err
	}
	if err != nil {
		log.Error("audit log cannot be opened; there is none", "err", err)
	}
	trail := audit.New(events)
	defer trail.Close()
	for _, w := range warnings {
		log.Warn("configuration", "warning", w.String())
	}
	// From here on no signal is missed.
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGUSR1)
	defer signal.Stop(signals)
	hups := make(chan os.Signal, 1) // several during one reload cause one more
	signal.Notify(hups, syscall.SIGHUP)
	defer close(hups)
	defer signal.Stop(hups)
	signal.Ignore(syscall.SIGPIPE) // a write to a closed connection is an error, not the end of the process

	d := &Daemon{log: log, sink: sink, audit: trail, recent: new(recent.Log), pages: make(map[string]*pages.Server), doctor: o.Doctor, own: make(map[string]net.Listener), successors: make(chan *net.UnixConn, 1), started: started}
	if !o.ForPipes {
		d.takeSockets()
	}
	lock, err := d.lock(ctx, cfg, &o)
	if err != nil {
		return err
	}
	defer lock.Close()
	d.lockFile = lock
	socket, err := openControl(o.PipeDir)
	if err != nil {
		return err
	}
	defer socket.Close()
	if o.ForPipes {
		ctx, d.yield = context.WithCancel(ctx)
		defer d.yield()
	} else {
		d.notify = systemd.NewNotifier(log)
		if slices.ContainsFunc(d.kept, func(f *os.File) bool { return f.Name() == systemd.KeptLock }) {
			d.report(d.notify.Drop(systemd.KeptLock)) // if this process crashes, pipes need a broker
		}
	}
	return d.serve(ctx, cfg, o, socket, signals, hups)
}

// rareGC has the garbage collector run rarely until the process has started: most of what it makes until then
// is garbage, and soon given back.
func rareGC() (end func()) {
	const percent = 400
	was := debug.SetGCPercent(percent)
	if was < 0 || was > percent {
		debug.SetGCPercent(was)
		return func() {}
	}
	return func() { debug.SetGCPercent(was) }
}

// lock makes this process the owner of the directory in which pipes and commands find it, and
// sets o.PipeDir to that.
func (d *Daemon) lock(ctx context.Context, cfg *config.Config, o *Options) (*os.File, error) {
	if o.PipeDir == "" {
		o.PipeDir = cfg.DataDir
	}
	if !o.ForPipes {
		o.LockFD = d.takeLock(o.PipeDir)
	}
	lock, err := datadir.Lock(ctx, o.PipeDir, o.LockFD, control.Yield)
	if o.TakeOver && errors.Is(err, datadir.ErrOwned) {
		return d.takeOver(ctx, o.PipeDir)
	}
	if errors.Is(err, fs.ErrPermission) { // not wrapped: the cure for commands would be another one
		return nil, fmt.Errorf("%v: %s", err, ownCure(o.PipeDir))
	}
	if !errors.Is(err, syscall.EROFS) { // as a file system becomes after disk errors: logins must go on
		return lock, err
	}
	d.log.Error("data directory cannot be written: the sockets for pipes and commands are elsewhere; "+readOnlyCure(cfg), "err", err)
	elsewhere := datadir.Fallback
	if o.ForPipes { // pipes look for it there
		elsewhere = datadir.Rendezvous
	}
	if o.PipeDir, err = elsewhere(cfg.DataDir); err != nil {
		return nil, err
	}
	return datadir.Lock(ctx, o.PipeDir, o.LockFD, control.Yield)
}

// ownCure says what to do about a data directory in which this user may not write.
func ownCure(dir string) string {
	me := os.Geteuid()
	switch uid, known := datadir.Owner(dir); {
	case !known:
		return fmt.Sprintf("make it for the user that postern runs as: sudo install -d -m 0711 -o %s %s", datadir.UserName(me), dir)
	case uid != 0 && uid != me:
		return fmt.Sprintf("it belongs to %s: start postern as that user", datadir.UserName(uid))
	}
	return fmt.Sprintf("give it to the user that postern runs as: sudo chown -R %s: %s", datadir.UserName(me), dir)
}

// readOnlyCure says what to do about a data directory on a read-only file system. In a service
// it may be read-only for this process alone.
func readOnlyCure(cfg *config.Config) string {
	if os.Getenv("INVOCATION_ID") == "" && os.Getenv("NOTIFY_SOCKET") == "" {
		return "check the disk"
	}
	return "check the disk, and whether the unit's sandbox lets postern write there (ReadWritePaths=" + cfg.DataDir + ")"
}

// openControl opens the control socket of a directory.
func openControl(dir string) (net.Listener, error) {
	err := datadir.CheckSocketPaths(dir)
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	l, err := listen.Private(filepath.Join(dir, datadir.ControlSocket))
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	return l, nil
}

// serve starts everything in order, waits for the end, and stops it in reverse.
func (d *Daemon) serve(ctx context.Context, cfg *config.Config, o Options, socket net.Listener, signals, hups <-chan os.Signal) error {
	// Sockets come before the store: a client that connects while the store is opened waits. If it
	// could not connect, Postfix's smtpd would exit.
	cfg, list, err := d.served(cfg)
	if err != nil {
		return err
	}
	d.takeKept(list)
	sockets, err := listen.OpenAll(list)
	if err != nil {
		return err
	}
	defer listen.CloseAll(sockets) // those that the broker has not closed
	metricsSocket, err := openMetrics(cfg)
	if err != nil && o.ForPipes { // an error would reach no user, but leave all pipes unanswered
		d.log.Error("metrics are not served", "err", err)
	} else if err != nil {
		return err
	}
	if metricsSocket != nil {
		defer metricsSocket.Close()
	}
	var undo []func() // of sockets that no page has taken
	pageSockets, err := d.openPages(cfg, &undo)
	defer func() {
		for _, u := range undo {
			u()
		}
	}()
	if err != nil {
		return err
	}
	starting, started := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT) // wait gets these, too
	err = d.start(starting, cfg)
	started()
	if err != nil {
		return err
	}
	if d.reloads, err = newReloads(ctx, o.Flags, cfg); err != nil {
		d.Stop(ctx)
		return err
	}
	server := control.Serve(d, d.log, socket)
	d.serveMetrics(metricsSocket)
	d.servePages(cfg, pageSockets)
	if err = d.listen(ctx, o, list, sockets); err == nil {
		d.sink.Flush()
		d.notify.Ready(d.status())
	}
	d.reloads.allow()
	if err == nil {
		watched, unwatch := context.WithCancel(ctx)
		if d.started(); !o.ForPipes {
			go debug.FreeOSMemory() // reading a large configuration takes much more than stays of it
		}
		go d.notify.Watch(watched, d.broker.Alive)
		go d.reloadOn(hups)
		d.wait(ctx, signals)
		unwatch()
		d.notify.Stopping("answering what is in flight")
	}
	server.Close()
	d.metrics.Close()
	d.Stop(context.WithoutCancel(ctx))
	return err
}

// listen has the broker accept on all sockets, and logs that the daemon is ready.
func (d *Daemon) listen(ctx context.Context, o Options, list []listen.Endpoint, sockets []net.Listener) error {
	opened := make(map[string]net.Listener)
	for i, e := range list {
		if err := d.broker.Listen(e.Listener, sockets[i]); err != nil {
			return err
		}
		opened[e.Name] = sockets[i]
		d.log.Info("listening", "listener", e.Name, "protocol", e.Protocol, "activated", e.Passed != nil, "address", listen.ShownAddress(e.Listener, sockets[i]))
		d.noteChanges(e)
	}
	d.noteOwn(list, opened, nil)
	if err := d.listenForPipes(o.PipeDir); err != nil {
		return err
	}
	if o.ForPipes {
		go func() {
			d.untilUnused(ctx)
			d.yield()
		}()
	} else if o.Listening != nil {
		if err := o.Listening(ctx, d.cfg); err != nil {
			return err
		}
	}
	d.audit.Note(audit.Event{Kind: audit.Daemon, Action: "start"})
	d.log.Info("ready", "version", version.Version, "listeners", len(d.cfg.Listeners), "domains", len(d.cfg.Domains), "data_dir", d.cfg.DataDir)
	return nil
}

// otherFiles is how many files are open besides connections: those of the store, sockets to backends and
// so on.
const otherFiles = 512

// fitConnections lowers max_connections of the listeners to what the limit of open files leaves:
// without a free descriptor neither backends nor the store could be reached. It does not depend on the
// other listeners, or a reload that adds one would change all of them.
func (d *Daemon) fitConnections(list []listen.Endpoint) {
	var limit syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit) != nil {
		return
	}
	most := connectionsWithin(uint64(limit.Cur))
	for i := range list {
		if l := &list[i]; l.MaxConnections > most {
			d.log.Debug("max_connections is lowered to what the limit of open files (LimitNOFILE) leaves",
				"listener", l.Name, "max_connections", l.MaxConnections, "lowered_to", most, "limit", limit.Cur)
			l.MaxConnections = most
		}
	}
}

// connectionsWithin is how many connections a listener may have under a limit of open files.
func connectionsWithin(limit uint64) int {
	if limit <= 2*otherFiles {
		return max(int(limit/2), 1)
	}
	return int(min(limit-otherFiles, 1<<20))
}

// noteChanges logs that a listener refuses changes, if the configuration does not say so itself.
func (d *Daemon) noteChanges(e listen.Endpoint) {
	note := e.ChangesNote()
	if note == "" {
		return
	}
	if e.Passed != nil {
		note += fmt.Sprintf("; without such a block, write it with address = \"systemd:%s\"", e.Passed.Name)
	}
	d.log.Warn("changes are refused", "listener", e.Name, "note", note)
}

// listenForPipes serves the relays of pipes on the private socket of a directory. Each request
// brings its own deadline; the one here is the longest of any protocol.
func (d *Daemon) listenForPipes(dir string) error {
	front := config.Listener{
		Name: config.PipeListener, Protocol: string(wire.Relay), Network: "unix", Address: filepath.Join(dir, datadir.RelaySocket),
		Deadline: 30 * time.Second, FrameTimeout: 30 * time.Second, WriteTimeout: 10 * time.Second,
		Pipeline: 256, MaxConnections: 16384,
		Changes: true, // as the user of this directory; a pipe that strangers can reach refuses them itself
	}
	socket, err := listen.Private(front.Address)
	if err != nil {
		return fmt.Errorf("socket for pipes: %w", err)
	}
	if err := d.broker.Listen(front, socket); err != nil {
		return errors.Join(err, socket.Close())
	}
	return nil
}

// Times of a broker of pipes.
const (
	pipeLinger  = time.Second     // after the last pipe
	pipeArrival = 5 * time.Second // of the first one
)

// untilUnused returns when no pipe has been connected for a while.
func (d *Daemon) untilUnused(ctx context.Context) {
	tick := time.NewTicker(pipeLinger / 4)
	defer tick.Stop()
	unused, known := time.Now().Add(pipeArrival-pipeLinger), uint64(0)
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			if open, ever := d.broker.Connections(); open > 0 || ever > known {
				unused, known = now, ever
			} else if now.Sub(unused) >= pipeLinger {
				return
			}
		}
	}
}

// wait acts on signals until one ends the process, or ctx ends.
func (d *Daemon) wait(ctx context.Context, signals <-chan os.Signal) {
	for {
		select {
		case s := <-signals:
			if s == syscall.SIGUSR1 {
				for _, line := range d.broker.Tree() {
					d.log.Info("tree", "actor", line)
				}
				continue
			}
			d.log.Info("stopping", "signal", s.String())
		case d.successor = <-d.successors:
			d.log.Info("stopping", "reason", "another process takes over")
		case <-ctx.Done():
			d.log.Info("stopping", "reason", "no pipe is left, or a daemon takes over")
		}
		d.sink.Flush()
		return
	}
}

// takeSockets takes over the sockets that systemd passed to this process.
func (d *Daemon) takeSockets() {
	passed, kept, problems := systemd.Sockets()
	d.passed, d.kept = passed, kept
	for _, err := range problems {
		d.log.Error("not served", "err", err)
	}
}

// served returns a configuration with the listeners that are served in place of the configured
// ones: with the sockets of systemd, and none at all for the broker of pipes.
func (d *Daemon) served(cfg *config.Config) (*config.Config, []listen.Endpoint, error) {
	out, list, unserved, err := d.match(cfg)
	for _, s := range unserved {
		d.log.Error("a socket from systemd is not served, because its name is neither a protocol nor a listener: set FileDescriptorName= in its unit, or add a listener at systemd:NAME",
			"name", s.Name, "address", s.Address)
	}
	if err == nil && d.yield == nil {
		d.unserved.Store(int64(len(unserved)))
		if len(list) == 0 {
			d.log.Warn("there is no listener and no socket from systemd, so no server can ask, except by `postern pipe`: add a listen block, or enable a socket unit")
		}
	}
	return out, list, err
}

func (d *Daemon) match(cfg *config.Config) (*config.Config, []listen.Endpoint, []*systemd.Socket, error) {
	out := *cfg
	out.Listeners = nil
	if d.yield != nil {
		out.Web = config.Web{}
		return &out, nil, nil, nil
	}
	list, unserved, err := listen.Match(cfg, d.passed)
	d.fitConnections(list)
	for _, e := range list {
		out.Listeners = append(out.Listeners, e.Listener)
	}
	return &out, list, unserved, err
}

// openMetrics opens the address of a configuration's metrics, if there is one.
func openMetrics(cfg *config.Config) (net.Listener, error) {
	if cfg.Metrics == "" {
		return nil, nil
	}
	return listen.Open(config.Listener{Name: "metrics", Network: "tcp", Address: cfg.Metrics})
}

func (d *Daemon) serveMetrics(socket net.Listener) {
	d.metrics = metrics.Serve(socket, d.cfg.Metrics, d.log, d.snapshot)
}

// maxWhy is how much of a failed reload's error the status has, in bytes.
const maxWhy = 400

// status is the line for `systemctl status`.
func (d *Daemon) status() string {
	state := d.reloads.state.Load()
	if state.failed == nil {
		return d.serving()
	}
	why := strings.ReplaceAll(state.failed.Error(), "\n", "; ")
	if len(why) > maxWhy {
		why = strings.ToValidUTF8(why[:maxWhy], "") + " ..."
	}
	return fmt.Sprintf("RELOAD FAILED, the configuration of %s is in force: %s", state.loaded.Format(time.DateTime), why)
}

// serving says what is served.
func (d *Daemon) serving() string {
	text := fmt.Sprintf("serving %s on %s", plural(len(d.cfg.Domains), "domain"), plural(len(d.cfg.Listeners), "listener"))
	if n := d.unserved.Load(); n > 0 {
		text += fmt.Sprintf("; %s of unknown name not served", plural(int(n), "socket"))
	}
	return text
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

package actors

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"postern/actors/memory"
	"postern/actors/supervise"
	"postern/internal/audit"
	"postern/internal/auth"
	"postern/internal/backend"
	"postern/internal/config"
	"postern/internal/store"
)

// fakeBackend is a backend with answers that a test sets. Without ask it answers as goodPassword.
type fakeBackend struct {
	ask    func(ctx context.Context, q backend.Query) backend.Result
	asked  atomic.Int64
	closed atomic.Bool
}

func (f *fakeBackend) Ask(ctx context.Context, q backend.Query) backend.Result {
	f.asked.Add(1)
	if f.ask != nil {
		return f.ask(ctx, q)
	}
	return goodPassword(q)
}

func (f *fakeBackend) Close() error { f.closed.Store(true); return nil }

// goodPassword accepts the password "good". Every user exists but nobody*.
func goodPassword(q backend.Query) backend.Result {
	yes := q.Secret.Reveal() == "good"
	switch q.Op {
	case auth.OpAuth:
	case auth.OpIsUser:
		yes = !strings.HasPrefix(q.User, "nobody")
	case auth.OpRoster:
		return backend.Result{Class: backend.Accepted, Body: []byte(`{"result":"success"}`)}
	default:
		return backend.Result{Class: backend.Unsupported}
	}
	if yes {
		return backend.Result{Class: backend.Accepted}
	}
	return backend.Result{Class: backend.Refused}
}

// outage is a backend that cannot be reached.
func outage(context.Context, backend.Query) backend.Result {
	return backend.Result{Class: backend.Outage, Err: errors.New("connection refused")}
}

// hang answers when its context ends.
func hang(ctx context.Context, _ backend.Query) backend.Result {
	<-ctx.Done()
	return backend.Result{Class: backend.Outage, Err: ctx.Err()}
}

// clock is a clock that a test moves.
type clock struct{ offset atomic.Int64 }

func (c *clock) now() time.Time          { return time.Now().Add(time.Duration(c.offset.Load())) }
func (c *clock) advance(d time.Duration) { c.offset.Add(int64(d)) }

// rig is a broker under test.
type rig struct {
	*Broker
	t     testing.TB
	fake  *fakeBackend
	clock *clock
	log   *syncBuffer
	trail *trail // the audit log
	cfg   *config.Config
	stop  func() // once, at the latest at the test's end
	end   func() // how stop ends the broker
}

// setup changes what a rig is made of.
type setup struct {
	cfg           *config.Config
	fake          *fakeBackend
	more          map[string]*fakeBackend           // further backends of cfg, by name
	made          func(config.Backend) *fakeBackend // of registered domains
	wrap          func(*fakeBackend) backend.Backend
	store         store.Store
	former        *Memory
	clock         *clock
	inject        func(string, any)
	level         slog.Level
	quickRestarts bool // short pauses before restarts
}

var rigBackend = config.BackendRef{Kind: "json", Name: "fake"}

// rigConfig is one domain, dom.example, on one backend.
func rigConfig() *config.Config {
	return &config.Config{
		Backends: []config.Backend{{
			BackendRef: rigBackend, Slots: 8, Queue: 64, BreakerFailures: 1000, BreakerCooldown: time.Second,
		}},
		Domains: []config.Domain{{
			Name: "dom.example", Backends: []config.BackendRef{rigBackend},
			Cache: config.Cache{
				Storage: config.StorageMemory, QueryTTL: time.Hour, VerifyTTL: 24 * time.Hour, OutageTTL: 168 * time.Hour,
				RefusedTTL: 5 * time.Minute, ExistsTTL: time.Hour, AbsentTTL: time.Minute,
				BcryptCost: 4, Secrets: 4, HotEntries: 10000,
			},
		}},
	}
}

// libraryGoroutines are goroutines that libraries start. Those of the actor library end by themselves
// a second after a dead letter, such as a wake-up for a connection that has just ended.
var libraryGoroutines = []goleak.Option{
	goleak.IgnoreTopFunction("github.com/asynkron/protoactor-go/actor.NewDeadLetter.NewThrottle.func4.1"),
	goleak.IgnoreTopFunction("github.com/asynkron/protoactor-go/actor.NewThrottle.func1.1"), // not inlined
	// The log of a store that the test opened before, which begins a new one after some MiB.
	goleak.IgnoreAnyFunction("github.com/cockroachdb/pebble/v2/record.(*LogWriter).flushLoop"),
}

// newRig starts a broker and stops it at the test's end, when no goroutine may be left.
func newRig(t testing.TB, change func(*setup)) *rig {
	t.Helper()
	before := goleak.IgnoreCurrent()
	s := &setup{cfg: rigConfig(), fake: &fakeBackend{}, clock: &clock{}, level: slog.LevelInfo}
	if change != nil {
		change(s)
	}
	fakes := map[string]*fakeBackend{rigBackend.Name: s.fake}
	maps.Copy(fakes, s.more)
	r := &rig{t: t, fake: s.fake, clock: s.clock, log: &syncBuffer{}, trail: &trail{}, cfg: s.cfg}
	events := audit.New(r.trail)
	var err error
	r.Broker, err = Start(Options{
		Config: s.cfg, Store: s.store, Former: s.former, Clock: r.clock.now, Audit: events, kernel: kernelOf(s),
		Log: slog.New(slog.NewTextHandler(r.log, &slog.HandlerOptions{Level: s.level})),
		Backend: func(c config.Backend, _ backend.Hashing) (backend.Backend, error) {
			if fakes[c.Name] == nil && s.made != nil {
				return s.made(c), nil
			}
			if s.wrap != nil {
				return s.wrap(fakes[c.Name]), nil
			}
			return fakes[c.Name], nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	r.end = r.Stop
	r.stop = sync.OnceFunc(func() {
		r.end()
		events.Close()
		goleak.VerifyNone(t, append(libraryGoroutines, before)...)
		for name, f := range fakes {
			if !f.closed.Load() {
				t.Errorf("the backend %s was not closed", name)
			}
		}
	})
	t.Cleanup(r.stop)
	return r
}

// kernelOf is how the actors of a rig are supervised.
func kernelOf(s *setup) (o supervise.Options) {
	o.Inject = s.inject
	if s.quickRestarts {
		o.FirstPause, o.MaxPause = 100*time.Microsecond, time.Millisecond
	}
	return o
}

// listenerBlock returns a listener block with the usual limits.
func listenerBlock(protocol string) config.Listener {
	return config.Listener{
		Name: protocol, Protocol: protocol, DefaultDomain: "dom.example", Deadline: 4 * time.Second,
		FrameTimeout: 5 * time.Second, WriteTimeout: 5 * time.Second, MaxFrame: 65536, Pipeline: 64, MaxConnections: 4096,
	}
}

// listen opens a listener on loopback and returns its address.
func (r *rig) listen(cfg config.Listener) string { return r.listenOn("tcp", cfg) }

// listenOn opens a listener of a network, tcp or unix, and returns its address.
func (r *rig) listenOn(network string, cfg config.Listener) string {
	r.t.Helper()
	address := "127.0.0.1:0"
	if network == "unix" {
		dir, err := os.MkdirTemp("", "postern") // a socket's path may have 107 bytes: no t.TempDir
		if err != nil {
			r.t.Fatal(err)
		}
		r.t.Cleanup(func() { _ = os.RemoveAll(dir) })
		address = filepath.Join(dir, "socket")
	}
	l, err := net.Listen(network, address)
	if err != nil {
		r.t.Fatal(err)
	}
	if err := r.Listen(cfg, l); err != nil {
		r.t.Fatal(err)
	}
	return l.Addr().String()
}

// trail is an audit log in memory.
type trail struct{ syncBuffer }

func (*trail) Flush()        {}
func (*trail) Reopen() error { return nil }
func (*trail) Close()        {}

// client is a TCP or a Unix connection.
type client interface {
	net.Conn
	CloseWrite() error
}

// dial connects, for the time of the test and at most 20 s.
func (r *rig) dial(address string) client {
	r.t.Helper()
	network := "tcp"
	if filepath.IsAbs(address) {
		network = "unix"
	}
	c, err := net.Dial(network, address)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(timeout))
	return c.(client)
}

// exchange sends input in one write, ends sending, and returns everything that comes back.
func (r *rig) exchange(address, input string) string {
	r.t.Helper()
	c := r.dial(address)
	go func() {
		_, _ = io.WriteString(c, input)
		_ = c.CloseWrite()
	}()
	out, err := io.ReadAll(c)
	if err != nil {
		r.t.Fatalf("after %q: %v", out, err)
	}
	return string(out)
}

// auth asks for a login and returns the answer.
func (r *rig) auth(user, password string) auth.Answer {
	r.t.Helper()
	return r.ask(auth.Request{Op: auth.OpAuth, User: user, Domain: "dom.example", Secret: auth.NewSecret(password)})
}

func (r *rig) ask(req auth.Request) auth.Answer {
	return r.Ask(context.Background(), req, 4*time.Second).Answer
}

// want checks an answer.
func (r *rig) want(a auth.Answer, v auth.Verdict, s auth.Source) {
	r.t.Helper()
	if a.Verdict != v || a.Source != s {
		r.t.Errorf("answered %v (%v), want %v (%v)", a.Verdict, a.Source, v, s)
	}
}

// tick is a message that actors ignore: a test recognises it where messages are injected.
type tick struct{}

var tickMessage = new(tick)

// injected is the panic of a test.
type injected string

func (i injected) Error() string { return "injected: " + string(i) }

// RuntimeError has the log show it.
func (injected) RuntimeError() {}

// hold is where a test holds something up.
type hold struct{ reached, release chan struct{} }

func newHold() *hold { return &hold{make(chan struct{}), make(chan struct{})} }

// attempts is how often an outcome is taken up again after a panic.
const attempts = 3

// ref returns the actor of a name.
func (r *rig) ref(name string) *supervise.Ref {
	r.t.Helper()
	for _, ref := range r.env.System.Refs() {
		if ref.Name() == name {
			return ref
		}
	}
	r.t.Fatalf("there is no actor %s", name)
	return nil
}

// open is how many connections there are.
func (r *rig) open() int {
	open, _ := r.Connections()
	return open
}

// width is how many shards there are.
func (r *rig) width() int { return memory.Processors() }

// stuck holds up an actor until release is called.
func (r *rig) stuck(f *faults, name string) (release func()) {
	h := newHold()
	f.holdUp(name, h)
	r.ref(name).Send(tickMessage)
	<-h.reached
	return func() { close(h.release) }
}

// syncBuffer is a log that a test reads while it is written.
type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// timeout bounds each wait for an event: many times what a quiet machine needs.
const timeout = 2 * time.Minute

// eventually waits for a condition that another goroutine brings about.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(timeout)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("%s did not happen", what)
		}
		time.Sleep(time.Millisecond)
	}
}

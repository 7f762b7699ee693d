package front

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"go.uber.org/goleak"

	"postern/actors/call"
	"postern/actors/env"
	"postern/actors/front/fronttest"
	"postern/actors/metrics"
	"postern/actors/supervise"
	"postern/internal/auth"
	"postern/internal/config"
)

// Answers of a backend, and of the memory.
var (
	accepted    = auth.Answer{Verdict: auth.Allow, Source: auth.SourceBackend}
	refused     = auth.Answer{Verdict: auth.Deny, Source: auth.SourceBackend}
	outage      = auth.Answer{Source: auth.SourceBackend}
	unsupported = auth.Answer{Verdict: auth.Unsupported, Source: auth.SourceBackend}
)

// goodPassword accepts the password "good" and every user but nobody*.
func goodPassword(q auth.Request) auth.Answer {
	yes := false
	switch q.Op {
	case auth.OpAuth:
		yes = q.Secret.Reveal() == "good"
	case auth.OpIsUser:
		yes = !strings.HasPrefix(q.User, "nobody")
	case auth.OpRoster:
		return auth.Answer{Verdict: auth.Allow, Source: auth.SourceBackend, Body: []byte(`{"result":"success"}`)}
	default:
		return unsupported
	}
	if yes {
		return accepted
	}
	return refused
}

// hang answers when its time is over.
func hang(ctx context.Context, _ auth.Request) auth.Answer {
	<-ctx.Done()
	return auth.Answer{Source: auth.SourceDeadline}
}

// fakeRouter answers the calls for the domain dom.example. As in the process, the goroutine of a
// connection runs an actor, the shard of the user, which either answers or has a backend asked on
// another goroutine.
type fakeRouter struct {
	env    env.Env
	gate   *call.Gate
	shards []*supervise.Ref
	// memory answers at once, in the actor; false: the backend is asked.
	memory func(*call.Call) (auth.Answer, bool)
	// backend answers on a goroutine of its own; nil: goodPassword does, in the actor.
	backend func(context.Context, auth.Request) auth.Answer
	asked   atomic.Int64 // questions to the backend
	prepare func()       // called first by Prepare; nil: nothing

	limited   func(id auth.Identity, client string) bool // nil: none is
	elsewhere []string                                   // refusals of other servers, one request at a time
	asking    sync.WaitGroup
}

func newFakeRouter(e env.Env, gate *call.Gate) *fakeRouter {
	f := &fakeRouter{env: e, gate: gate}
	for i := range 2 {
		ref, err := e.System.Spawn(fmt.Sprint("shard", i), 1<<16, func(*supervise.Ref) actor.Actor { return fakeShard{f} })
		if err != nil {
			panic(err)
		}
		f.shards = append(f.shards, ref)
	}
	return f
}

// Prepare implements Router.
func (f *fakeRouter) Prepare(c *call.Call, defaultDomain string) bool {
	if f.prepare != nil {
		f.prepare()
	}
	if c.Req.Op == auth.OpIsDomain {
		a := auth.Answer{Verdict: auth.Deny, Source: auth.SourceUnknownDomain}
		if c.Req.Domain == "dom.example" {
			a = auth.Answer{Verdict: auth.Allow, Source: auth.SourceHot}
		}
		c.Answer(a)
		return false
	}
	id, err := c.Req.Identity(defaultDomain)
	if err == nil {
		err = c.Req.Check()
	}
	if err != nil {
		c.Answer(auth.Answer{Verdict: auth.Deny, Source: auth.SourceMalformed})
		return false
	}
	c.ID, c.Name, c.Hash = id.Fold(), id.User, uint64(len(id.User))
	return true
}

// Users implements Router.
func (*fakeRouter) Users(_ context.Context, domain string) ([]string, error) {
	if domain != "dom.example" {
		return nil, errors.New("injected: no list")
	}
	return []string{"ann", "joe"}, nil
}

// Limited implements Router.
func (f *fakeRouter) Limited(id auth.Identity, client string) bool {
	return f.limited != nil && f.limited(id, client)
}

// Refused implements Router.
func (f *fakeRouter) Refused(front string, id auth.Identity, client, hash string) {
	f.elsewhere = append(f.elsewhere, strings.Join([]string{front, id.String(), client, hash}, " "))
}

// XMPPUser implements Router.
func (*fakeRouter) XMPPUser(id auth.Identity) string { return id.User }

// Route implements Router.
func (f *fakeRouter) Route(run *supervise.Runner, c *call.Call) {
	switch {
	case f.gate.Draining():
		c.Unavailable(auth.SourceDraining)
	case c.ID.Domain != "dom.example":
		c.Answer(auth.Answer{Verdict: auth.Deny, Source: auth.SourceUnknownDomain})
	case run == nil:
		f.shards[c.Hash%2].Send(c)
	default:
		f.shards[c.Hash%2].SendBy(run, c)
	}
}

// fakeShard is an actor of a fakeRouter.
type fakeShard struct{ *fakeRouter }

func (s fakeShard) Receive(ctx actor.Context) {
	switch m := ctx.Message().(type) {
	case func():
		m()
	case *call.Call:
		if s.memory != nil {
			if a, known := s.memory(m); known {
				m.Answer(a)
				return
			}
		}
		s.asked.Add(1)
		q := m.Req
		q.User, q.Domain = m.ID.User, m.ID.Domain
		if s.backend == nil {
			m.Answer(goodPassword(q))
			return
		}
		s.asking.Add(1)
		go func() {
			defer s.asking.Done()
			ctx, cancel := context.WithDeadline(s.env.Context, m.Deadline)
			defer cancel()
			m.Answer(s.backend(ctx, q))
		}()
	}
}

// fault is a kind of message, by the name of its type, at actors by a part of their names, or at one.
type fault struct{ actor, kind string }

// faults panics in actors, so many times for each kind of message. It is the Inject of a system.
type faults struct {
	mu   sync.Mutex
	plan map[fault]int // panics still to come
	seen map[fault]int // messages
	more atomic.Pointer[func(actor string, message any)]
}

// injected is the panic of a fault.
type injected string

// arm plans panics at messages of a kind, of the actors with names that contain a text.
func (f *faults) arm(actor, kind string, times int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.plan[fault{actor, kind}] += times
}

// left is how many planned panics have not happened.
func (f *faults) left() (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, times := range f.plan {
		n += times
	}
	return n
}

// count is how many messages of a kind the actors with a text in their names were given.
func (f *faults) count(actor, kind string) (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for at, times := range f.seen {
		if at.kind == kind && strings.Contains(at.actor, actor) {
			n += times
		}
	}
	return n
}

func (f *faults) inject(name string, message any) {
	if more := f.more.Load(); more != nil {
		(*more)(name, message)
	}
	kind := reflect.TypeOf(message)
	if kind.Kind() == reflect.Pointer {
		kind = kind.Elem()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.seen[fault{name, kind.Name()}]++
	for at, times := range f.plan {
		if at.kind == kind.Name() && times > 0 && strings.Contains(name, at.actor) {
			f.plan[at]--
			panic(injected(name + " at " + at.kind))
		}
	}
}

// rig is a server under test.
type rig struct {
	*Server
	t       testing.TB
	router  *fakeRouter
	system  *supervise.System
	faults  *faults
	log     *fronttest.Log
	stopped func() // once, at the latest at the test's end
}

// libraryGoroutines end by themselves a second after a dead letter, such as a wake-up for a
// connection that has just ended.
var libraryGoroutines = []goleak.Option{
	goleak.IgnoreTopFunction("github.com/asynkron/protoactor-go/actor.NewDeadLetter.NewThrottle.func4.1"),
	goleak.IgnoreTopFunction("github.com/asynkron/protoactor-go/actor.NewThrottle.func1.1"), // not inlined
}

// newRig starts a server and stops it at the test's end, when no goroutine may be left.
func newRig(t testing.TB) *rig { return newRigAt(t, slog.LevelInfo) }

func newRigAt(t testing.TB, level slog.Level) *rig {
	t.Helper()
	before := goleak.IgnoreCurrent()
	r := &rig{t: t, log: new(fronttest.Log), faults: &faults{plan: make(map[fault]int), seen: make(map[fault]int)}}
	log := slog.New(slog.NewTextHandler(r.log, &slog.HandlerOptions{Level: level}))
	r.system = supervise.NewSystem(supervise.Options{
		Log: log, Inject: r.faults.inject, FirstPause: 100 * time.Microsecond, MaxPause: time.Millisecond,
	})
	ctx, cancel := context.WithCancel(context.Background())
	e := env.New(ctx, r.system, log, time.Now)
	gate := new(call.Gate)
	r.router = newFakeRouter(e, gate)
	r.Server = NewServer(e, r.router, gate, metrics.NewDecisions(), nil)
	sweeper := make(chan struct{})
	swept := make(chan struct{})
	go func() {
		defer close(swept)
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-sweeper:
				return
			case now := <-tick.C:
				r.Sweep(now)
			}
		}
	}()
	r.stopped = sync.OnceFunc(func() {
		gate.Drain()
		cancel()
		r.Stop(10 * time.Second)
		if n := gate.InFlight(); n != 0 {
			t.Errorf("%d calls are in flight at the end", n)
		}
		r.router.asking.Wait()
		for _, ref := range r.router.shards {
			ref.Stop()
			<-ref.Stopped()
		}
		close(sweeper)
		<-swept
		r.system.Close()
		goleak.VerifyNone(t, append(libraryGoroutines, before)...)
	})
	t.Cleanup(r.stopped)
	return r
}

// listenerBlock returns a listener block with the usual limits.
func listenerBlock(protocol string) config.Listener {
	return config.Listener{
		Name: protocol, Protocol: protocol, DefaultDomain: "dom.example", Deadline: 20 * time.Second,
		FrameTimeout: 20 * time.Second, WriteTimeout: 20 * time.Second, MaxFrame: 65536, Pipeline: 64, MaxConnections: 4096,
	}
}

// short is a listener block with a short deadline.
func short(protocol string, deadline time.Duration) config.Listener {
	cfg := listenerBlock(protocol)
	cfg.Deadline = deadline
	return cfg
}

// listen opens a listener on loopback and returns its address.
func (r *rig) listen(cfg config.Listener) string { return r.listenOn("tcp", cfg) }

// listenOn opens a listener of a network, tcp or unix, and returns its address.
func (r *rig) listenOn(network string, cfg config.Listener) string {
	r.t.Helper()
	return r.listenAt(cfg, fronttest.Socket(r.t, network))
}

func (r *rig) listenAt(cfg config.Listener, socket net.Listener) string {
	r.t.Helper()
	if err := r.Listen(cfg, socket); err != nil {
		r.t.Fatal(err)
	}
	return socket.Addr().String()
}

func (r *rig) dial(address string) fronttest.Conn {
	r.t.Helper()
	return fronttest.Dial(r.t, address)
}

func (r *rig) exchange(address, input string) string {
	r.t.Helper()
	return fronttest.Exchange(r.t, address, input)
}

// open is how many connections there are.
func (r *rig) open() int {
	n, _ := r.Connections()
	return n
}

// ready counts the answers that wait in connections for their turn.
func (r *rig) ready() (n int) {
	for _, c := range r.connsWhere((*conn).busy) {
		for i := range c.ring {
			if call := c.ring[i].Load(); call != nil && call.Done() {
				n++
			}
		}
	}
	return n
}

// restarts sums the restarts of the actors with names that contain a text, as Tree shows them.
func (r *rig) restarts(actor string) (sum int) {
	for _, line := range r.system.Tree() {
		var n int
		if name, count, _ := strings.Cut(line, " restarts="); strings.Contains(name, actor) {
			_, _ = fmt.Sscan(count, &n)
		}
		sum += n
	}
	return sum
}

// startDrain drains on another goroutine, and waits until no request is read any more. The channel is
// closed at the end.
func (r *rig) startDrain() <-chan struct{} {
	done := make(chan struct{})
	go func() { defer close(done); r.Drain(context.Background()) }()
	eventually(r.t, "the end of reading", r.draining.Load)
	return done
}

// barrier is a backend that holds every question until the test opens it.
type barrier struct {
	waiting atomic.Int64
	opened  chan struct{}
}

func newBarrier() *barrier { return &barrier{opened: make(chan struct{})} }

func (b *barrier) open() { close(b.opened) }

func (b *barrier) ask(ctx context.Context, q auth.Request) auth.Answer {
	b.waiting.Add(1)
	select {
	case <-b.opened:
		return goodPassword(q)
	case <-ctx.Done():
		return outage
	}
}

// reached waits until n questions have come.
func (b *barrier) reached(t testing.TB, n int64) {
	t.Helper()
	eventually(t, "a question at the backend", func() bool { return b.waiting.Load() >= n })
}

// Short names for the helpers in use everywhere.
var (
	same       = fronttest.Same
	eventually = fronttest.Eventually
	within     = fronttest.Within
	ended      = fronttest.Ended
	roundTrip  = fronttest.RoundTrip
)

// inMemory has the memory answer every call.
func (r *rig) inMemory(answer func(auth.Request) auth.Answer) {
	r.router.memory = func(c *call.Call) (auth.Answer, bool) {
		q := c.Req
		q.User, q.Domain = c.ID.User, c.ID.Domain
		return answer(q), true
	}
}

// socketOf opens a TCP socket.
func socketOf(t testing.TB) net.Listener {
	t.Helper()
	return fronttest.Socket(t, "tcp")
}

// watchedSocket counts the writes of the connections that it accepts, and may have them panic.
type watchedSocket struct {
	net.Listener
	writes       atomic.Int64
	panicAtWrite int64       // the number of the write that panics
	panicAtEOF   atomic.Bool // so does the first read at the end of the input
}

func (w *watchedSocket) Accept() (net.Conn, error) {
	c, err := w.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &watchedConn{c.(*net.TCPConn), w}, nil
}

type watchedConn struct {
	*net.TCPConn
	socket *watchedSocket
}

func (c *watchedConn) Write(b []byte) (int, error) {
	if c.socket.writes.Add(1) == c.socket.panicAtWrite {
		panic(injected("write"))
	}
	return c.TCPConn.Write(b)
}

func (c *watchedConn) Read(b []byte) (int, error) {
	n, err := c.TCPConn.Read(b)
	if err == io.EOF && c.socket.panicAtEOF.Swap(false) {
		panic(injected("read"))
	}
	return n, err
}

// settled waits until no actor of the router waits for its restart.
func (r *rig) settled() {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := r.system.Alive(ctx); err != nil {
		r.t.Fatal(err)
	}
}

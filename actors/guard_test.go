package actors

import (
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"go.uber.org/goleak"

	"postern/internal/auth"
)

// parcel is a request that notes what became of it.
type parcel struct {
	mu     sync.Mutex
	failed []auth.Source
	panics int // it lets the actor panic so many times
	seen   int
}

func (p *parcel) Fail(why auth.Source) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.failed = append(p.failed, why)
}

// fate is why the parcel was failed, and how often.
func (p *parcel) fate() (why auth.Source, times int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.failed) > 0 {
		why = p.failed[0]
	}
	return why, len(p.failed)
}

func (p *parcel) handle() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seen++
	if p.panics > 0 {
		p.panics--
		panic(injected("parcel"))
	}
}

func (p *parcel) handled() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.seen > 0 && p.panics == 0
}

// must is a parcel that is not to be lost.
type must struct{ parcel }

func (*must) continues() {}

// hold stops the actor until the test lets it go on.
type hold struct{ reached, release chan struct{} }

func newHold() *hold { return &hold{make(chan struct{}), make(chan struct{})} }

// carrier is the actor under test. Lifecycle messages in panics make it panic.
type carrier struct {
	panics map[string]bool
	note   func(kind string)
}

func (c *carrier) Receive(ctx actor.Context) {
	switch m := ctx.Message().(type) {
	case *parcel:
		m.handle()
	case *must:
		m.handle()
	case *hold:
		close(m.reached)
		<-m.release
	default:
		kind := kindOf(m)
		if c.note != nil {
			c.note(kind)
		}
		if c.panics[kind] {
			panic(injected(kind))
		}
	}
}

// guardRig is a system with one actor, whose restarts wait for the test.
type guardRig struct {
	*system
	t   *testing.T
	pid *actor.PID

	mu      sync.Mutex
	pending []func()
	pauses  []time.Duration
}

func newGuardRig(t *testing.T, limit int, c *carrier) *guardRig {
	t.Helper()
	before := goleak.IgnoreCurrent()
	g := &guardRig{system: newSystem(slog.New(slog.DiscardHandler)), t: t}
	g.strategy.schedule = func(pause time.Duration, restart func()) {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.pending, g.pauses = append(g.pending, restart), append(g.pauses, pause)
	}
	var err error
	if g.pid, err = g.spawnRoot("carrier", limit, true, func() actor.Actor { return c }); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		g.stopped()
		g.close()
		goleak.VerifyNone(t, append(othersGoroutines, before)...)
	})
	return g
}

// restart lets the actor be restarted as soon as that was asked for.
func (g *guardRig) restart() {
	g.t.Helper()
	eventually(g.t, "a restart that waits", func() bool {
		g.mu.Lock()
		defer g.mu.Unlock()
		if len(g.pending) == 0 {
			return false
		}
		g.pending[0]()
		g.pending = g.pending[1:]
		return true
	})
}

// stopped stops the actor and waits for its end.
func (g *guardRig) stopped() {
	g.t.Helper()
	answeredWithin(g.t, 8*time.Second, "the stop of an actor", func() {
		_ = g.Root.StopFuture(g.pid).Wait()
	})
}

// send posts a message and returns it.
func send[M any](g *guardRig, m M) M {
	g.Root.Send(g.pid, m)
	return m
}

// fellTo checks that a request was failed once and why.
func fellTo(t *testing.T, name string, p *parcel, want auth.Source) {
	t.Helper()
	eventually(t, name+" being failed", func() bool { _, n := p.fate(); return n > 0 })
	if why, n := p.fate(); why != want || n != 1 {
		t.Errorf("%s was failed %d times, first for %v; want once for %v", name, n, why, want)
	}
}

func TestMailboxIsBounded(t *testing.T) {
	g := newGuardRig(t, 3, &carrier{})
	h := send(g, newHold())
	<-h.reached
	var fit []*parcel
	for range 3 {
		fit = append(fit, send(g, new(parcel)))
	}
	if why, n := send(g, new(parcel)).fate(); why != auth.SourceOverload || n != 1 {
		t.Errorf("beyond the limit: failed %d times for %v", n, why)
	}
	rest := send(g, new(must)) // a continuation has been admitted before
	close(h.release)
	for i, p := range append(fit, &rest.parcel) {
		eventually(t, "work", p.handled)
		if _, n := p.fate(); n != 0 {
			t.Errorf("message %d was failed", i)
		}
	}
	late := send(g, new(parcel)) // there is room again
	eventually(t, "work", late.handled)
}

func TestPanicFailsItsRequestOnly(t *testing.T) {
	g := newGuardRig(t, 10, &carrier{})
	h := send(g, newHold())
	<-h.reached
	bad := send(g, &parcel{panics: 1})
	next := send(g, new(parcel))
	close(h.release)
	fellTo(t, "the request that panics", bad, auth.SourcePanic)
	eventually(t, "the next one", next.handled) // the first restart comes at once
}

func TestSuspendedActorAnswers(t *testing.T) {
	g := newGuardRig(t, 10, &carrier{})
	send(g, &parcel{panics: 1})
	h := send(g, newHold())
	<-h.reached
	send(g, &parcel{panics: 1}) // the second failure makes the actor wait
	queued := send(g, new(parcel))
	close(h.release)
	eventually(t, "suspension", func() bool { return g.box().suspended.Load() })
	if why, n := send(g, new(parcel)).fate(); why != auth.SourcePanic || n != 1 {
		t.Errorf("a suspended actor failed a request %d times for %v", n, why)
	}
	rest := send(g, new(must))
	if _, n := rest.fate(); n != 0 {
		t.Error("a suspended actor failed a continuation")
	}
	g.restart()
	eventually(t, "the queue", func() bool { return queued.handled() && rest.handled() })
	late := send(g, new(parcel))
	eventually(t, "a late request", late.handled)
}

// box is the mailbox of the actor.
func (g *guardRig) box() *mailbox {
	g.system.mu.Lock()
	defer g.system.mu.Unlock()
	return g.stats["carrier"].box.Load()
}

func TestStoppedActorFailsItsQueue(t *testing.T) {
	g := newGuardRig(t, 10, &carrier{})
	h := send(g, newHold())
	<-h.reached
	queued, rest := send(g, new(parcel)), send(g, new(must))
	g.Root.Stop(g.pid)
	close(h.release)
	fellTo(t, "a queued request", queued, auth.SourceStopping)
	fellTo(t, "a queued continuation", &rest.parcel, auth.SourceStopping)
	g.stopped()
	fellTo(t, "a request after the end", send(g, new(parcel)), auth.SourceStopping)
	fellTo(t, "a continuation after the end", &send(g, new(must)).parcel, auth.SourceStopping)
}

// TestStoppedWhileSuspended: the library never looks again into the queue of an actor that
// stops while it waits for its restart.
func TestStoppedWhileSuspended(t *testing.T) {
	g := newGuardRig(t, 10, &carrier{})
	send(g, &parcel{panics: 1})
	h := send(g, newHold())
	<-h.reached
	send(g, &parcel{panics: 1})
	queued := send(g, new(parcel))
	close(h.release)
	eventually(t, "suspension", func() bool { return g.box().suspended.Load() })
	g.stopped()
	fellTo(t, "a queued request", queued, auth.SourceStopping)
}

func TestDeadLettersAreFailed(t *testing.T) {
	g := newGuardRig(t, 10, &carrier{})
	p := new(parcel)
	g.Root.Send(g.NewLocalPID("nobody"), p)
	fellTo(t, "a request to nobody", p, auth.SourceStopping)
}

// TestMailboxBeforeStart: the library lets an actor's name be found before the mailbox has a
// dispatcher and before Started is in it. What comes then is handled after Started.
func TestMailboxBeforeStart(t *testing.T) {
	order := make(chan any, 3)
	m := guarded(10, &actorStats{name: "early", log: slog.New(slog.DiscardHandler)})()
	early := new(parcel)
	m.PostUserMessage(early)
	d := newDispatcher()
	defer d.close()
	m.RegisterHandlers(invoked(order), d)
	late := new(parcel)
	m.PostUserMessage(late)
	m.PostSystemMessage(&actor.Started{})
	m.Start()
	if _, ok := (<-order).(*actor.Started); !ok {
		t.Error("Started is not the first message")
	}
	if <-order != any(early) || <-order != any(late) {
		t.Error("the messages are not in order")
	}
}

// invoked is an invoker that reports what it is given.
type invoked chan any

func (i invoked) InvokeSystemMessage(m any) { i <- m }
func (i invoked) InvokeUserMessage(m any)   { i <- m }
func (i invoked) EscalateFailure(_, _ any)  {}

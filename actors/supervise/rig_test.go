package supervise

import (
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"go.uber.org/goleak"
)

// injected is the panic of a test. As a runtime error it is shown in logs.
type injected string

func (i injected) Error() string { return "injected: " + string(i) }

func (injected) RuntimeError() {}

// parcel is a request that notes what became of it.
type parcel struct {
	mu     sync.Mutex
	failed []Reason
	panics int // it lets the actor panic so many times
	seen   int
}

func (p *parcel) Fail(why Reason) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.failed = append(p.failed, why)
}

// fate is why the parcel was failed, and how often.
func (p *parcel) fate() (why Reason, times int) {
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

func (*must) Continues() {}

// hold stops the actor until the test lets it go on.
type hold struct{ reached, release chan struct{} }

func newHold() *hold { return &hold{make(chan struct{}), make(chan struct{})} }

// carrier is the actor under test. Lifecycle messages in panics make it panic, and a func is
// called with it.
type carrier struct {
	panics map[string]bool
	note   func(kind string)
	self   *Ref
}

func (c *carrier) Receive(ctx actor.Context) {
	switch m := ctx.Message().(type) {
	case *parcel:
		m.handle()
	case *must:
		m.handle()
	case *walk:
		m.handle(c)
	case *hop:
		m.handle(c)
	case *hold:
		close(m.reached)
		<-m.release
	case *Op[*carrier]:
		m.Run(c)
	case func(*carrier):
		m(c)
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

func kindOf(message any) string {
	_, name, _ := strings.Cut(fmt.Sprintf("%T", message), ".")
	return name
}

var quietLog = slog.New(slog.DiscardHandler)

// rig is a system with one actor; its second and further restarts wait for the test.
type rig struct {
	*System
	t   testing.TB
	ref *Ref

	mu      sync.Mutex
	pending []func()
}

// throttleGoroutines are those of the library that end by themselves a second after a dead letter.
var throttleGoroutines = []goleak.Option{
	goleak.IgnoreTopFunction("github.com/asynkron/protoactor-go/actor.NewDeadLetter.NewThrottle.func4.1"),
	goleak.IgnoreTopFunction("github.com/asynkron/protoactor-go/actor.NewThrottle.func1.1"), // not inlined
}

func newRig(t testing.TB, limit int, c *carrier) *rig {
	t.Helper()
	return newRigWith(t, limit, c, Options{Log: quietLog})
}

func newRigWith(t testing.TB, limit int, c *carrier, o Options) *rig {
	t.Helper()
	before := goleak.IgnoreCurrent()
	r := &rig{System: NewSystem(o), t: t}
	r.strategy.schedule = func(_ time.Duration, restart func()) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.pending = append(r.pending, restart)
	}
	t.Cleanup(func() {
		for _, ref := range r.Refs() {
			ref.Stop()
			r.ends(ref)
		}
		r.Close()
		goleak.VerifyNone(t, append(throttleGoroutines, before)...)
	})
	r.ref = r.spawn("carrier", limit, c)
	return r
}

// spawn starts an actor.
func (r *rig) spawn(name string, limit int, c *carrier) *Ref {
	r.t.Helper()
	ref, err := r.Spawn(name, limit, func(self *Ref) actor.Actor { c.self = self; return c })
	if err != nil {
		r.t.Fatal(err)
	}
	return ref
}

// restart lets the actor be restarted as soon as that was asked for.
func (r *rig) restart() {
	r.t.Helper()
	eventually(r.t, "a restart that waits", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		if len(r.pending) == 0 {
			return false
		}
		r.pending[0]()
		r.pending = r.pending[1:]
		return true
	})
}

// ends waits for the end of an actor.
func (r *rig) ends(ref *Ref) {
	r.t.Helper()
	select {
	case <-ref.Stopped():
	case <-time.After(10 * time.Second):
		r.t.Fatalf("%s did not stop", ref.Name())
	}
}

// suspend lets the actor wait for a restart by the test. The function given is called before.
func (r *rig) suspend(before func()) {
	r.t.Helper()
	send(r, &parcel{panics: 1})
	h := send(r, newHold())
	<-h.reached
	send(r, &parcel{panics: 1}) // the second failure makes the actor wait
	before()
	close(h.release)
	eventually(r.t, "suspension", func() bool { return suspended(r.ref) })
}

func suspended(r *Ref) bool {
	r.box.mu.Lock()
	defer r.box.mu.Unlock()
	return r.box.suspended && !r.box.running
}

// idle waits until an actor has nothing to do.
func (r *rig) idle(refs ...*Ref) {
	r.t.Helper()
	for _, ref := range refs {
		eventually(r.t, "an idle actor", func() bool {
			ref.box.mu.Lock()
			defer ref.box.mu.Unlock()
			return !ref.box.running
		})
	}
}

// send posts a message and returns it.
func send[M any](r *rig, m M) M {
	r.ref.Send(m)
	return m
}

// fellTo checks that a request was failed once and why.
func fellTo(t testing.TB, name string, p *parcel, want Reason) {
	t.Helper()
	eventually(t, name+" being failed", func() bool { _, n := p.fate(); return n > 0 })
	if why, n := p.fate(); why != want || n != 1 {
		t.Errorf("%s was failed %d times, first as %v; want once as %v", name, n, why, want)
	}
}

// eventually waits for a condition that another goroutine brings about.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("%s did not happen", what)
		}
		time.Sleep(time.Millisecond)
	}
}

package actors

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"postern/internal/auth"
	"postern/internal/backend"
	"postern/internal/config"
)

// gate is a backend that answers at once while it is open, and counts how many questions are there at
// the same time.
type gate struct {
	mu      sync.Mutex
	opened  chan struct{}
	step    chan struct{} // lets one question go on
	service time.Duration
	now     atomic.Int64
	most    atomic.Int64
}

func newGate() *gate {
	g := &gate{opened: make(chan struct{}), step: make(chan struct{})}
	close(g.opened)
	return g
}

// shut has questions wait for the next open.
func (g *gate) shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.opened = make(chan struct{})
}

func (g *gate) open() { close(g.opening()) }

func (g *gate) opening() chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.opened
}

func (g *gate) ask(ctx context.Context, q backend.Query) backend.Result {
	n := g.now.Add(1)
	defer g.now.Add(-1)
	for most := g.most.Load(); n > most && !g.most.CompareAndSwap(most, n); most = g.most.Load() {
	}
	select {
	case <-g.opening():
		time.Sleep(g.service)
		return goodPassword(q)
	case <-g.step:
		return goodPassword(q)
	case <-ctx.Done():
		return backend.Result{Class: backend.Outage, Err: ctx.Err()}
	}
}

// burstRig is a broker with a backend of 32 slots and no bound on the queue but time.
func burstRig(t *testing.T, g *gate) *rig {
	return newRig(t, func(s *setup) {
		s.fake.ask = g.ask
		s.cfg.Backends[0].Slots, s.cfg.Backends[0].MinSlots, s.cfg.Backends[0].Queue = 32, 4, 65536
		other := s.cfg.Domains[0]
		other.Name = "quiet.example"
		s.cfg.Domains = append(s.cfg.Domains, other)
	})
}

// newcomers are first right logins of so many users.
func newcomers(n int) (all []question) {
	for i := range n {
		all = append(all, question{op: "auth", user: fmt.Sprint("new", i), domain: "dom.example", secret: "good", verdict: auth.Allow})
	}
	return all
}

// burst writes questions to connections, all at once, and returns what the answers are, by connection.
func (r *rig) burst(cfg config.Listener, connections int, all []question) (answers func() []string) {
	address := r.listen(cfg)
	got := make([]string, connections)
	var wg sync.WaitGroup
	for i := range connections {
		share := all[i*len(all)/connections : (i+1)*len(all)/connections]
		c := r.dial(address)
		in, _ := script(cfg.Protocol, share)
		wg.Add(2)
		go func() {
			defer wg.Done()
			_, _ = io.WriteString(c, in)
			_ = c.CloseWrite()
		}()
		go func() {
			defer wg.Done()
			out, err := io.ReadAll(c)
			if err != nil {
				r.t.Error(err)
			}
			got[i] = string(out)
		}()
	}
	return func() []string { wg.Wait(); return got }
}

// underWay waits until n requests are under way, all but those in slots of the backend in its queue.
func (r *rig) underWay(n, slots int) {
	r.t.Helper()
	arrived := func() bool {
		return r.gate.InFlight() == int64(n) && r.quiet() && r.counted().Backends[rigBackend].Waiting == n-slots
	}
	for end := time.Now().Add(timeout); !arrived(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			for _, ref := range r.env.System.Refs() {
				r.t.Logf("%s has %d messages", ref.Name(), ref.Queued())
			}
			stacks := make([]byte, 1<<20)
			r.t.Fatalf("%d requests are under way, want %d; %+v\n%s", r.gate.InFlight(), n, r.counted(), stacks[:runtime.Stack(stacks, true)])
		}
	}
}

// TestFirstLoginsAtOnce: thousands of users come at once, each for the first time; all are let in, and the
// backend has no more questions at a time than its slots.
func TestFirstLoginsAtOnce(t *testing.T) {
	for protocol, users := range map[string]int{"generic": 1000, "ejabberd": 5000} {
		t.Run(protocol, func(t *testing.T) {
			g := newGate()
			r := burstRig(t, g)
			cfg := listenerBlock(protocol)
			cfg.Pipeline, cfg.Deadline = 64, time.Minute // of a machine with other things to do
			g.shut()
			answers := r.burst(cfg, 100, newcomers(users))
			r.underWay(users, 32)
			eventually(t, "full slots", func() bool { return g.now.Load() == 32 })
			g.open()
			_, want := script(protocol, newcomers(users))
			same(t, strings.Join(answers(), ""), want)
			if n := g.most.Load(); n > 32 {
				t.Errorf("%d at a time", n)
			}
		})
	}
}

// TestSurplusIsRefusedAtOnce: behind a backend of half a second and 32 slots, a deadline of 40 s has room
// for at most 2,560 logins. What is beyond that gets its answer before any of the others, and those are all let in.
func TestSurplusIsRefusedAtOnce(t *testing.T) {
	g := newGate()
	r := burstRig(t, g)
	g.service = 500 * time.Millisecond
	var early []<-chan auth.Answer
	for i := range 32 {
		early = append(early, r.start(fmt.Sprint("early", i), "good"))
	}
	for _, a := range early {
		r.want(<-a, auth.Allow, auth.SourceBackend)
	}
	g.service = 0
	g.shut()
	const users = 6000
	var refused, let atomic.Int64
	var wg sync.WaitGroup
	for i := range users {
		wg.Add(1)
		go func() {
			defer wg.Done()
			req := auth.Request{Op: auth.OpAuth, User: fmt.Sprint("new", i), Domain: "dom.example", Secret: auth.NewSecret("good")}
			switch a := r.Ask(context.Background(), req, 40*time.Second).Answer; {
			case a.Verdict == auth.Allow:
				let.Add(1)
			case a.Verdict == auth.Unavailable && a.Source == auth.SourceOverload:
				refused.Add(1)
			default:
				t.Errorf("%v (%v)", a.Verdict, a.Source)
			}
		}()
	}
	eventually(t, "the surplus", func() bool { return refused.Load() >= users-2560 })
	if let.Load() != 0 {
		t.Error("one was let in by a backend that hangs")
	}
	waiting := r.counted().Backends[rigBackend].Waiting
	g.open()
	wg.Wait()
	if n := let.Load(); n < int64(waiting) || refused.Load()+n != users {
		t.Errorf("%d were let in and %d refused of %d, %d waited", n, refused.Load(), users, waiting)
	}
}

// TestStormOfOneDomain: a login of a quiet domain does not wait for those of another one.
func TestStormOfOneDomain(t *testing.T) {
	g := newGate()
	r := burstRig(t, g)
	var asked, quietAt atomic.Int64
	r.fake.ask = func(ctx context.Context, q backend.Query) backend.Result {
		if n := asked.Add(1); q.Domain == "quiet.example" {
			quietAt.Store(n)
		}
		return g.ask(ctx, q)
	}
	cfg := listenerBlock("ejabberd")
	cfg.Pipeline, cfg.Deadline = 64, time.Minute
	g.shut()
	const users = 2000
	answers := r.burst(cfg, 50, newcomers(users))
	r.underWay(users, 32)
	eventually(t, "full slots", func() bool { return g.now.Load() == 32 })
	quiet := r.startRequest(auth.Request{Op: auth.OpAuth, User: "vera", Domain: "quiet.example", Secret: auth.NewSecret("good")}, time.Minute)
	eventually(t, "the quiet domain's login", func() bool { return r.counted().Backends[rigBackend].Waiting == users-32+1 })
	for n := int64(33); n <= 40 && quietAt.Load() == 0; n++ { // a slot becomes free, and is taken
		g.step <- struct{}{}
		eventually(t, "the next question", func() bool { return asked.Load() == n })
	}
	if quietAt.Load() == 0 {
		t.Error("eight of the other domain were asked before it")
	}
	g.open()
	r.want(<-quiet, auth.Allow, auth.SourceBackend)
	_, want := script("ejabberd", newcomers(users))
	same(t, strings.Join(answers(), ""), want)
}

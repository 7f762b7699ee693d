package actors

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"

	"postern/internal/auth"
	"postern/internal/backend"
	"postern/internal/config"
)

// TestHashingFaults: a panic while the result of work with hashes comes back loses no login and
// keeps no refused password.
func TestHashingFaults(t *testing.T) {
	f, l := new(faults), newRestarter(t)
	next := func(g *scriptedBackend) *rig {
		if l.last != nil {
			l.last.stop()
		}
		f.seen, f.made = nil, 0
		l.last = newRig(t, func(s *setup) { onDisk(s, l.disk); s.clock, s.inject = l.clock, f.inject; g.use(s) })
		l.last.settled(f)
		return l.last
	}
	done := func(r *rig) func() bool { return func() bool { return r.over(f) } }
	g := newScriptedBackend("good")
	r := next(g)
	f.arm("cache", hashResult, 1)
	r.want(r.auth("joe", "good"), allow, fromBackend)
	eventually(t, "recovery", done(r))
	// The restart has lost the verifier to which the hash belongs, which costs a question.
	r.want(r.auth("joe", "good"), allow, fromBackend)
	r.hashed("joe", 1)

	r = next(g)
	f.arm("cache", compResult, attempts)
	r.want(r.auth("joe", "good"), allow, auth.SourceCache)
	eventually(t, "recovery", done(r))

	g.change("better")
	r = next(g)
	l.clock.advance(2 * hour)
	f.arm("cache", askResult, 1)
	f.arm("cache", compResult, 1) // what the refusal means for the stored hash
	r.want(r.auth("joe", "good"), deny, fromBackend)
	eventually(t, "the removal from disk", func() bool {
		u := onDiskOf(t, l.disk, "joe")
		return f.left() == 0 && (u == nil || len(u.Verifiers) == 0)
	})
	eventually(t, "recovery", done(r))
	g.always(backend.Outage)
	r.want(r.auth("joe", "good"), unavailable, fromBackend)
}

// TestChangeInFaults: a change is made once, however often its answer is lost, and the cache
// learns of it.
func TestChangeInFaults(t *testing.T) {
	f := new(faults)
	g := newScriptedBackend("good")
	r := newRig(t, func(s *setup) { s.inject = f.inject; g.use(s) })
	r.settled(f)
	r.want(r.auth("joe", "good"), allow, fromBackend)
	g.always(backend.Accepted)
	f.arm("cache", askResult, attempts)
	change := login("joe", "new")
	change.Op = auth.OpSetPass
	r.want(r.ask(change), allow, fromBackend)
	if n := r.fake.asked.Load(); n != 2 || f.left() != 0 {
		t.Errorf("the backend was asked %d times, %d panics did not happen", n, f.left())
	}
	eventually(t, "recovery", r.recovered)
	if u := r.cached("joe"); len(u.Verifiers) > 0 {
		t.Errorf("the cache still knows %+v", u)
	}
}

// TestSlotsPanicWithAQueue: questions that wait for a slot are answered when the actor panics, and
// the slots in use stay counted.
func TestSlotsPanicWithAQueue(t *testing.T) {
	f, g := new(faults), newBarrier()
	r := newRig(t, func(s *setup) { s.inject, s.fake.ask = f.inject, g.ask; s.cfg.Backends[0].Slots = 1 })
	r.settled(f)
	first := r.start("first", "good")
	g.reached(t, 1)
	var waiting []<-chan auth.Answer
	for _, user := range []string{"second", "third"} {
		waiting = append(waiting, r.start(user, "good"))
	}
	eventually(t, "two in the queue", func() bool { return f.count("backend.", "Question") == 3 })
	f.arm("backend.", "expire", 1) // its own message, which ends what has waited too long
	for _, a := range waiting {
		r.want(<-a, auth.Unavailable, auth.SourcePanic)
	}
	eventually(t, "the restart", func() bool { return r.restarts("backend.") == 1 && r.recovered() })
	fourth := r.start("fourth", "good")
	eventually(t, "the fourth at the backend", func() bool { return f.count("backend.", "Question") == 4 })
	if n := g.waiting.Load(); n != 1 {
		t.Errorf("%d questions at a backend with one slot", n)
	}
	g.open()
	r.want(<-first, auth.Allow, auth.SourceBackend)
	r.want(<-fourth, auth.Allow, auth.SourceBackend)
}

// acceptFails is a socket that fails to accept some times, as when file descriptors run out.
type acceptFails struct {
	net.Listener
	failures atomic.Int64
}

func (a *acceptFails) Accept() (net.Conn, error) {
	if a.failures.Add(-1) >= 0 {
		return nil, errors.New("too many open files")
	}
	return a.Listener.Accept()
}

// TestAcceptFails: the listener logs each failure, and tries again.
func TestAcceptFails(t *testing.T) {
	r := newRig(t, nil)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	socket := &acceptFails{Listener: l}
	socket.failures.Store(3)
	if err := r.Listen(listenerBlock("generic"), socket); err != nil {
		t.Fatal(err)
	}
	roundTrip(t, r.dial(l.Addr().String()), "generic", yes)
	if n := strings.Count(r.log.String(), "connection could not be accepted"); n != 3 {
		t.Errorf("%d failures are logged, want 3", n)
	}
}

// TestStartFails: a broker that cannot be built leaves nothing behind.
func TestStartFails(t *testing.T) {
	before := goleak.IgnoreCurrent()
	broken := errors.New("no such kind of backend")
	for name, build := range map[string]func(*config.Config) error{
		"backend": func(*config.Config) error { return broken },
		"token": func(c *config.Config) error {
			c.Domains[0].JSXC = &config.JSXCToken{Secrets: []auth.Secret{{}}}
			return nil
		},
	} {
		cfg := rigConfig()
		err := build(cfg)
		_, err = Start(Options{Config: cfg, Log: slog.New(slog.DiscardHandler),
			Backend: func(config.Backend, backend.Hashing) (backend.Backend, error) { return &fakeBackend{}, err }})
		if err == nil {
			t.Errorf("%s: started all the same", name)
		}
	}
	goleak.VerifyNone(t, append(libraryGoroutines, before)...)
}

// TestPeerGoesAway: a peer that closes while its requests are under way leaves nothing behind,
// and they are decided all the same.
func TestPeerGoesAway(t *testing.T) {
	g := newBarrier()
	r := newRig(t, func(s *setup) { s.fake.ask = g.ask })
	c := r.dial(r.listen(listenerBlock("generic")))
	if _, err := io.WriteString(c, strings.Repeat(yes.frame("generic"), 20)); err != nil {
		t.Fatal(err)
	}
	g.reached(t, 1)
	_ = c.(*net.TCPConn).SetLinger(0) // a reset
	_ = c.Close()
	g.open()
	eventually(t, "the end of the connection", func() bool { return r.open() == 0 && r.gate.InFlight() == 0 })
	r.want(r.auth("joe", "good"), allow, hot)
}

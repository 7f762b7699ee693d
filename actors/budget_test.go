package actors

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"postern/internal/auth"
	"postern/internal/backend"
	"postern/internal/config"
)

// throttleReporter is a backend that says how it throttles our address.
type throttleReporter struct {
	*fakeBackend
	state atomic.Pointer[backend.ThrottleState]
	asked atomic.Int64
	ended atomic.Int64
	hold  atomic.Pointer[chan struct{}] // each answer waits for it
}

func (b *throttleReporter) Throttle(context.Context) (backend.ThrottleState, error) {
	b.asked.Add(1)
	defer b.ended.Add(1)
	state := *b.state.Load()
	if hold := b.hold.Load(); hold != nil {
		<-*hold
	}
	return state, nil
}

func (b *throttleReporter) say(s backend.ThrottleState) { b.state.Store(&s) }

// withBudget gives a rig's backend a budget of three refusals in half an hour.
func withBudget(s *setup) {
	s.cfg.Backends[0].RefusalBudget, s.cfg.Backends[0].RefusalWindow = 3, 30*time.Minute
	s.cfg.Backends[0].MaxDelay = 1600 * time.Millisecond
}

// known makes users known: those that are not have a part of the budget only.
func (r *rig) known(n int) {
	r.t.Helper()
	for i := range n {
		r.asks(1, login(fmt.Sprint("user", i), "good"), allow, fromBackend)
	}
}

// TestBudget: when the budget of refusals is used up, only passwords that the cache knows are put to
// the backend. Others are a temporary failure, not a no.
func TestBudget(t *testing.T) {
	disk := openStore(t)
	g := newScriptedBackend("good")
	start := func() *rig { return newRig(t, func(s *setup) { onDisk(s, disk); g.use(s); withBudget(s) }) }
	r := start()
	r.asks(1, login("joe", "good"), allow, fromBackend)
	r.known(3)
	for i := range 5 { // a user that does not exist is no wrong password
		r.asks(1, isUser(fmt.Sprint("nobody", i)), deny, fromBackend)
	}
	for i := range 3 {
		r.asks(1, login(fmt.Sprint("user", i), "bad"), deny, fromBackend)
	}
	r.asks(0, login("jane", "good"), unavailable, byBudget)
	r.asks(0, login("joe", "good"), allow, hot)
	r.asks(0, login("joe", "bad"), unavailable, byBudget)
	r.asks(1, isUser("jane"), allow, fromBackend)
	r.clock.advance(time.Minute)
	r.asks(0, login("user0", "bad"), deny, before)
	l, err := r.Limits(context.Background())
	if b := l.Backends["backend.json.fake"]; err != nil || b.Refusals != 3 || b.Most != 3 || b.Withheld != 2 {
		t.Errorf("%+v, %v", l, err)
	}
	stats, _ := r.CacheStats(context.Background())
	if n := stats["dom.example"].LimitBudget; n != 2 {
		t.Errorf("%d are counted", n)
	}
	if n := strings.Count(r.log.String(), "refused as many passwords as it bears; only"); n != 1 {
		t.Errorf("it is logged %d times", n)
	}
	// After a restart only the disk knows joe, and the login is to be verified again.
	r.hashed("joe", 1)
	for i := range 3 {
		r.hashed(fmt.Sprint("user", i), 1)
	}
	r.stop()
	r = start()
	r.clock.advance(2 * hour)
	for i := range 3 {
		r.asks(1, login(fmt.Sprint("user", i), "worse"), deny, fromBackend)
	}
	r.asks(0, login("joe", "other"), unavailable, byBudget)
	r.asks(1, login("joe", "good"), allow, fromBackend)
	// A changed password has to wait, too, until the half hour is over.
	g.change("new")
	r.clock.advance(10 * minute)
	r.asks(0, login("joe", "new"), unavailable, byBudget)
	r.clock.advance(20 * minute)
	r.asks(1, login("joe", "new"), allow, fromBackend)
	if !strings.Contains(r.log.String(), "any password again") {
		t.Error("its end is not logged")
	}
}

// TestBudgetOfStrangers: invented names do not use up the budget for users that are known, nor, where
// the backend can look for users, for those that exist; a name that does not exist costs nothing.
func TestBudgetOfStrangers(t *testing.T) {
	for _, looks := range []bool{false, true} {
		var logins atomic.Int64
		r := newRig(t, func(s *setup) {
			withBudget(s)
			s.cfg.Backends[0].RefusalBudget = 8
			s.fake.ask = func(_ context.Context, q backend.Query) backend.Result {
				exists := !strings.HasPrefix(q.User, "invented")
				switch {
				case q.Op == auth.OpAuth:
					logins.Add(1)
				case !looks:
					return backend.Result{Class: backend.Unsure}
				case !exists:
					return backend.Result{Class: backend.Refused, Absent: true}
				}
				if !exists {
					return backend.Result{Class: backend.Refused}
				}
				return goodPassword(q)
			}
		})
		r.known(4)
		before := logins.Load()
		d := r.dovecot(t, r.listen(listenerBlock("dovecot")), 2)
		for i := range 40 { // one client, over a listener
			d.say(plainLogin(i+1, fmt.Sprint("invented", i), "guess"))
			if got := d.line(); !strings.HasPrefix(got, "FAIL") || i > 2 && strings.Contains(got, "temp") == looks {
				t.Errorf("looks: %t: %q", looks, got)
			}
		}
		want := map[bool]int64{false: 2, true: 1}[looks]
		if n := logins.Load() - before; n != want {
			t.Errorf("looks: %t: the client's names cost %d refusals, want %d", looks, n, want)
		}
		for i := range 20 {
			r.ask(login(fmt.Sprint("invented too", i), "guess"))
		}
		if want = (map[bool]int64{false: 4, true: 1})[looks]; logins.Load()-before != want {
			t.Errorf("looks: %t: invented names cost %d refusals, want %d", looks, logins.Load()-before, want)
		}
		for i := range 4 { // a mistake of each costs what is left
			r.want(r.auth(fmt.Sprint("user", i), "mistyped"), deny, fromBackend)
		}
		if looks {
			r.want(r.auth("jane", "good"), allow, fromBackend)
		} else {
			r.want(r.auth("jane", "good"), unavailable, byBudget)
		}
	}
}

// TestBudgetChain: a backend that is not asked counts as unavailable, not as a refusal, and the next
// one may accept.
func TestBudgetChain(t *testing.T) {
	second := &fakeBackend{ask: func(_ context.Context, q backend.Query) backend.Result {
		if q.User == "local" {
			q.Secret = auth.NewSecret("good")
		}
		return goodPassword(q)
	}}
	r := newRig(t, func(s *setup) {
		withBudget(s)
		ref := config.BackendRef{Kind: "json", Name: "second"}
		b := s.cfg.Backends[0]
		b.BackendRef, b.RefusalBudget = ref, 0
		s.cfg.Backends = append(s.cfg.Backends, b)
		s.cfg.Domains[0].Backends = append(s.cfg.Domains[0].Backends, ref)
		s.more = map[string]*fakeBackend{"second": second}
	})
	r.known(3)
	for i := range 3 {
		r.asks(1, login(fmt.Sprint("user", i), "bad"), deny, fromBackend)
	}
	r.asks(0, login("local", "own"), allow, fromBackend)
	r.asks(0, login("jane", "bad"), unavailable, byBudget)
}

// TestBudgetParallel: as many unknown passwords are at the backend as it may refuse, of users that are
// not known half of that; the others wait for their turn; known passwords do not.
func TestBudgetParallel(t *testing.T) {
	gate := make(chan struct{})
	var at, most atomic.Int64
	r := newRig(t, func(s *setup) {
		withBudget(s)
		s.fake.ask = func(_ context.Context, q backend.Query) backend.Result {
			if q.User != "joe" {
				if n := at.Add(1); n > most.Load() {
					most.Store(n)
				}
				<-gate
				at.Add(-1)
			}
			return goodPassword(q)
		}
	})
	r.want(r.auth("joe", "good"), allow, fromBackend)
	r.clock.advance(2 * hour)
	answers := make(chan auth.Answer, 20)
	for i := range 20 {
		go func() { answers <- r.auth(fmt.Sprint("user", i), "good") }()
	}
	eventually(t, "two questions", func() bool { return at.Load() == 2 })
	r.want(r.auth("joe", "good"), allow, fromBackend)
	close(gate)
	for range 20 {
		r.want(<-answers, allow, fromBackend)
	}
	if n := most.Load(); n != 2 {
		t.Errorf("%d questions were under way at once", n)
	}
}

// TestBudgetProbe: what the backend says of our address decides: it is exempt, or has no refusals
// against it, or is slowed down so much that the breaker opens.
func TestBudgetProbe(t *testing.T) {
	b := &throttleReporter{}
	b.say(backend.ThrottleState{Delay: 200 * time.Millisecond, ExemptKnown: true})
	r := newRig(t, func(s *setup) {
		withBudget(s)
		s.wrap = func(f *fakeBackend) backend.Backend { b.fakeBackend = f; return b }
	})
	probes := func(n int64) {
		t.Helper()
		eventually(t, "a probe", func() bool { return b.asked.Load() >= n })
		eventually(t, "its end", func() bool { r.quiesce(); return b.ended.Load() == b.asked.Load() })
		if got := b.asked.Load(); got != n {
			t.Errorf("the backend was asked about itself %d times, want %d", got, n)
		}
		r.quiesce()
	}
	bad := func(i int) auth.Request { return login(fmt.Sprint("user", i), "bad") }
	r.known(21)
	for i := range 3 {
		r.asks(1, bad(i), deny, fromBackend)
	}
	probes(1) // at the start
	r.asks(0, bad(3), unavailable, byBudget)
	r.clock.advance(30 * time.Second)
	r.asks(0, bad(3), unavailable, byBudget)
	probes(2) // after refusals
	b.say(backend.ThrottleState{ExemptKnown: true})
	for range 9 { // nothing new: only once in a while
		r.clock.advance(30 * time.Second)
		r.asks(0, bad(3), unavailable, byBudget)
	}
	r.clock.advance(30 * time.Second)
	r.asks(0, bad(3), unavailable, byBudget)
	probes(3) // and it has counted nothing
	r.asks(1, bad(3), deny, fromBackend)
	b.say(backend.ThrottleState{Exempt: true, ExemptKnown: true})
	r.clock.advance(5 * minute)
	r.asks(1, bad(4), deny, fromBackend)
	probes(4)
	for i := range 10 {
		r.asks(1, bad(10+i), deny, fromBackend)
	}
	b.say(backend.ThrottleState{Delay: 3200 * time.Millisecond, ExemptKnown: true})
	r.clock.advance(5 * minute)
	r.asks(1, bad(20), deny, fromBackend)
	probes(5)
	r.asks(0, login("jane", "good"), unavailable, byBudget)
	if !strings.Contains(r.log.String(), "breaker changed") {
		t.Error("the breaker is closed")
	}
}

// TestLateProbe: an answer that the backend has counted no refusal does not count if there was one
// since the probe began.
func TestLateProbe(t *testing.T) {
	b, hold := &throttleReporter{}, make(chan struct{})
	b.say(backend.ThrottleState{ExemptKnown: true})
	b.hold.Store(&hold)
	r := newRig(t, func(s *setup) {
		withBudget(s)
		s.wrap = func(f *fakeBackend) backend.Backend { b.fakeBackend = f; return b }
	})
	r.known(3)
	for i := range 3 {
		r.asks(1, login(fmt.Sprint("user", i), "bad"), deny, fromBackend)
	}
	eventually(t, "a probe", func() bool { return b.asked.Load() == 1 })
	close(hold)
	eventually(t, "its end", func() bool { return b.ended.Load() == 1 })
	r.quiesce()
	r.asks(0, login("jane", "good"), unavailable, byBudget)
}

// TestBudgetRestart: a fault costs the counts, and locks no user out.
func TestBudgetRestart(t *testing.T) {
	var fail faultOnce
	r := newRig(t, func(s *setup) { withBudget(s); s.inject = fail.inject })
	r.known(3)
	for i := range 3 {
		r.asks(1, login(fmt.Sprint("user", i), "bad"), deny, fromBackend)
	}
	r.asks(0, login("jane", "good"), unavailable, byBudget)
	fail.arm("backend.json.fake")
	r.tickAll()
	eventually(t, "the restart", func() bool { return r.restarts("backend.json.fake") == 1 && r.recovered() })
	r.asks(1, login("jane", "good"), allow, fromBackend)
}

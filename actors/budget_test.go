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

// telling is a backend that tells how it treats our address.
type telling struct {
	*fakeBackend
	state atomic.Pointer[backend.ThrottleState]
	asked atomic.Int64
	ended atomic.Int64
	hold  atomic.Pointer[chan struct{}] // each answer waits for it
}

func (b *telling) Throttle(context.Context) (backend.ThrottleState, error) {
	b.asked.Add(1)
	defer b.ended.Add(1)
	state := *b.state.Load()
	if hold := b.hold.Load(); hold != nil {
		<-*hold
	}
	return state, nil
}

func (b *telling) say(s backend.ThrottleState) { b.state.Store(&s) }

// thrifty gives a rig's backend a budget of three refusals in half an hour.
func thrifty(s *setup) {
	s.cfg.Backends[0].RefusalBudget, s.cfg.Backends[0].RefusalWindow = 3, 30*time.Minute
	s.cfg.Backends[0].MaxDelay = 1600 * time.Millisecond
}

// TestBudget: when the backend has refused as much as it bears, only what the cache knows is
// put to it, and nobody is told "no" for that.
func TestBudget(t *testing.T) {
	disk := openStore(t)
	g := newRegime("good")
	start := func() *rig { return newRig(t, func(s *setup) { onDisk(s, disk); g.use(s); thrifty(s) }) }
	r := start()
	r.asks(1, login("joe", "good"), allow, fromBackend)
	for i := range 5 { // that somebody is not there is no wrong password
		r.asks(1, isUser(fmt.Sprint("nobody", i)), deny, fromBackend)
	}
	for i := range 3 {
		r.asks(1, login(fmt.Sprint("user", i), "bad"), deny, fromBackend)
	}
	r.asks(0, login("jane", "good"), cannot, byBudget)
	r.asks(0, login("joe", "good"), allow, hot)
	r.asks(0, login("joe", "bad"), cannot, byBudget)
	r.asks(1, isUser("jane"), allow, fromBackend)
	r.clock.advance(time.Minute)
	r.asks(0, login("user0", "bad"), deny, before)
	_, budgets, err := r.Limits(context.Background())
	if b := budgets["backend.json.fake"]; err != nil || b.Refusals != 3 || b.Most != 3 || b.Withheld != 2 {
		t.Errorf("%+v, %v", budgets, err)
	}
	stats, _ := r.CacheStats(context.Background())
	if n := stats["dom.example"].LimitBudget; n != 2 {
		t.Errorf("%d are counted", n)
	}
	if n := strings.Count(r.log.String(), "refused as many passwords"); n != 1 {
		t.Errorf("it is said %d times", n)
	}
	// An owner whom only the disk knows, and whose login is to be verified again.
	r.hashed("joe", 1)
	r.stop()
	r = start()
	r.clock.advance(2 * hour)
	for i := range 3 {
		r.asks(1, login(fmt.Sprint("user", i), "worse"), deny, fromBackend)
	}
	r.asks(0, login("joe", "other"), cannot, byBudget)
	r.asks(1, login("joe", "good"), allow, fromBackend)
	// A changed password is refused even so, and half an hour later all is well.
	g.change("new")
	r.clock.advance(10 * minute)
	r.asks(0, login("joe", "new"), cannot, byBudget)
	r.clock.advance(20 * minute)
	r.asks(1, login("joe", "new"), allow, fromBackend)
	if !strings.Contains(r.log.String(), "any password again") {
		t.Error("the end of it is not said")
	}
}

// TestBudgetChain: a backend that is not asked is no "no" of the chain, and one behind it may
// still say yes.
func TestBudgetChain(t *testing.T) {
	second := &fakeBackend{ask: func(_ context.Context, q backend.Query) backend.Result {
		if q.User == "local" {
			q.Secret = auth.NewSecret("good")
		}
		return goodPassword(q)
	}}
	r := newRig(t, func(s *setup) {
		thrifty(s)
		ref := config.BackendRef{Kind: "json", Name: "second"}
		b := s.cfg.Backends[0]
		b.BackendRef, b.RefusalBudget = ref, 0
		s.cfg.Backends = append(s.cfg.Backends, b)
		s.cfg.Domains[0].Backends = append(s.cfg.Domains[0].Backends, ref)
		s.more = map[string]*fakeBackend{"second": second}
	})
	for i := range 3 {
		r.asks(1, login(fmt.Sprint("user", i), "bad"), deny, fromBackend)
	}
	r.asks(0, login("local", "own"), allow, fromBackend)
	r.asks(0, login("jane", "bad"), cannot, byBudget)
}

// TestBudgetParallel: as many unknown passwords are at the backend as it may refuse; the others
// wait for their turn, and the known do not.
func TestBudgetParallel(t *testing.T) {
	gate := make(chan struct{})
	var at, most atomic.Int64
	r := newRig(t, func(s *setup) {
		thrifty(s)
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
	eventually(t, "three questions", func() bool { return at.Load() == 3 })
	r.want(r.auth("joe", "good"), allow, fromBackend)
	close(gate)
	for range 20 {
		r.want(<-answers, allow, fromBackend)
	}
	if n := most.Load(); n != 3 {
		t.Errorf("%d questions were under way at once", n)
	}
}

// TestBudgetLook: the backend's word on how it treats us decides: exempt, untroubled, or so slow
// that it is better left alone.
func TestBudgetLook(t *testing.T) {
	b := &telling{}
	b.say(backend.ThrottleState{Delay: 200 * time.Millisecond, ExemptKnown: true})
	r := newRig(t, func(s *setup) {
		thrifty(s)
		s.wrap = func(f *fakeBackend) backend.Backend { b.fakeBackend = f; return b }
	})
	looks := func(n int64) {
		t.Helper()
		eventually(t, "a look", func() bool { return b.asked.Load() >= n })
		eventually(t, "its end", func() bool { r.calm(); return b.ended.Load() == b.asked.Load() })
		if got := b.asked.Load(); got != n {
			t.Errorf("the backend was asked about itself %d times, want %d", got, n)
		}
		r.calm()
	}
	bad := func(i int) auth.Request { return login(fmt.Sprint("user", i), "bad") }
	for i := range 3 {
		r.asks(1, bad(i), deny, fromBackend)
	}
	looks(1) // at the start
	r.asks(0, bad(3), cannot, byBudget)
	r.clock.advance(30 * time.Second)
	r.asks(0, bad(3), cannot, byBudget)
	looks(2) // after refusals
	b.say(backend.ThrottleState{ExemptKnown: true})
	for range 9 { // nothing new: only once in a while
		r.clock.advance(30 * time.Second)
		r.asks(0, bad(3), cannot, byBudget)
	}
	r.clock.advance(30 * time.Second)
	r.asks(0, bad(3), cannot, byBudget)
	looks(3) // and it has counted nothing
	r.asks(1, bad(3), deny, fromBackend)
	b.say(backend.ThrottleState{Exempt: true, ExemptKnown: true})
	r.clock.advance(5 * minute)
	r.asks(1, bad(4), deny, fromBackend)
	looks(4)
	for i := range 10 {
		r.asks(1, bad(10+i), deny, fromBackend)
	}
	b.say(backend.ThrottleState{Delay: 3200 * time.Millisecond, ExemptKnown: true})
	r.clock.advance(5 * minute)
	r.asks(1, bad(20), deny, fromBackend)
	looks(5)
	r.asks(0, login("jane", "good"), cannot, byBudget)
	if !strings.Contains(r.log.String(), "breaker changed") {
		t.Error("the breaker is closed")
	}
}

// TestLateLook: that the backend has counted nothing is old news when it has refused something
// since.
func TestLateLook(t *testing.T) {
	b, hold := &telling{}, make(chan struct{})
	b.say(backend.ThrottleState{ExemptKnown: true})
	b.hold.Store(&hold)
	r := newRig(t, func(s *setup) {
		thrifty(s)
		s.wrap = func(f *fakeBackend) backend.Backend { b.fakeBackend = f; return b }
	})
	for i := range 3 {
		r.asks(1, login(fmt.Sprint("user", i), "bad"), deny, fromBackend)
	}
	eventually(t, "a look", func() bool { return b.asked.Load() == 1 })
	close(hold)
	eventually(t, "its end", func() bool { return b.ended.Load() == 1 })
	r.calm()
	r.asks(0, login("jane", "good"), cannot, byBudget)
}

// TestBudgetRestart: a fault costs the counts, and locks nobody out.
func TestBudgetRestart(t *testing.T) {
	var fail faultOnce
	r := newRig(t, func(s *setup) { thrifty(s); s.inject = fail.inject })
	for i := range 3 {
		r.asks(1, login(fmt.Sprint("user", i), "bad"), deny, fromBackend)
	}
	r.asks(0, login("jane", "good"), cannot, byBudget)
	fail.arm("backend.json.fake")
	r.tickAll()
	eventually(t, "the restart", func() bool { return r.restarts("backend.json.fake") == 1 && r.recovered() })
	r.asks(1, login("jane", "good"), allow, fromBackend)
}

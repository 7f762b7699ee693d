package actors

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"postern/internal/auth"
	"postern/internal/auth/passhash"
	"postern/internal/backend"
	"postern/internal/config"
)

// TestBreaker: a backend that is down is not asked until a probe finds that it works, and users get
// grace meanwhile.
func TestBreaker(t *testing.T) {
	g := newScriptedBackend("good")
	r := newRig(t, func(s *setup) {
		g.use(s)
		s.cfg.Backends[0].BreakerFailures, s.cfg.Backends[0].BreakerCooldown = 3, 100*time.Millisecond
	})
	r.want(r.auth("joe", "good"), allow, fromBackend)
	r.clock.advance(2 * hour)
	g.always(backend.Outage)
	for range 3 {
		r.want(r.auth("ann", "good"), unavailable, fromBackend)
	}
	eventually(t, "an open breaker", func() bool { return strings.Contains(r.log.String(), "open=true") })
	asked := r.fake.asked.Load()
	g.works()
	begun := time.Now()
	r.want(r.auth("joe", "good"), allow, grace)
	r.want(r.auth("ann", "good"), unavailable, fromBackend)
	// Within the pause, which jitter may shorten by a quarter; a slow machine may miss it.
	if n := r.fake.asked.Load() - asked; n > 0 && time.Since(begun) < 50*time.Millisecond {
		t.Errorf("the backend was asked %d times with the breaker open", n)
	}
	eventually(t, "a probe", func() bool { return r.auth("ann", "good").Verdict == auth.Allow })
	eventually(t, "a closed breaker", func() bool { return strings.Contains(r.log.String(), "open=false") })
	r.want(r.auth("eve", "good"), allow, fromBackend)
}

// TestBreakerIgnoresOwnFaults: an operation that a backend does not have is no outage of it,
// nor are our own processors if they are too busy to check a password.
func TestBreakerIgnoresOwnFaults(t *testing.T) {
	for name, answer := range map[string]backend.Result{
		"unsupported": {Class: backend.Unsupported}, "busy processors": {Class: backend.Outage, Err: passhash.ErrBusy}, "slow processors": {Class: backend.Outage, Err: passhash.ErrSlow},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, func(s *setup) {
				s.cfg.Backends[0].BreakerFailures = 1
				s.cfg.Domains[0].Cache.Storage = config.StorageNone
				s.fake.ask = verdictOf(answer)
			})
			for range 5 {
				r.auth("joe", "good")
			}
			if n := r.fake.asked.Load(); n != 5 {
				t.Errorf("the backend was asked %d times of 5", n)
			}
		})
	}
}

// TestBreakerOfNextBackend: behind a backend that hangs no time is left for the next one of the
// domain. That does not open the next one's breaker, and it serves another domain.
func TestBreakerOfNextBackend(t *testing.T) {
	second := &fakeBackend{ask: func(ctx context.Context, q backend.Query) backend.Result {
		if err := ctx.Err(); err != nil {
			return backend.Result{Class: backend.Outage, Err: err}
		}
		return goodPassword(q)
	}}
	r := newRig(t, func(s *setup) {
		s.fake.ask = hang
		s.more = map[string]*fakeBackend{"second": second}
		next := s.cfg.Backends[0]
		next.Name, next.BreakerFailures, next.BreakerCooldown = "second", 2, time.Hour
		s.cfg.Backends = append(s.cfg.Backends, next)
		other := s.cfg.Domains[0]
		other.Name, other.Backends = "other.example", []config.BackendRef{next.BackendRef}
		s.cfg.Domains[0].Backends = append(s.cfg.Domains[0].Backends, next.BackendRef)
		s.cfg.Domains = append(s.cfg.Domains, other)
	})
	for i := range 3 {
		if p := r.Ask(context.Background(), login(fmt.Sprint("user", i), "good"), 200*time.Millisecond); p.Answer.Verdict != unavailable {
			t.Errorf("behind a backend that hangs the answer is %v (%v)", p.Answer.Verdict, p.Answer.Source)
		}
	}
	r.quiesce()
	q := login("joe", "good")
	q.Domain = "other.example"
	r.want(r.ask(q), allow, fromBackend)
	if n := second.asked.Load(); n != 1 {
		t.Errorf("the second backend was asked %d times, want once", n)
	}
}

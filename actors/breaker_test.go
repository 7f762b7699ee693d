package actors

import (
	"strings"
	"testing"
	"time"

	"postern/internal/auth"
	"postern/internal/backend"
	"postern/internal/config"
)

// TestBreaker: a backend that is down is left alone, which costs nobody his grace, until a
// probe finds it well again.
func TestBreaker(t *testing.T) {
	g := newRegime("good")
	r := newRig(t, func(s *setup) {
		g.use(s)
		s.cfg.Backends[0].BreakerFailures, s.cfg.Backends[0].BreakerCooldown = 3, 100*time.Millisecond
	})
	r.want(r.auth("joe", "good"), allow, fromBackend)
	r.clock.advance(2 * hour)
	g.always(backend.Outage)
	for range 3 {
		r.want(r.auth("ann", "good"), cannot, fromBackend)
	}
	eventually(t, "an open breaker", func() bool { return strings.Contains(r.log.String(), "open=true") })
	asked := r.fake.asked.Load()
	g.works()
	begun := time.Now()
	r.want(r.auth("joe", "good"), allow, grace)
	r.want(r.auth("ann", "good"), cannot, fromBackend)
	// Within the pause, which jitter may shorten by a quarter; a slow machine may miss it.
	if n := r.fake.asked.Load() - asked; n > 0 && time.Since(begun) < 50*time.Millisecond {
		t.Errorf("the backend was asked %d times with the breaker open", n)
	}
	eventually(t, "a probe", func() bool { return r.auth("ann", "good").Verdict == auth.Allow })
	eventually(t, "a closed breaker", func() bool { return strings.Contains(r.log.String(), "open=false") })
	r.want(r.auth("eve", "good"), allow, fromBackend)
}

// TestBreakerForgivesOurselves: that our own processors were too busy to check a password, or
// that a backend does not have an operation, is no outage of it.
func TestBreakerForgivesOurselves(t *testing.T) {
	for name, answer := range map[string]backend.Result{
		"unsupported": {Class: backend.Unsupported}, "busy processors": {Class: backend.Outage, Err: errHashBusy},
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

package actors

import (
	"context"
	"fmt"
	"testing"
	"time"

	"postern/internal/backend"
	"postern/internal/backend/nextcloudtest"
	"postern/internal/config"
)

// TestStalePasswordForAnHour: one phone with a stale password asks every ten seconds for an hour,
// while fifty users log in for the first time. With limits it slows down no login;
// without them Nextcloud slows down all.
func TestStalePasswordForAnHour(t *testing.T) {
	on := anHour(t, func(s *setup) {
		s.cfg.Backends[0].RefusalBudget = 8
		s.cfg.Domains[0].Limit = config.Limit{UserRefusals: 10, AddressRefusals: 30, Window: 10 * time.Minute,
			FirstPause: 2 * time.Second, LongestPause: 15 * time.Minute}
	})
	off := anHour(t, func(*setup) {})
	bare := anHour(t, func(s *setup) { s.cfg.Backends[0].MaxDelay = time.Hour })
	t.Logf("limits on:  %+v", on)
	t.Logf("limits off: %+v", off)
	t.Logf("off, and any delay borne: %+v", bare)
	if on.refused > 8 || on.failed != 0 || on.worst > 400*time.Millisecond {
		t.Errorf("with limits: %+v", on)
	}
	if off.failed == 0 || bare.refused <= 8 || bare.worst < 10*time.Second {
		t.Errorf("without limits no login is slowed down, so this proves nothing: %+v, %+v", off, bare)
	}
}

// hourResult is what came of the hour.
type hourResult struct {
	refused int           // attempts that Nextcloud counted
	logins  int           // of the fifty users
	failed  int           // of them
	worst   time.Duration // the longest that Nextcloud slowed a login of the fifty down
	slept   time.Duration // that Nextcloud slowed down all logins
}

func anHour(t *testing.T, change func(*setup)) (h hourResult) {
	t.Helper()
	phone := &nextcloudtest.User{ID: "phone", Password: "new"}
	users := []*nextcloudtest.User{phone}
	for i := range 50 {
		users = append(users, &nextcloudtest.User{ID: fmt.Sprint("user", i), Password: "good"})
	}
	server, stop := nextcloudtest.Start(users...)
	defer stop()
	r := newRig(t, func(s *setup) {
		b := &s.cfg.Backends[0]
		b.MaxDelay, b.RefusalWindow, b.BreakerCooldown = 1600*time.Millisecond, 30*time.Minute, time.Millisecond
		s.wrap = func(f *fakeBackend) backend.Backend {
			cloud, err := backend.NewNextcloud(backend.NextcloudOptions{HTTPOptions: backend.HTTPOptions{URL: server.URL}, MaxDelay: b.MaxDelay})
			if err != nil {
				t.Fatal(err)
			}
			return &nextcloudAsFake{cloud.(cloudBackend), f}
		}
		change(s)
	})
	defer r.stop()
	const step = 10 * time.Second
	for i := range int(time.Hour / step) {
		r.auth("phone", "old")
		r.quiesce()
		if i%7 == 3 && h.logins < 50 {
			slept := server.Slept()
			if a := r.auth(fmt.Sprint("user", h.logins), "good"); a.Verdict != allow {
				h.failed++
			}
			h.worst = max(h.worst, server.Slept()-slept)
			h.logins++
		}
		r.clock.advance(step)
		server.Advance(step)
	}
	h.refused, h.slept = server.Attempts("127.0.0.1"), server.Slept()
	return h
}

// cloudBackend is Nextcloud's backend as the broker sees it.
type cloudBackend interface {
	backend.Backend
	Throttle(context.Context) (backend.ThrottleState, error)
}

// nextcloudAsFake is a Nextcloud backend in the place of a fake one, which the rig sees closed.
type nextcloudAsFake struct {
	cloudBackend
	fake *fakeBackend
}

func (b *nextcloudAsFake) Close() error {
	b.fake.closed.Store(true)
	return b.cloudBackend.Close()
}

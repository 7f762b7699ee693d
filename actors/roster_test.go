package actors

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"postern/actors/rosters"
	"postern/actors/rosters/rostertest"
	"postern/internal/auth"
	"postern/internal/backend"
	"postern/internal/config"
	"postern/internal/store"
)

// teams is a backend in which each user is in the group Team with user0, user1 and so on, so many
// in all.
func teams(asked *atomic.Int64, size int) func(context.Context, backend.Query) backend.Result {
	document := rostertest.Document("Team", size)
	return func(_ context.Context, q backend.Query) backend.Result {
		if q.Op == auth.OpRoster {
			asked.Add(1)
			return backend.Result{Class: backend.Accepted, Body: document}
		}
		return goodPassword(q)
	}
}

// newEjabberd starts an XMPP server that ends with the test.
func newEjabberd(t *testing.T) *rostertest.Ejabberd {
	e := rostertest.NewEjabberd()
	t.Cleanup(e.Close)
	return e
}

// newRosterRig is a rig with shared rosters for its domain, at ejabberd.
func newRosterRig(t *testing.T, e *rostertest.Ejabberd, change func(*setup)) *rig {
	t.Helper()
	p, err := store.OpenPebble(t.TempDir(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	r := newRig(t, func(s *setup) {
		s.store = p
		s.cfg.Domains[0].Roster = &config.Roster{
			Kind: config.RosterEjabberd, API: e.API(), Window: 20 * time.Millisecond, MinInterval: time.Minute, Timeout: 10 * time.Second,
		}
		change(s)
	})
	stop := r.stop
	r.stop = func() {
		stop()
		_ = p.Close()
	}
	t.Cleanup(r.stop)
	return r
}

// TestRosterDelaysNoLogin: a login is answered while the question about its roster hangs, and so
// are those after it.
func TestRosterDelaysNoLogin(t *testing.T) {
	hanging, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	r := newRosterRig(t, newEjabberd(t), func(s *setup) {
		s.cfg.Backends[0].Slots = 2
		s.fake.ask = func(ctx context.Context, q backend.Query) backend.Result {
			if q.Op != auth.OpRoster {
				return goodPassword(q)
			}
			once.Do(func() { close(hanging) })
			select {
			case <-release:
			case <-ctx.Done():
			}
			return backend.Result{Class: backend.Outage}
		}
	})
	r.want(r.auth("user0", "good"), auth.Allow, auth.SourceBackend)
	<-hanging
	for i := range 20 {
		r.want(r.auth(fmt.Sprintf("user%d", i+1), "good"), auth.Allow, auth.SourceBackend)
	}
	close(release)
}

// TestRosterFollowsLogin: a login that the backend accepts brings the user's groups to the XMPP
// server, one that it refuses does not, and an administrator reaches the rosters by the name of the
// domain.
func TestRosterFollowsLogin(t *testing.T) {
	ctx := t.Context()
	var asked atomic.Int64
	e := newEjabberd(t)
	r := newRosterRig(t, e, func(s *setup) {
		s.fake.ask = teams(&asked, 3)
		other := s.cfg.Domains[0]
		other.Name, other.Roster = "plain.example", nil
		s.cfg.Domains = append(s.cfg.Domains, other)
	})
	r.want(r.auth("user1", "bad"), auth.Deny, auth.SourceBackend)
	r.want(r.auth("user0", "good"), auth.Allow, auth.SourceBackend)
	r.want(r.auth("user0", "good"), auth.Allow, auth.SourceHot)
	eventually(t, "the group", func() bool { return len(e.Group("Team")) == 3 })
	if n := asked.Load(); n != 1 {
		t.Errorf("the backend was asked about %d users, want user0 alone", n)
	}
	if plan, err := r.PlanRoster(ctx, "dom.example", ""); err != nil || plan.Users != 1 {
		t.Errorf("plan: %+v, %v", plan, err)
	}
	if n, err := r.RefreshRoster(ctx, "dom.example", ""); n != 1 || err != nil {
		t.Errorf("refresh: %d, %v", n, err)
	}
	if n, err := r.RefreshRosters(ctx); n != 1 || err != nil {
		t.Errorf("refresh of all domains: %d, %v", n, err)
	}
	eventually(t, "the removal", func() bool {
		_, err := r.ForgetGroup(ctx, "Team", "dom.example")
		return err == nil && len(e.Group("Team")) == 0
	})
	if _, err := r.PlanRoster(ctx, "plain.example", ""); !errors.Is(err, rosters.ErrNone) {
		t.Errorf("a plan for a domain without rosters: %v", err)
	}
	if _, err := r.PlanRoster(ctx, "other.example", ""); err == nil {
		t.Error("a plan for a domain that is not configured")
	}
}

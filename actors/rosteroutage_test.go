package actors

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"postern/internal/auth"
	"postern/internal/backend"
	"postern/internal/config"
	"postern/internal/roster"
	"postern/internal/store"
)

// unanswered is a backend that has no roster to give of some users.
func unanswered(s *setup, users ...string) {
	well := s.fake.ask
	s.fake.ask = func(ctx context.Context, q backend.Query) backend.Result {
		if q.Op == auth.OpRoster && slices.Contains(users, q.User) {
			return outage(ctx, q)
		}
		return well(ctx, q)
	}
}

// Users of whom the backend cannot tell keep nobody else from their groups, whoever came first.
func TestRosterUnansweredDelayNobody(t *testing.T) {
	id := func(user string) auth.Identity { return auth.Identity{User: user, Domain: "dom.example"} }
	for _, c := range []struct {
		name  string
		first time.Duration
		runs  [][]auth.Identity
	}{
		{"in one run", 1, [][]auth.Identity{{id("l0"), id("l1"), id("user0")}}},
		{"in the pause", time.Hour, [][]auth.Identity{{id("l0"), id("l1")}, {id("user0")}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := newEjabberd(t)
			r := newRosterRig(t, e, func(s *setup) {
				s.level = -4
				s.cfg.Domains[0].Roster.Window = time.Hour // the test says when it is over
				s.fake.ask = teams(new(atomic.Int64), 1)
				unanswered(s, "l0", "l1")
			})
			r.roster().first = c.first
			for i, ids := range c.runs {
				r.runFor(ids...)
				if i < len(c.runs)-1 {
					eventually(t, "the pause", func() bool { return strings.Contains(r.log.String(), "left=0 fault=true") })
				}
			}
			eventually(t, "the group", func() bool { return len(e.group("Team")) == 1 })
		})
	}
}

// Nobody waits for the pause of a user of whom the backend cannot tell while it tells of others.
func TestRosterUnansweredAreHeld(t *testing.T) {
	e := newEjabberd(t)
	var asked atomic.Int64
	r := newRosterRig(t, e, func(s *setup) {
		s.level = -4
		s.fake.ask = teams(&asked, 3)
		unanswered(s, "l0")
	})
	r.roster().first = time.Hour
	id := func(user string) auth.Identity { return auth.Identity{User: user, Domain: "dom.example"} }
	r.runFor(id("user0"), id("l0"))
	eventually(t, "the group", func() bool { return len(e.group("Team")) == 3 })
	eventually(t, "a run without a fault", func() bool { return strings.Contains(r.log.String(), "users=1 unasked=0 left=0 fault=false") })
	r.roster().send(&rosterNote{ref: r.roster(), ids: []auth.Identity{id("user1")}})
	eventually(t, "a question about the next user", func() bool { return asked.Load() == 2 })
}

// Who was not asked about has not been tried.
func TestRosterUnaskedIsNoTry(t *testing.T) {
	r, _ := foreignRig(t, func(*setup) {})
	a := newRosterActor(r.roster())
	var ids []auth.Identity
	for _, user := range []string{"l0", "l1", "user0", "user1"} {
		ids = append(ids, auth.Identity{User: user, Domain: "chat.example"})
	}
	for try := 1; try < rosterTries; try++ {
		again, unasked := a.judge(&rosterDone{batch: ids, asked: 2, again: ids[:2], fault: true})
		if !slices.Equal(again, ids[:2]) || !slices.Equal(unasked, ids[2:]) || a.tries[ids[0]] != try || a.tries[ids[2]] != 0 {
			t.Fatalf("after %d tries: %v, %v, %v", try, again, unasked, a.tries)
		}
	}
	if again, unasked := a.judge(&rosterDone{batch: ids, asked: 2, again: ids[:2], fault: true}); len(again) != 0 || len(unasked) != 2 {
		t.Errorf("at last: %v, %v", again, unasked)
	}
}

// While the backend that gave a user's groups cannot answer, one after it neither replaces nor
// removes them. Of whom a backend does not know, the next one tells.
func TestRosterOfTwoBackends(t *testing.T) {
	second := config.BackendRef{Kind: "json", Name: "second"}
	for _, first := range []backend.Class{backend.Outage, backend.Throttled, backend.Misconfigured, backend.Unsure, backend.Refused, backend.Unsupported} {
		t.Run(first.String(), func(t *testing.T) {
			e := newEjabberd(t)
			var down atomic.Bool
			r := newRosterRig(t, e, func(s *setup) {
				s.level = -4
				s.cfg.Backends = append(s.cfg.Backends, config.Backend{BackendRef: second, Slots: 8, Queue: 64, BreakerFailures: 1000, BreakerCooldown: time.Second})
				s.cfg.Domains[0].Backends = append(s.cfg.Domains[0].Backends, second)
				well := teams(new(atomic.Int64), 2)
				s.fake.ask = func(ctx context.Context, q backend.Query) backend.Result {
					if q.Op == auth.OpRoster && down.Load() {
						return backend.Result{Class: first, Err: errors.New("not now")}
					}
					return well(ctx, q)
				}
				s.more = map[string]*fakeBackend{second.Name: {ask: func(_ context.Context, q backend.Query) backend.Result {
					if q.Op == auth.OpRoster {
						return backend.Result{Class: backend.Accepted, Body: []byte(`{"result":"success","data":{"sharedRoster":{"user0":{"groups":["Other"]}}}}`)}
					}
					return goodPassword(q)
				}}}
			})
			r.roster().first = time.Hour
			r.auth("user0", "good")
			eventually(t, "the group", func() bool { return len(e.group("Team")) == 2 })
			down.Store(true)
			if n, err := r.RefreshRoster(t.Context(), "dom.example", ""); n != 1 || err != nil {
				t.Fatalf("refresh: %d, %v", n, err)
			}
			switch first {
			case backend.Outage, backend.Throttled, backend.Misconfigured:
				eventually(t, "a fault", func() bool { return strings.Contains(r.log.String(), "users=1 unasked=0 left=0 fault=true") })
				if len(e.group("Team")) != 2 || len(e.group("Other")) != 0 {
					t.Errorf("the groups are %v and %v", e.group("Team"), e.group("Other"))
				}
			default:
				eventually(t, "the other group", func() bool { return len(e.group("Team")) == 1 && len(e.group("Other")) == 1 })
			}
		})
	}
}

// A user whom no backend has, so far as they tell, is none to be asked about again.
func TestRosterOfUnknownUser(t *testing.T) {
	e := newEjabberd(t)
	r := newRosterRig(t, e, func(s *setup) {
		s.level = -4
		s.fake.ask = func(_ context.Context, q backend.Query) backend.Result {
			if q.Op == auth.OpRoster {
				return backend.Result{Class: backend.Unsure, Err: errors.New("the server does not find the user")}
			}
			return goodPassword(q)
		}
	})
	for n := 1; n <= 2; n++ { // when the second run begins, the actor is done with the first
		r.runFor(auth.Identity{User: fmt.Sprintf("local%d", n), Domain: "dom.example"})
		eventually(t, "the end of a run", func() bool { return strings.Count(r.log.String(), "users=1 steps=0") == n })
	}
	if log := r.log.String(); !strings.Contains(log, "does not find the user") || strings.Contains(log, "tried again") {
		t.Errorf("the log is\n%s", log)
	}
}

// A refresh of more users than may wait takes all of them.
func TestRosterRefreshOfMany(t *testing.T) {
	e := newEjabberd(t)
	const users = rosterWaiting + rosterWaiting/2 + 10
	var mu sync.Mutex
	asked := map[string]int{}
	r := newRosterRig(t, e, func(s *setup) {
		s.cfg.Domains[0].Roster.Window = time.Millisecond
		s.fake.ask = func(_ context.Context, q backend.Query) backend.Result {
			mu.Lock()
			defer mu.Unlock()
			asked[q.User]++
			return backend.Result{Class: backend.Unsupported}
		}
	})
	disk := r.disk.Load()
	state := roster.State{Store: disk, Domain: "dom.example"}
	var ops []store.Op
	for i := range users {
		op, err := state.ImportUser(auth.Identity{User: fmt.Sprintf("user%d", i), Domain: "dom.example"}, roster.User{Groups: []string{"Team"}})
		if err != nil {
			t.Fatal(err)
		}
		ops = append(ops, op...)
	}
	if err := disk.Apply(ops, false); err != nil {
		t.Fatal(err)
	}
	if n, err := r.RefreshRoster(t.Context(), "dom.example", ""); n != users || err != nil {
		t.Fatalf("%d, %v", n, err)
	}
	eventually(t, "a question about everybody", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(asked) == users
	})
	for user, n := range asked {
		if n != 1 {
			t.Errorf("%s was asked about %d times", user, n)
		}
	}
}

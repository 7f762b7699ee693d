package rosters

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"postern/actors/domain"
	"postern/internal/auth"
	"postern/internal/backend"
	"postern/internal/config"
)

// without is a backend that cannot answer about the rosters of some users.
func without(ask askFunc, users ...string) askFunc {
	return func(ctx context.Context, q backend.Query) backend.Result {
		if q.Op == auth.OpRoster && slices.Contains(users, q.User) {
			return outage
		}
		return ask(ctx, q)
	}
}

// A panic of the actor loses what it had collected, and nothing else.
func TestRosterActorPanics(t *testing.T) {
	var once atomic.Bool
	r := newRig(t, func(s *setup) {
		s.inject = func(_ string, message any) {
			if _, ok := message.(*domain.LoginNote); ok && !once.Swap(true) {
				panic("injected")
			}
		}
	})
	r.login("user0", "dom.example")
	eventually(t, "the panic", once.Load)
	eventually(t, "the group", func() bool {
		r.login("user0", "dom.example")
		return len(r.ejabberd.Group("Team")) == 3
	})
}

// Domains that ejabberd does not serve do not delay the rosters of one that it does, however
// many of them there are.
func TestRosterForeignDomainsDelayNobody(t *testing.T) {
	for _, foreign := range []int{0, 1, 6} {
		t.Run(fmt.Sprint(foreign), func(t *testing.T) {
			r := newForeignRig(t, func(s *setup) { s.domain.Roster.Window = time.Hour }) // the test says when it is over
			r.firstPause = time.Hour
			for i := range foreign {
				r.login("user0", fmt.Sprintf("m%d.mail.example", i))
			}
			r.login("user0", "chat.example")
			r.endWindow()
			r.teamOf(3)
			for i := range foreign {
				if n := r.ejabberd.Refused(fmt.Sprintf("m%d.mail.example", i)); n != 1 {
					t.Errorf("%d commands for m%d.mail.example, want 1", n, i)
				}
			}
			if log := r.log.String(); foreign > 0 && strings.Count(log, "could not be brought to the XMPP server") != 1 {
				t.Errorf("the refusals were not logged once:\n%s", log)
			}
		})
	}
}

// What is refused is tried some times, whatever goes well meanwhile, and then no more until
// the user's next login.
func TestRosterRefusedIsLeft(t *testing.T) {
	const host = "m.mail.example"
	r := newForeignRig(t, func(s *setup) { s.domain.Roster.Window = time.Millisecond })
	r.firstPause = 1 // nanosecond
	r.login("user0", host)
	well := 0
	succeed := func() {
		r.login(fmt.Sprintf("user%d", well), "chat.example")
		well++
		eventually(t, "a run that goes well", func() bool {
			return strings.Count(r.log.String(), "domain=chat.example users=1 steps") == well
		})
	}
	for n := 1; n <= 2; n++ {
		eventually(t, "the end of the tries", func() bool {
			succeed()
			return strings.Count(r.log.String(), "left=1") == n || r.ejabberd.Refused(host) > n*maxTries
		})
		for range 5 {
			succeed()
		}
		if got := r.ejabberd.Refused(host); got != n*maxTries {
			t.Fatalf("%d commands were refused, want %d", got, n*maxTries)
		}
		r.login("user0", host) // within the interval
	}
}

// An administrator's refresh ends the pause of a user after a refusal.
func TestRosterRefreshIsNotHeld(t *testing.T) {
	r := newForeignRig(t, nil)
	r.firstPause = time.Hour
	r.login("user0", "m.mail.example")
	r.logged("fault=false")
	r.ejabberd.Unserve("") // the host is added
	if _, err := r.Refresh(t.Context(), "m.mail.example", "user0"); err != nil {
		t.Fatal(err)
	}
	r.teamOf(3)
}

// A backend that stops answering in a run is a fault in the next, also where the server refuses
// the rest.
func TestRosterRefusalHidesNoOutage(t *testing.T) {
	r := newForeignRig(t, func(s *setup) {
		s.domain.Roster.Window = time.Hour // the test says when it is over
		s.asks[0] = without(s.asks[0], "user1", "user2", "user3")
	})
	r.firstPause = time.Hour
	for i := range 4 {
		r.login(fmt.Sprint("user", i), "m.mail.example")
	}
	r.endWindow()
	r.logged("users=3 unasked=1 left=0 fault=false")
	r.endWindow()
	r.logged("users=1 unasked=0 left=0 fault=true")
}

// Users without an answer from the backend keep no others from their groups, whichever came first.
func TestRosterUnansweredDelayNobody(t *testing.T) {
	for _, c := range []struct {
		name  string
		first time.Duration
		runs  [][]auth.Identity
	}{
		{"in one run", 1, [][]auth.Identity{{user("l0"), user("l1"), user("user0")}}},
		{"in the pause", time.Hour, [][]auth.Identity{{user("l0"), user("l1")}, {user("user0")}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, func(s *setup) {
				s.level = slog.LevelDebug
				s.domain.Roster.Window = time.Hour // the test says when it is over
				s.asks[0] = without(teams(new(atomic.Int64), 1), "l0", "l1")
			})
			r.firstPause = c.first
			for i, ids := range c.runs {
				r.logins(ids...)
				r.endWindow()
				if i < len(c.runs)-1 {
					r.logged("left=0 fault=true")
				}
			}
			r.teamOf(1)
		})
	}
}

// A user without an answer has a pause of its own, as long as the backend answers about others.
func TestRosterUnansweredAreHeld(t *testing.T) {
	var asked atomic.Int64
	r := newRig(t, func(s *setup) {
		s.level = slog.LevelDebug
		s.asks[0] = without(teams(&asked, 3), "l0")
	})
	r.firstPause = time.Hour
	r.logins(user("user0"), user("l0"))
	r.endWindow()
	r.teamOf(3)
	r.logged("users=1 unasked=0 left=0 fault=false")
	r.login("user1", "dom.example")
	eventually(t, "a question about the next user", func() bool { return asked.Load() == 2 })
}

// A user that was not asked about has not been tried.
func TestRosterUnaskedIsNoTry(t *testing.T) {
	r := newForeignRig(t, nil)
	r.firstPause = time.Hour
	c := newCollector(r.Roster)
	var batch []*pendingUser
	var ids []auth.Identity
	for _, name := range []string{"l0", "l1", "user0", "user1"} {
		id := auth.Identity{User: name, Domain: "chat.example"}
		batch, ids = append(batch, &pendingUser{id: id}), append(ids, id)
	}
	for try := 1; try <= maxTries; try++ {
		clear(c.pending)
		c.settle(&runDone{batch, runResult{asked: 2, failed: ids[:2], fault: true}})
		for i, id := range ids {
			p := c.pending[id]
			switch {
			case i < 2 && try == maxTries:
				if p != nil {
					t.Errorf("%v is tried again after %d tries", id, try)
				}
			case p == nil:
				t.Fatalf("after %d tries %v is not tried again", try, id)
			case i < 2 && p.tries != try || i >= 2 && p.tries != 0:
				t.Fatalf("after %d tries: %d of %v", try, p.tries, id)
			}
		}
	}
}

// So many logins may wait and no more. A login that was dropped has not been noted, and what an
// administrator asks for is never dropped.
func TestRosterLoginsAreBounded(t *testing.T) {
	var asked atomic.Int64
	r := newRig(t, func(s *setup) {
		s.domain.Roster.Window = time.Hour // the test says when it is over
		s.level = slog.LevelDebug
		s.asks[0] = func(context.Context, backend.Query) backend.Result {
			asked.Add(1)
			return backend.Result{Class: backend.Unsupported}
		}
	})
	ids := make([]auth.Identity, maxWaiting+10)
	for i := range ids {
		ids[i] = user(fmt.Sprint("user", i))
	}
	r.Ref.Send(&domain.LoginNote{IDs: ids})
	r.Ref.Send(&domain.LoginNote{IDs: ids}) // they wait already
	r.endWindow()
	r.logged(fmt.Sprintf("users=%d steps=0", maxWaiting))
	if log := r.log.String(); !strings.Contains(log, "logins were passed over") || !strings.Contains(log, "why=overloaded") {
		t.Errorf("the log is\n%s", log)
	}
	r.Ref.Send(&domain.LoginNote{IDs: ids})
	eventually(t, "questions about the dropped users", func() bool {
		r.endWindow()
		return asked.Load() >= maxWaiting+10
	})
	if _, err := r.Refresh(t.Context(), "dom.example", "user0"); err != nil { // within the interval
		t.Fatal(err)
	}
	eventually(t, "a question about user0", func() bool { return asked.Load() == maxWaiting+11 })
}

// Failing users leave the room of logins alone, and those that a refresh brings are
// taken in any case.
func TestRosterClassesAreBounded(t *testing.T) {
	r := newRig(t, func(s *setup) { s.domain.Roster.Window = time.Hour })
	r.firstPause = time.Hour
	c := newCollector(r.Roster)
	note := func(prefix string, users int, urgent bool) []auth.Identity {
		ids := make([]auth.Identity, users)
		for i := range ids {
			ids[i] = user(fmt.Sprint(prefix, i))
		}
		c.running = true // no run
		c.onNote(&domain.LoginNote{IDs: ids, Urgent: urgent})
		return ids
	}
	fail := func(ids []auth.Identity) {
		var batch []*pendingUser
		for _, id := range ids {
			batch = append(batch, c.pending[id])
			c.remove(c.pending[id])
		}
		c.settle(&runDone{batch, runResult{asked: len(ids), failed: ids}})
	}
	fail(note("first", maxWaiting, false))
	fail(note("second", 10, false))
	note("third", maxWaiting+1, false)
	fail(note("fourth", 2*maxWaiting, true))
	if want := [classes]int{maxWaiting, 0, maxWaiting, 2 * maxWaiting}; c.count != want {
		t.Errorf("pending are %v, want %v", c.count, want)
	}
	if len(c.pending) != 4*maxWaiting {
		t.Errorf("%d are pending", len(c.pending))
	}
}

// A login within the interval leads to a question when it is over, however many there were, and does
// not delay the login of another user meanwhile.
func TestRosterDefers(t *testing.T) {
	var asked atomic.Int64
	r := newRig(t, func(s *setup) {
		s.domain.Roster.MinInterval = 500 * time.Millisecond
		s.asks[0] = teams(&asked, 3)
		s.level = slog.LevelDebug
	})
	r.login("user0", "dom.example")
	r.logged("users=1 steps")
	begun := time.Now()
	for range 3 {
		r.login("user0", "dom.example")
	}
	eventually(t, "the end of the notes", func() bool { return r.Ref.Queued() == 0 })
	r.login("user1", "dom.example")
	eventually(t, "the question about another user", func() bool { return asked.Load() >= 2 })
	if took := time.Since(begun); took > 400*time.Millisecond {
		t.Logf("the other user waited %v", took) // a slow machine
	}
	eventually(t, "the deferred question", func() bool { return asked.Load() >= 3 })
	if n := strings.Count(r.log.String(), "users="); n > 3 {
		t.Errorf("%d runs for three questions", n)
	}
}

// A long interval holds up no other user.
func TestRosterDeferredHoldsNobodyUp(t *testing.T) {
	var asked atomic.Int64
	r := newRig(t, func(s *setup) {
		s.domain.Roster.MinInterval = time.Hour
		s.asks[0] = teams(&asked, 3)
		s.level = slog.LevelDebug
	})
	for n := range 2 {
		r.login(fmt.Sprint("user", n), "dom.example")
		eventually(t, "a run", func() bool { return strings.Count(r.log.String(), "users=1 steps") == n+1 })
		r.login(fmt.Sprint("user", n), "dom.example")
	}
	if n := asked.Load(); n != 2 {
		t.Errorf("%d questions about two users within the interval", n)
	}
}

// When a reload removes the roster block, the users that wait are forgotten, and there are no
// runs until another one brings it back.
func TestRosterBlockIsRemoved(t *testing.T) {
	var asked atomic.Int64
	r := newRig(t, func(s *setup) {
		s.domain.Roster.Window = time.Hour // the test says when it is over
		s.asks[0] = teams(&asked, 3)
	})
	r.login("user0", "dom.example")
	plain, err := domain.New(config.Domain{Name: "dom.example"}, nil, r.shared)
	if err != nil {
		t.Fatal(err)
	}
	kept := r.domain.Swap(plain)
	r.endWindow()
	if err := r.env.System.Alive(t.Context()); err != nil { // the window has ended
		t.Fatal(err)
	}
	if _, err := r.Refresh(t.Context(), "dom.example", "user0"); !errors.Is(err, ErrNone) {
		t.Errorf("refresh: %v", err)
	}
	r.domain.Store(kept)
	plain.Retire()
	r.login("user1", "dom.example")
	r.endWindow()
	r.teamOf(3)
	if n := asked.Load(); n != 1 {
		t.Errorf("the backend was asked about %d users, want user1 alone", n)
	}
}

package rosters

import (
	"context"
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

// An administrator's refresh brings a user back at once who is held back after a refusal.
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

// Users about whom the backend cannot answer keep no others from their groups, whichever came
// first.
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

// The pause of a user about whom the backend cannot answer, while it answers about others, is
// this user's alone.
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
	a := newCollector(newForeignRig(t, nil).Roster)
	var ids []auth.Identity
	for _, name := range []string{"l0", "l1", "user0", "user1"} {
		ids = append(ids, auth.Identity{User: name, Domain: "chat.example"})
	}
	for try := 1; try < maxTries; try++ {
		again, unasked := a.judge(&runDone{batch: ids, asked: 2, again: ids[:2], fault: true})
		if !slices.Equal(again, ids[:2]) || !slices.Equal(unasked, ids[2:]) || a.tries[ids[0]] != try || a.tries[ids[2]] != 0 {
			t.Fatalf("after %d tries: %v, %v, %v", try, again, unasked, a.tries)
		}
	}
	if again, unasked := a.judge(&runDone{batch: ids, asked: 2, again: ids[:2], fault: true}); len(again) != 0 || len(unasked) != 2 {
		t.Errorf("at last: %v, %v", again, unasked)
	}
}

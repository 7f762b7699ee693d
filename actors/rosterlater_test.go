package actors

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"postern/internal/auth"
)

func (e *fakeEjabberd) refusals(host string) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.refused[host]
}

// foreignRig is a rig for every domain, at an ejabberd that serves none below mail.example.
func foreignRig(t *testing.T, change func(*setup)) (*rig, *fakeEjabberd) {
	t.Helper()
	e := newEjabberd(t)
	e.foreign = "mail.example"
	return newRosterRig(t, e, func(s *setup) {
		s.cfg.Domains[0].Name = "*"
		s.level = -4
		s.fake.ask = teams(new(atomic.Int64), 3)
		change(s)
	}), e
}

// runFor notes logins, in their order, and ends the window.
func (r *rig) runFor(ids ...auth.Identity) {
	r.roster().send(&rosterNote{ref: r.roster(), ids: ids})
	r.roster().send(tickMessage)
}

// Domains that ejabberd does not serve do not delay the rosters of one that it does, however
// long they are waited for themselves.
func TestRosterForeignDomainsDelayNobody(t *testing.T) {
	for _, foreign := range []int{0, 1, 6} {
		t.Run(fmt.Sprint(foreign), func(t *testing.T) {
			r, e := foreignRig(t, func(s *setup) { s.cfg.Domains[0].Roster.Window = time.Hour }) // the test says when it is over
			r.roster().first = time.Hour
			var ids []auth.Identity
			for i := range foreign {
				ids = append(ids, auth.Identity{User: "user0", Domain: fmt.Sprintf("m%d.mail.example", i)})
			}
			r.runFor(append(ids, auth.Identity{User: "user0", Domain: "chat.example"})...)
			eventually(t, "the group", func() bool { return len(e.group("Team")) == 3 })
			for i := range foreign {
				if n := e.refusals(fmt.Sprintf("m%d.mail.example", i)); n != 1 {
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
	r, e := foreignRig(t, func(s *setup) { s.cfg.Domains[0].Roster.Window = time.Millisecond })
	r.roster().first = 1 // nanosecond
	r.want(r.at(host, "user0", "good"), auth.Allow, auth.SourceBackend)
	well := 0
	runs := func() int { return strings.Count(r.log.String(), "domain=chat.example users=1 steps") }
	succeed := func() {
		r.at("chat.example", fmt.Sprintf("user%d", well), "good")
		well++
		eventually(t, "a run that goes well", func() bool { return runs() == well })
	}
	left := func(n int) func() bool {
		return func() bool {
			succeed()
			return strings.Count(r.log.String(), "left=1") == n || e.refusals(host) > n*rosterTries
		}
	}
	for n := 1; n <= 2; n++ {
		eventually(t, "the end of the tries", left(n))
		for range 5 {
			succeed()
		}
		if got := e.refusals(host); got != n*rosterTries {
			t.Fatalf("%d commands were refused, want %d", got, n*rosterTries)
		}
		r.at(host, "user0", "good") // within the interval
	}
}

// An administrator's refresh brings a user back at once who is held back after a refusal.
func TestRosterRefreshIsNotHeld(t *testing.T) {
	r, e := foreignRig(t, func(*setup) {})
	r.roster().first = time.Hour
	r.want(r.at("m.mail.example", "user0", "good"), auth.Allow, auth.SourceBackend)
	eventually(t, "the refusal", func() bool { return strings.Contains(r.log.String(), "fault=false") })
	e.mu.Lock()
	e.foreign = "" // the host is added
	e.mu.Unlock()
	if _, err := r.RefreshRoster(context.Background(), "m.mail.example", "user0"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the group", func() bool { return len(e.group("Team")) == 3 })
}

// A backend that goes out of order in a run is a fault in the next, also where the server refuses
// the rest.
func TestRosterRefusalHidesNoOutage(t *testing.T) {
	r, _ := foreignRig(t, func(s *setup) {
		s.cfg.Domains[0].Roster.Window = time.Hour // the test says when it is over
		unanswered(s, "user1", "user2", "user3")
	})
	r.roster().first = time.Hour
	var ids []auth.Identity
	for i := range 4 {
		ids = append(ids, auth.Identity{User: fmt.Sprintf("user%d", i), Domain: "m.mail.example"})
	}
	r.runFor(ids...)
	eventually(t, "the first run", func() bool { return strings.Contains(r.log.String(), "users=3 unasked=1 left=0 fault=false") })
	r.roster().send(tickMessage)
	eventually(t, "a fault", func() bool { return strings.Contains(r.log.String(), "users=1 unasked=0 left=0 fault=true") })
}

package rosters

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"postern/actors/slots"
	"postern/internal/auth"
	"postern/internal/backend"
	"postern/internal/roster"
	"postern/internal/store"
)

// Many logins within the window are one run, in which a group is computed once; the same user
// is not asked about again within the interval.
func TestRosterCoalesces(t *testing.T) {
	const users = 50
	var asked atomic.Int64
	r := newRig(t, func(s *setup) {
		s.asks = []askFunc{teams(&asked, users)}
		s.domain.Roster.Window = time.Hour // the test says when it is over
		s.level = slog.LevelDebug
	})
	for range 3 {
		for i := range users {
			r.login(fmt.Sprintf("user%d", i), "dom.example")
		}
	}
	r.endWindow()
	r.logged(fmt.Sprintf("users=%d steps", users))
	if n := len(r.ejabberd.Group("Team")); n != users {
		t.Errorf("%d members", n)
	}
	for command, want := range map[string]int{"srg_create": 1, "srg_get_members": 1, "srg_user_add": users, "srg_user_del": 0} {
		if n := r.ejabberd.Executed(command); n != want {
			t.Errorf("%s ran %d times, want %d", command, n, want)
		}
	}
	if n := asked.Load(); n != users {
		t.Errorf("the backend was asked %d times about %d users", n, users)
	}
	r.ahead.Add(int64(2 * time.Minute))
	r.login("user1", "dom.example")
	eventually(t, "a second run", func() bool {
		r.endWindow() // the one before has no effect while the collector has not heard of the first run's end
		return strings.Count(r.log.String(), "msg=\"shared rosters\"") == 2
	})
	if n := asked.Load(); n != users+1 {
		t.Errorf("the backend was asked %d times about %d users, and one of them again", n, users)
	}
	if n := r.ejabberd.Executed("srg_user_add"); n != users {
		t.Errorf("an unchanged answer led to commands")
	}
}

// A question about a roster leaves half of a backend's slots to logins, and comes when there
// is room.
func TestRosterYields(t *testing.T) {
	var asked, busy, tried atomic.Int64
	release := make(chan struct{})
	r := newRig(t, func(s *setup) {
		s.slots = 2
		s.inject = func(_ string, message any) {
			if q, ok := message.(*slots.Question); ok && q.Background {
				tried.Add(1)
			}
		}
		well := teams(&asked, 1)
		s.asks = []askFunc{func(ctx context.Context, q backend.Query) backend.Result {
			if strings.HasPrefix(q.User, "slow") {
				busy.Add(1)
				<-release
			}
			return well(ctx, q)
		}}
	})
	var done sync.WaitGroup
	for i := range 2 {
		done.Go(func() { r.password(fmt.Sprintf("slow%d", i), "good") })
	}
	eventually(t, "two logins at the backend", func() bool { return busy.Load() == 2 })
	r.login("user0", "dom.example")
	eventually(t, "several attempts", func() bool { return tried.Load() > 2 })
	if asked.Load() > 0 {
		t.Error("a roster was asked for while logins had all slots")
	}
	close(release)
	done.Wait()
	r.teamOf(1)
}

// While the backend has no rosters to give, nothing is said and logins go on; when it is
// back, what was missed is made up for.
func TestRosterOutageIsSilent(t *testing.T) {
	var asked atomic.Int64
	var down atomic.Bool
	r := newRig(t, func(s *setup) {
		s.failures = 2
		s.level = slog.LevelInfo
		well := teams(new(atomic.Int64), 3)
		s.asks = []askFunc{func(ctx context.Context, q backend.Query) backend.Result {
			if q.Op == auth.OpRoster && asked.Add(1) > 0 && down.Load() {
				return outage
			}
			return well(ctx, q)
		}}
	})
	r.firstPause = 5 * time.Millisecond
	down.Store(true)
	for i := range 3 {
		r.login(fmt.Sprintf("user%d", i), "dom.example")
	}
	eventually(t, "several questions", func() bool { return asked.Load() > 4 })
	if result := r.password("user9", "good"); result.Class != backend.Accepted { // the breaker is closed
		t.Errorf("a login was answered %v: %v", result.Class, result.Err)
	}
	if log := r.log.String(); strings.Contains(log, "level=WARN") || strings.Contains(log, "level=ERROR") {
		t.Errorf("the outage was not silent:\n%s", log)
	}
	down.Store(false)
	r.teamOf(3)
}

// Whichever command fails, the run is taken up again until all is done.
func TestRosterServerFails(t *testing.T) {
	for n := 1; n <= 4; n++ {
		r := newRig(t, nil)
		r.ejabberd.Fail(func(at int) bool { return at == n })
		r.firstPause = 5 * time.Millisecond
		r.login("user0", "dom.example")
		r.teamOf(3)
		if log := r.log.String(); !strings.Contains(log, "could not be brought to the XMPP server") || !strings.Contains(log, "503") {
			t.Errorf("the failure was not logged:\n%s", log)
		}
		r.stop()
	}
}

// While the backend that gave a user's groups cannot answer, one after it neither replaces nor
// removes them. If a backend does not know a user, the next one is asked.
func TestRosterOfTwoBackends(t *testing.T) {
	for _, first := range []backend.Class{backend.Outage, backend.Throttled, backend.Misconfigured, backend.Unsure, backend.Refused, backend.Unsupported} {
		t.Run(first.String(), func(t *testing.T) {
			var down atomic.Bool
			r := newRig(t, func(s *setup) {
				s.level = slog.LevelDebug
				well := teams(new(atomic.Int64), 2)
				s.asks = []askFunc{
					func(ctx context.Context, q backend.Query) backend.Result {
						if down.Load() {
							return backend.Result{Class: first, Err: errors.New("not now")}
						}
						return well(ctx, q)
					},
					func(context.Context, backend.Query) backend.Result {
						return backend.Result{Class: backend.Accepted, Body: []byte(`{"result":"success","data":{"sharedRoster":{"user0":{"groups":["Other"]}}}}`)}
					},
				}
			})
			r.firstPause = time.Hour
			r.login("user0", "dom.example")
			r.teamOf(2)
			down.Store(true)
			if n, err := r.Refresh(t.Context(), "dom.example", ""); n != 1 || err != nil {
				t.Fatalf("refresh: %d, %v", n, err)
			}
			switch first {
			case backend.Outage, backend.Throttled, backend.Misconfigured:
				r.logged("users=1 unasked=0 left=0 fault=true")
				if team, other := r.ejabberd.Group("Team"), r.ejabberd.Group("Other"); len(team) != 2 || len(other) != 0 {
					t.Errorf("the groups are %v and %v", team, other)
				}
			default:
				eventually(t, "the other group", func() bool { return len(r.ejabberd.Group("Team")) == 1 && len(r.ejabberd.Group("Other")) == 1 })
			}
		})
	}
}

// A user that no backend has, so far as they say, is not asked about again.
func TestRosterOfUnknownUser(t *testing.T) {
	r := newRig(t, func(s *setup) {
		s.level = slog.LevelDebug
		s.asks = []askFunc{func(context.Context, backend.Query) backend.Result {
			return backend.Result{Class: backend.Unsure, Err: errors.New("the server does not find the user")}
		}}
	})
	for n := 1; n <= 2; n++ { // when the second run begins, the collector is done with the first
		r.login(fmt.Sprintf("local%d", n), "dom.example")
		eventually(t, "the end of a run", func() bool { return strings.Count(r.log.String(), "users=1 steps=0") == n })
	}
	if log := r.log.String(); !strings.Contains(log, "does not find the user") || strings.Contains(log, "tried again") {
		t.Errorf("the log is\n%s", log)
	}
}

// Plan, refresh and forget-group, while the domain's own runs go on.
func TestRosterOperations(t *testing.T) {
	ctx := t.Context()
	r := newRig(t, nil)
	plan, err := r.Plan(ctx, "dom.example", "user0")
	if err != nil || len(plan.Lines) != 5 || plan.Users != 1 {
		t.Errorf("plan: %+v, %v", plan, err)
	}
	if r.ejabberd.Executed("srg_create") != 0 {
		t.Error("the plan was carried out")
	}
	r.login("user0", "dom.example")
	r.teamOf(3)
	r.ejabberd.SetGroup("Team", "stranger@dom.example")
	if n, err := r.Refresh(ctx, "dom.example", ""); n != 1 || err != nil {
		t.Errorf("refresh: %d, %v", n, err)
	}
	eventually(t, "the repair", func() bool {
		return strings.Join(r.ejabberd.Group("Team"), " ") == "user0@dom.example user1@dom.example user2@dom.example"
	})
	eventually(t, "the removal", func() bool {
		_, err := r.ForgetGroup(ctx, "Team", "dom.example")
		return err == nil && len(r.ejabberd.Group("Team")) == 0
	})
}

// A refresh of more users than may wait takes all of them.
func TestRosterRefreshOfMany(t *testing.T) {
	const users = maxWaiting + maxWaiting/2 + 10
	var mu sync.Mutex
	asked := map[string]int{}
	r := newRig(t, func(s *setup) {
		s.domain.Roster.Window = time.Millisecond
		s.asks = []askFunc{func(_ context.Context, q backend.Query) backend.Result {
			mu.Lock()
			defer mu.Unlock()
			asked[q.User]++
			return backend.Result{Class: backend.Unsupported}
		}}
	})
	disk := r.env.Disk().Store()
	state := roster.State{Store: disk, Domain: "dom.example"}
	var ops []store.Op
	for i := range users {
		op, err := state.ImportUser(user(fmt.Sprint("user", i)), roster.User{Groups: []string{"Team"}})
		if err != nil {
			t.Fatal(err)
		}
		ops = append(ops, op...)
	}
	if err := disk.Apply(ops, false); err != nil {
		t.Fatal(err)
	}
	if n, err := r.Refresh(t.Context(), "dom.example", ""); n != users || err != nil {
		t.Fatalf("%d, %v", n, err)
	}
	eventually(t, "a question about every user", func() bool {
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

// TestRosterOfAnotherTenant: the server of one domain gives no name and no group to a user of another
// domain on the same XMPP server, and the log says so.
func TestRosterOfAnotherTenant(t *testing.T) {
	r := newRig(t, func(s *setup) {
		s.asks[0] = func(context.Context, backend.Query) backend.Result {
			return backend.Result{Class: backend.Accepted, Body: []byte(`{"result":"success","data":{"sharedRoster":{` +
				`"user0":{"name":"User","groups":["Team"]},"boss@tenant.example":{"name":"Renamed","groups":["Team"]}}}}`)}
		}
	})
	r.login("user0", "dom.example")
	r.teamOf(1)
	r.logged("accounts of other domains were left as they are")
	if n := r.ejabberd.Executed("set_vcard"); n != 1 {
		t.Errorf("%d users were named", n)
	}
}

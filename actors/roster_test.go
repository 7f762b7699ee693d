package actors

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"postern/internal/auth"
	"postern/internal/backend"
	"postern/internal/config"
	"postern/internal/store"
)

// fakeEjabberd is a mod_http_api that keeps groups.
type fakeEjabberd struct {
	*httptest.Server
	mu      sync.Mutex
	count   map[string]int // of commands
	members map[string]map[string]bool
	fail    func(n int) bool // nil, or says which command fails
	n       int
	foreign string         // the end of the names of hosts that are not served
	refused map[string]int // commands, by host
}

func newEjabberd(t *testing.T) *fakeEjabberd {
	e := &fakeEjabberd{count: map[string]int{}, members: map[string]map[string]bool{}, refused: map[string]int{}}
	e.Server = httptest.NewServer(http.HandlerFunc(e.serve))
	t.Cleanup(e.Close)
	return e
}

func (e *fakeEjabberd) serve(w http.ResponseWriter, r *http.Request) {
	var args struct{ User, Host, Group string }
	_ = json.NewDecoder(r.Body).Decode(&args)
	command := r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.n++; e.fail != nil && e.fail(e.n) {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	if e.foreign != "" && strings.HasSuffix(args.Host, e.foreign) {
		e.refused[args.Host]++
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	e.count[command]++
	if e.members[args.Group] == nil {
		e.members[args.Group] = map[string]bool{}
	}
	group := e.members[args.Group]
	switch command {
	case "srg_user_add":
		group[args.User+"@"+args.Host] = true
	case "srg_user_del":
		delete(group, args.User+"@"+args.Host)
	case "srg_get_members":
		list := []string{}
		for m := range group {
			list = append(list, m)
		}
		_ = json.NewEncoder(w).Encode(list)
		return
	}
	_, _ = w.Write([]byte("0"))
}

func (e *fakeEjabberd) counted(command string) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.count[command]
}

func (e *fakeEjabberd) group(name string) (list []string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for m := range e.members[name] {
		list = append(list, m)
	}
	slices.Sort(list)
	return list
}

// teams is a backend in which everybody is in the group Team with the users of size.
func teams(asked *atomic.Int64, size int) func(context.Context, backend.Query) backend.Result {
	var accounts []string
	for i := range size {
		accounts = append(accounts, fmt.Sprintf(`"user%d":{"groups":["Team"]}`, i))
	}
	document := []byte(`{"result":"success","data":{"sharedRoster":{` + strings.Join(accounts, ",") + `}}}`)
	return func(_ context.Context, q backend.Query) backend.Result {
		if q.Op == auth.OpRoster {
			asked.Add(1)
			return backend.Result{Class: backend.Accepted, Body: document}
		}
		return goodPassword(q)
	}
}

// newRosterRig is a rig whose domain has shared rosters, at ejabberd.
func newRosterRig(t *testing.T, e *fakeEjabberd, change func(*setup)) *rig {
	t.Helper()
	p, err := store.OpenPebble(t.TempDir(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	r := newRig(t, func(s *setup) {
		s.store = p
		s.cfg.Domains[0].Roster = &config.Roster{
			Kind: config.RosterEjabberd, API: e.URL + "/api", Window: 20 * time.Millisecond, MinInterval: time.Minute, Timeout: 10 * time.Second,
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

func (r *rig) roster() *rosterRef { return r.lookup("dom.example").roster }

// Many logins within the window are one run, in which a group is computed once; the same user
// is not asked about again within the interval.
func TestRosterCoalesces(t *testing.T) {
	const users = 50
	e := newEjabberd(t)
	var asked atomic.Int64
	r := newRosterRig(t, e, func(s *setup) {
		s.fake.ask = teams(&asked, users)
		s.cfg.Domains[0].Roster.Window = time.Hour // the test says when it is over
		s.level = -4
	})
	for round := range 3 {
		for i := range users {
			r.want(r.auth(fmt.Sprintf("user%d", i), "good"), auth.Allow, []auth.Source{auth.SourceBackend, auth.SourceHot}[min(round, 1)])
		}
	}
	r.roster().send(tickMessage)
	eventually(t, "a run for everybody", func() bool { return strings.Contains(r.log.String(), fmt.Sprintf("users=%d steps", users)) })
	if n := len(e.group("Team")); n != users {
		t.Errorf("%d members", n)
	}
	for command, want := range map[string]int{"srg_create": 1, "srg_get_members": 1, "srg_user_add": users, "srg_user_del": 0} {
		if n := e.counted(command); n != want {
			t.Errorf("%s ran %d times, want %d", command, n, want)
		}
	}
	if n := asked.Load(); n != users {
		t.Errorf("the backend was asked %d times about %d users", n, users)
	}
	r.clock.advance(2 * time.Minute)
	r.auth("user1", "good")
	eventually(t, "a question after the interval", func() bool {
		r.roster().send(tickMessage) // the login may be answered before it is told here
		return asked.Load() == users+1
	})
	eventually(t, "a second run", func() bool { return strings.Count(r.log.String(), "msg=\"shared rosters\"") == 2 })
	if n := e.counted("srg_user_add"); n != users {
		t.Errorf("an unchanged answer led to commands")
	}
}

// A login is answered while the question about its roster hangs, and so are those after it.
func TestRosterDelaysNoLogin(t *testing.T) {
	e := newEjabberd(t)
	hanging, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	r := newRosterRig(t, e, func(s *setup) {
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

// A question about a roster leaves half of a backend's slots to logins, and comes when there
// is room.
func TestRosterYields(t *testing.T) {
	e := newEjabberd(t)
	var asked, busy, tried atomic.Int64
	release := make(chan struct{})
	r := newRosterRig(t, e, func(s *setup) {
		s.cfg.Backends[0].Slots = 2
		s.inject = func(_ string, message any) {
			if a, ok := message.(*ask); ok && a.quiet != nil {
				tried.Add(1)
			}
		}
		well := teams(&asked, 1)
		s.fake.ask = func(ctx context.Context, q backend.Query) backend.Result {
			if strings.HasPrefix(q.User, "slow") {
				busy.Add(1)
				<-release
			}
			return well(ctx, q)
		}
	})
	var done sync.WaitGroup
	for i := range 2 {
		done.Go(func() { r.auth(fmt.Sprintf("slow%d", i), "good") })
	}
	eventually(t, "two logins at the backend", func() bool { return busy.Load() == 2 })
	r.roster().send(&rosterNote{ref: r.roster(), ids: []auth.Identity{{User: "user0", Domain: "dom.example"}}})
	eventually(t, "several attempts", func() bool { return tried.Load() > 2 })
	if asked.Load() > 0 {
		t.Error("a roster was asked for while logins had all slots")
	}
	close(release)
	done.Wait()
	eventually(t, "the group", func() bool { return len(e.group("Team")) == 1 })
}

// While the backend has no rosters to give, nothing is said and logins go on; when it is
// back, what was missed is made up for.
func TestRosterOutageIsSilent(t *testing.T) {
	e := newEjabberd(t)
	var asked, down atomic.Int64
	r := newRosterRig(t, e, func(s *setup) {
		s.cfg.Backends[0].BreakerFailures = 2
		well := teams(new(atomic.Int64), 3)
		s.fake.ask = func(ctx context.Context, q backend.Query) backend.Result {
			if q.Op == auth.OpRoster && asked.Add(1) > 0 && down.Load() == 1 {
				return outage(ctx, q)
			}
			return well(ctx, q)
		}
	})
	r.roster().first = 5 * time.Millisecond
	down.Store(1)
	for i := range 3 {
		r.want(r.auth(fmt.Sprintf("user%d", i), "good"), auth.Allow, auth.SourceBackend)
	}
	eventually(t, "several questions", func() bool { return asked.Load() > 4 })
	r.want(r.auth("user9", "good"), auth.Allow, auth.SourceBackend) // the breaker is closed
	if log := r.log.String(); strings.Contains(log, "level=WARN") || strings.Contains(log, "level=ERROR") {
		t.Errorf("the outage was not silent:\n%s", log)
	}
	down.Store(0)
	eventually(t, "the group", func() bool { return len(e.group("Team")) == 3 })
}

// Whichever command fails, the run is taken up again until all is done.
func TestRosterServerFails(t *testing.T) {
	for n := 1; n <= 4; n++ {
		e := newEjabberd(t)
		e.fail = func(at int) bool { return at == n }
		r := newRosterRig(t, e, func(s *setup) { s.fake.ask = teams(new(atomic.Int64), 3) })
		r.roster().first = 5 * time.Millisecond
		r.auth("user0", "good")
		eventually(t, "the group", func() bool { return len(e.group("Team")) == 3 })
		if log := r.log.String(); !strings.Contains(log, "could not be brought to the XMPP server") || !strings.Contains(log, "503") {
			t.Errorf("the failure was not logged:\n%s", log)
		}
		r.stop()
	}
}

// A panic of the actor loses what it had collected, and nothing else.
func TestRosterActorPanics(t *testing.T) {
	e := newEjabberd(t)
	var once atomic.Bool
	r := newRosterRig(t, e, func(s *setup) {
		s.fake.ask = teams(new(atomic.Int64), 3)
		s.inject = func(name string, message any) {
			if _, ok := message.(*rosterNote); ok && !once.Swap(true) {
				panic(injected(name))
			}
		}
	})
	r.want(r.auth("user0", "good"), auth.Allow, auth.SourceBackend)
	eventually(t, "the panic", once.Load)
	eventually(t, "the group", func() bool {
		r.auth("user0", "good")
		return len(e.group("Team")) == 3
	})
}

// Plan, refresh and forget-group, while the domain's own runs go on.
func TestRosterOperations(t *testing.T) {
	ctx := context.Background()
	e := newEjabberd(t)
	r := newRosterRig(t, e, func(s *setup) { s.fake.ask = teams(new(atomic.Int64), 3) })
	plan, err := r.PlanRoster(ctx, "dom.example", "user0")
	if err != nil || len(plan.Steps) != 5 || plan.Users != 1 {
		t.Errorf("plan: %+v, %v", plan, err)
	}
	if e.counted("srg_create") != 0 {
		t.Error("the plan was carried out")
	}
	r.auth("user0", "good")
	eventually(t, "the group", func() bool { return len(e.group("Team")) == 3 })
	e.mu.Lock()
	e.members["Team"] = map[string]bool{"stranger@dom.example": true} // someone meddled
	e.mu.Unlock()
	if n, err := r.RefreshRoster(ctx, "dom.example", ""); n != 1 || err != nil {
		t.Errorf("refresh: %d, %v", n, err)
	}
	eventually(t, "the repair", func() bool {
		return strings.Join(e.group("Team"), " ") == "user0@dom.example user1@dom.example user2@dom.example"
	})
	eventually(t, "the removal", func() bool {
		_, err := r.ForgetGroup(ctx, "Team", "dom.example")
		return err == nil && len(e.group("Team")) == 0
	})
	if _, err := r.PlanRoster(ctx, "other.example", ""); err == nil {
		t.Error("a plan for a domain that is not configured")
	}
}

package router

import (
	"context"
	"errors"
	"testing"
	"time"

	"postern/actors/call"
	"postern/actors/env"
	"postern/actors/supervise"
	"postern/internal/auth"
	"postern/internal/config"
)

// TestFind: a name is answered for by its block, else by the registered domain, else by "*".
func TestFind(t *testing.T) {
	r := newRig(t, []string{"block.example", "both.example", "*"}, []string{"both.example", "only.example"}, nil)
	for name, password := range map[string]string{
		"block.example": "block.example", "both.example": "both.example", "only.example": "good", "other.example": "*",
	} {
		r.want(r.login(name, "joe", password), auth.Allow, auth.SourceBackend)
		if !r.Serves(name) || r.Current(name) == nil {
			t.Errorf("%s is not served", name)
		}
	}
	for block, want := range map[string]string{"both.example": "both.example", "only.example": "only.example", "other.example": "*"} {
		if d := r.Current(block); d.Name != want {
			t.Errorf("%s is answered for by %s, want %s", block, d.Name, want)
		}
	}
	if r.Served("other.example") || !r.Served("*") || !r.Served("only.example") {
		t.Error("Served does not name the blocks")
	}
	if n := r.open("both.example"); n != 1 {
		t.Errorf("%d backends of a registered domain behind its block", n-1)
	}
	r.reload(func(c *config.Config) { removeBlock(c, "both.example") })
	r.want(r.login("both.example", "joe", "good"), auth.Allow, auth.SourceBackend)
	if err := r.unregister("both.example"); err != nil {
		t.Fatal(err)
	}
	r.want(r.login("both.example", "joe", "*"), auth.Allow, auth.SourceBackend)
	r.reload(func(c *config.Config) { removeBlock(c, "*") })
	r.want(r.login("both.example", "joe", "*"), auth.Deny, auth.SourceUnknownDomain)
	if r.Serves("both.example") || r.Current("both.example") != nil {
		t.Error("a name without a domain is served")
	}
	r.idle()
}

// TestFindStartsNothing: whether a registered domain is served can be said without its router.
func TestFindStartsNothing(t *testing.T) {
	r := newRig(t, nil, []string{"a.example"}, nil)
	if !r.Serves("a.example") || r.Current("a.example") != nil || r.Served("a.example") {
		t.Error("a registered domain that is not in use")
	}
	if all, live := r.Registered(); all != 1 || live != 0 {
		t.Errorf("%d of %d are in use", live, all)
	}
	if len(r.Domains(true)) != 0 || r.disk.reads.Load() != 0 {
		t.Error("it was read")
	}
}

// TestRosterOf: the error says whether the domain is unknown or has no shared rosters.
func TestRosterOf(t *testing.T) {
	r := newRig(t, []string{"block.example"}, []string{"a.example"}, nil)
	for name, unknown := range map[string]bool{"block.example": false, "a.example": false, "no.example": true} {
		if _, err := r.RosterOf(name); err == nil || errors.Is(err, ErrUnknownDomain) != unknown {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestAdmissionBound: a domain that has as many calls under way as it may is overloaded, until some
// have been answered, and another domain is not.
func TestAdmissionBound(t *testing.T) {
	r := newRig(t, []string{"a.example", "b.example"}, nil, nil)
	a, _ := r.find("a.example")
	for range maxUnderWay {
		a.calls.Acquire()
	}
	r.want(r.login("a.example", "joe", "a.example"), auth.Unavailable, auth.SourceOverload)
	r.want(r.login("b.example", "joe", "b.example"), auth.Allow, auth.SourceBackend)
	if n := a.calls.Holders(); n != maxUnderWay {
		t.Errorf("%d under way after one was refused, want %d", n, maxUnderWay)
	}
	a.calls.Release()
	r.want(r.login("a.example", "joe", "a.example"), auth.Allow, auth.SourceBackend)
	for range maxUnderWay - 1 {
		a.calls.Release()
	}
	r.idle()
}

// TestHeldUpRouter: a router that does not come to its messages for a moment, as on a busy machine, has room
// for all calls that its domain may have under way, and refuses the others at once.
func TestHeldUpRouter(t *testing.T) {
	r := newRig(t, []string{"a.example"}, nil, nil)
	reached, release := make(chan struct{}), make(chan struct{})
	hold := func(_ string, message any) {
		if c, ok := message.(*call.Call); ok && c.ID.User == "first" {
			close(reached)
			<-release
		}
	}
	r.inject.Store(&hold)
	first := r.login("a.example", "first", "a.example")
	<-reached
	calls := []*call.Call{first}
	for range maxUnderWay - 1 {
		calls = append(calls, r.login("a.example", "joe", "a.example"))
	}
	r.login("a.example", "joe", "a.example") // in the queue
	r.want(r.login("a.example", "joe", "a.example"), auth.Unavailable, auth.SourceOverload)
	r.inject.Store(nil)
	close(release)
	let := 0
	for _, c := range calls {
		if r.answer(c).Verdict == auth.Allow {
			let++
		}
	}
	if let < maxUnderWay-10 { // those at the bound are refused when their turn comes
		t.Errorf("%d of %d were let in", let, maxUnderWay)
	}
	r.idle()
}

// TestWaitingBound: so many calls wait for a registered domain to be read, and no more.
func TestWaitingBound(t *testing.T) {
	r := newRig(t, nil, []string{"a.example"}, nil)
	g := r.disk.hold()
	first := r.login("a.example", "joe", "good")
	<-g.reached
	var run supervise.Runner
	for range maxUnderWay - 1 {
		r.Dispatch(&run, r.newCall("a.example", "joe", "good"))
	}
	late := r.newCall("a.example", "joe", "good")
	r.Dispatch(&run, late)
	r.want(late, auth.Unavailable, auth.SourceOverload)
	close(g.release)
	if a := r.answer(first); a.Verdict != auth.Allow {
		t.Errorf("the first of those who waited: %+v", a)
	}
	r.idle()
}

// TestCallsAreReleased: whatever the answer of a call, it is under way no more once it is there, and
// a router that is taken out of the table ends with its last call.
func TestCallsAreReleased(t *testing.T) {
	r := newRig(t, []string{"a.example", "*"}, []string{"b.example"}, nil)
	gone, _ := r.find("a.example")
	reached, release := make(chan struct{}), make(chan struct{})
	r.mu.Lock()
	r.made["a.example"][0].ask = func(context.Context) { close(reached); <-release }
	r.mu.Unlock()
	slow := r.login("a.example", "joe", "a.example")
	joined := r.login("a.example", "joe", "a.example")
	<-reached
	eventually(t, "the second login", func() bool { return len(joined.Trace.Steps()) > 0 })
	r.reload(func(c *config.Config) { removeBlock(c, "a.example") })
	select {
	case <-gone.ref.Stopped():
		t.Error("a router ended before its calls")
	default:
	}
	if gone.calls.Acquire() {
		t.Error("a router that is about to end takes another call")
	}
	r.want(r.login("a.example", "jane", "*"), auth.Allow, auth.SourceBackend) // the fallback's
	close(release)
	r.want(slow, auth.Allow, auth.SourceBackend)
	r.want(joined, auth.Allow, auth.SourceCoalesced)
	<-gone.ref.Stopped()
	eventually(t, "the end of the backend", func() bool { return r.open("a.example") == 0 })
	if n := gone.calls.Holders(); n != 0 {
		t.Errorf("%d calls are under way at its end", n)
	}
	r.want(r.login("b.example", "joe", "bad"), auth.Deny, auth.SourceBackend)
	r.want(r.login("b.example", "joe", "bad"), auth.Deny, auth.SourceRefusedBefore)
	r.idle()
}

// TestPrepareFails: a configuration that cannot be prepared leaves nothing behind, and the one in
// force stays.
func TestPrepareFails(t *testing.T) {
	r := newRig(t, []string{"a.example"}, nil, nil)
	was, routers := r.Config(), len(r.allRouters())
	for name, change := range map[string]func(*config.Config){
		"a backend": func(c *config.Config) {
			addBlock(c, "b.example", config.StorageMemory)
			r.mu.Lock()
			defer r.mu.Unlock()
			r.makeFail = errors.New("no certificate")
		},
		"a token": func(c *config.Config) {
			addBlock(c, "b.example", config.StorageMemory)
			addBlock(c, "c.example", config.StorageMemory)
			c.Domains[2].TOTP = &config.TOTPToken{Seed: auth.NewSecret("!"), Secrets: []auth.Secret{auth.NewSecret("!")}}
		},
	} {
		next := *was
		change(&next)
		if _, err := r.Prepare(&next, config.Diff(was, &next)); err == nil {
			t.Errorf("%s: prepared", name)
		}
		r.mu.Lock()
		r.makeFail = nil
		r.mu.Unlock()
		eventually(t, "the end of what was prepared", func() bool {
			return len(r.allRouters()) == routers && r.open("b.example")+r.open("c.example") == 0
		})
	}
	if r.Config() != was || r.Serves("b.example") {
		t.Error("the configuration in force has changed")
	}
	r.want(r.login("a.example", "joe", "a.example"), auth.Allow, auth.SourceBackend)
}

// TestNothingBeginsAtTheEnd: once the table stops, no router starts and no goroutine either.
func TestNothingBeginsAtTheEnd(t *testing.T) {
	r := newRig(t, nil, []string{"a.example"}, nil)
	r.stop()
	if r.Go(func() { t.Error("it ran") }) {
		t.Error("a goroutine began")
	}
	r.want(r.login("a.example", "joe", "good"), auth.Unavailable, auth.SourceStopping)
	if err := r.unregister("a.example"); !errors.Is(err, ErrStopping) {
		t.Errorf("a change: %v", err)
	}
	if err := r.Change(func() error { return nil }); !errors.Is(err, ErrStopping) {
		t.Errorf("a reload: %v", err)
	}
}

// TestTidyPause follows the shortest lifetime, within bounds.
func TestTidyPause(t *testing.T) {
	for idle, want := range map[time.Duration]time.Duration{
		0: 20 * time.Millisecond, 40 * time.Millisecond: 20 * time.Millisecond, 2 * time.Second: 500 * time.Millisecond, time.Hour: tidyEvery,
	} {
		table := NewTable(env.Env{}, nil)
		table.served.Store(&served{cfg: &config.Config{Registry: config.Registry{Idle: idle}}})
		if got := table.TidyPause(20 * time.Millisecond); got != want {
			t.Errorf("idle for %v: a round every %v, want %v", idle, got, want)
		}
	}
}

package actors

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/asynkron/protoactor-go/actor"

	"postern/internal/auth"
	"postern/internal/config"
)

// TestLimitOps shows and forgets users, and counts for the administrator.
func TestLimitOps(t *testing.T) {
	ctx := context.Background()
	r := newRig(t, withLimits)
	joe := auth.Identity{User: "joe", Domain: "dom.example"}
	for i := range 4 {
		r.asks(1, login("joe", fmt.Sprint("guess", i)), deny, fromBackend)
	}
	r.asks(1, login("jane", "guess"), deny, fromBackend)
	l, err := r.UserLimit(ctx, joe)
	if err != nil || l.Name != "joe@dom.example" || l.Refusals != 4 || l.Pauses != 1 || l.Until == nil {
		t.Errorf("%+v, %v", l, err)
	}
	all, err := r.Limits(ctx)
	d := all.Backends["backend.json.fake"].Users
	if err != nil || d.Watched != 1 || len(d.Limited) != 1 || d.Limited[0].Name != "joe@dom.example" || len(all.Backends) != 1 {
		t.Errorf("%+v, %v", all, err)
	}
	if l, err := r.ForgetUserLimit(ctx, joe); err != nil || l.Refusals != 4 || l.Pauses != 1 {
		t.Errorf("%+v, %v", l, err)
	}
	if l, err := r.ForgetUserLimit(ctx, joe); err != nil || l.Refusals != 0 {
		t.Errorf("forgotten: %+v, %v", l, err)
	}
	r.asks(1, login("joe", "another"), deny, fromBackend)
	unknown := auth.Identity{User: "joe", Domain: "elsewhere.example"}
	if _, err := r.ForgetUserLimit(ctx, unknown); err == nil {
		t.Error("an unknown domain has limits")
	}
}

// TestLimitsRestart: a panic loses the counts, and locks no user out.
func TestLimitsRestart(t *testing.T) {
	var fail faultOnce
	r := newRig(t, func(s *setup) { withLimits(s); s.inject = fail.inject })
	for i := range 4 {
		r.asks(1, login("joe", fmt.Sprint("guess", i)), deny, fromBackend)
	}
	r.asks(0, login("joe", "guess"), unavailable, byUser)
	const owner = "backend.json.fake"
	fail.arm(owner)
	r.tickAll()
	eventually(t, "the restart", func() bool { return r.restarts(owner) == 1 && r.recovered() })
	r.asks(1, login("joe", "good"), allow, fromBackend)
}

// faultOnce panics in the next message of an actor.
type faultOnce struct {
	mu    sync.Mutex
	armed string
}

func (f *faultOnce) arm(actor string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.armed = actor
}

func (f *faultOnce) inject(name string, message any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch message.(type) {
	case actor.AutoReceiveMessage, actor.SystemMessage:
		return
	}
	if f.armed != "" && strings.HasSuffix(name, f.armed) {
		f.armed = ""
		panic(injected("once"))
	}
}

// TestReloadLimits: changed limits hold at once, and what was counted stays.
func TestReloadLimits(t *testing.T) {
	r := newRig(t, withLimits)
	for i := range 3 {
		r.asks(1, login("joe", fmt.Sprint("guess", i)), deny, fromBackend)
	}
	r.reload(func(c *config.Config) { c.Domains[0].Limit.UserRefusals = 3 })
	r.asks(1, login("joe", "guess3"), deny, fromBackend)
	r.asks(0, login("joe", "guess4"), unavailable, byUser)
	r.reload(func(c *config.Config) { c.Domains[0].Limit = config.Limit{} })
	r.asks(1, login("joe", "guess4"), deny, fromBackend)
}

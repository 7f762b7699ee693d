package router

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"postern/actors/call"
	"postern/actors/env"
	"postern/actors/supervise"
	"postern/internal/auth"
	"postern/internal/registry"
	"postern/internal/store"
)

// nothing is an empty store.
type nothing struct{ store.Store }

// Get implements store.Store.
func (nothing) Get([]byte) ([]byte, error) { return nil, store.ErrNotFound }

// answered is the asker of a call.
type answered chan struct{}

// Answered implements call.Asker.
func (a answered) Answered(*call.Call) { close(a) }

// TestAdmittedBeforeResolved: a call that was let in before its domain turned out to be gone, and comes to
// the router after the others were sent on, does not wait for its deadline.
func TestAdmittedBeforeResolved(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	system := supervise.NewSystem(supervise.Options{Log: log})
	table := NewTable(env.New(context.Background(), system, log, time.Now), nil)
	table.registry.Store(registry.New(nothing{}))
	reg := &registered{name: "gone.example"}
	r, err := table.newRouter(reg.name, "registered:gone.example#1", false)
	if err != nil {
		t.Fatal(err)
	}
	reg.router.Store(r)
	table.live[reg] = r

	done := make(answered)
	c := &call.Call{ID: auth.Identity{User: "joe", Domain: reg.name}, Name: "joe", Received: time.Now(), Asker: done}
	r.calls.Acquire()
	c.Admit(r.calls)
	table.resolve(reg, r)
	if err := system.Alive(t.Context()); err != nil { // the router has handled the outcome
		t.Fatal(err)
	}
	r.ref.Send(c)
	select {
	case <-done:
		if a, _ := c.Result(); a.Source != auth.SourceUnknownDomain {
			t.Errorf("answered %v (%v)", a.Verdict, a.Source)
		}
	case <-time.After(2 * time.Second):
		t.Error("the call waits")
	}
	c.Unavailable(auth.SourceStopping)
	<-r.ref.Stopped()
	table.Stop()
	system.Close()
}

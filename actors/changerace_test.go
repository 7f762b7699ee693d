package actors

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"

	"postern/internal/auth"
	"postern/internal/backend"
)

// TestLoginBesideChange: a login with the old password that is at the backend while the account
// is changed, by setpass or by its administrator, does not bring that password back, even if the
// account itself is forgotten meanwhile.
func TestLoginBesideChange(t *testing.T) {
	for name, change := range map[string]func(*rig) error{
		"setpass": func(r *rig) error {
			req := login("joe", "new")
			req.Op = auth.OpSetPass
			r.want(r.ask(req), auth.Allow, auth.SourceBackend)
			return nil
		},
		"forget": func(r *rig) error {
			return r.ForgetUser(context.Background(), auth.Identity{User: "joe", Domain: "dom.example"})
		},
		"forget domain": func(r *rig) error { return r.ForgetDomain(context.Background(), "dom.example") },
		"flush":         func(r *rig) error { return r.Flush(context.Background()) },
		"setpass, then many others": func(r *rig) error {
			req := login("joe", "new")
			req.Op = auth.OpSetPass
			r.want(r.ask(req), auth.Allow, auth.SourceBackend)
			for i := range 300 {
				r.want(r.ask(isUser(fmt.Sprint("unknown", i))), auth.Deny, auth.SourceBackend)
			}
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			arrived, release := make(chan struct{}, 8), make(chan struct{})
			r := newRig(t, func(s *setup) {
				s.cfg.Domains[0].Cache.HotEntries = 128
				s.fake.ask = func(_ context.Context, q backend.Query) backend.Result {
					switch q.Op {
					case auth.OpAuth:
						arrived <- struct{}{}
						<-release
					case auth.OpIsUser:
						return backend.Result{Class: backend.Refused}
					}
					return backend.Result{Class: backend.Accepted}
				}
			})
			old := make(chan auth.Answer)
			go func() { old <- r.ask(login("joe", "old")) }()
			<-arrived
			if err := change(r); err != nil {
				t.Error(err)
			}
			close(release)
			r.want(<-old, auth.Allow, auth.SourceBackend)
			// Asked again, and remembered from then on.
			r.want(r.ask(login("joe", "old")), auth.Allow, auth.SourceBackend)
			r.want(r.ask(login("joe", "old")), auth.Allow, auth.SourceHot)
		})
	}
}

// TestExistenceBesideChange: the answer about a user that a backend gave before the account was
// made, removed or forgotten is passed on, but is not remembered.
func TestExistenceBesideChange(t *testing.T) {
	joe := auth.Identity{User: "joe", Domain: "dom.example"}
	for name, c := range map[string]struct {
		before bool // joe exists
		change func(*rig) error
	}{
		"tryregister": {false, func(r *rig) error {
			req := login("joe", "new")
			req.Op = auth.OpTryRegister
			r.want(r.ask(req), allow, fromBackend)
			return nil
		}},
		"removeuser": {true, func(r *rig) error {
			r.want(r.ask(auth.Request{Op: auth.OpRemoveUser, User: "joe", Domain: "dom.example"}), allow, fromBackend)
			return nil
		}},
		"forget": {true, func(r *rig) error { return r.ForgetUser(context.Background(), joe) }},
		"flush":  {true, func(r *rig) error { return r.Flush(context.Background()) }},
	} {
		t.Run(name, func(t *testing.T) {
			verdict := map[bool]backend.Class{true: backend.Accepted, false: backend.Refused}
			words := map[bool]auth.Verdict{true: allow, false: deny}
			arrived, release := make(chan struct{}), make(chan struct{})
			var questions atomic.Int64
			r := newRig(t, func(s *setup) {
				s.fake.ask = func(_ context.Context, q backend.Query) backend.Result {
					switch {
					case q.Op != auth.OpIsUser:
						return backend.Result{Class: backend.Accepted}
					case questions.Add(1) > 1:
						return backend.Result{Class: verdict[!c.before]}
					}
					close(arrived)
					<-release
					return backend.Result{Class: verdict[c.before]}
				}
			})
			old := make(chan auth.Answer, 1)
			go func() { old <- r.ask(isUser("joe")) }()
			<-arrived
			if err := c.change(r); err != nil {
				t.Error(err)
			}
			close(release)
			r.want(<-old, words[c.before], fromBackend)
			r.want(r.ask(isUser("joe")), words[!c.before], fromBackend)
			r.want(r.ask(isUser("joe")), words[!c.before], hot)
		})
	}
}

// TestRefusalBesideChange: a password that was tried before it was set, and is refused, is not held
// to be wrong when it has been, neither while that refusal is on its way nor after it.
func TestRefusalBesideChange(t *testing.T) {
	held := newBarrier()
	r := newRig(t, func(s *setup) {
		s.fake.ask = func(ctx context.Context, q backend.Query) backend.Result {
			if q.Op == auth.OpAuth && s.fake.asked.Load() == 1 {
				held.ask(ctx, q)
				return backend.Result{Class: backend.Refused, Known: true}
			}
			return backend.Result{Class: backend.Accepted}
		}
	})
	old := r.start("joe", "new")
	held.reached(t, 1)
	req := login("joe", "new")
	req.Op = auth.OpSetPass
	r.want(r.ask(req), allow, fromBackend)
	r.want(r.auth("joe", "new"), allow, fromBackend)
	held.open()
	r.want(<-old, deny, fromBackend)
	r.want(r.auth("joe", "new"), allow, fromBackend)
}

// TestLimitsAfterChange: what the limits, or a backend's budget, hold against a user ends with a new
// password, which may be one that was refused.
func TestLimitsAfterChange(t *testing.T) {
	for source, rules := range map[auth.Source]func(*setup){byUser: withLimits, auth.SourceLimitBudget: withBudget} {
		t.Run(source.String(), func(t *testing.T) {
			var set atomic.Bool
			r := newRig(t, func(s *setup) {
				rules(s)
				s.cfg.Domains[0].Cache.RefusedTTL = 0
				s.fake.ask = func(_ context.Context, q backend.Query) backend.Result {
					if q.Op.Changes() {
						set.Store(true)
					}
					if set.Load() {
						return backend.Result{Class: backend.Accepted}
					}
					return backend.Result{Class: backend.Refused, Known: true}
				}
			})
			r.want(r.auth("joe", "new"), deny, fromBackend)
			r.quiesce()
			for i := 0; r.auth("joe", "new").Source != source; i++ {
				if i > 20 {
					t.Fatal("joe is never limited")
				}
				r.auth("joe", fmt.Sprint("guess", i))
				r.quiesce()
			}
			req := login("joe", "new")
			req.Op = auth.OpSetPass
			r.want(r.ask(req), allow, fromBackend)
			r.want(r.auth("joe", "new"), allow, fromBackend)
		})
	}
}

package actors

import (
	"context"
	"testing"

	"postern/internal/auth"
	"postern/internal/backend"
)

// TestLoginBesideChange: a login with the old password that is at the backend while the account
// is changed, by setpass or by its administrator, does not bring that password back.
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
	} {
		t.Run(name, func(t *testing.T) {
			arrived, release := make(chan struct{}, 8), make(chan struct{})
			r := newRig(t, func(s *setup) {
				s.fake.ask = func(_ context.Context, q backend.Query) backend.Result {
					if q.Op == auth.OpAuth {
						arrived <- struct{}{}
						<-release
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

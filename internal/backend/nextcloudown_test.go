package backend

import (
	"strings"
	"testing"

	"postern/internal/auth"
	"postern/internal/backend/nextcloudtest"
)

// TestNextcloudOwnPassword: users change their passwords themselves, with no service account, by the old one.
func TestNextcloudOwnPassword(t *testing.T) {
	const next = "a new Pass&word=ü+"
	token := strings.Repeat("a1B2c3", 12)
	for name, c := range map[string]struct {
		old    string
		change func(*nextcloudtest.State)
		want   Class
		says   string
	}{
		"right":                      {canary, nil, Accepted, ""},
		"wrong":                      {"wrong", nil, Refused, ""},
		"against the policy":         {canary, func(s *nextcloudtest.State) { s.MinPassword = 100 }, Refused, "password policy"},
		"not by this users' backend": {canary, func(s *nextcloudtest.State) { s.FixedPasswords = true }, Unsupported, ""},
		"an app password": {token, func(s *nextcloudtest.State) {
			s.Users[0].AppPasswords = append(s.Users[0].AppPasswords, nextcloudtest.AppPassword{Secret: token, Login: s.Users[0].ID})
		}, Refused, "for programs"},
		"maintenance": {canary, func(s *nextcloudtest.State) { s.Maintenance = true }, Outage, "maintenance"},
	} {
		t.Run(name, func(t *testing.T) {
			s, n := cloud(t, NextcloudOptions{})
			if c.change != nil {
				s.Change(c.change)
			}
			r := n.Ask(t.Context(), Query{Op: auth.OpSetPass, User: "joe", Domain: "dom.example", Secret: auth.NewSecret(next), Old: auth.NewSecret(c.old)})
			if checked(t, r).Class != c.want || !says(r, c.says) {
				t.Errorf("%v, %v; want %v, %q", r.Class, r.Err, c.want, c.says)
			}
			s.Change(func(s *nextcloudtest.State) { s.Maintenance = false })
			after := put(t, n, auth.OpAuth, "joe", next)
			if (after.Class == Accepted) != (c.want == Accepted) {
				t.Errorf("with the new password: %v, %v", after.Class, after.Err)
			}
		})
	}
}

// TestNextcloudOwnLogin: no app password of Nextcloud signs a person in, though it lets programs in.
func TestNextcloudOwnLogin(t *testing.T) {
	const token = "aB3dE-aB3dE-aB3dE-aB3dE-aB3dE"
	s, n := cloud(t, NextcloudOptions{})
	s.Change(func(s *nextcloudtest.State) {
		for _, u := range s.Users {
			if u.ID == "joe" {
				u.AppPasswords = append(u.AppPasswords, nextcloudtest.AppPassword{Secret: token, Login: "joe"})
			}
		}
	})
	for secret, want := range map[string][2]Class{token: {Accepted, Refused}, canary: {Accepted, Accepted}, "wrong": {Refused, Refused}} {
		for i, own := range []bool{false, true} {
			r := n.Ask(t.Context(), Query{Op: auth.OpAuth, User: "joe", Domain: "dom.example", Secret: auth.NewSecret(secret), Own: own})
			if r.Class != want[i] {
				t.Errorf("%q, own %v: %v, %v", secret, own, r.Class, r.Err)
			}
		}
	}
	for text, want := range map[string]bool{
		token: true, strings.Repeat("x", 72): true, strings.Repeat("x", 71): false, strings.Repeat("x", 29): false, "aB3dE-aB3dE-aB3dE-aB3dE": false,
		"aB3dE-aB3dE-aB3dE-aB3dE-aB3d!": false, "": false, "aB3d-EaB3dE-aB3dE-aB3dE-aB3dE": false,
	} {
		if isAppToken(text) != want {
			t.Errorf("%q: %v", text, !want)
		}
	}
}

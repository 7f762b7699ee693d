package actors

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	groups "postern/internal/allow"
	"postern/internal/apppassword"
	"postern/internal/auth"
	"postern/internal/auth/passhash"
	"postern/internal/backend"
	"postern/internal/backend/nextcloudtest"
)

// accountAuthority is a real backend with the accounts joe, in the group mail, and ann, in none. Both have the password "good".
type accountAuthority struct {
	backend.Backend
	leave   func(away bool)
	disable func(disabled bool)    // joe; nil: an account cannot be disabled
	move    func(groups ...string) // joe, into other groups
	remove  func()                 // joe
	asked   func() int             // requests since the last call; nil: they are not counted
}

// standsIn has a rig ask a real backend in the place of its fake one.
func (a *accountAuthority) standsIn(t *testing.T) func(*setup) {
	return func(s *setup) { s.wrap = over(t, a.Backend, nil) }
}

func newNextcloudAuthority(t *testing.T) *accountAuthority {
	joe := &nextcloudtest.User{ID: "joe", Password: "good", Groups: []string{"mail"}}
	server, stop := nextcloudtest.Start(joe, &nextcloudtest.User{ID: "ann", Password: "good"},
		&nextcloudtest.User{ID: "postern", Password: "service", Groups: []string{"admin"}})
	t.Cleanup(stop)
	b, err := backend.NewNextcloud(backend.NextcloudOptions{
		HTTPOptions: backend.HTTPOptions{URL: server.URL}, AdminUser: "postern", AdminPassword: auth.NewSecret("service"),
	})
	if err != nil {
		t.Fatal(err)
	}
	down := func(w http.ResponseWriter, _ *http.Request) bool {
		w.WriteHeader(http.StatusServiceUnavailable)
		return true
	}
	return &accountAuthority{
		Backend: b,
		leave: func(away bool) {
			server.Change(func(s *nextcloudtest.State) {
				if s.Instead = nil; away {
					s.Instead = down
				}
			})
		},
		disable: func(disabled bool) { server.Change(func(*nextcloudtest.State) { joe.Disabled = disabled }) },
		move:    func(groups ...string) { server.Change(func(*nextcloudtest.State) { joe.Groups = groups }) },
		remove: func() {
			server.Change(func(s *nextcloudtest.State) {
				s.Users = slices.DeleteFunc(s.Users, func(u *nextcloudtest.User) bool { return u == joe })
			})
		},
		asked: func() int { return len(server.Requests()) },
	}
}

func newUsersAuthority(t *testing.T) *accountAuthority {
	path := filepath.Join(t.TempDir(), "users")
	file, err := backend.OpenUsersFile(path, true)
	if err != nil {
		t.Fatal(err)
	}
	hash, err := passhash.New("good", passhash.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	joe := auth.Identity{User: "joe", Domain: "dom.example"}
	must(file.Add(t.Context(), joe, hash, nil))
	must(file.SetGroups(t.Context(), joe, []string{"mail"}))
	must(file.Add(t.Context(), auth.Identity{User: "ann", Domain: "dom.example"}, hash, nil))
	b, err := backend.NewUsers(backend.UsersOptions{Path: path, Fold: true}, func(_ context.Context, _ auth.Identity, run func()) error { run(); return nil })
	must(err)
	return &accountAuthority{
		Backend: b,
		leave: func(away bool) { // what is in its place cannot be read
			if away {
				must(os.Rename(path, path+".kept"))
				must(os.Mkdir(path, 0o700))
				return
			}
			must(os.Remove(path))
			must(os.Rename(path+".kept", path))
		},
		move:   func(groups ...string) { must(file.SetGroups(t.Context(), joe, groups)) },
		remove: func() { must(file.Remove(t.Context(), joe)) },
	}
}

// newSCIMAuthority is a provider of OpenID Connect with a SCIM API. It takes no passwords.
func newSCIMAuthority(t *testing.T) *accountAuthority {
	var away, disabled, gone atomic.Bool
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		list := `{"schemas":["urn:ietf:params:scim:api:messages:2.0:ListResponse"],"totalResults":%d,"Resources":[%s]}`
		switch {
		case away.Load():
			w.WriteHeader(http.StatusBadGateway)
		case r.URL.Path != "/scim/v2/Users" || r.Header.Get("Authorization") != "Bearer of-postern":
			w.WriteHeader(http.StatusUnauthorized)
		case gone.Load() || r.FormValue("filter") != `userName eq "joe"`:
			_, _ = fmt.Fprintf(w, list, 0, "")
		default:
			_, _ = fmt.Fprintf(w, list, 1, fmt.Sprintf(`{"userName":"joe","active":%t}`, !disabled.Load()))
		}
	}))
	t.Cleanup(server.Close)
	b, err := backend.NewOIDC(backend.OIDCOptions{
		HTTPOptions: backend.HTTPOptions{URL: server.URL}, JWT: true, Audience: "postern", UsernameClaim: "sub",
		SCIM: &backend.SCIMOptions{URL: server.URL + "/scim/v2", Token: auth.NewSecret("of-postern")},
	})
	if err != nil {
		t.Fatal(err)
	}
	return &accountAuthority{Backend: b, leave: away.Store, disable: disabled.Store, remove: func() { gone.Store(true) }}
}

// accountAuthorities are the backends that can be asked about an account without its password.
var accountAuthorities = map[string]func(*testing.T) *accountAuthority{
	"Nextcloud's service account": newNextcloudAuthority, "users file": newUsersAuthority,
}

// TestAppPasswordAuthorities: each backend that can be asked has an app password end with its account, and an outage
// of it is bridged for outage_ttl.
func TestAppPasswordAuthorities(t *testing.T) {
	all := maps.Clone(accountAuthorities)
	all["SCIM"] = newSCIMAuthority
	for name, start := range all {
		t.Run(name, func(t *testing.T) {
			a := start(t)
			r := appRig(t, a.standsIn(t))
			phone := r.add("joe", apppassword.New{Name: "phone"})
			r.because(r.auth("joe", phone), auth.Allow, "")
			a.leave(true)
			for range 80 {
				r.clock.advance(2 * time.Hour)
				r.because(r.auth("joe", phone), auth.Allow, "")
			}
			r.clock.advance(9 * time.Hour)
			if got := r.auth("joe", phone); got.Verdict != auth.Unavailable {
				t.Errorf("after outage_ttl: %v, %q", got.Verdict, got.Reason)
			}
			a.leave(false)
			r.because(r.auth("joe", phone), auth.Allow, "")
			if a.disable != nil {
				a.disable(true)
				r.clock.advance(time.Hour)
				r.because(r.auth("joe", phone), auth.Deny, "disabled")
				a.disable(false)
				r.clock.advance(time.Minute)
				r.because(r.auth("joe", phone), auth.Allow, "")
			}
			a.remove()
			r.clock.advance(time.Hour)
			r.because(r.auth("joe", phone), auth.Deny, "does not exist")
		})
	}
}

// TestGroupsAuthorities: each backend that says in which groups an account is does so with a login, by one request,
// and when it is asked about the account of an app password.
func TestGroupsAuthorities(t *testing.T) {
	for name, start := range accountAuthorities {
		t.Run(name, func(t *testing.T) {
			a := start(t)
			r := appRig(t, func(s *setup) {
				a.standsIn(t)(s)
				s.cfg.Domains[0].Allow = []groups.Block{{Groups: []string{"mail", "staff"}, Services: []string{"imap"}}}
			})
			requests := func(what string, want int) {
				t.Helper()
				if a.asked != nil {
					if n := a.asked(); n != want {
						t.Errorf("%s: %d requests, want %d", what, n, want)
					}
				}
			}
			for user, want := range map[string]auth.Verdict{"joe": auth.Allow, "ann": auth.Deny} {
				requests("before", 0)
				r.allowed(user+" by password", r.login(user, "imap", "good"), want)
				requests("a cold login", 1)
				r.allowed(user+" by password again", r.login(user, "imap", "good"), want)
				r.allowed(user+" for chat", r.login(user, "xmpp", "good"), auth.Allow)
				phone := r.add(user, apppassword.New{Name: "phone"})
				r.allowed(user+" by app password", r.login(user, "imap", phone), want)
				requests("hot logins", 0)
				r.asForgotten(user)
				r.allowed(user+" by app password", r.login(user, "imap", phone), want)
				requests("a cold login by app password", 1)
			}
			phone := r.add("joe", apppassword.New{Name: "another"})
			a.move("staff")
			r.clock.advance(25 * time.Hour)
			r.allowed("in another group", r.login("joe", "imap", phone), auth.Allow)
			a.move("board")
			r.clock.advance(25 * time.Hour)
			r.allowed("in none of them", r.login("joe", "imap", phone), auth.Deny)
			r.allowed("in none of them, by password", r.login("joe", "imap", "good"), auth.Deny)
			a.leave(true)
			r.clock.advance(time.Hour)
			r.allowed("in an outage", r.login("joe", "imap", phone), auth.Deny)
			a.leave(false)
			a.move("mail")
			r.allowed("back", r.login("joe", "imap", phone), auth.Allow)
		})
	}
}

package backend

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"postern/internal/auth"
	"postern/internal/backend/nextcloudtest"
)

// TestNextcloudIsUser: a 404 is a "no" only from an account that may look.
func TestNextcloudIsUser(t *testing.T) {
	cases := map[string]struct {
		admin, user string
		logins      []string
		want        Class
		says        string
	}{
		"an administrator finds":             {"boss", "joe", nil, Accepted, ""},
		"letter case aside":                  {"boss", "ann", nil, Accepted, ""},
		"a disabled account is there":        {"boss", "off", nil, Accepted, ""},
		"an administrator finds nobody":      {"boss", "nobody", nil, Refused, ""},
		"by the second rule":                 {"boss", "max", both, Accepted, ""},
		"by no rule":                         {"boss", "max", nil, Refused, ""},
		"dots are no account":                {"boss", "..", nil, Refused, ""},
		"nor is a path":                      {"boss", "joe/groups", nil, Refused, ""},
		"a group administrator finds":        {"lead", "joe", nil, Accepted, ""},
		"a group administrator finds nobody": {"lead", "nobody", nil, Refused, ""},
		"and does not see who is not theirs": {"lead", "off", nil, Unsure, "may not look up"},
		"one without rights":                 {"plain", "joe", nil, Misconfigured, "administrator"},
		"one without rights, nobody":         {"plain", "nobody", nil, Misconfigured, "administrator"},
		"one that cannot log in":             {"off", "joe", nil, Misconfigured, "service account"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			s, n := cloud(t, asAdmin(c.admin))
			r := put(t, n, auth.OpIsUser, c.user, "", c.logins...)
			for _, request := range s.Requests() {
				if strings.Contains(request, "..") || strings.Contains(request, "groups") {
					t.Errorf("asked %s", request)
				}
			}
			if r.Class != c.want || !says(r, c.says) || r.Known != (c.want == Accepted) || r.Absent != (c.want == Refused) ||
				r.Disabled != (c.user == "off" && c.want == Accepted) {
				t.Errorf("%+v; want %v, %q", r, c.want, c.says)
			}
		})
	}
}

// TestNextcloudProof: rights are checked once an hour, and a refused service account is not tried
// for as long.
func TestNextcloudProof(t *testing.T) {
	s, n := cloud(t, asAdmin("boss"))
	proofs := func() (got int) {
		for range 3 {
			put(t, n, auth.OpIsUser, "nobody", "")
		}
		for _, request := range s.Requests() {
			if request == "GET cloud/users boss" {
				got++
			}
		}
		return got
	}
	if first, again := proofs(), proofs(); first != 1 || again != 0 {
		t.Errorf("%d proofs, then %d; want 1 and none", first, again)
	}
	s.Advance(rightsTTL)
	if got := proofs(); got != 1 {
		t.Errorf("%d proofs after an hour, want 1", got)
	}
	// An API that is disabled within the hour does not make all users absent.
	s.Change(func(state *nextcloudtest.State) { state.ProvisioningOff = true })
	if r := put(t, n, auth.OpIsUser, "joe", ""); r.Class == Refused || r.Class == Accepted {
		t.Errorf("provisioning off: %v, %v", r.Class, r.Err)
	}
}

// TestNextcloudMissingAPI: some versions use one code for a missing account and a missing API.
func TestNextcloudMissingAPI(t *testing.T) {
	for message, want := range map[string]Class{
		"User does not exist": Refused, "Invalid query, please check the syntax.": Unsure,
	} {
		server := serve(t, func(w http.ResponseWriter, r *http.Request) {
			if strings.HasSuffix(r.URL.Path, "/users") {
				canned(200, envelope("200", `"OK"`, `{"users":[]}`))(w, r)
				return
			}
			canned(404, envelope("404", `"`+message+`"`, `[]`))(w, r)
		})
		if r := put(t, cloudAt(t, server.URL, nil, asAdmin("boss")), auth.OpIsUser, "joe", ""); r.Class != want {
			t.Errorf("%s: %v, %v; want %v", message, r.Class, r.Err, want)
		}
	}
}

// TestNextcloudAnotherAccount: an answer about another account is an outage.
func TestNextcloudAnotherAccount(t *testing.T) {
	n := cloudAt(t, serve(t, canned(200, envelope("200", `"OK"`, `{"id":"eve"}`))).URL, nil, asAdmin("boss"))
	if r := put(t, n, auth.OpIsUser, "joe", ""); r.Class != Outage || !says(r, "another account") {
		t.Errorf("%v, %v", r.Class, r.Err)
	}
}

func TestNextcloudServiceRefused(t *testing.T) {
	_, without := cloud(t, NextcloudOptions{})
	without.Retry() // as each reload does
	o := asAdmin("boss")
	o.AdminPassword = auth.NewSecret("wrong")
	s, n := cloud(t, o)
	for range 20 {
		if r := put(t, n, auth.OpIsUser, "joe", ""); r.Class != Misconfigured || !says(r, "admin_password") {
			t.Fatalf("%v, %v", r.Class, r.Err)
		}
	}
	if got := s.Attempts("127.0.0.1"); got != 1 {
		t.Errorf("%d failed logins, want 1", got)
	}
	if r := put(t, n, auth.OpAuth, "joe", canary); r.Class != Accepted {
		t.Errorf("a login: %v, %v", r.Class, r.Err)
	}
	n.Retry()
	if r := put(t, n, auth.OpIsUser, "joe", ""); r.Class != Misconfigured || s.Attempts("127.0.0.1") != 2 {
		t.Errorf("after a reload: %v, %v, %d failed logins", r.Class, r.Err, s.Attempts("127.0.0.1"))
	}
	s.Change(func(state *nextcloudtest.State) { state.Users[0].Password = "wrong" }) // the cure
	if r := put(t, n, auth.OpIsUser, "joe", ""); r.Class != Misconfigured {
		t.Errorf("at once: %v, %v", r.Class, r.Err)
	}
	n.Retry()
	if r := put(t, n, auth.OpIsUser, "joe", ""); r.Class != Accepted {
		t.Errorf("after the next reload: %v, %v", r.Class, r.Err)
	}
}

// TestNextcloudServiceExpires: a refused service account is tried again after an hour.
func TestNextcloudServiceExpires(t *testing.T) {
	o := asAdmin("boss")
	o.AdminPassword = auth.NewSecret("wrong")
	s, n := cloud(t, o)
	put(t, n, auth.OpIsUser, "joe", "")
	s.Change(func(state *nextcloudtest.State) { state.Users[0].Password = "wrong" })
	s.Advance(refusalTTL)
	if r := put(t, n, auth.OpIsUser, "joe", ""); r.Class != Accepted {
		t.Errorf("an hour later: %v, %v", r.Class, r.Err)
	}
}

// TestNextcloudJudges: with a service account, a refused login says whether the user exists here,
// so that the next backend of a chain is asked if not.
func TestNextcloudJudges(t *testing.T) {
	s, n := cloud(t, asAdmin("boss"))
	if r := put(t, n, auth.OpAuth, "joe", "wrong"); r.Class != Refused || !r.Known || r.Absent {
		t.Errorf("joe: %+v", r)
	}
	if r := put(t, n, auth.OpAuth, "nobody", "wrong"); r.Class != Refused || r.Known || !r.Absent {
		t.Errorf("nobody: %+v", r)
	}
	put(t, n, auth.OpAuth, "joe", canary)
	s.Change(func(state *nextcloudtest.State) {
		state.Users = slices.DeleteFunc(state.Users, func(u *nextcloudtest.User) bool { return u.ID == "joe" })
	})
	if r := put(t, n, auth.OpAuth, "joe", canary); r.Class != Refused || r.Known || !r.Absent {
		t.Errorf("joe, removed: %+v", r)
	}
	if _, known := n.logins.get("joe\x00dom.example", []string{"joe"}); known {
		t.Error("joe is still remembered")
	}
}

func TestNextcloudSetPassword(t *testing.T) {
	const next = "a new Pass&word=ü+"
	cases := map[string]struct {
		admin, user string
		change      func(*nextcloudtest.State)
		want        Class
		says        string
	}{
		"set":                        {"boss", "joe", nil, Accepted, ""},
		"by a group administrator":   {"lead", "joe", nil, Accepted, ""},
		"nobody":                     {"boss", "nobody", nil, Refused, ""},
		"against the policy":         {"boss", "joe", func(s *nextcloudtest.State) { s.MinPassword = 100 }, Refused, "password policy"},
		"not by this users' backend": {"boss", "joe", func(s *nextcloudtest.State) { s.FixedPasswords = true }, Unsupported, ""},
		"wants the real password": {"app", "joe", func(s *nextcloudtest.State) {
			s.StrictConfirm = true
			s.Users = append(s.Users, &nextcloudtest.User{ID: "app", Groups: []string{"admin"},
				AppPasswords: []nextcloudtest.AppPassword{{Secret: canary, Login: "app"}}})
		}, Misconfigured, "app password"},
		"without rights": {"plain", "joe", nil, Misconfigured, "administrator"},
		"maintenance":    {"boss", "joe", func(s *nextcloudtest.State) { s.Maintenance = true }, Outage, "maintenance"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			s, n := cloud(t, asAdmin(c.admin))
			if c.change != nil {
				s.Change(c.change)
			}
			if r := put(t, n, auth.OpSetPass, c.user, next); r.Class != c.want || !says(r, c.says) {
				t.Errorf("%v, %v; want %v, %q", r.Class, r.Err, c.want, c.says)
			}
			s.Change(func(s *nextcloudtest.State) { s.Maintenance = false })
			want := Refused
			if c.want == Accepted {
				want = Accepted
			}
			if r := put(t, n, auth.OpAuth, "joe", next); r.Class != want {
				t.Errorf("with the new password: %v, %v", r.Class, r.Err)
			}
		})
	}
}

// TestNextcloudProber checks the questions of package doctor.
func TestNextcloudProber(t *testing.T) {
	s, n := cloud(t, asAdmin("boss"))
	var p Prober = n
	status, err := p.Status(t.Context())
	if err != nil || status != (ServerStatus{Installed: true, Version: "31.0.4.1"}) {
		t.Errorf("%+v, %v", status, err)
	}
	put(t, n, auth.OpAuth, "joe", "wrong")
	put(t, n, auth.OpAuth, "joe", "wrong")
	if state, err := p.Throttle(t.Context()); err != nil || state != (ThrottleState{Delay: 400 * time.Millisecond, ExemptKnown: true, From: netip.MustParseAddr("127.0.0.1")}) {
		t.Errorf("%+v, %v", state, err)
	}
	s.Change(func(state *nextcloudtest.State) { state.Before29, state.Maintenance = true, true })
	if status, err = p.Status(t.Context()); err != nil || !status.Maintenance {
		t.Errorf("%+v, %v", status, err)
	}
	if _, err := p.Throttle(t.Context()); err == nil || !strings.Contains(err.Error(), "maintenance") {
		t.Error(err)
	}
	s.Change(func(state *nextcloudtest.State) { state.Maintenance = false })
	if state, err := p.Throttle(t.Context()); err != nil || state.ExemptKnown {
		t.Errorf("before 29: %+v, %v", state, err)
	}
	for _, c := range []struct{ admin, known, says string }{
		{"boss", "joe", ""}, {"lead", "joe", ""}, {"boss", "nobody", "no account"}, {"boss", "..", "no account"},
		{"lead", "off", "may not look up"}, {"plain", "joe", "administrator"}, {"off", "joe", "admin_password"},
	} {
		o := asAdmin(c.admin)
		err := cloudAt(t, s.URL, s.Now, o).Rights(t.Context(), c.known)
		if (err == nil) != (c.says == "") || err != nil && (!strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), canary)) {
			t.Errorf("%s, %s: %v; want %q", c.admin, c.known, err, c.says)
		}
	}
	if err := cloudAt(t, s.URL, s.Now, NextcloudOptions{}).Rights(t.Context(), "joe"); err == nil {
		t.Error("rights without a service account")
	}
	for name, body := range map[string]string{"a page": "<html>", "no Nextcloud": `{"status":"ok"}`, "odd": `{"installed":"maybe"}`} {
		n := cloudAt(t, serve(t, canned(200, body)).URL, nil, NextcloudOptions{})
		if status, err := n.Status(t.Context()); err == nil || status != (ServerStatus{}) {
			t.Errorf("%s: %+v, %v", name, status, err)
		}
		if _, err := n.Throttle(t.Context()); err == nil {
			t.Errorf("%s: a throttle state", name)
		}
	}
}

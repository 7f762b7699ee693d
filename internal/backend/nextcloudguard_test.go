package backend

import (
	"net/http"
	"strings"
	"testing"

	"postern/internal/auth"
	"postern/internal/backend/nextcloudtest"
)

// TestNextcloudGuards: no request sets the password of the service account, whatever it is called, or
// of an administrator, unless that is allowed, or of an account that may be one.
func TestNextcloudGuards(t *testing.T) {
	boss := func(s *nextcloudtest.State) {
		s.Users = append(s.Users, &nextcloudtest.User{ID: "Chief", Password: "old", Groups: []string{"staff", "admin"}})
	}
	blind := func(s *nextcloudtest.State) {
		s.Instead = func(w http.ResponseWriter, r *http.Request) bool {
			if !strings.HasSuffix(r.URL.Path, "/groups") {
				return false
			}
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusForbidden)
			_, _ = w.Write([]byte(`{"ocs":{"meta":{"status":"failure","statuscode":403,"message":""},"data":[]}}`))
			return true
		}
	}
	byMail := func(s *nextcloudtest.State) {
		s.Users = append(s.Users, &nextcloudtest.User{ID: "robot", Mail: "service@dom.example", Password: canary, Groups: []string{"admin"}})
	}
	cases := map[string]struct {
		service, user string
		admins        bool
		change        func(*nextcloudtest.State)
		want          Class
		says          string
	}{
		"the service account":                  {"boss", "boss", true, nil, Refused, "service account"},
		"in other letters":                     {"boss", "bOSS", true, nil, Refused, "service account"},
		"that logs in by another name":         {"service@dom.example", "robot", true, byMail, Refused, "service account"},
		"an administrator":                     {"boss", "chief", false, boss, Refused, "change_admins"},
		"an administrator, if that is allowed": {"boss", "chief", true, boss, Accepted, ""},
		"a user":                               {"boss", "joe", false, nil, Accepted, ""},
		"a user of groups that are not seen":   {"boss", "joe", false, blind, Unsure, "may not see"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			s, n := cloud(t, asAdmin(c.service))
			if c.change != nil {
				s.Change(c.change)
			}
			q := Query{Op: auth.OpSetPass, User: c.user, Domain: "dom.example", Secret: auth.NewSecret("another password"), ChangeAdmins: c.admins}
			if r := checked(t, n.Ask(t.Context(), q)); r.Class != c.want || !says(r, c.says) {
				t.Errorf("%v, %v; want %v, %q", r.Class, r.Err, c.want, c.says)
			}
			set := false
			for _, request := range s.Requests() {
				set = set || strings.HasPrefix(request, http.MethodPut)
			}
			if set != (c.want == Accepted) {
				t.Errorf("the password was set: %t", set)
			}
		})
	}
}

// TestNextcloudOtherPassword: the password of a user is not set at the account of another name to which
// the login name, a mail address, leads.
func TestNextcloudOtherPassword(t *testing.T) {
	o := asAdmin("boss")
	o.AcceptOtherID = true
	s, n := cloud(t, o)
	if r := put(t, n, auth.OpAuth, "ann.other", canary, both[1:]...); r.Class != Accepted || r.Account != "Ann" {
		t.Fatalf("the login: %+v", r)
	}
	if r := put(t, n, auth.OpSetPass, "ann.other", "next", both[1:]...); r.Class != Refused || !says(r, "another name") {
		t.Errorf("setpass: %+v", r)
	}
	if r := put(t, n, auth.OpAuth, "ann", canary); r.Class != Accepted {
		t.Errorf("the account's password was changed: %+v, %q", r, s.Requests())
	}
}

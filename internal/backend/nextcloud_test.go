package backend

import (
	"context"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"postern/internal/auth"
	"postern/internal/backend/nextcloudtest"
)

// people returns the accounts of these tests, each with the password canary.
func people() []*nextcloudtest.User {
	return []*nextcloudtest.User{
		{ID: "boss", Password: canary, Groups: []string{"admin"}},
		{ID: "joe", Password: canary, Name: "Joe", Mail: "joe@dom.example", Groups: []string{"staff", "chess"}},
		{ID: "Ann", Password: canary, Mail: "ann.other@dom.example", Groups: []string{"chess"}},
		{ID: "max@dom.example", Password: canary},
		{ID: "off", Password: canary, Disabled: true},
		{ID: "two", Password: canary, TwoFactor: true, AppPasswords: []nextcloudtest.AppPassword{
			{Secret: "app-of-two", Login: "Two"}, {Secret: "app-by-mail", Login: "two@dom.example"}, {Secret: "app-old", Login: "two", Expired: true},
		}, Mail: "two@dom.example"},
		{ID: "lead", Password: canary, Administers: []string{"chess"}},
		{ID: "plain", Password: canary},
	}
}

// cloud starts a Nextcloud and makes a backend for it that uses the server's clock.
func cloud(t *testing.T, o NextcloudOptions) (*nextcloudtest.Server, *nextcloud) {
	t.Helper()
	s, stop := nextcloudtest.Start(people()...)
	t.Cleanup(stop)
	return s, cloudAt(t, s.URL, s.Now, o)
}

func cloudAt(t *testing.T, url string, now func() time.Time, o NextcloudOptions) *nextcloud {
	t.Helper()
	o.URL = url
	o.UserAgent = "postern/test"
	b, err := NewNextcloud(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	n := b.(*nextcloud)
	if now != nil {
		n.now = now
	}
	return n
}

// asAdmin is a service account.
func asAdmin(name string) NextcloudOptions {
	return NextcloudOptions{AdminUser: name, AdminPassword: auth.NewSecret(canary)}
}

// both is the rules of a site with logins by name or by address.
var both = []string{"{user}", "{user}@{domain}"}

// put asks a question about a user of dom.example.
func put(t *testing.T, b Backend, op auth.Operation, user, secret string, logins ...string) Result {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	return checked(t, b.Ask(ctx, Query{Op: op, User: user, Domain: "dom.example", Secret: auth.NewSecret(secret), Logins: logins}))
}

func says(r Result, part string) bool {
	return part == "" && r.Err == nil || part != "" && r.Err != nil && strings.Contains(r.Err.Error(), part)
}

// TestNextcloudLogin tries all accounts, and checks which failures the server counts.
func TestNextcloudLogin(t *testing.T) {
	cases := map[string]struct {
		user, secret string
		logins       []string
		want         Class
		says         string
		attempts     int
	}{
		"right":                             {"joe", canary, nil, Accepted, "", 0},
		"letter case aside":                 {"ann", canary, nil, Accepted, "", 0},
		"wrong":                             {"joe", "wrong", nil, Refused, "", 1},
		"nobody":                            {"nobody", canary, nil, Refused, "", 1},
		"disabled":                          {"off", canary, nil, Refused, "", 0},
		"two factors, the password":         {"two", canary, nil, Refused, "app password", 0},
		"two factors, an app password":      {"two", "app-of-two", nil, Accepted, "", 0},
		"an app password of another login":  {"two", "app-by-mail", nil, Refused, "", 1},
		"an app password, at last":          {"two", "app-by-mail", both, Accepted, "", 1},
		"an expired app password":           {"two", "app-old", nil, Refused, "", 0},
		"the account's name is an address":  {"max", canary, both, Accepted, "", 1},
		"only the address":                  {"max", canary, both[1:], Accepted, "", 0},
		"an address leads to another name":  {"ann.other", canary, both[1:], Refused, "another name", 0},
		"an address of the user's own name": {"joe", canary, both, Accepted, "", 0},
		"every rule fails":                  {"joe", "wrong", both, Refused, "", 2},
		"one name by two rules":             {"joe", "wrong", []string{"{user}", "{user}"}, Refused, "", 1},
		"no password":                       {"joe", "", nil, Refused, "", 0},
		"a password that PHP does not see":  {"joe", "0", nil, Refused, "", 0},
		"a user that PHP does not see":      {"0", canary, nil, Refused, "", 0},
		"a colon in the name":               {"joe:x", canary, nil, Refused, "", 0},
		"a password with everything":        {"joe", "p:ä\"\\ \x01", nil, Refused, "", 1},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			s, n := cloud(t, NextcloudOptions{})
			r := put(t, n, auth.OpAuth, c.user, c.secret, c.logins...)
			if r.Class != c.want || !says(r, c.says) || r.Known != (c.want == Accepted) {
				t.Errorf("%v known=%t, %v; want %v, %q", r.Class, r.Known, r.Err, c.want, c.says)
			}
			if got := s.Attempts("127.0.0.1"); got != c.attempts {
				t.Errorf("the server counted %d failed logins, want %d: %q", got, c.attempts, s.Requests())
			}
		})
	}
}

// TestNextcloudNames: an account is the one asked about if only letter case differs, and nothing more.
func TestNextcloudNames(t *testing.T) {
	for name, want := range map[string]bool{"jose": true, "JOSE": true, "joſe": false, "jose ": false, "josé": false} {
		if got := among("Jose", []string{name}); got != want {
			t.Errorf("Jose for %q: %t", name, got)
		}
	}
	q := Query{User: "joſe", Domain: "dom.example"}
	if got := q.accountOf("Jose"); got != "Jose" {
		t.Errorf("the account of %q is %q", q.User, got)
	}
}

// TestNextcloudOnTheWire: what a login looks like to the server.
func TestNextcloudOnTheWire(t *testing.T) {
	s, n := cloud(t, NextcloudOptions{})
	var head http.Header
	s.Change(func(state *nextcloudtest.State) {
		state.Instead = func(_ http.ResponseWriter, r *http.Request) bool {
			if head = r.Header.Clone(); r.ContentLength != 0 || r.TransferEncoding != nil {
				t.Errorf("a question with a body of %d bytes, %q", r.ContentLength, r.TransferEncoding)
			}
			return false
		}
	})
	put(t, n, auth.OpAuth, "joe", canary)
	if got := s.Requests(); !slices.Equal(got, []string{"GET cloud/user joe"}) {
		t.Errorf("asked %q", got)
	}
	if head.Get("OCS-APIRequest") != "true" || s.Session("joe") != "postern/test" || head.Get("Cookie") != "" {
		t.Errorf("head %v, session %q", head, s.Session("joe"))
	}
}

// TestNextcloudAcceptsOtherIDs checks AcceptOtherID.
func TestNextcloudAcceptsOtherIDs(t *testing.T) {
	o := asAdmin("boss")
	o.AcceptOtherID = true
	_, n := cloud(t, o)
	if r := put(t, n, auth.OpIsUser, "ann.other", "", both...); r.Class != Unsure {
		t.Errorf("before a login: %v, %v", r.Class, r.Err)
	}
	if r := put(t, n, auth.OpAuth, "ann.other", canary, both...); r.Class != Accepted {
		t.Errorf("%v, %v", r.Class, r.Err)
	}
	if r := put(t, n, auth.OpIsUser, "ann.other", "", both...); r.Class != Accepted {
		t.Errorf("after a login: %v, %v", r.Class, r.Err)
	}
	if r := put(t, n, auth.OpRoster, "ann.other", "", both...); !strings.Contains(string(r.Body), `"Ann"`) {
		t.Errorf("roster: %v, %v, %s", r.Class, r.Err, r.Body)
	}
}

// TestNextcloudRemembersTheRule: once the login name of a user is known, a wrong password
// costs one attempt, and no other name is guessed.
func TestNextcloudRemembersTheRule(t *testing.T) {
	s, n := cloud(t, NextcloudOptions{MaxDelay: time.Hour})
	login := func(user, secret string, want Class, known bool, names ...string) {
		t.Helper()
		s.Requests()
		r := put(t, n, auth.OpAuth, user, secret, both...)
		var tried []string
		for _, request := range s.Requests() {
			if name, ok := strings.CutPrefix(request, "GET cloud/user "); ok {
				tried = append(tried, name)
			}
		}
		if r.Class != want || r.Known != known || !slices.Equal(tried, names) {
			t.Errorf("%s: %v known=%t, tried %q; want %v known=%t, %q", user, r.Class, r.Known, tried, want, known, names)
		}
	}
	login("max", "wrong", Refused, false, "max", "max@dom.example")
	login("max", canary, Accepted, true, "max", "max@dom.example")
	login("max", canary, Accepted, true, "max@dom.example")
	login("max", "wrong", Refused, true, "max@dom.example")
	login("joe", canary, Accepted, true, "joe")
	login("joe", "wrong", Refused, true, "joe")
	s.Advance(knownFor)
	login("joe", "wrong", Refused, false, "joe") // another backend may have the user by now
	// Another domain on the same backend has rules of its own.
	s.Requests()
	r := put(t, n, auth.OpAuth, "max", canary, "{user}")
	if asked := s.Requests(); r.Class != Refused || asked[len(asked)-1] != "GET cloud/user max" {
		t.Errorf("by other rules: %v, asked %q", r.Class, asked)
	}
	// The cache is bounded: the least recent login is forgotten.
	n.logins = newLoginCache(1)
	login("max", canary, Accepted, true, "max", "max@dom.example")
	login("joe", canary, Accepted, true, "joe")
	login("max", canary, Accepted, true, "max", "max@dom.example")
}

// TestNextcloudGuessCutShort: after a refusal under one name and no answer under the next, a cache
// must not serve in grace, and the password is suspect. Without the refusal it is not.
func TestNextcloudGuessCutShort(t *testing.T) {
	s, n := cloud(t, NextcloudOptions{})
	s.Change(func(state *nextcloudtest.State) {
		state.Instead = func(w http.ResponseWriter, r *http.Request) bool {
			name, _, _ := r.BasicAuth()
			if name == "joe" {
				return false
			}
			w.WriteHeader(http.StatusBadGateway)
			return true
		}
	})
	if r := put(t, n, auth.OpAuth, "ann", "wrong", both...); r.Class != Outage || r.Suspect {
		t.Errorf("under no name: %v, suspect %t, %v", r.Class, r.Suspect, r.Err)
	}
	if r := put(t, n, auth.OpAuth, "joe", "wrong", both...); r.Class != Misconfigured || !r.Suspect || !says(r, "HTTP 502") {
		t.Errorf("%v, suspect %t, %v", r.Class, r.Suspect, r.Err)
	}
}

// TestNextcloudThrottled: after failed logins the server is asked for its delay, and no logins are
// sent once that is too long.
func TestNextcloudThrottled(t *testing.T) {
	s, n := cloud(t, NextcloudOptions{})
	classes := make(map[Class]int)
	for range 30 {
		classes[put(t, n, auth.OpAuth, "joe", "wrong").Class]++
	}
	// 0.2, 0.4, 0.8 and 1.6 s may be; the fifth failure makes it 3.2 s.
	if got := s.Attempts("127.0.0.1"); got != 5 || classes[Refused] != 5 || classes[Throttled] != 25 {
		t.Errorf("%d failed logins, answers %v; want 5 and 25 throttled", got, classes)
	}
	slept := s.Slept()
	for _, op := range []auth.Operation{auth.OpAuth, auth.OpAuth} {
		if r := put(t, n, op, "joe", canary); r.Class != Throttled || !says(r, "3.2s") || !says(r, "exempt") {
			t.Errorf("%v, %v", r.Class, r.Err)
		}
	}
	if s.Slept() != slept {
		t.Error("a login was sent to a server that slows logins down")
	}
	s.Change(func(state *nextcloudtest.State) {
		state.AllowListed = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	})
	if r := put(t, n, auth.OpAuth, "joe", canary); r.Class != Accepted {
		t.Errorf("exempt: %v, %v", r.Class, r.Err)
	}
	s.Change(func(state *nextcloudtest.State) { state.AllowListed = nil })
	s.Advance(13 * time.Hour)
	s.Requests()
	if r := put(t, n, auth.OpAuth, "joe", canary); r.Class != Accepted {
		t.Errorf("half a day later: %v, %v", r.Class, r.Err)
	}
	if got := s.Requests(); !slices.Equal(got, []string{"GET cloud/user joe"}) {
		t.Errorf("with nothing failed, asked %q", got)
	}
}

// TestNextcloudBlocked checks the server's own limit, in current versions and before version 29.
func TestNextcloudBlocked(t *testing.T) {
	for _, old := range []bool{false, true} {
		s, n := cloud(t, NextcloudOptions{MaxDelay: time.Hour})
		s.Change(func(state *nextcloudtest.State) { state.Before29 = old })
		last := Refused
		for range 12 {
			last = put(t, n, auth.OpAuth, "joe", "wrong").Class
		}
		r := put(t, n, auth.OpAuth, "joe", canary)
		if last != Throttled || r.Class != Throttled || !says(r, "exempt the address") || s.Attempts("127.0.0.1") != 11 {
			t.Errorf("before 29: %t: %v, then %v, %v after %d failures", old, last, r.Class, r.Err, s.Attempts("127.0.0.1"))
		}
	}
}

// TestNextcloudSlowOthers: a slow answer shows that other logins from the same address failed.
func TestNextcloudSlowOthers(t *testing.T) {
	s, n := cloud(t, NextcloudOptions{})
	other := cloudAt(t, s.URL, s.Now, NextcloudOptions{MaxDelay: time.Hour})
	for range 5 {
		put(t, other, auth.OpAuth, "joe", "wrong")
	}
	if r := put(t, n, auth.OpAuth, "joe", canary); r.Class != Accepted {
		t.Fatalf("%v, %v", r.Class, r.Err)
	}
	if r := put(t, n, auth.OpAuth, "joe", canary); r.Class != Throttled {
		t.Errorf("after an answer that took 3.2 s: %v, %v", r.Class, r.Err)
	}
}

// TestAttempts: a result counts the login names that the server refused, whatever its class.
func TestAttempts(t *testing.T) {
	for _, c := range []struct {
		user, secret string
		class        Class
		attempts     int
	}{
		{"joe", canary, Accepted, 0},
		{"max", canary, Accepted, 1}, // under the second name
		{"joe", "wrong", Refused, 2},
	} {
		s, n := cloud(t, NextcloudOptions{})
		r := put(t, n, auth.OpAuth, c.user, c.secret, both...)
		if r.Class != c.class || r.Attempts != c.attempts || s.Attempts("127.0.0.1") != c.attempts {
			t.Errorf("%s: %v after %d attempts, the server counted %d; want %v after %d", c.user, r.Class, r.Attempts, s.Attempts("127.0.0.1"), c.class, c.attempts)
		}
	}
}

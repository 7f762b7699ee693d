package backend

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"postern/internal/auth"
)

// scimBody is a list of users, with a total.
func scimBody(total any, users ...string) string {
	return fmt.Sprintf(`{"schemas":["%s"],"totalResults":%v,"itemsPerPage":2,"startIndex":1,"Resources":[%s]}`, scimList, total, strings.Join(users, ","))
}

// scimAt is the client of an API at a URL.
func scimAt(t *testing.T, at string, fold bool) *scim {
	t.Helper()
	s, err := newSCIM(SCIMOptions{URL: at + "/scim/v2/", Token: auth.NewSecret(canary)}, HTTPOptions{UserAgent: "postern/test"}, new(oidcBackend), fold)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.client.close)
	return s
}

func (s *scim) ask(t *testing.T, q Query) Result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	return checked(t, s.exists(ctx, q))
}

// TestSCIMOnTheWire: the request has the filter of RFC 7644, which no name can leave, and the token.
func TestSCIMOnTheWire(t *testing.T) {
	var got atomic.Pointer[string]
	server := serve(t, func(w http.ResponseWriter, r *http.Request) {
		text := fmt.Sprintf("%s %s %s %s count=%s %s", r.Method, r.URL.Path, r.Header.Get("Authorization"), r.Header.Get("Accept"), r.FormValue("count"), r.FormValue("filter"))
		if strings.Contains(r.URL.RawQuery, "+") {
			t.Errorf("a server may take the + of %s literally", r.URL.RawQuery)
		}
		got.Store(&text)
		_, _ = io.WriteString(w, scimBody(0))
	})
	s := scimAt(t, server.URL, false)
	for user, want := range map[string]string{
		"joe": `"joe"`, `a" or userName sw "`: `"a\" or userName sw \""`, `b\`: `"b\\"`, "jos\u00e9 & <x>": "\"jos\u00e9 & <x>\"", "a+b%20": `"a+b%20"`,
	} {
		if r := s.ask(t, Query{Op: auth.OpIsUser, User: user, Domain: "dom.example"}); r.Class != Refused || !r.Absent {
			t.Errorf("%s: %+v", user, r)
		}
		if want := "GET /scim/v2/Users Bearer " + canary + " application/scim+json, application/json count=2 userName eq " + want; *got.Load() != want {
			t.Errorf("\n got %s\nwant %s", *got.Load(), want)
		}
	}
}

// TestSCIMAnswers: yes, no, and what is neither.
func TestSCIMAnswers(t *testing.T) {
	const joe = `{"userName":"joe"}`
	var status atomic.Int32
	var body atomic.Pointer[string]
	server := serve(t, func(w http.ResponseWriter, r *http.Request) { canned(int(status.Load()), *body.Load())(w, r) })
	s := scimAt(t, server.URL, true)
	for _, c := range []struct {
		name   string
		status int
		body   string
		want   Class
		more   func(Result) bool
	}{
		{"exists", 200, scimBody(1, joe), Accepted, func(r Result) bool { return !r.Disabled && r.Known && r.Account == "joe" && r.Groups == "" }},
		{"enabled", 200, scimBody(1, `{"userName":"joe","active":true,"id":7}`), Accepted, func(r Result) bool { return !r.Disabled }},
		{"disabled", 200, scimBody(1, `{"userName":"joe","active":false}`), Accepted, func(r Result) bool { return r.Disabled }},
		{"another case", 200, scimBody(1, `{"userName":"JOE"}`), Accepted, func(r Result) bool { return r.Account == "JOE" }},
		{"in groups", 200, scimBody(1, `{"userName":"joe","groups":[{"value":"1","display":"mail"},{"value":"x"}]}`), Accepted, func(r Result) bool {
			return r.Groups == auth.GroupsOf([]string{"mail", "x", "1"}, []string{"mail", "x"})
		}},
		{"in none", 200, scimBody(1, `{"userName":"joe","groups":[]}`), Accepted, func(r Result) bool { return r.Groups == auth.GroupsOf([]string{"mail", "x", "1"}, nil) }},
		{"absent", 200, scimBody(0), Refused, func(r Result) bool { return r.Absent }},
		{"absent, without a list", 200, `{"schemas":["` + scimList + `"],"totalResults":0}`, Refused, func(r Result) bool { return r.Absent }},
		{"another user", 200, scimBody(1, `{"userName":"ann"}`), Misconfigured, nil},
		{"all users", 200, scimBody(2, joe, `{"userName":"ann"}`), Misconfigured, nil},
		{"two of the name", 200, scimBody(2, joe, `{"userName":"Joe"}`), Misconfigured, nil},
		{"more than are listed", 200, scimBody(2, joe), Outage, nil},
		{"fewer than are listed", 200, scimBody(0, joe), Outage, nil},
		{"no total", 200, scimBody("null", joe), Outage, nil},
		{"a total that is no number", 200, scimBody(`"1"`, joe), Outage, nil},
		{"no name", 200, scimBody(1, `{"id":"joe"}`), Outage, nil},
		{"an empty name", 200, scimBody(1, `{"userName":""}`), Outage, nil},
		{"no user", 200, scimBody(1, `"joe"`), Outage, nil},
		{"active is a text", 200, scimBody(1, `{"userName":"joe","active":"false"}`), Outage, nil},
		{"groups are none", 200, scimBody(1, `{"userName":"joe","groups":"mail"}`), Outage, nil},
		{"another schema", 200, strings.Replace(scimBody(1, joe), "ListResponse", "Error", 1), Outage, nil},
		{"a login page", 200, "<html>" + canary, Outage, nil},
		{"half a list", 200, scimBody(1, joe)[:80], Outage, nil},
		{"a wrong token", 401, `{"detail":"` + canary + `"}`, Misconfigured, nil},
		{"a token without rights", 403, "{}", Misconfigured, nil},
		{"no filter", 400, `{"scimType":"invalidFilter"}`, Misconfigured, nil},
		{"no API", 404, "{}", Misconfigured, nil},
		{"throttled", 429, "{}", Throttled, nil},
		{"redirected", 302, "", Outage, nil},
		{"down", 503, "{}", Outage, nil},
	} {
		status.Store(int32(c.status))
		body.Store(&c.body)
		r := s.ask(t, Query{Op: auth.OpIsUser, User: "joe", Domain: "dom.example", Groups: []string{"mail", "x", "1"}})
		if r.Class != c.want || c.more != nil && !c.more(r) {
			t.Errorf("%s: %+v", c.name, r)
		}
	}
	server.Close()
	if r := s.ask(t, Query{Op: auth.OpIsUser, User: "joe", Domain: "dom.example"}); r.Class != Outage {
		t.Errorf("without a server: %+v", r)
	}
}

// TestSCIMNames: the login names are asked about in turn, letter case counts without fold, and a late answer about
// another user is asked for once more.
func TestSCIMNames(t *testing.T) {
	var asked, late atomic.Int32
	server := serve(t, func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		name := strings.Trim(strings.TrimPrefix(r.FormValue("filter"), "userName eq "), `"`)
		switch {
		case late.Add(-1) == 0:
			_, _ = io.WriteString(w, scimBody(1, `{"userName":"ann"}`))
		case name == "joe@dom.example":
			_, _ = io.WriteString(w, scimBody(1, `{"userName":"`+name+`"}`))
		case strings.EqualFold(name, "ann"): // as RFC 7643 has it, letter case does not count
			_, _ = io.WriteString(w, scimBody(1, `{"userName":"ann"}`))
		default:
			_, _ = io.WriteString(w, scimBody(0))
		}
	})
	s := scimAt(t, server.URL, false)
	q := Query{Op: auth.OpIsUser, User: "joe", Domain: "dom.example", Logins: []string{"{user}", "{user}@{domain}"}}
	if r := s.ask(t, q); r.Class != Accepted || r.Account != "joe" || asked.Load() != 2 {
		t.Errorf("by the second name: %+v, asked %d times", r, asked.Load())
	}
	late.Store(2) // the second of them comes late, over a connection that was used before
	asked.Store(0)
	if r := s.ask(t, q); r.Class != Accepted || asked.Load() != 3 {
		t.Errorf("after a late answer: %+v, asked %d times", r, asked.Load())
	}
	if r := s.ask(t, Query{Op: auth.OpIsUser, User: "Ann", Domain: "dom.example"}); r.Class != Refused {
		t.Errorf("another spelling: %+v", r)
	}
	for _, o := range []SCIMOptions{{URL: server.URL}, {URL: server.URL + "?x", Token: auth.NewSecret(canary)}, {URL: "ftp://x", Token: auth.NewSecret(canary)}} {
		if _, err := newSCIM(o, HTTPOptions{}, new(oidcBackend), false); err == nil || strings.Contains(err.Error(), canary) {
			t.Errorf("%+v: %v", o.URL, err)
		}
	}
}

// FuzzSCIM: no answer makes the parser panic, or is a user that it does not name.
func FuzzSCIM(f *testing.F) {
	for _, body := range []string{
		scimBody(0), scimBody(1, `{"userName":"joe","active":false,"groups":[{"value":"1","display":"mail"},{"value":null}]}`),
		scimBody(2, `{"userName":"joe"}`), scimBody(1, `null`), scimBody(1e300, `{}`), `{"schemas":["` + scimList + `"],"totalResults":0,"Resources":null}`, "[]", "<html>", "",
	} {
		f.Add([]byte(body))
	}
	s := &scim{fold: true}
	f.Fuzz(func(t *testing.T, body []byte) {
		list, err := parseSCIM(body)
		if err != nil {
			if list != nil {
				t.Error("a list with an error")
			}
			return
		}
		for _, u := range list {
			if u.name == "" || !u.grouped && u.groups != nil {
				t.Errorf("%+v", u)
			}
		}
		q := Query{Op: auth.OpIsUser, User: "joe", Groups: []string{"mail"}}
		if r := s.answer(q, "joe", list); (r.Class == Accepted) != (len(list) == 1) || (r.Class == Refused) != (len(list) == 0) {
			t.Errorf("%+v of %q", r, body)
		}
	})
}

// TestSCIMFilterRoundTrip: a name is read as it was meant, whatever is in it.
func TestSCIMFilterRoundTrip(t *testing.T) {
	for _, name := range []string{"joe", `"`, `\"`, "a b", "\u2028", "<>&", "%2B+"} {
		if got := scimFilter(name); strings.ContainsAny(got, `"+ <>`) || !strings.HasPrefix(got, "userName%20eq%20%22") {
			t.Errorf("%q: %s", name, got)
		}
	}
}

package pages

import (
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"postern/cmd/e2e/harness"
)

// TestWebStatusJSON: what is decided stands in /status.json, which needs the token.
func TestWebStatusJSON(t *testing.T) {
	t.Parallel()
	s := newSite(t, listener+harness.UsersBase+statusBlock(""))
	c := harness.Connect(t, s.Address("generic"))
	harness.Say(t, c, "auth:joe:dom.example:secret\n", "1\n")
	harness.Say(t, c, "auth:joe:dom.example:wrong\n", "0\n")
	harness.Say(t, c, "isuser:ann:dom.example\n", "0\n")
	v := s.status(nil)
	if v.Health != "ok" || v.Hour.Allow != 1 || v.Hour.Deny != 2 || len(v.Decisions) != 3 || len(v.Backends) != 1 || v.Fronts[0].Name != "generic" {
		t.Errorf("%+v", v)
	}
	if d := v.Decisions[0]; d.User != "ann" || d.Verdict != "deny" || d.Reason != "no such user" {
		t.Errorf("the last decision is %+v", d)
	}
	if v := s.status(url.Values{"user": {"JO"}, "verdict": {"deny"}}); len(v.Decisions) != 1 || v.Decisions[0].User != "joe" {
		t.Errorf("selected: %+v", v.Decisions)
	}
	for name, shape := range map[string]func(*http.Request){
		"none":         nil,
		"another":      func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+token+"x") },
		"empty":        func(r *http.Request) { r.Header.Set("Authorization", "Bearer ") },
		"as a basic":   func(r *http.Request) { r.SetBasicAuth("", token) },
		"in the query": func(r *http.Request) { r.URL.RawQuery = "token=" + token },
	} {
		if answer, body := s.request(http.MethodGet, "/status.json", shape); answer.StatusCode != http.StatusUnauthorized || strings.Contains(body, "dom.example") {
			t.Errorf("token %s: %s: %s", name, answer.Status, body)
		}
	}
}

// TestWebPrivacy: names and addresses are shortened.
func TestWebPrivacy(t *testing.T) {
	t.Parallel()
	s := newSite(t, listener+harness.UsersBase+statusBlock("privacy = true"))
	harness.Say(t, harness.Connect(t, s.Address("generic")), "auth:joe:dom.example:wrong\n", "0\n")
	if v := s.status(nil); len(v.Decisions) != 1 || v.Decisions[0].User != "j…" {
		t.Errorf("%+v", v.Decisions)
	}
}

// TestWebPagesReload: a page gets another content, moves and goes with a reload, and shows one that was refused.
func TestWebPagesReload(t *testing.T) {
	t.Parallel()
	s := newSite(t, listener+harness.UsersBase+statusBlock(""))
	first := s.page("status")
	say := func() { harness.Say(t, harness.Connect(t, s.Address("generic")), harness.JoeLine, "1\n") }
	reload := func(says string) {
		t.Helper()
		if out := harness.OK(t, "", "reload", "--config", s.file); !strings.Contains(out, says) {
			t.Errorf("the reload printed: %s", out)
		}
	}
	say()
	s.write(listener + harness.UsersBase + statusBlock("privacy = true")) // another content at the same address
	reload("web changed")
	if v := s.status(nil); s.page("status") != first || len(v.Decisions) != 1 || v.Decisions[0].User != "j…" {
		t.Errorf("at %s, it was %s: %+v", s.page("status"), first, v)
	}

	s.write(listener + harness.UsersBase + "nonsense")
	if r := harness.Command(t, "", "reload", "--config", s.file); r.Code == 0 {
		t.Error("nonsense was loaded")
	}
	if v := s.status(nil); v.Health != "failure" || !strings.Contains(v.Config.Refused, "argument or block") {
		t.Errorf("health %s, refused: %s", v.Health, v.Config.Refused)
	}

	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	s.write(listener + harness.UsersBase + strings.Replace(statusBlock(""), "127.0.0.1:0", taken.Addr().String(), 1))
	if r := harness.Command(t, "", "reload", "--config", s.file); r.Code == 0 || !strings.Contains(r.Err, "address already in use") {
		t.Errorf("exit status %d: %s", r.Code, r.Err)
	}
	s.status(nil) // it is served where it was

	s.write(listener + harness.UsersBase + strings.Replace(statusBlock(""), "127.0.0.1", "localhost", 1))
	reload("web changed")
	if s.page("status") == first {
		t.Error("it was not moved")
	}
	if v := s.status(nil); v.Health != "ok" || len(v.Decisions) != 1 {
		t.Errorf("what was decided is forgotten: %+v", v)
	}
	last := s.page("status")
	s.write(listener + harness.UsersBase)
	reload("web changed")
	for _, address := range []string{first, last} {
		if c, err := net.Dial("tcp", address); err == nil {
			_ = c.Close()
			t.Errorf("a server still listens at %s", address)
		}
	}
	say()
}

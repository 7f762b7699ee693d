package pages

import (
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"postern/cmd/e2e/harness"
)

// visitor sends what a browser sends, with the cookie that it has got.
type visitor struct {
	*site
	cookie *http.Cookie
}

func (v *visitor) get(path string) (*http.Response, string) {
	v.t.Helper()
	return v.request(http.MethodGet, path, v.send)
}

func (v *visitor) send(r *http.Request) {
	if v.cookie != nil {
		r.AddCookie(v.cookie)
	}
}

func (v *visitor) post(path string, form url.Values) (*http.Response, string) {
	v.t.Helper()
	answer, body := v.request(http.MethodPost, path, func(r *http.Request) {
		r.Header.Set("Origin", "https://"+host)
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		text := form.Encode()
		r.Body, r.ContentLength = io.NopCloser(strings.NewReader(text)), int64(len(text))
		v.send(r)
	})
	for _, c := range answer.Cookies() {
		v.cookie = c
	}
	return answer, body
}

func (v *visitor) signIn(name, password string) *http.Response {
	v.t.Helper()
	answer, _ := v.post("/sign-in", url.Values{"name": {name}, "password": {password}})
	return answer
}

// tokenOf is the token in the first form of a page.
func tokenOf(t *testing.T, page string) string {
	t.Helper()
	m := regexp.MustCompile(`name="token" value="([^"]+)"`).FindStringSubmatch(page)
	if m == nil {
		t.Fatalf("no token in %s", page)
	}
	return m[1]
}

// TestWebStatusSignIn: the status page is for the accounts that the configuration names, as their passwords are at that moment,
// and a reload that changes those ends their sessions.
func TestWebStatusSignIn(t *testing.T) {
	t.Parallel()
	text := listener + harness.UsersBase + statusBlock("") + "limit { user_refusals = 3 }\n" + `audit { file = "audit" }` + "\n"
	s := newSite(t, text)
	v := &visitor{site: s}
	if answer, _ := v.get("/"); answer.StatusCode != http.StatusSeeOther || answer.Header.Get("Location") != "/sign-in" {
		t.Errorf("%s %v", answer.Status, answer.Header)
	}
	for _, c := range [][2]string{{"joe", "secret"}, {"root", "0wned"}, {"nobody", "secret"}} {
		if answer := v.signIn(c[0], c[1]); answer.StatusCode != http.StatusForbidden || v.cookie != nil {
			t.Errorf("%s: %s", c[0], answer.Status)
		}
	}
	if answer := v.signIn("root@DOM.example", "secret"); answer.StatusCode != http.StatusSeeOther || v.cookie == nil {
		t.Fatalf("%s", answer.Status)
	}
	// A user's name is a text.
	c := harness.Connect(t, s.Address("generic"))
	harness.Say(t, c, "auth:<script>alert(1)</script>:dom.example:wrong\n", "0\n")
	for i := range 3 {
		harness.Say(t, c, "auth:joe:dom.example:wrong"+string(rune('a'+i))+"\n", "0\n")
	}
	for path, want := range map[string]string{
		"/": "All of", "/decisions": "&lt;script&gt;alert(1)&lt;/script&gt;@dom.example", "/decisions?user=joe&verdict=deny": "joe@dom.example",
		"/limits": "joe@dom.example", "/system": s.file, "/status.json": `"decisions"`,
	} {
		answer, body := v.get(path)
		if path == "/" {
			want = "users.local"
		}
		if answer.StatusCode != http.StatusOK || !strings.Contains(body, want) || strings.Contains(body, "<script>alert") && path != "/status.json" {
			t.Errorf("%s: %s without %s: %s", path, answer.Status, want, body)
		}
	}
	_, body := v.get("/limits")
	limit := regexp.MustCompile(`name="limit" value="([^"]+)"`).FindStringSubmatch(body)
	if limit == nil {
		t.Fatalf("nobody is limited: %s", body)
	}
	if answer, _ := v.post("/limits/forget", url.Values{"limit": {limit[1]}}); answer.StatusCode != http.StatusForbidden {
		t.Errorf("without a token: %s", answer.Status)
	}
	if answer, _ := v.post("/limits/forget", url.Values{"limit": {limit[1]}, "token": {tokenOf(t, body)}}); answer.StatusCode != http.StatusSeeOther {
		t.Errorf("%s", answer.Status)
	}
	if _, body := v.get("/limits?forgotten=yes"); !strings.Contains(body, "No account and no address is limited") {
		t.Errorf("still limited: %s", body)
	}
	s.Eventually("the audit log", func() bool {
		log := harness.ReadText(s.dir + "/audit")
		return strings.Contains(log, `"event":"signin"`) && strings.Contains(log, `"outcome":"failed","domain":"dom.example","user":"joe"`) &&
			strings.Contains(log, `"action":"limit forget"`) && strings.Contains(log, `"by":"root@dom.example"`)
	})
	_, body = v.get("/system")
	if answer, body := v.post("/system/doctor", url.Values{"token": {tokenOf(t, body)}}); answer.StatusCode != http.StatusOK || !strings.Contains(body, "Findings") {
		t.Errorf("%s %s", answer.Status, body)
	}
	s.write(strings.Replace(text, `["root"]`, `["joe"]`, 1))
	harness.OK(t, "", "reload", "--config", s.file)
	if answer, _ := v.get("/"); answer.StatusCode != http.StatusSeeOther {
		t.Errorf("after the reload: %s", answer.Status)
	}
	if answer := v.signIn("root", "secret"); answer.StatusCode != http.StatusForbidden {
		t.Errorf("root after the reload: %s", answer.Status)
	}
	if answer := v.signIn("joe", "secret"); answer.StatusCode != http.StatusSeeOther {
		t.Errorf("joe after the reload: %s", answer.Status)
	}
	if strings.Contains(s.Log.String(), "0wned") {
		t.Error("a password is in the log")
	}
}

package signin

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"postern/internal/auth"
	"postern/internal/web"
	"postern/internal/web/session"
)

// imitation has the accounts joe and root, password "secret". down has no answer.
type imitation struct {
	asked []Question
	noted []string
}

func (i *imitation) SignIn(_ context.Context, q Question) (Account, error) {
	i.asked = append(i.asked, q)
	switch {
	case q.ID.User == "down":
		return Account{}, fmt.Errorf("%w: timeout", ErrUnavailable)
	case (q.ID.User == "joe" || q.ID.User == "root") && q.Password.Reveal() == "secret":
		return Account{ID: q.ID, Groups: auth.GroupsOf(q.Groups, []string{"staff"})}, nil
	}
	return Account{}, ErrRefused
}

// pageOf is a page that root may open, with a form of its own.
func pageOf() (*imitation, http.Handler) {
	i := &imitation{}
	guard := New(Options{
		Site: "test", DefaultDomain: "dom.example", Authority: i, Groups: []string{"staff"}, Sessions: session.New(session.Options{Page: "test"}),
		Allows: func(a Account) bool { in, _ := a.Groups.In("staff"); return in && a.ID.User == "root" },
		Noted: func(a Account, from netip.Addr, allowed bool) {
			i.noted = append(i.noted, fmt.Sprint(a.ID, from, allowed))
		},
	})
	say := func(text string) http.HandlerFunc {
		return guard.Require(func(w http.ResponseWriter, _ *http.Request, s *session.Session) {
			_, _ = io.WriteString(w, text+" "+s.Account.String()+" "+s.Token())
		})
	}
	routes := append(guard.Routes(), web.Route{Method: http.MethodGet, Path: "/", Handler: say("page")}, web.Route{Method: http.MethodPost, Path: "/form", Handler: say("form")})
	return i, web.Handler(web.Site{Origin: "https://page.example", Log: slog.New(slog.DiscardHandler)}, routes)
}

// browser sends requests with the cookie that it has got.
type browser struct {
	page   http.Handler
	cookie *http.Cookie
}

func (b *browser) do(method, path string, form url.Values, shape func(*http.Request)) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, strings.NewReader(form.Encode()))
	r.Host, r.RemoteAddr = "page.example", "192.0.2.1:1"
	if method == http.MethodPost {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Origin", "https://page.example")
	}
	if b.cookie != nil {
		r.AddCookie(b.cookie)
	}
	if shape != nil {
		shape(r)
	}
	w := httptest.NewRecorder()
	b.page.ServeHTTP(w, r)
	for _, c := range w.Result().Cookies() {
		if b.cookie = c; c.MaxAge < 0 {
			b.cookie = nil
		}
	}
	return w
}

func (b *browser) signIn(name, password string) *httptest.ResponseRecorder {
	return b.do("POST", Path, url.Values{"name": {name}, "password": {password}}, nil)
}

// TestSignIn: the way in, what is said of a way that is none, and the way out.
func TestSignIn(t *testing.T) {
	i, page := pageOf()
	b := &browser{page: page}
	if w := b.do("GET", "/", nil, nil); w.Code != 303 || w.Header().Get("Location") != Path {
		t.Fatalf("%d %v", w.Code, w.Header())
	}
	if w := b.do("GET", Path, nil, nil); w.Code != 200 || b.cookie != nil || !strings.Contains(w.Body.String(), `autocomplete="current-password"`) {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	// An account that may not sign in here gets the same words as one that does not exist, after the same work.
	said := ""
	for _, c := range []struct{ name, password string }{{"root", "wrong"}, {"joe", "secret"}, {"nobody", "secret"}, {"root@other.example", "wrong"}} {
		w := b.signIn(c.name, c.password)
		text := strings.ReplaceAll(w.Body.String(), `value="`+c.name+`"`, "")
		if w.Code != 403 || b.cookie != nil || said != "" && text != said {
			t.Errorf("%s: %d %s", c.name, w.Code, w.Body)
		}
		said = text
	}
	if len(i.asked) != 4 || i.asked[0].Client.String() != "192.0.2.1" || len(i.asked[0].Groups) != 1 {
		t.Errorf("asked: %+v", i.asked)
	}
	if len(i.noted) != 1 || i.noted[0] != "joe@dom.example 192.0.2.1 false" {
		t.Errorf("noted: %q", i.noted)
	}
	for _, name := range []string{"", "a b@@", strings.Repeat("x", 2000), "x\x00"} {
		if w := b.signIn(name, "secret"); w.Code != 403 {
			t.Errorf("%q: %d", name, w.Code)
		}
	}
	if w := b.signIn("root", ""); w.Code != 403 || len(i.asked) != 4 {
		t.Errorf("without a password: %d", w.Code)
	}
	if w := b.signIn("down", "secret"); w.Code != 503 || b.cookie != nil {
		t.Errorf("in an outage: %d", w.Code)
	}
	if w := b.signIn(`"><script>alert(1)</script>`, "secret"); strings.Contains(w.Body.String(), "<script>alert") {
		t.Error(w.Body)
	}
	if w := b.signIn(" root ", "secret"); w.Code != 303 || w.Header().Get("Location") != "/" || b.cookie == nil || strings.Contains(w.Body.String(), "secret") {
		t.Fatalf("%d %v", w.Code, w.Header())
	}
	if w := b.do("GET", "/", nil, nil); !strings.HasPrefix(w.Body.String(), "page root@dom.example ") {
		t.Errorf("%s", w.Body)
	}
	if w := b.do("GET", Path, nil, nil); w.Code != 303 || w.Header().Get("Location") != "/" {
		t.Errorf("%d", w.Code)
	}
	was, token := *b.cookie, b.token()
	if w := b.do("POST", OutPath, url.Values{"token": {token}}, nil); w.Code != 303 || w.Header().Get("Location") != Path || b.cookie != nil {
		t.Errorf("%d %v", w.Code, w.Header())
	}
	b.cookie = &was
	if w := b.do("GET", "/", nil, nil); w.Code != 303 {
		t.Error("the session goes on")
	}
}

// token is that of the browser's session.
func (b *browser) token() string {
	return strings.Fields(b.do("GET", "/", nil, nil).Body.String())[2]
}

// TestForgedForms: a form without the token of its session, or with that of another one, is refused.
func TestForgedForms(t *testing.T) {
	_, page := pageOf()
	mine, other := &browser{page: page}, &browser{page: page}
	mine.signIn("root", "secret")
	other.signIn("root", "secret")
	post := func(form url.Values, path string) int { return mine.do("POST", path, form, nil).Code }
	for name, form := range map[string]url.Values{"no token": nil, "an empty one": {"token": {""}}, "another's": {"token": {other.token()}}, "in the link": nil} {
		path := "/form"
		if name == "in the link" {
			path += "?token=" + mine.token()
		}
		if got := post(form, path); got != 403 {
			t.Errorf("%s: %d", name, got)
		}
	}
	if got := post(url.Values{"token": {mine.token()}}, "/form"); got != 200 {
		t.Errorf("the right one: %d", got)
	}
	if got := post(nil, OutPath); got != 403 {
		t.Errorf("signed out by another site: %d", got)
	}
	mine.cookie = nil
	if got := mine.do("POST", "/form", url.Values{"token": {other.token()}}, nil).Code; got != 303 {
		t.Errorf("without a session: %d", got)
	}
}

// TestNoOpenRedirect: whatever a request says, it leads to this page.
func TestNoOpenRedirect(t *testing.T) {
	_, page := pageOf()
	b := &browser{page: page}
	for _, path := range []string{"/?next=https://evil.example", "//evil.example", "/sign-in?next=//evil.example"} {
		if to := b.do("GET", path, nil, nil).Header().Get("Location"); to != "" && to != Path {
			t.Errorf("%s leads to %s", path, to)
		}
	}
	w := b.do("POST", Path+"?next=//evil.example", url.Values{"name": {"root"}, "password": {"secret"}, "next": {"https://evil.example"}}, func(r *http.Request) {
		r.Header.Set("Referer", "https://evil.example")
	})
	if w.Header().Get("Location") != "/" {
		t.Errorf("%v", w.Header())
	}
}

// TestLinksFromElsewhere: a browser does not send the cookie when a link of another site leads here, so that the page
// has to load itself once more, which it does once.
func TestLinksFromElsewhere(t *testing.T) {
	_, page := pageOf()
	b := &browser{page: page}
	from := func(site, mode string) func(*http.Request) {
		return func(r *http.Request) {
			r.Header.Set("Sec-Fetch-Site", site)
			r.Header.Set("Sec-Fetch-Mode", mode)
		}
	}
	for _, c := range []struct {
		site, mode string
		want       int
	}{{"cross-site", "navigate", 200}, {"same-site", "navigate", 200}, {"same-origin", "navigate", 303}, {"none", "navigate", 303}, {"cross-site", "no-cors", 303}} {
		w := b.do("GET", "/", nil, from(c.site, c.mode))
		if w.Code != c.want || (c.want == 200) != strings.Contains(w.Body.String(), `http-equiv="refresh" content="0"`) {
			t.Errorf("%s, %s: %d", c.site, c.mode, w.Code)
		}
	}
}

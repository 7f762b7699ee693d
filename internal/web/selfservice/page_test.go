package selfservice

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"postern/internal/apppassword"
	"postern/internal/auth"
	"postern/internal/unixtime"
	"postern/internal/web"
	"postern/internal/web/session"
	"postern/internal/web/signin"
)

// key is that of the app passwords here.
var key = apppassword.NewKey(auth.NewSecret(strings.Repeat("k", apppassword.KeySize)))

var begin = time.Date(2026, 12, 1, 12, 0, 0, 0, time.UTC)

// site is a page with its accounts: joe and eve, both with the password "secret". That of eve cannot be changed.
type site struct {
	t        *testing.T
	accounts map[string]*apppassword.Account
	none     bool  // no account can have app passwords
	fail     error // of everything
	changed  []string
	handler  http.Handler
}

var _ Source = (*site)(nil)

func (s *site) SignIn(_ context.Context, q signin.Question) (signin.Account, error) {
	if s.accounts[q.ID.User] != nil && q.Password.Reveal() == "secret" {
		return signin.Account{ID: q.ID}, nil
	}
	return signin.Account{}, signin.ErrRefused
}

func (s *site) Passwords(_ context.Context, id auth.Identity) ([]apppassword.Password, error) {
	if s.none {
		return nil, ErrNone
	}
	return s.accounts[id.User].Of(id.User), s.fail
}

func (s *site) Add(_ context.Context, id auth.Identity, n apppassword.New, _ netip.Addr) (apppassword.Password, auth.Secret, error) {
	if s.fail != nil {
		return apppassword.Password{}, auth.Secret{}, s.fail
	}
	p, secret, err := s.accounts[id.User].Add(key, id.Domain, id.User, n, unixtime.At(begin))
	return p, secret.Show(), err
}

func (s *site) Revoke(_ context.Context, id auth.Identity, ref string, _ netip.Addr) error {
	if ref == "" {
		return apppassword.ErrUnknown
	}
	_, err := s.accounts[id.User].Revoke(id.User, ref, unixtime.At(begin))
	return errors.Join(err, s.fail)
}

func (s *site) Changes(id auth.Identity) bool { return id.User == "joe" }

func (s *site) Change(_ context.Context, id auth.Identity, old, fresh auth.Secret, _ netip.Addr) error {
	switch {
	case old.Reveal() != "secret":
		return signin.ErrRefused
	case fresh.Reveal() == "12345":
		return fmt.Errorf("%w: too simple", ErrRejected)
	case s.fail != nil:
		return s.fail
	}
	s.changed = append(s.changed, id.String()+" "+fresh.Reveal())
	return nil
}

func newSite(t *testing.T) *site {
	s := &site{t: t, accounts: map[string]*apppassword.Account{"joe": {}, "eve": {}}}
	guard := signin.New(signin.Options{
		DefaultDomain: "dom.example", Authority: s, Allows: func(signin.Account) bool { return true },
		Sessions: session.New(session.Options{Page: "own", Clock: func() time.Time { return begin }}),
	})
	page := New(Options{Source: s, Guard: guard, Servers: Servers{"imap.dom.example", "smtp.dom.example"}, Clock: func() time.Time { return begin }})
	s.handler = web.Handler(web.Site{Origin: "https://own.example", Log: slog.New(slog.DiscardHandler)}, page.Routes())
	return s
}

// browser is a browser in a session.
type browser struct {
	*site
	cookie *http.Cookie
	token  string
	lang   string
}

// signIn signs an account in.
func (s *site) signIn(user string) *browser {
	s.t.Helper()
	b := &browser{site: s}
	w := b.post(signin.Path, url.Values{"name": {user}, "password": {"secret"}})
	if w.Code != http.StatusSeeOther {
		s.t.Fatalf("sign-in: %d", w.Code)
	}
	b.token = regexp.MustCompile(`name="token" value="([^"]+)"`).FindStringSubmatch(b.get("/").Body.String())[1]
	return b
}

func (b *browser) do(r *http.Request) *httptest.ResponseRecorder {
	r.Host = "own.example"
	if b.cookie != nil {
		r.AddCookie(b.cookie)
	}
	r.Header.Set("Accept-Language", b.lang)
	w := httptest.NewRecorder()
	b.handler.ServeHTTP(w, r)
	for _, c := range w.Result().Cookies() {
		b.cookie = c
	}
	return w
}

func (b *browser) get(path string) *httptest.ResponseRecorder {
	return b.do(httptest.NewRequest(http.MethodGet, path, http.NoBody))
}

// post sends a form of the session.
func (b *browser) post(path string, form url.Values) *httptest.ResponseRecorder {
	if b.token != "" && !form.Has("token") {
		form.Set("token", b.token)
	}
	r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Origin", "https://own.example")
	return b.do(r)
}

// want fails the test unless an answer has a status, and texts.
func want(t *testing.T, what string, w *httptest.ResponseRecorder, status int, texts ...string) {
	t.Helper()
	if w.Code != status {
		t.Errorf("%s: %d, want %d", what, w.Code, status)
	}
	for _, text := range texts {
		if !strings.Contains(w.Body.String(), text) {
			t.Errorf("%s: without %q:\n%s", what, text, w.Body)
		}
	}
}

func adding(name, use, ends string) url.Values {
	return url.Values{"name": {name}, "use": {use}, "ends": {ends}}
}

var shown = regexp.MustCompile(`id="secret"[^>]*>([a-z-]+)<`)

// TestAppPasswords: one is made, shown once, listed, and taken back.
func TestAppPasswords(t *testing.T) {
	s := newSite(t)
	joe := s.signIn("joe")
	want(t, "empty", joe.get("/"), 200, english.none)
	w := joe.post(addPath, adding("Phone", "mail", "30"))
	want(t, "made", w, 200, english.madeHint, "imap.dom.example, 993", "smtp.dom.example, 587", "joe@dom.example", `role="img"`)
	secret := shown.FindStringSubmatch(w.Body.String())
	if secret == nil {
		t.Fatal("no secret is shown")
	}
	parsed, ok := apppassword.Parse(secret[1])
	if p, status := s.accounts["joe"].Check(key, "dom.example", "joe", parsed, "imap", unixtime.At(begin)); !ok || status != apppassword.Valid ||
		p.For("xmpp") || p.Expires != unixtime.At(begin.AddDate(0, 0, 30)) {
		t.Errorf("%v, %+v", status, p)
	}
	w = joe.get("/")
	want(t, "listed", w, 200, "Phone", english.mail, "31 December 2026", english.alive)
	if strings.Contains(w.Body.String(), secret[1]) {
		t.Error("the secret is shown twice")
	}
	id := s.accounts["joe"].Passwords[0].ID
	w = joe.post(revokePath, url.Values{"id": {id}})
	want(t, "revoked", w, 303)
	want(t, "revoked", joe.get(w.Header().Get("Location")), 200, english.didRevoke, english.revoked)
	want(t, "all", joe.post(addPath, adding("Laptop", "all", "never")), 200, english.jabber)
	want(t, "chat", joe.post(addPath, adding("Tablet", "chat", "365")), 200, english.codeChat)
	if got := joe.post(addPath, adding("Tablet", "chat", "365")).Body.String(); strings.Contains(got, "imap.dom.example") {
		t.Error("one for chat is shown the servers of mail")
	}
}

// TestForeign: no session acts on another one's account, whatever the form says.
func TestForeign(t *testing.T) {
	s := newSite(t)
	joe, eve := s.signIn("joe"), s.signIn("eve")
	joe.post(addPath, adding("Phone", "all", "never"))
	id := s.accounts["joe"].Passwords[0].ID
	want(t, "another's app password", eve.post(revokePath, url.Values{"id": {id}, "user": {"joe"}}), 404, english.errGone)
	want(t, "none", eve.post(revokePath, url.Values{}), 404)
	want(t, "another's token", eve.post(revokePath, url.Values{"id": {id}, "token": {joe.token}}), 403)
	want(t, "no token", joe.post(addPath, url.Values{"name": {"x"}, "use": {"all"}, "ends": {"never"}, "token": {""}}), 403)
	stranger := &browser{site: s}
	for _, path := range []string{"/", passwordPath} {
		if w := stranger.get(path); w.Code != 303 || w.Header().Get("Location") != signin.Path {
			t.Errorf("%s: %d %s", path, w.Code, w.Header().Get("Location"))
		}
	}
	want(t, "not signed in", stranger.post(addPath, adding("x", "all", "never")), 303)
	if n := len(s.accounts["joe"].Passwords); n != 1 || s.accounts["joe"].Passwords[0].Revoked != 0 || len(s.accounts["eve"].Passwords) != 0 {
		t.Errorf("%+v", s.accounts)
	}
}

// TestFaults: what is said of forms that cannot be carried out.
func TestFaults(t *testing.T) {
	s := newSite(t)
	joe := s.signIn("joe")
	want(t, "no name", joe.post(addPath, adding(" ", "all", "never")), 400, english.errName)
	want(t, "long name", joe.post(addPath, adding(strings.Repeat("x", 101), "all", "never")), 400, english.errName)
	want(t, "lines", joe.post(addPath, adding("a\nb", "all", "never")), 400, english.errName)
	for _, form := range []url.Values{adding("x", "root", "never"), adding("x", "all", "soon"), adding("x", "", "")} {
		want(t, form.Encode(), joe.post(addPath, form), 400, english.errFailed)
	}
	want(t, "script", joe.post(addPath, adding(`<script>alert(1)</script>`, "all", "never")), 200)
	want(t, "script", joe.get("/"), 200, "&lt;script&gt;alert(1)")
	for len(s.accounts["joe"].Passwords) < 64 {
		joe.post(addPath, adding("x", "all", "never"))
	}
	want(t, "full", joe.post(addPath, adding("x", "all", "never")), 409, english.errFull)
	s.fail = errors.New("the disk is full")
	want(t, "fails", joe.post(addPath, adding("x", "all", "never")), 503, english.errFailed)
	want(t, "fails", joe.get("/"), 503, english.errFailed)
	s.fail, s.none = nil, true
	if w := joe.get("/"); w.Code != 303 || w.Header().Get("Location") != passwordPath {
		t.Errorf("none: %d", w.Code)
	}
	want(t, "none, unchangeable", s.unchanged(), 200, english.errNone)
}

// unchanged is what eve sees where there are no app passwords.
func (s *site) unchanged() *httptest.ResponseRecorder {
	s.none = false
	eve := s.signIn("eve")
	s.none = true
	return eve.get("/")
}

// TestChange: the password is changed by the old one.
func TestChange(t *testing.T) {
	s := newSite(t)
	joe, eve := s.signIn("joe"), s.signIn("eve")
	form := func(old, fresh, again string) url.Values {
		return url.Values{"old": {old}, "new": {fresh}, "again": {again}}
	}
	want(t, "form", joe.get(passwordPath), 200, english.old, `autocomplete="new-password"`)
	for text, f := range map[string]url.Values{
		english.errOld: form("wrong", "fresh", "fresh"), english.errAgain: form("secret", "fresh", "fesh"), english.errSame: form("secret", "secret", "secret"),
		english.errRejected: form("secret", "12345", "12345"), english.errEmpty: form("secret", "", ""),
	} {
		w := joe.post(passwordPath, f)
		if w.Code != 400 && w.Code != 403 {
			t.Errorf("%s: %d", text, w.Code)
		}
		want(t, text, w, w.Code, text)
		for _, secret := range []string{"12345", "fresh"} {
			if strings.Contains(w.Body.String(), secret) {
				t.Errorf("%s: the page repeats a password", text)
			}
		}
	}
	thief, was := s.signIn("joe"), *joe.cookie
	want(t, "changed", joe.post(passwordPath, form("secret", "fresh", "fresh")), 303)
	want(t, "the session of a thief", thief.get("/"), 303)
	want(t, "the number before", (&browser{site: s, cookie: &was}).get("/"), 303)
	want(t, "another account", eve.get("/"), 200)
	want(t, "changed", joe.get("/?done=changed"), 200, english.didChange)
	want(t, "unchangeable", eve.post(passwordPath, form("secret", "fresh", "fresh")), 303)
	want(t, "unchangeable", eve.get(passwordPath), 303)
	if len(s.changed) != 1 || s.changed[0] != "joe@dom.example fresh" {
		t.Error(s.changed)
	}
}

// TestDevices: what programs read of the page.
func TestDevices(t *testing.T) {
	s := newSite(t)
	stranger := &browser{site: s}
	for _, path := range []string{"/mail/config-v1.1.xml?emailaddress=joe@shop.example", "/.well-known/autoconfig/mail/config-v1.1.xml?emailaddress=joe@shop.example"} {
		w := stranger.get(path)
		want(t, path, w, 200, "<domain>shop.example</domain>", "<hostname>imap.dom.example</hostname>", "<port>993</port>", "<socketType>STARTTLS</socketType>")
		if w.Header().Get("Content-Type") != "text/xml; charset=utf-8" {
			t.Error(w.Header())
		}
	}
	want(t, "no address", stranger.get("/mail/config-v1.1.xml"), 200, "<domain>dom.example</domain>")
	want(t, "markup", stranger.get("/mail/config-v1.1.xml?emailaddress=a@%3Cb%3E"), 200, "<domain>&lt;b&gt;</domain>")
	joe := s.signIn("joe")
	secret := shown.FindStringSubmatch(joe.post(addPath, adding("iPhone", "mail", "never")).Body.String())[1]
	w := joe.post(profilePath, url.Values{"secret": {secret}})
	want(t, "profile", w, 200, "<string>joe@dom.example</string>", "<string>"+secret+"</string>", "<string>imap.dom.example</string>", "<integer>587</integer>")
	if got := w.Header().Get("Content-Disposition"); !strings.Contains(got, ".mobileconfig") {
		t.Error(got)
	}
	want(t, "another text", joe.post(profilePath, url.Values{"secret": {"<plist>"}}), 400)
}

// TestLanguages: the page speaks what the browser prefers, and so does the sign-in.
func TestLanguages(t *testing.T) {
	s := newSite(t)
	joe := s.signIn("joe")
	joe.lang = "de-DE,de;q=0.9"
	want(t, "German", joe.get("/"), 200, `lang="de"`, german.intro, german.newOne)
	stranger := &browser{site: s, lang: "de"}
	want(t, "German sign-in", stranger.get(signin.Path), 200, `lang="de"`, "Anmelden")
	want(t, "German error", stranger.get("/nothing"), 404, `lang="de"`, "Diese Seite gibt es nicht.")
}

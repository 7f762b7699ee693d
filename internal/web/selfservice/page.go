// Package selfservice is the page on which people look after their own accounts: the app passwords of their devices,
// and the account's own password where it can be changed.
//
// Each form acts on the account of the session alone. A new app password is shown by the answer to the form that made
// it, and by no other page; the profile for Apple's devices is made of what that page sends back, so that nothing of it
// is kept.
package selfservice

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"postern/internal/apppassword"
	"postern/internal/auth"
	"postern/internal/web"
	"postern/internal/web/session"
	"postern/internal/web/signin"
)

// Errors of a Source.
var (
	ErrNone     = errors.New("the account can have no app passwords")
	ErrRejected = errors.New("the new password was refused")
)

// Source has the accounts. from is the address of the browser; it may not be known.
type Source interface {
	// Passwords returns the app passwords of an account; ErrNone if it can have none.
	Passwords(ctx context.Context, id auth.Identity) ([]apppassword.Password, error)
	// Add makes one, and returns its secret.
	Add(ctx context.Context, id auth.Identity, n apppassword.New, from netip.Addr) (apppassword.Password, auth.Secret, error)
	// Revoke takes the one with this ID back. The error wraps apppassword.ErrUnknown if the account has none such.
	Revoke(ctx context.Context, id auth.Identity, ref string, from netip.Addr) error
	// Changes reports whether the account's own password can be changed.
	Changes(id auth.Identity) bool
	// Change changes it. The error wraps signin.ErrRefused if old is not the password, ErrRejected if the new one may not be
	// it; with any other one it is not known whether the password was changed.
	Change(ctx context.Context, id auth.Identity, old, fresh auth.Secret, from netip.Addr) error
}

// Options are what the page needs.
type Options struct {
	Source  Source
	Guard   *signin.Guard
	Servers Servers
	Clock   func() time.Time
}

// Page is the page. It is safe for concurrent use.
type Page struct{ Options }

// New returns the page.
func New(o Options) *Page { return &Page{o} }

// Paths of the page.
const (
	homePath     = "/"
	addPath      = "/app-password"
	revokePath   = "/app-password/revoke"
	profilePath  = "/app-password/profile"
	passwordPath = "/password"
)

// Routes returns what the page serves.
func (p *Page) Routes() []web.Route {
	signedIn := func(handle func(*visit)) http.HandlerFunc {
		return p.Guard.Require(func(w http.ResponseWriter, r *http.Request, s *session.Session) {
			handle(&visit{Page: p, words: wordsFor(r), w: w, r: r, session: s, id: s.Account})
		})
	}
	routes := append(p.Guard.Routes(),
		web.Route{Method: http.MethodGet, Path: homePath, Handler: signedIn((*visit).home)},
		web.Route{Method: http.MethodPost, Path: addPath, Handler: signedIn((*visit).add)},
		web.Route{Method: http.MethodPost, Path: revokePath, Handler: signedIn((*visit).revoke)},
		web.Route{Method: http.MethodPost, Path: profilePath, Handler: signedIn((*visit).profile)},
		web.Route{Method: http.MethodGet, Path: passwordPath, Handler: signedIn((*visit).password)},
		web.Route{Method: http.MethodPost, Path: passwordPath, Handler: signedIn((*visit).change)},
	)
	for _, path := range []string{"/mail/config-v1.1.xml", "/.well-known/autoconfig/mail/config-v1.1.xml"} {
		routes = append(routes, web.Route{Method: http.MethodGet, Path: path, Handler: p.autoconfig})
	}
	return routes
}

// autoconfig answers mail programs, which are not signed in. It says nothing about accounts.
func (p *Page) autoconfig(w http.ResponseWriter, r *http.Request) {
	address := r.URL.Query().Get("emailaddress")
	id, err := auth.NewIdentity("name", address[strings.LastIndexByte(address, '@')+1:])
	if err != nil {
		id.Domain = p.Guard.DefaultDomain
	}
	if p.Servers.IMAP == "" || id.Domain == "" {
		web.Fail(w, r, http.StatusNotFound, "There is no such page.")
		return
	}
	w.Header().Set("Content-Type", "text/xml; charset=utf-8")
	_ = p.Servers.writeAutoconfig(w, id.Domain) // the program is gone
}

// visit is a request in a session.
type visit struct {
	*Page
	*words
	w       http.ResponseWriter
	r       *http.Request
	session *session.Session
	id      auth.Identity
}

// notice is what became of a form.
type notice struct {
	text string
	bad  bool
}

// What home says after a form.
const (
	didRevoke = "taken-back"
	didChange = "changed"
)

// home shows the app passwords.
func (v *visit) home() {
	var n notice
	switch v.r.URL.Query().Get("done") {
	case didRevoke:
		n.text = v.didRevoke
	case didChange:
		n.text = v.didChange
	}
	v.show(http.StatusOK, n)
}

// show shows the app passwords, and what became of a form.
func (v *visit) show(status int, n notice) {
	list, err := v.Source.Passwords(v.r.Context(), v.id)
	switch {
	case errors.Is(err, ErrNone) && v.Source.Changes(v.id) && n.text == "":
		web.See(v.w, passwordPath, nil)
		return
	case errors.Is(err, ErrNone):
		v.write(status, homePath, v.homeContent(nil, false, n.or(v.errNone)))
		return
	case err != nil:
		v.write(http.StatusServiceUnavailable, homePath, v.homeContent(nil, false, notice{v.errFailed, true}))
		return
	}
	slices.Reverse(list) // the newest first
	v.write(status, homePath, v.homeContent(list, true, n))
}

// or returns another text in place of none.
func (n notice) or(text string) notice {
	if n.text == "" {
		n.text = text
	}
	return n
}

// What an app password may be for.
var (
	mailServices = []string{"imap", "pop3", "sieve", "smtp"}
	chatServices = []string{"xmpp"}
)

// same reports whether two lists have the same texts.
func same(a, b []string) bool {
	a, b = slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b))
	return slices.Equal(a, b)
}

// lives are the times after which an app password may end, in days, by the values of the form.
var lives = map[string]int{"never": 0, "30": 30, "90": 90, "365": 365}

// add makes an app password, and shows it.
func (v *visit) add() {
	form := v.r.PostForm
	n := apppassword.New{Name: strings.TrimSpace(form.Get("name"))}
	days, known := lives[form.Get("ends")]
	if days > 0 {
		n.Expires = v.Clock().AddDate(0, 0, days)
	}
	switch form.Get("use") {
	case "all":
	case "mail":
		n.Services = mailServices
	case "chat":
		n.Services = chatServices
	default:
		known = false
	}
	if !known {
		v.show(http.StatusBadRequest, notice{v.errFailed, true})
		return
	}
	made, secret, err := v.Source.Add(v.r.Context(), v.id, n, web.Client(v.r))
	switch {
	case errors.Is(err, apppassword.ErrName):
		v.show(http.StatusBadRequest, notice{v.errName, true})
	case errors.Is(err, apppassword.ErrFull):
		v.show(http.StatusConflict, notice{v.errFull, true})
	case errors.Is(err, ErrNone):
		v.show(http.StatusNotFound, notice{v.errNone, true})
	case err != nil:
		v.show(http.StatusServiceUnavailable, notice{v.errFailed, true})
	default:
		v.write(http.StatusOK, homePath, v.madeContent(made, secret.Reveal()))
	}
}

// revoke takes an app password back.
func (v *visit) revoke() {
	err := v.Source.Revoke(v.r.Context(), v.id, v.r.PostForm.Get("id"), web.Client(v.r))
	switch {
	case err == nil:
		web.See(v.w, homePath, map[string][]string{"done": {didRevoke}})
	case errors.Is(err, apppassword.ErrUnknown), errors.Is(err, ErrNone):
		v.show(http.StatusNotFound, notice{v.errGone, true})
	default:
		v.show(http.StatusServiceUnavailable, notice{v.errFailed, true})
	}
}

// profile answers with the profile of an app password for Apple's devices. The password comes from the page that has
// just shown it.
func (v *visit) profile() {
	secret, ok := apppassword.Parse(v.r.PostForm.Get("secret"))
	if !ok || v.Servers.IMAP == "" {
		web.Fail(v.w, v.r, http.StatusBadRequest, v.errGone)
		return
	}
	v.w.Header().Set("Content-Type", "application/x-apple-aspen-config")
	v.w.Header().Set("Content-Disposition", `attachment; filename="mail.mobileconfig"`)
	_ = v.Servers.profile(v.w, v.id, secret.Show().Reveal()) // the browser is gone
}

// password shows the form in which the password is changed.
func (v *visit) password() {
	if !v.Source.Changes(v.id) {
		web.See(v.w, homePath, nil)
		return
	}
	v.write(http.StatusOK, passwordPath, v.passwordContent(notice{}))
}

// change changes the password.
func (v *visit) change() {
	old, fresh, again := v.r.PostForm.Get("old"), v.r.PostForm.Get("new"), v.r.PostForm.Get("again")
	for _, field := range []string{"old", "new", "again"} {
		v.r.PostForm.Del(field)
	}
	wrong := func(status int, text string) { v.write(status, passwordPath, v.passwordContent(notice{text, true})) }
	switch {
	case !v.Source.Changes(v.id):
		web.See(v.w, homePath, nil)
		return
	case fresh != again:
		wrong(http.StatusBadRequest, v.errAgain)
		return
	case fresh == old:
		wrong(http.StatusBadRequest, v.errSame)
		return
	case fresh == "" || auth.CheckSecret(fresh) != nil:
		wrong(http.StatusBadRequest, v.errEmpty)
		return
	case auth.CheckSecret(old) != nil:
		wrong(http.StatusForbidden, v.errOld)
		return
	}
	switch err := v.Source.Change(v.r.Context(), v.id, auth.NewSecret(old), auth.NewSecret(fresh), web.Client(v.r)); {
	case err == nil:
		// Whoever has come in by the old password is out. This browser has shown that it knows it, and goes on.
		v.Guard.Sessions.EndAll(v.id)
		v.Guard.Sessions.Begin(v.w, v.r, v.id)
		web.See(v.w, homePath, map[string][]string{"done": {didChange}})
	case errors.Is(err, signin.ErrRefused):
		wrong(http.StatusForbidden, v.errOld)
	case errors.Is(err, ErrRejected):
		wrong(http.StatusBadRequest, v.errRejected)
	default:
		wrong(http.StatusServiceUnavailable, v.errLater)
	}
}

// Package signin lets people sign in to a page, and lets no request pass that is not signed in.
package signin

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"strings"

	gom "maragu.dev/gomponents"
	h "maragu.dev/gomponents/html"

	"postern/internal/auth"
	"postern/internal/web"
	"postern/internal/web/session"
)

// Paths of every page with a sign-in.
const (
	Path    = "/sign-in"
	OutPath = "/sign-out"
)

// Question is whether a password is right.
type Question struct {
	ID       auth.Identity
	Password auth.Secret
	Client   netip.Addr // of the browser; it may not be known
	Groups   []string   // of which the answer is to say whether the account is in them
}

// Account is an account of which the password was right.
type Account struct {
	ID     auth.Identity // as its authority names it
	Groups auth.Groups   // of those asked
	Folds  bool          // spellings of the name that differ by letter case are one account
}

// Errors of an Authority.
var (
	ErrRefused     = errors.New("the name or the password is wrong")
	ErrUnavailable = errors.New("the password cannot be checked now")
)

// Authority answers by what vouches for the account, at that moment: not by what is remembered, and not by tokens or
// app passwords. An error wraps ErrRefused or ErrUnavailable. Names that do not exist must not take less work.
type Authority interface {
	SignIn(ctx context.Context, q Question) (Account, error)
}

// Options are what a Guard needs.
type Options struct {
	Site          string // what the site is for, as in web.Document
	DefaultDomain string // of names without one; it may be empty
	Authority     Authority
	Groups        []string           // that Allows wants to know of
	Allows        func(Account) bool // whether an account may sign in here
	Sessions      *session.Store
	// Noted is called with each sign-in by the right password, and whether it may.
	Noted func(a Account, from netip.Addr, allowed bool)
}

// Guard lets requests to a page pass that are signed in.
type Guard struct{ Options }

// New returns the guard of a page.
func New(o Options) *Guard { return &Guard{o} }

// Routes are those of signing in and out.
func (g *Guard) Routes() []web.Route {
	return []web.Route{
		{Method: http.MethodGet, Path: Path, Handler: g.show},
		{Method: http.MethodPost, Path: Path, Handler: g.enter},
		{Method: http.MethodPost, Path: OutPath, Handler: g.Require(g.leave)},
	}
}

// Require returns a handler for requests in a session, with a form of that session or none. A
// browser that is not signed in is sent to do so.
func (g *Guard) Require(handle func(http.ResponseWriter, *http.Request, *session.Session)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		s := g.Sessions.Of(r)
		switch {
		case s == nil && fromElsewhere(r):
			// The browser has not sent the cookie, since a link of another site has led here. It will when the page
			// loads itself.
			web.Document{Lang: web.Language(r), Title: web.In(r, "One moment", "Einen Moment"), Site: g.Site, Again: true, Narrow: true}.Write(w, r, http.StatusOK,
				h.Section(h.Class("card"), h.P(h.A(h.Href("/"), text(web.In(r, "Go on", "Weiter"))))))
		case s == nil:
			web.See(w, Path, nil)
		case r.Method == http.MethodPost && !s.Owns(r.PostForm.Get("token")):
			web.Fail(w, r, http.StatusForbidden, "This form is not of your session. Open the page again, and send it from there.")
		default:
			handle(w, r, s)
		}
	}
}

// fromElsewhere reports whether a link of another site has led here.
func fromElsewhere(r *http.Request) bool {
	from := r.Header.Get("Sec-Fetch-Site")
	return r.Method == http.MethodGet && (from == "cross-site" || from == "same-site") && r.Header.Get("Sec-Fetch-Mode") == "navigate"
}

// show shows the form.
func (g *Guard) show(w http.ResponseWriter, r *http.Request) {
	if g.Sessions.Of(r) != nil {
		web.See(w, "/", nil)
		return
	}
	g.form(w, r, http.StatusOK, "", "")
}

// enter takes the form.
func (g *Guard) enter(w http.ResponseWriter, r *http.Request) {
	name := strings.TrimSpace(r.PostForm.Get("name"))
	q := Question{Password: auth.NewSecret(r.PostForm.Get("password")), Client: web.Client(r), Groups: g.Groups}
	r.PostForm.Del("password")
	var err error
	if q.ID, err = identity(name, g.DefaultDomain); err == nil {
		err = auth.CheckSecret(q.Password.Reveal())
	}
	if err != nil {
		g.form(w, r, http.StatusForbidden, name, refused(r))
		return
	}
	account, err := g.Authority.SignIn(r.Context(), q)
	switch {
	case errors.Is(err, ErrRefused):
		g.form(w, r, http.StatusForbidden, name, refused(r))
		return
	case err != nil:
		g.form(w, r, http.StatusServiceUnavailable, name, web.In(r,
			"The password cannot be checked now: the server does not answer, or too many wrong passwords have come. Try again in a while.",
			"Das Passwort kann gerade nicht geprüft werden: Der Server antwortet nicht, oder es kamen zu viele falsche. Versuchen Sie es später noch einmal."))
		return
	}
	allowed := g.Allows(account)
	if g.Noted != nil {
		g.Noted(account, q.Client, allowed)
	}
	if !allowed {
		g.form(w, r, http.StatusForbidden, name, refused(r))
		return
	}
	g.Sessions.Begin(w, r, account.ID)
	web.See(w, "/", nil)
}

// refused does not say whether it was the name, the password, or that the account may not sign in here.
func refused(r *http.Request) string {
	return web.In(r, "This name and password do not open this page.", "Mit diesem Namen und Passwort öffnet sich diese Seite nicht.")
}

// identity reads a name with its domain.
func identity(name, defaultDomain string) (auth.Identity, error) {
	user, domain := name, defaultDomain
	if at := strings.LastIndexByte(name, '@'); at >= 0 {
		user, domain = name[:at], name[at+1:]
	}
	return auth.NewIdentity(user, domain)
}

// leave signs out.
func (g *Guard) leave(w http.ResponseWriter, r *http.Request, _ *session.Session) {
	g.Sessions.End(w, r)
	web.See(w, Path, nil)
}

type node = gom.Node

func text(t string) node { return gom.Text(t) }

// form writes the page with the form; wrong says what was wrong with the last one.
func (g *Guard) form(w http.ResponseWriter, r *http.Request, status int, name, wrong string) {
	enter := web.In(r, "Sign in", "Anmelden")
	hint := web.In(r, "Your account, with its domain: name@example.org", "Ihr Konto mit der Domain: name@example.org")
	if g.DefaultDomain != "" {
		hint = web.In(r, "Your account. Without a domain, it is one of ", "Ihr Konto. Ohne Domain ist es eines von ") + g.DefaultDomain + "."
	}
	web.Document{Lang: web.Language(r), Title: enter, Site: g.Site, Narrow: true}.Write(w, r, status,
		h.Section(h.Class("card"),
			h.H1(text(enter)),
			gom.If(wrong != "", h.Div(h.Class("alert bad"), h.Role("alert"), h.P(text(wrong)))),
			h.Form(h.Method("post"), h.Action(Path),
				h.Div(h.Class("field"),
					h.Label(h.For("name"), text(web.In(r, "Account", "Konto"))),
					h.Input(h.ID("name"), h.Name("name"), h.Type("text"), h.Value(name), h.AutoComplete("username"), h.Required(), h.MaxLength("2048"),
						gom.Attr("autocapitalize", "none"), gom.Attr("spellcheck", "false"), h.Aria("describedby", "name-hint")),
					h.P(h.ID("name-hint"), h.Class("hint"), text(hint))),
				h.Div(h.Class("field"),
					h.Label(h.For("password"), text(web.In(r, "Password", "Passwort"))),
					h.Input(h.ID("password"), h.Name("password"), h.Type("password"), h.AutoComplete("current-password"), h.Required())),
				h.Button(h.Type("submit"), h.Class("primary"), text(enter)),
			),
		))
}

// TokenField is the field of a form that shows its session.
func TokenField(s *session.Session) node {
	return h.Input(h.Type("hidden"), h.Name("token"), h.Value(s.Token()))
}

// Who is the part of a page's header with the account of the session, and the button to sign out.
func Who(s *session.Session, out string) node {
	return h.Div(h.Class("account"), h.Span(h.Class("who"), text(s.Account.String())),
		h.Form(h.Method("post"), h.Action(OutPath), TokenField(s), h.Button(h.Type("submit"), h.Class("small"), text(out))))
}

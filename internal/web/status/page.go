package status

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"postern/internal/auth"
	"postern/internal/recent"
	"postern/internal/web"
	"postern/internal/web/session"
	"postern/internal/web/signin"
)

// stateTimeout bounds the wait for the parts of the daemon.
const stateTimeout = 2 * time.Second

// Options are what the page needs.
type Options struct {
	Source  Source
	Recent  *recent.Log
	Guard   *signin.Guard
	Privacy bool
	Token   auth.Secret // with which programs read /status.json; empty: none may
	Clock   func() time.Time
}

// Page is the status page. It is safe for concurrent use.
type Page struct {
	Options
	token [sha256.Size]byte
	key   []byte     // of what stands for the limited in forms
	busy  sync.Mutex // held while doctor runs
}

// New returns the page.
func New(o Options) *Page {
	return &Page{Options: o, token: sha256.Sum256([]byte(o.Token.Reveal())), key: []byte(rand.Text())}
}

// Routes returns what the page serves.
func (p *Page) Routes() []web.Route {
	own := func(method, path string, handle func(http.ResponseWriter, *http.Request, *session.Session)) web.Route {
		return web.Route{Method: method, Path: path, Handler: p.Guard.Require(handle)}
	}
	return slices.Concat(p.Guard.Routes(), []web.Route{
		own(http.MethodGet, overviewPath, p.overview),
		own(http.MethodGet, decisionsPath, p.decisions),
		own(http.MethodGet, limitsPath, p.limits),
		own(http.MethodPost, forgetPath, p.forget),
		own(http.MethodGet, systemPath, p.system),
		own(http.MethodPost, doctorPath, p.doctor),
		{Method: http.MethodGet, Path: jsonPath, Handler: p.json},
	})
}

// state is the daemon's.
func (p *Page) state(ctx context.Context) State {
	ctx, cancel := context.WithTimeout(ctx, stateTimeout)
	defer cancel()
	return p.Source.State(ctx)
}

// view returns the content of the page at the moment.
func (p *Page) view(ctx context.Context, f recent.Filter) *View {
	return NewView(p.state(ctx), p.Recent, f, p.Privacy, p.Clock())
}

func (p *Page) overview(w http.ResponseWriter, r *http.Request, s *session.Session) {
	v := p.view(r.Context(), recent.Filter{})
	d := document(v, s, overviewPath, "Overview")
	d.Live = true
	d.Write(w, r, http.StatusOK, overview(v)...)
}

// filterOf reads the filter of a query.
func filterOf(q url.Values) recent.Filter {
	return recent.Filter{User: q.Get("user"), Domain: q.Get("domain"), Front: q.Get("front"), Verdict: q.Get("verdict")}
}

func (p *Page) decisions(w http.ResponseWriter, r *http.Request, s *session.Session) {
	f := filterOf(r.URL.Query())
	v := p.view(r.Context(), f)
	d := document(v, s, decisionsPath, "Decisions")
	d.Live = true
	d.Write(w, r, http.StatusOK, decisionsPage(v, f)...)
}

// reference stands for what is limited in a form: the page may show its name shortened.
func (p *Page) reference(l Limited) string {
	sum := hmac.New(sha256.New, p.key)
	_, _ = io.WriteString(sum, l.Kind+"\n"+l.Backend+"\n"+l.Name)
	return hex.EncodeToString(sum.Sum(nil))
}

func (p *Page) limits(w http.ResponseWriter, r *http.Request, s *session.Session) {
	state := p.state(r.Context())
	v := NewView(state, p.Recent, recent.Filter{}, p.Privacy, p.Clock())
	refs := make([]string, len(state.Limits.Limited))
	for i, l := range state.Limits.Limited {
		refs[i] = p.reference(l)
	}
	done := map[string]string{"yes": "The limit is forgotten.", "gone": "That limit is over already.", "no": "The limit could not be forgotten; the log of postern may have more."}[r.URL.Query().Get("forgotten")]
	d := document(v, s, limitsPath, "Limits")
	d.Live = true
	d.Write(w, r, http.StatusOK, limitsPage(v, s, refs, done)...)
}

// forget carries out the button beside a limit.
func (p *Page) forget(w http.ResponseWriter, r *http.Request, s *session.Session) {
	ref, done := r.PostForm.Get("limit"), "gone"
	for _, l := range p.state(r.Context()).Limits.Limited {
		if hmac.Equal([]byte(p.reference(l)), []byte(ref)) {
			from := ""
			if client := web.Client(r); client.IsValid() {
				from = client.String()
			}
			if done = "yes"; p.Source.Forget(r.Context(), l, s.Account.String(), from) != nil {
				done = "no"
			}
			break
		}
	}
	web.See(w, limitsPath, url.Values{"forgotten": {done}})
}

func (p *Page) system(w http.ResponseWriter, r *http.Request, s *session.Session) {
	v := p.view(r.Context(), recent.Filter{})
	document(v, s, systemPath, "System").Write(w, r, http.StatusOK, systemPage(v, s, nil, false, p.Source.CanExamine())...)
}

// doctor examines the installation, one time after another: each asks the backends.
func (p *Page) doctor(w http.ResponseWriter, r *http.Request, s *session.Session) {
	if !p.busy.TryLock() {
		web.Fail(w, r, http.StatusServiceUnavailable, "The checks are running already. Try again in a moment.")
		return
	}
	defer p.busy.Unlock()
	findings := p.Source.Examine(r.Context())
	if p.Privacy {
		for i := range findings {
			findings[i].Text = ShortenText(findings[i].Text)
		}
	}
	v := p.view(r.Context(), recent.Filter{})
	document(v, s, systemPath, "System").Write(w, r, http.StatusOK, systemPage(v, s, findings, true, true)...)
}

// authorised reports whether a request has the token of /status.json. It takes the same time whatever was sent.
func (p *Page) authorised(r *http.Request) bool {
	scheme, given, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	sum := sha256.Sum256([]byte(strings.TrimSpace(given)))
	same := subtle.ConstantTimeCompare(sum[:], p.token[:]) == 1
	return same && !p.Token.Empty() && strings.EqualFold(scheme, "bearer")
}

// json serves the same to programs, and to sessions.
func (p *Page) json(w http.ResponseWriter, r *http.Request) {
	if !p.authorised(r) && p.Guard.Sessions.Of(r) == nil {
		w.Header().Set("WWW-Authenticate", `Bearer realm="postern"`)
		http.Error(w, "the bearer token is missing or wrong", http.StatusUnauthorized)
		return
	}
	body, err := json.Marshal(p.view(r.Context(), filterOf(r.URL.Query())))
	if err != nil {
		panic(err)
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(append(body, '\n'))
}

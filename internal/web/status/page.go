package status

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"postern/internal/auth"
	"postern/internal/recent"
	"postern/internal/web"
)

// stateTimeout bounds the wait for the parts of the daemon.
const stateTimeout = 2 * time.Second

// Options are what the page needs.
type Options struct {
	Source  Source
	Recent  *recent.Log
	Log     *slog.Logger
	Privacy bool
	Token   auth.Secret // with which programs read /status.json; empty: none may
	Clock   func() time.Time
}

// Page is the status page. It is safe for concurrent use.
type Page struct {
	Options
	token [sha256.Size]byte
}

// New returns the page.
func New(o Options) *Page {
	return &Page{Options: o, token: sha256.Sum256([]byte(o.Token.Reveal()))}
}

// Routes returns what the page serves.
func (p *Page) Routes() []web.Route {
	return []web.Route{
		{Method: http.MethodGet, Path: "/status.json", Handler: p.json},
	}
}

// view returns the content of the page at the moment.
func (p *Page) view(ctx context.Context, f recent.Filter) *View {
	ctx, cancel := context.WithTimeout(ctx, stateTimeout)
	defer cancel()
	return NewView(p.Source.State(ctx), p.Recent, f, p.Privacy, p.Clock())
}

// authorised reports whether a request has the token of /status.json. It takes the same time whatever was sent.
func (p *Page) authorised(r *http.Request) bool {
	scheme, given, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	sum := sha256.Sum256([]byte(strings.TrimSpace(given)))
	same := subtle.ConstantTimeCompare(sum[:], p.token[:]) == 1
	return same && !p.Token.Empty() && strings.EqualFold(scheme, "bearer")
}

// json serves /status.json to programs.
func (p *Page) json(w http.ResponseWriter, r *http.Request) {
	if !p.authorised(r) {
		w.Header().Set("WWW-Authenticate", `Bearer realm="postern"`)
		http.Error(w, "the bearer token is missing or wrong", http.StatusUnauthorized)
		return
	}
	q := r.URL.Query()
	f := recent.Filter{User: q.Get("user"), Domain: q.Get("domain"), Front: q.Get("front"), Verdict: q.Get("verdict")}
	body, err := json.Marshal(p.view(r.Context(), f))
	if err != nil {
		panic(err)
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(append(body, '\n'))
}

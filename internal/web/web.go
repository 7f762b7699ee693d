// Package web is the frame of postern's pages: what every request must pass before a page sees it, and the document
// that a page's content stands in. Pages work without script, and load nothing from elsewhere.
//
// The HTML is made of values of maragu.dev/gomponents, which escapes texts and attributes, and not by html/template:
// a template calls methods by their names, and then Go's linker keeps every exported method of every type, which made
// the program half as large again. The rules: gomponents.Raw gets constants of this project only, addresses in href
// and action are paths of this project or come from net/url, and there is neither script nor style within a page, so
// that the Content-Security-Policy can forbid both.
package web

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/netip"
	"net/url"
	"runtime/debug"
	"slices"
	"strings"

	"postern/internal/proxies"
)

// maxForm is how long the body of a form may be, unless its route says otherwise.
const maxForm = 16 << 10

// Site is where a page is reached.
type Site struct {
	Origin  string          // "https://host" or "https://host:port", as browsers write it
	Proxies proxies.Trusted // peers that may name the address of a browser
	Log     *slog.Logger
}

// Route is what a page does at one path, for one method.
type Route struct {
	Method  string // http.MethodGet, which is HEAD as well, or http.MethodPost
	Path    string // the whole of it; it begins with a slash
	MaxForm int64  // bytes of the body of a form; 0: 16 KiB
	// Handler gets requests of this site only. Those with POST come from its own pages, as far as the browser
	// says where they come from, and have their form parsed; the form's token is for the handler to check.
	Handler http.HandlerFunc
}

// Handler returns what serves the routes of a page.
func Handler(s Site, routes []Route) http.Handler {
	f := &frame{site: s, host: strings.TrimPrefix(s.Origin, "https://"), paths: make(map[string]map[string]Route)}
	for _, r := range slices.Concat(routes, assetRoutes) {
		if f.paths[r.Path] == nil {
			f.paths[r.Path] = make(map[string]Route)
		}
		f.paths[r.Path][r.Method] = r
	}
	return f
}

// frame is what every request passes.
type frame struct {
	site  Site
	host  string
	paths map[string]map[string]Route // by path and method
}

// policy is the Content-Security-Policy of every answer. form-action holds for redirections that follow a form, too.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"form-action 'self'; frame-ancestors 'none'; base-uri 'none'"

// secure sets the headers of every answer.
func secure(h http.Header) {
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "same-origin") // with no-referrer, the Origin of a form would be "null"
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=(), payment=(), usb=()")
	h.Set("Cache-Control", "no-store")
}

// ServeHTTP implements http.Handler.
func (f *frame) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	secure(w.Header())
	defer func() {
		reason := recover()
		if reason == nil {
			return
		}
		if reason == http.ErrAbortHandler { //nolint:errorlint // it is this value that net/http looks for
			panic(reason)
		}
		f.site.Log.Error("a page panicked", "path", r.URL.Path, "panic", fmt.Sprintf("%T", reason), "stack", string(debug.Stack()))
		Fail(w, r, http.StatusInternalServerError, "A fault in postern; its log has more.")
	}()
	if !f.addressed(r.Host) {
		http.Error(w, "this name is not that of the page: see url in the web block", http.StatusMisdirectedRequest)
		return
	}
	methods := f.paths[r.URL.Path]
	if methods == nil || r.URL.RawPath != "" {
		Fail(w, r, http.StatusNotFound, "There is no such page.")
		return
	}
	method := r.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	route, ok := methods[method]
	if !ok {
		w.Header().Set("Allow", strings.Join(slices.Sorted(maps.Keys(methods)), ", "))
		Fail(w, r, http.StatusMethodNotAllowed, "This page cannot do that.")
		return
	}
	r = r.WithContext(context.WithValue(r.Context(), clientKey{}, f.client(r)))
	if method == http.MethodPost && !f.form(w, r, route.MaxForm) {
		return
	}
	route.Handler(w, r)
}

// addressed reports whether a request names this site. A name of another site that leads here, as DNS rebinding makes
// them, would make its pages the same origin as ours.
func (f *frame) addressed(host string) bool {
	host = strings.ToLower(host)
	return strings.TrimSuffix(host, ":443") == f.host
}

// form checks where a form comes from, and parses it.
func (f *frame) form(w http.ResponseWriter, r *http.Request, most int64) bool {
	origin, from := r.Header["Origin"], r.Header["Sec-Fetch-Site"]
	switch {
	case len(origin) == 1 && origin[0] == f.site.Origin && (len(from) == 0 || from[0] == "same-origin"):
	case len(origin) == 0 && len(from) == 1 && from[0] == "same-origin":
	default:
		Fail(w, r, http.StatusForbidden, "This form does not come from a page of this site. Open the page again, and send it from there.")
		return false
	}
	if kind, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";"); !strings.EqualFold(strings.TrimSpace(kind), "application/x-www-form-urlencoded") {
		Fail(w, r, http.StatusUnsupportedMediaType, "This is not a form.")
		return false
	}
	if most == 0 {
		most = maxForm
	}
	r.Body = http.MaxBytesReader(w, r.Body, most)
	if err := r.ParseForm(); err != nil {
		if _, large := errors.AsType[*http.MaxBytesError](err); large {
			Fail(w, r, http.StatusRequestEntityTooLarge, "The form is too large.")
		} else {
			Fail(w, r, http.StatusBadRequest, "The form cannot be read.")
		}
		return false
	}
	r.Form = nil // of the query, too: a handler of a form looks into r.PostForm
	return true
}

type clientKey struct{}

// client returns the address of the browser.
func (f *frame) client(r *http.Request) netip.Addr {
	var peer netip.Addr // not valid: a process at the other end of a Unix socket
	if at, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
		peer = at.Addr().Unmap()
	}
	if client := f.site.Proxies.Client(peer, r.Header); client.IsValid() {
		return client
	}
	return peer
}

// Client returns the address of the browser that a request of a page comes from. It is not valid if it is not known.
func Client(r *http.Request) netip.Addr {
	client, _ := r.Context().Value(clientKey{}).(netip.Addr)
	return client
}

// See redirects a browser to a path of the same site after a form was carried out, or before one can be. The query
// may be nil.
func See(w http.ResponseWriter, path string, query url.Values) {
	to := url.URL{Path: path, RawQuery: query.Encode()}
	w.Header().Set("Location", to.String())
	w.WriteHeader(http.StatusSeeOther)
}

package web

import (
	"bytes"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	g "maragu.dev/gomponents"
	h "maragu.dev/gomponents/html"

	"postern/internal/proxies"
)

const origin = "https://page.example:8443"

// frameOf serves a page that answers "content", takes a form at /form, and panics at /panic.
func frameOf(t *testing.T) http.Handler {
	t.Helper()
	return Handler(Site{Origin: origin, Proxies: proxies.Trusted{netip.MustParsePrefix("192.0.2.0/24")}, Log: slog.New(slog.DiscardHandler)}, []Route{
		{Method: http.MethodGet, Path: "/", Handler: func(w http.ResponseWriter, r *http.Request) {
			Document{Title: "<b>", Path: "/"}.Write(w, r, http.StatusOK, h.P(g.Text("content <script>")), h.A(h.Title(`"><script>`)))
		}},
		{Method: http.MethodPost, Path: "/form", MaxForm: 100, Handler: func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, "took "+r.PostFormValue("a")+" "+Client(r).String())
		}},
		{Method: http.MethodGet, Path: "/panic", Handler: func(http.ResponseWriter, *http.Request) { panic("secret") }},
	})
}

// ask sends a request; shape changes it first.
func ask(t *testing.T, method, path, body string, shape func(*http.Request)) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Host, r.RemoteAddr = "page.example:8443", "192.0.2.1:1234"
	if body != "" {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Origin", origin)
		r.Header.Set("Sec-Fetch-Site", "same-origin")
	}
	if shape != nil {
		shape(r)
	}
	w := httptest.NewRecorder()
	frameOf(t).ServeHTTP(w, r)
	return w
}

// TestAttacks: what a request must pass before a page sees it.
func TestAttacks(t *testing.T) {
	set := func(name, value string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set(name, value) }
	}
	for _, c := range []struct {
		name, method, path, body string
		shape                    func(*http.Request)
		want                     int
	}{
		{"a page", "GET", "/", "", nil, 200},
		{"its head", "HEAD", "/", "", nil, 200},
		{"a form", "POST", "/form", "a=b", nil, 200},
		{"the name in capitals", "GET", "/", "", func(r *http.Request) { r.Host = "PAGE.example:8443" }, 200},
		{"a browser without Sec-Fetch-Site", "POST", "/form", "a=b", func(r *http.Request) { r.Header.Del("Sec-Fetch-Site") }, 200},
		{"a browser without Origin", "POST", "/form", "a=b", func(r *http.Request) { r.Header.Del("Origin") }, 200},

		{"another Host", "GET", "/", "", func(r *http.Request) { r.Host = "evil.example" }, 421},
		{"another port", "GET", "/", "", func(r *http.Request) { r.Host = "page.example" }, 421},
		{"no Host", "GET", "/", "", func(r *http.Request) { r.Host = "" }, 421},
		{"X-Forwarded-Host is no Host", "GET", "/", "", func(r *http.Request) {
			r.Host = "evil.example"
			r.Header.Set("X-Forwarded-Host", "page.example:8443")
		}, 421},
		{"another Origin", "POST", "/form", "a=b", set("Origin", "https://evil.example"), 403},
		{"Origin null", "POST", "/form", "a=b", set("Origin", "null"), 403},
		{"the origin of another scheme", "POST", "/form", "a=b", set("Origin", "http://page.example:8443"), 403},
		{"the origin of another port", "POST", "/form", "a=b", set("Origin", "https://page.example"), 403},
		{"two Origins", "POST", "/form", "a=b", func(r *http.Request) { r.Header.Add("Origin", "https://evil.example") }, 403},
		{"another site", "POST", "/form", "a=b", set("Sec-Fetch-Site", "cross-site"), 403},
		{"another page of the domain", "POST", "/form", "a=b", set("Sec-Fetch-Site", "same-site"), 403},
		{"no browser", "POST", "/form", "a=b", func(r *http.Request) { r.Header.Del("Origin"); r.Header.Del("Sec-Fetch-Site") }, 403},
		{"text for a form", "POST", "/form", "a=b", set("Content-Type", "text/plain"), 415},
		{"JSON for a form", "POST", "/form", "{}", set("Content-Type", "application/json"), 415},
		{"a form of files", "POST", "/form", "a=b", set("Content-Type", "multipart/form-data; boundary=x"), 415},
		{"a large form", "POST", "/form", "a=" + strings.Repeat("b", 200), nil, 413},
		{"a garbled form", "POST", "/form", "a=%zz", nil, 400},
		{"a form in a link", "GET", "/form?a=b", "", nil, 405},
		{"a page as a form", "POST", "/", "a=b", nil, 405},
		{"TRACE", "TRACE", "/", "", nil, 405},
		{"no page", "GET", "/none", "", nil, 404},
		{"above the files", "GET", "/static/../web.go", "", nil, 404},
		{"an encoded path", "GET", "/%66orm", "", nil, 404},
		{"an encoded slash", "GET", "/static%2fstyle.css", "", nil, 404},
		{"a page that panics", "GET", "/panic", "", nil, 500},
	} {
		w := ask(t, c.method, c.path, c.body, c.shape)
		if w.Code != c.want {
			t.Errorf("%s: %d; want %d", c.name, w.Code, c.want)
		}
		body, header := w.Body.String(), w.Header()
		if strings.Contains(body, "secret") || strings.Contains(body, "<script>") {
			t.Errorf("%s: %s", c.name, body)
		}
		if header.Get("Content-Security-Policy") != policy || header.Get("X-Content-Type-Options") != "nosniff" || header.Get("X-Frame-Options") != "DENY" ||
			header.Get("Cache-Control") != "no-store" || header.Get("Referrer-Policy") != "same-origin" || header.Get("Location") != "" {
			t.Errorf("%s: headers %v", c.name, header)
		}
		if c.method == "HEAD" && body != "" {
			t.Errorf("%s has a body", c.name)
		}
	}
	for _, part := range []string{"default-src 'none'", "frame-ancestors 'none'", "form-action 'self'", "base-uri 'none'"} {
		if !strings.Contains(policy, part) || strings.Contains(policy, "unsafe") {
			t.Errorf("the policy is %s", policy)
		}
	}
}

// TestFormsAreOfTheirBody: what a link has is no field of a form.
func TestFormsAreOfTheirBody(t *testing.T) {
	if w := ask(t, "POST", "/form?a=link", "b=c", nil); w.Body.String() != "took  192.0.2.1" {
		t.Error(w.Body)
	}
}

// TestClient: a trusted proxy names the browser's address, and nothing else does.
func TestClient(t *testing.T) {
	forwarded := func(remote string) func(*http.Request) {
		return func(r *http.Request) {
			r.RemoteAddr = remote
			r.Header.Set("X-Forwarded-For", "203.0.113.7")
		}
	}
	for remote, want := range map[string]string{"192.0.2.1:1": "203.0.113.7", "198.51.100.1:1": "198.51.100.1", "@": "203.0.113.7"} {
		if w := ask(t, "POST", "/form", "a=b", forwarded(remote)); w.Body.String() != "took b "+want {
			t.Errorf("%s: %s; want %s", remote, w.Body, want)
		}
	}
}

func TestAssets(t *testing.T) {
	for name, a := range assets {
		w := ask(t, "GET", assetURL(name), "", nil)
		if w.Code != 200 || !bytes.Equal(w.Body.Bytes(), a.content) || w.Header().Get("Content-Type") != a.kind || !strings.Contains(w.Header().Get("Cache-Control"), "immutable") {
			t.Errorf("%s: %d, %v", name, w.Code, w.Header())
		}
		if w = ask(t, "GET", "/static/"+name+"?v=old", "", nil); w.Code != 200 || w.Header().Get("Cache-Control") != "no-store" {
			t.Errorf("another version of %s: %d, %v", name, w.Code, w.Header())
		}
	}
	page := ask(t, "GET", "/", "", nil).Body.String()
	if strings.Contains(page, " style=") || strings.Contains(page, "<style") || strings.Contains(page, " onclick=") || strings.Count(page, "<script") != 1 {
		t.Errorf("the policy forbids what is in the page: %s", page)
	}
}

func TestSee(t *testing.T) {
	w := httptest.NewRecorder()
	See(w, "/sign-in", nil)
	if w.Code != 303 || w.Header().Get("Location") != "/sign-in" {
		t.Errorf("%d %v", w.Code, w.Header())
	}
}

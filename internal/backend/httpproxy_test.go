package backend

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"postern/internal/auth"
)

// smallProxy passes requests on, by CONNECT or by the URL in them, and notes them.
type smallProxy struct {
	*httptest.Server
	seen   atomic.Pointer[string] // the last request's method, target and credentials
	status int                    // instead of passing on, if not 0
}

func newSmallProxy(t *testing.T) *smallProxy {
	t.Helper()
	p := &smallProxy{}
	p.Server = serve(t, func(w http.ResponseWriter, r *http.Request) {
		line := r.Method + " " + r.RequestURI + " " + r.Header.Get("Proxy-Authorization")
		p.seen.Store(&line)
		switch {
		case p.status != 0:
			w.WriteHeader(p.status)
		case r.Method == http.MethodConnect:
			p.tunnel(w, r.Host)
		default:
			r.RequestURI = ""
			r.Header.Del("Proxy-Authorization")
			resp, err := http.DefaultTransport.RoundTrip(r)
			if err != nil {
				w.WriteHeader(http.StatusBadGateway)
				return
			}
			defer resp.Body.Close()
			w.WriteHeader(resp.StatusCode)
			_, _ = io.Copy(w, resp.Body)
		}
	})
	t.Cleanup(http.DefaultTransport.(*http.Transport).CloseIdleConnections)
	return p
}

func (p *smallProxy) tunnel(w http.ResponseWriter, host string) {
	far, err := net.Dial("tcp", host)
	if err != nil {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	defer far.Close()
	near, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer near.Close()
	_, _ = io.WriteString(near, "HTTP/1.1 200 Connection established\r\n\r\n")
	go func() { _, _ = io.Copy(far, near); far.Close() }()
	_, _ = io.Copy(near, far)
}

// TestProxy: requests go through the proxy of the options, over https in a tunnel, with its user name
// and password, and errors hold none of them.
func TestProxy(t *testing.T) {
	for _, k := range everyHTTP() {
		for _, secure := range []bool{false, true} {
			server := newKeptServer(t, k.yes, secure)
			p := newSmallProxy(t)
			target, err := url.Parse(server.URL)
			if err != nil {
				t.Fatal(err)
			}
			proxy := strings.Replace(p.URL, "http://", "http://joe:"+canary+"@", 1)
			b := k.connect(t, HTTPOptions{URL: server.URL, CAFile: server.ca, Proxy: auth.NewSecret(proxy)})
			for range 2 {
				if r := ask(t, b, auth.OpAuth); r.Class != Accepted {
					t.Errorf("%s, tls %t: %s, %v", k.name, secure, r.Class, r.Err)
				}
			}
			want := " http://" + target.Host + "/"
			if secure {
				want = "CONNECT " + target.Host + " "
			}
			if seen := *p.seen.Load(); !strings.Contains(seen, want) || !strings.Contains(seen, "Basic ") {
				t.Errorf("%s, tls %t: the proxy got %q", k.name, secure, seen)
			}
			b.Close()
			p.status = http.StatusProxyAuthRequired
			b = k.connect(t, HTTPOptions{URL: server.URL, CAFile: server.ca, Proxy: auth.NewSecret(proxy)})
			if r := ask(t, b, auth.OpAuth); r.Class != Outage || secure && (r.OneAccount || !strings.Contains(r.Err.Error(), "the proxy wants")) {
				t.Errorf("%s, tls %t, refused by the proxy: %s, %v", k.name, secure, r.Class, r.Err)
			}
		}
	}
}

func TestParseProxy(t *testing.T) {
	for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy", "REQUEST_METHOD"} {
		t.Setenv(name, "")
	}
	t.Setenv("HTTPS_PROXY", "http://p.example:3128")
	t.Setenv("NO_PROXY", "inside.example")
	for _, c := range []struct{ setting, target, want string }{
		{"", "https://cloud.example/", ""},
		{"http://q.example:1", "https://cloud.example/", "http://q.example:1"},
		{ProxyEnvironment, "https://cloud.example/", "http://p.example:3128"},
		{ProxyEnvironment, "http://cloud.example/", ""},
		{ProxyEnvironment, "https://x.inside.example/", ""},
		{ProxyEnvironment, "https://127.0.0.1/", ""},
		{"https://q.example:1", "https://cloud.example/", "error"},
		{"http://q.example/path", "https://cloud.example/", "error"},
		{"socks5://" + canary + "@q.example", "https://cloud.example/", "error"},
		{canary, "https://cloud.example/", "error"},
	} {
		target, err := url.Parse(c.target)
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		u, err := ParseProxy(c.setting, target)
		if u != nil {
			got = u.String()
		}
		if err != nil {
			got = "error"
			if strings.Contains(err.Error(), canary) {
				t.Errorf("the error quotes the setting: %v", err)
			}
		}
		if got != c.want {
			t.Errorf("%q for %s: %s, want %s", c.setting, c.target, got, c.want)
		}
	}
	if got := UnusedProxy("https://cloud.example/"); got != "HTTPS_PROXY" {
		t.Errorf("the unused proxy is named by %q", got)
	}
	if got := UnusedProxy("https://localhost/"); got != "" {
		t.Errorf("for this machine there is %q", got)
	}
}

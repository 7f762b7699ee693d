package backend

import (
	"crypto/tls"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"postern/internal/auth"
)

func TestTLS(t *testing.T) {
	for _, k := range everyHTTP() {
		server := newKeptServer(t, k.yes, true)
		ca := server.ca
		r := ask(t, k.connect(t, HTTPOptions{URL: server.URL}), auth.OpAuth)
		if r.Class != Outage || !strings.Contains(r.Err.Error(), "not trusted") || !strings.Contains(r.Err.Error(), "ca_file") {
			t.Errorf("%s: unknown authority: %s, %v", k.name, r.Class, r.Err)
		}
		if r = ask(t, k.connect(t, HTTPOptions{URL: server.URL, CAFile: ca}), auth.OpAuth); r.Class != Accepted {
			t.Errorf("%s: with ca_file: %s, %v", k.name, r.Class, r.Err)
		}
		for name, spoil := range map[string]func(c *httpClient){
			"is valid for":    func(c *httpClient) { c.secure.ServerName = "other.example.org" },
			"expired":         func(c *httpClient) { c.secure.Time = func() time.Time { return time.Now().AddDate(1000, 0, 0) } },
			"refused the TLS": func(c *httpClient) { c.secure.MaxVersion = tls.VersionTLS12; server.TLS.MinVersion = tls.VersionTLS13 },
		} {
			b := k.connect(t, HTTPOptions{URL: server.URL, CAFile: ca})
			spoil(client(b))
			if r = ask(t, b, auth.OpAuth); r.Class != Outage || !strings.Contains(r.Err.Error(), name) {
				t.Errorf("%s: %s, %v; want %q", k.name, r.Class, r.Err, name)
			}
		}
		plain := serve(t, canned(200, k.yes))
		r = ask(t, k.connect(t, HTTPOptions{URL: strings.Replace(plain.URL, "http:", "https:", 1), CAFile: ca}), auth.OpAuth)
		if r.Class != Outage || !strings.Contains(r.Err.Error(), "does not speak TLS") {
			t.Errorf("%s: plain server: %s, %v", k.name, r.Class, r.Err)
		}
	}
}

// TestResumption: the second handshake is a short one.
func TestResumption(t *testing.T) {
	var resumed atomic.Int32
	server := newKeptServer(t, "", true)
	server.Config.Handler = http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.TLS.DidResume {
			resumed.Add(1)
		}
	})
	server.Config.SetKeepAlivesEnabled(false)
	c, err := newHTTPClient(HTTPOptions{URL: server.URL, CAFile: server.ca})
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	for range 3 {
		if r, err := c.post(t.Context(), "/", nil, nil); err != nil || r.status != 200 {
			t.Fatalf("HTTP %d, %v", r.status, err)
		}
	}
	if resumed.Load() != 2 {
		t.Errorf("%d of 2 handshakes were short", resumed.Load())
	}
}

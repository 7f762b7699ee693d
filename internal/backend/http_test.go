package backend

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"postern/internal/auth"
)

// TestStatuses checks the class of every status code, for a login and for a question without a
// password.
func TestStatuses(t *testing.T) {
	cases := []struct {
		status int
		want   Class
		says   string
	}{
		{301, Outage, "redirect"}, {302, Outage, "redirect"}, {304, Outage, "redirect"}, {307, Outage, "redirect"}, {308, Outage, "redirect"},
		{404, Misconfigured, "no such API"}, {429, Throttled, "exempt the address that postern has there (127.0.0.1, "}, {500, Outage, "HTTP 500"},
	}
	for _, status := range []int{201, 204, 206, 400, 401, 403, 405, 406, 408, 410, 412, 418, 425, 451, 501, 502, 503, 504, 511, 599} {
		cases = append(cases, struct {
			status int
			want   Class
			says   string
		}{status, Outage, fmt.Sprintf("HTTP %d", status)})
	}
	for _, k := range kinds() {
		var status int
		// The body would be a yes: only HTTP 200 counts.
		server := serve(t, func(w http.ResponseWriter, r *http.Request) { canned(status, k.yes)(w, r) })
		b := k.connect(t, HTTPOptions{URL: server.URL})
		for _, c := range cases {
			status = c.status
			login, user := ask(t, b, auth.OpAuth), ask(t, b, auth.OpIsUser)
			if login.Class != c.want || user.Class != c.want {
				t.Errorf("%s: HTTP %d: login %s, isuser %s; want %s", k.name, c.status, login.Class, user.Class, c.want)
			}
			if user.Err == nil || !strings.Contains(user.Err.Error(), c.says) {
				t.Errorf("%s: HTTP %d: %v, want %q in it", k.name, c.status, user.Err, c.says)
			}
		}
	}
}

// TestPages: a page of something in front of the API is an outage whatever its status, and its error
// names the status and the kind of page, but quotes nothing of it.
func TestPages(t *testing.T) {
	for kind, page := range map[string]struct{ media, body string }{
		"an HTML page":           {"text/html; charset=utf-8", "<!DOCTYPE html><title>Access denied: " + canary + "</title>"},
		"an XML document":        {"application/xml", "<?xml version='1.0'?><Error/>"},
		"JSON of another form":   {"application/json", `{"success":"` + canary + `","result":5}`},
		"no page":                {"text/html", ""},
		"plain text":             {"text/plain", "blocked " + canary},
		"a page of another type": {"image/gif", "GIF89a"},
	} {
		for _, k := range everyHTTP() {
			for _, status := range []int{200, 401, 403, 503} {
				server := serve(t, func(w http.ResponseWriter, r *http.Request) {
					w.Header().Set("Content-Type", page.media)
					canned(status, page.body)(w, r)
				})
				b := k.connect(t, HTTPOptions{URL: server.URL})
				r := ask(t, b, auth.OpAuth)
				if r.Class != Outage || !r.OneAccount {
					t.Errorf("%s, HTTP %d with %s: %s, one account %t (%v)", k.name, status, kind, r.Class, r.OneAccount, r.Err)
				}
				if own := status == 200 && kind == "JSON of another form"; !own && !says(r, fmt.Sprintf("HTTP %d with %s", status, kind)) {
					t.Errorf("%s, HTTP %d with %s: %v", k.name, status, kind, r.Err)
				}
			}
		}
	}
}

func TestYesAndNo(t *testing.T) {
	for _, k := range kinds() {
		body := k.yes
		server := serve(t, func(w http.ResponseWriter, r *http.Request) { canned(200, body)(w, r) })
		b := k.connect(t, HTTPOptions{URL: server.URL + "/"})
		if r := ask(t, b, auth.OpAuth); r.Class != Accepted || !r.Known {
			t.Errorf("%s: %+v, want accepted and known", k.name, r)
		}
		body = k.no
		if r := ask(t, b, auth.OpAuth); r.Class != Refused || r.Known {
			t.Errorf("%s: %+v, want refused and not known", k.name, r)
		}
	}
}

// TestRedirectIsNotFollowed: the error names the new host, and nothing else of the new URL.
func TestRedirectIsNotFollowed(t *testing.T) {
	for _, k := range everyHTTP() {
		for _, c := range []struct{ location, says string }{
			{"https://new.example.org/" + canary + "?p=" + canary, `"new.example.org"`},
			{"https://joe:" + canary + "@new.example.org/", `"new.example.org"`},
			{"https://" + canary + ".example.org/", "another address"},
			{"/elsewhere", "another address"}, {"", "another address"}, {":" + canary, "another address"},
		} {
			asked := 0
			server := serve(t, func(w http.ResponseWriter, r *http.Request) {
				asked++
				w.Header().Set("Location", c.location)
				w.WriteHeader(http.StatusTemporaryRedirect)
			})
			r := ask(t, k.connect(t, HTTPOptions{URL: server.URL}), auth.OpAuth)
			if asked != 1 || r.Class != Outage || !strings.Contains(r.Err.Error(), c.says) {
				t.Errorf("%s: %q: asked %d times, %s, %v", k.name, c.location, asked, r.Class, r.Err)
			}
		}
	}
}

// raw is a server below HTTP: every connection is read up to the end of a request, then
// gets these bytes and is closed.
func raw(t *testing.T, answer string) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() { listener.Close(); <-done })
	go func() {
		defer close(done)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			buf := make([]byte, 64<<10)
			if _, err := conn.Read(buf); err == nil {
				_, _ = io.WriteString(conn, answer)
			}
			conn.Close()
		}
	}()
	return "http://" + listener.Addr().String()
}

func TestBrokenAnswers(t *testing.T) {
	ok := "HTTP/1.1 200 OK\r\n"
	for _, k := range kinds() {
		cases := map[string]struct{ answer, says string }{
			"nothing":          {"", "closed the connection"},
			"not HTTP":         {"SSH-2.0-" + canary + "\r\n", "not valid HTTP"},
			"bad status":       {"HTTP/1.1 " + canary + " OK\r\n\r\n", "not valid HTTP"},
			"bad header":       {ok + canary + "\r\n\r\n", "not valid HTTP"},
			"half a header":    {ok + "Content-Type: x", "closed the connection"},
			"body too short":   {ok + "Content-Length: 1000\r\n\r\n" + k.yes, "closed the connection"},
			"bad length":       {ok + "Content-Length: " + canary + "\r\n\r\n" + k.yes, "not valid HTTP"},
			"two lengths":      {ok + "Content-Length: 1\r\nContent-Length: 2\r\n\r\n" + k.yes, "not valid HTTP"},
			"length cuts":      {ok + "Content-Length: 5\r\n\r\n" + k.yes, "instead of the API's JSON"},
			"bad chunk":        {ok + "Transfer-Encoding: chunked\r\n\r\n" + canary + "\r\n" + k.yes, "not valid HTTP"},
			"chunk breaks off": {ok + "Transfer-Encoding: chunked\r\n\r\nff\r\n" + k.yes, "closed the connection"},
			"garbage":          {ok + "\r\n\x00\xff" + canary, "instead of the API's JSON"},
			"long header":      {ok + "X: " + strings.Repeat("x", 2*maxHeader) + "\r\n\r\n" + k.yes, "not valid HTTP"},
		}
		for name, c := range cases {
			r := ask(t, k.connect(t, HTTPOptions{URL: raw(t, c.answer)}), auth.OpAuth)
			if r.Class != Outage || !strings.Contains(r.Err.Error(), c.says) {
				t.Errorf("%s, %s: %s, %v; want %q", k.name, name, r.Class, r.Err, c.says)
			}
		}
	}
}

// TestOversize accepts an answer of exactly max_response bytes and no longer one.
func TestOversize(t *testing.T) {
	for _, k := range everyHTTP() {
		extra := 0
		server := serve(t, func(w http.ResponseWriter, r *http.Request) {
			canned(200, k.yes+strings.Repeat(" ", 1000-len(k.yes)+extra))(w, r)
		})
		b := k.connect(t, HTTPOptions{URL: server.URL, MaxResponse: 1000})
		if r := ask(t, b, auth.OpAuth); r.Class != Accepted {
			t.Errorf("%s: 1000 bytes: %s, %v", k.name, r.Class, r.Err)
		}
		extra = 1
		if r := ask(t, b, auth.OpAuth); r.Class != Outage || !strings.Contains(r.Err.Error(), "max_response") {
			t.Errorf("%s: 1001 bytes: %s, %v", k.name, r.Class, r.Err)
		}
	}
}

// TestSlow: a question ends with its context's deadline or cancellation and with the timeout.
func TestSlow(t *testing.T) {
	for _, k := range everyHTTP() {
		asked, release := make(chan struct{}, 8), make(chan struct{})
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			if r.Header.Get("User-Agent") == "half" {
				_, _ = io.WriteString(w, k.yes[:5])
				_ = http.NewResponseController(w).Flush()
			}
			asked <- struct{}{}
			<-release
		}))
		q := Query{Op: auth.OpAuth, User: "joe", Domain: "d", Secret: auth.NewSecret(canary)}
		for _, agent := range []string{"none", "half"} {
			b := k.connect(t, HTTPOptions{URL: server.URL, UserAgent: agent})
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			if r := checked(t, b.Ask(ctx, q)); r.Class != Outage || !r.OneAccount || !errors.Is(r.Err, context.DeadlineExceeded) {
				t.Errorf("%s, %s, deadline: %s, %v", k.name, agent, r.Class, r.Err)
			}
			cancel()
			<-asked
			ctx, cancel = context.WithCancel(t.Context())
			go func() { <-asked; cancel() }()
			if r := checked(t, b.Ask(ctx, q)); r.Class != Outage || !errors.Is(r.Err, context.Canceled) {
				t.Errorf("%s, %s, cancel: %s, %v", k.name, agent, r.Class, r.Err)
			}
			b = k.connect(t, HTTPOptions{URL: server.URL, UserAgent: agent, Timeout: 50 * time.Millisecond})
			if r := checked(t, b.Ask(t.Context(), q)); r.Class != Outage || !errors.Is(r.Err, context.DeadlineExceeded) {
				t.Errorf("%s, %s, timeout: %s, %v", k.name, agent, r.Class, r.Err)
			}
			<-asked
		}
		close(release)
		server.Close()
	}
}

func TestConnectionRefused(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	listener.Close()
	for _, k := range everyHTTP() {
		r := ask(t, k.connect(t, HTTPOptions{URL: "http://" + address}), auth.OpAuth)
		if r.Class != Outage || r.OneAccount || !errors.Is(r.Err, syscall.ECONNREFUSED) || !strings.Contains(r.Err.Error(), address) {
			t.Errorf("%s: %s, %v", k.name, r.Class, r.Err)
		}
	}
}

// TestKeptConnections counts the connections of 20 questions, over HTTP and after
// errors.
func TestKeptConnections(t *testing.T) {
	for _, k := range everyHTTP() {
		var conns, n atomic.Int32
		server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			canned([]int{200, 401, 500, 429}[n.Add(1)%4], k.no)(w, r)
		}))
		server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
			if state == http.StateNew {
				conns.Add(1)
			}
		}
		server.Start()
		defer server.Close()
		b := k.connect(t, HTTPOptions{URL: server.URL})
		for range 20 {
			ask(t, b, auth.OpAuth)
		}
		if got := conns.Load(); got != 1 {
			t.Errorf("%s: 20 questions took %d connections", k.name, got)
		}
	}
}

// TestAddress: requests go to the host of the URL, whatever proxy the environment names, and the
// Host header is as package net/http writes it.
func TestAddress(t *testing.T) {
	for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"} {
		t.Setenv(name, "http://127.0.0.1:9/")
	}
	for _, c := range []struct{ url, address, host string }{
		{"http://h/", "h:80", "h"},
		{"https://h", "h:443", "h"},
		{"http://h:8080/x", "h:8080", "h:8080"},
		{"http://h:/x", "h:80", "h:"},
		{"https://[2001:db8::1]/", "[2001:db8::1]:443", "[2001:db8::1]"},
		{"http://[fe80::1%25eth0]:81/", "[fe80::1%eth0]:81", "[fe80::1]:81"},
		{"https://b\u00fccher.example:444/", "xn--bcher-kva.example:444", "xn--bcher-kva.example:444"},
	} {
		for _, k := range everyHTTP() {
			b, dialled := k.connect(t, HTTPOptions{URL: c.url, UserAgent: "agent/1 (x)"}), ""
			client(b).dial = func(_ context.Context, _, address string) (net.Conn, error) {
				dialled = address
				return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
			}
			ask(t, b, auth.OpAuth)
			head := string(client(b).head)
			if want := "Host: " + c.host + "\r\nUser-Agent: agent/1 (x)\r\n"; dialled != c.address || head != want {
				t.Errorf("%s: %s: dialled %s, header %q; want %s, %q", k.name, c.url, dialled, head, c.address, want)
			}
		}
	}
}

func TestHTTPOptions(t *testing.T) {
	for _, k := range kinds() {
		for _, o := range []HTTPOptions{
			{}, {URL: "/x"}, {URL: "ftp://h/"}, {URL: "http://"}, {URL: "https://joe:" + canary + "@h/"},
			{URL: "https://h/\x7f"}, {URL: "https://h/", CAFile: "/nonexistent"}, {URL: "https://h/", CAFile: "http_test.go"}, {URL: "https://h/", UserAgent: "a\r\nX: " + canary},
		} {
			b, err := k.make(o)
			if err == nil || b != nil || strings.Contains(fmt.Sprint(err), canary) {
				t.Errorf("%s: %+v: %v", k.name, o, err)
			}
		}
	}
	if _, err := NewJSXC(JSXCOptions{HTTPOptions: HTTPOptions{URL: "https://h/"}}); err == nil {
		t.Error("NewJSXC takes an empty secret")
	}
	if _, err := NewJSON(HTTPOptions{URL: "https://h/?x"}); err == nil {
		t.Error("NewJSON takes a query")
	}
}

// What is to be exempted is named by its address where that is known.
func TestExempting(t *testing.T) {
	for from, want := range map[netip.Addr][2]string{
		netip.MustParseAddr("192.0.2.7"): {"exempt the address that postern has there (192.0.2.7, unless the network translates it)", "occ security:bruteforce:reset 192.0.2.7"},
		{}:                               {"exempt the address that postern, or its proxy, has there", "occ security:bruteforce:reset ADDRESS"},
	} {
		if got := [2]string{Exempting(from), ResetFailures(from)}; got != want {
			t.Errorf("%v: %q", from, got)
		}
	}
}

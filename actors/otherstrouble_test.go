package actors

import (
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"postern/internal/auth"
	"postern/internal/backend"
	"postern/internal/backend/nextcloudtest"
)

// over puts a real backend in the place of the rig's fake one.
func over(t *testing.T, b backend.Backend, err error) func(*fakeBackend) backend.Backend {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	return func(f *fakeBackend) backend.Backend { return &realAsFake{b, f} }
}

// realAsFake is a real backend that the rig sees closed.
type realAsFake struct {
	backend.Backend
	fake *fakeBackend
}

func (b *realAsFake) Close() error {
	b.fake.closed.Store(true)
	return b.Backend.Close()
}

// login logs in over the dovecot protocol and returns OK, FAIL or TEMP.
func (d *dovecotClient) login(id int, user, password string) string {
	d.t.Helper()
	plain := base64.StdEncoding.EncodeToString([]byte("\x00" + user + "\x00" + password))
	d.say(fmt.Sprintf("AUTH\t%d\tPLAIN\tservice=smtp\tresp=%s\n", id, plain))
	word, rest, _ := strings.Cut(d.line(), "\t")
	if word == "FAIL" && strings.Contains(rest, "temp") {
		return "TEMP"
	}
	return word
}

// TestExceptionOfOneAccount: Nextcloud fails for one account. That never opens the breaker, another
// user logs in, and the log says what is wrong; a server that fails for two does open it.
func TestExceptionOfOneAccount(t *testing.T) {
	var users []*nextcloudtest.User
	for _, name := range []string{"alice", "bob", "carol"} {
		users = append(users, &nextcloudtest.User{ID: name, Password: "good"})
	}
	server, stop := nextcloudtest.Start(users...)
	defer stop()
	var all atomic.Bool
	server.Change(func(s *nextcloudtest.State) {
		s.Instead = func(w http.ResponseWriter, r *http.Request) bool {
			name, _, login := r.BasicAuth()
			if !login || name != "alice" && !all.Load() {
				return false
			}
			w.WriteHeader(http.StatusInternalServerError)
			_, _ = io.WriteString(w, `{"ocs":{"meta":{"status":"failure","statuscode":996,"message":"Internal Server Error\n"},"data":[]}}`)
			return true
		}
	})
	cloud, err := backend.NewNextcloud(backend.NextcloudOptions{HTTPOptions: backend.HTTPOptions{URL: server.URL}})
	r := newRig(t, func(s *setup) {
		s.wrap = over(t, cloud, err)
		s.cfg.Backends[0].BreakerFailures, s.cfg.Backends[0].BreakerCooldown = 3, hour
	})
	d := r.dovecot(t, r.listen(listenerBlock("dovecot")), 2)
	for id := range 9 {
		if got := d.login(id+1, "alice", "good"); got != "TEMP" {
			t.Errorf("alice is answered %s", got)
		}
	}
	if got := d.login(20, "bob", "good"); got != "OK" {
		t.Errorf("bob is answered %s", got)
	}
	if log := r.log.String(); !strings.Contains(log, "fails for this account") || strings.Contains(log, "breaker changed") || strings.Contains(log, "too many failed") {
		t.Errorf("the log:\n%s", log)
	}
	all.Store(true)
	for id := range 3 {
		d.login(30+id, "alice", "good")
		d.login(40+id, "carol", "good")
	}
	eventually(t, "an open breaker", func() bool { return strings.Contains(r.log.String(), "open=true") })
}

// TestLateAnswerOfJSXC: a server that answers late on kept connections gives each user the yes or no of
// the user before. No user gets in by it or is kept out.
func TestLateAnswerOfJSXC(t *testing.T) {
	var mu sync.Mutex
	held := map[string]string{} // the response to the last request, by connection
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		form, _ := url.ParseQuery(string(body))
		own := `{"result":"noauth"}`
		if form.Get("password") == "good" {
			own = fmt.Sprintf(`{"result":"success","data":{"uid":%q}}`, form.Get("username"))
		}
		mu.Lock()
		late, kept := held[r.RemoteAddr]
		held[r.RemoteAddr] = own
		mu.Unlock()
		if kept {
			own = late
		}
		_, _ = io.WriteString(w, own)
	}))
	defer server.Close()
	b, err := backend.NewJSXC(backend.JSXCOptions{HTTPOptions: backend.HTTPOptions{URL: server.URL}, Secret: auth.NewSecret("api")})
	r := newRig(t, func(s *setup) { s.wrap = over(t, b, err) })
	d := r.dovecot(t, r.listen(listenerBlock("dovecot")), 2)
	for id, c := range []struct{ user, password, want string }{
		{"alice", "good", "OK"}, {"bob", "wrong", "FAIL"}, {"carol", "good", "OK"}, {"mallory", "wrong", "FAIL"},
	} {
		if got := d.login(id+1, c.user, c.password); got != c.want {
			t.Errorf("%s is answered %s, want %s", c.user, got, c.want)
		}
	}
}

// TestPageOfAFirewall: a page in front of the API lets users in whose passwords are known, refuses
// nobody, and is forgotten at the end.
func TestPageOfAFirewall(t *testing.T) {
	for name, status := range map[string]int{"a login page": 200, "unauthorised": 401, "forbidden": 403, "a captive portal": 302} {
		for _, kind := range []string{"jsxc", "json"} {
			t.Run(kind+"/"+name, func(t *testing.T) {
				var page atomic.Bool
				server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					body, _ := io.ReadAll(r.Body)
					good := strings.Contains(string(body), "good")
					switch {
					case page.Load():
						w.Header().Set("Location", "http://portal.example/")
						w.Header().Set("Content-Type", "text/html")
						w.WriteHeader(status)
						_, _ = io.WriteString(w, "<html><title>Blocked</title></html>")
					case kind == "json":
						fmt.Fprintf(w, `{"success":%t}`, good)
					case good:
						_, _ = io.WriteString(w, `{"result":"success","data":{}}`)
					default:
						_, _ = io.WriteString(w, `{"result":"noauth"}`)
					}
				}))
				defer server.Close()
				r := newRig(t, func(s *setup) {
					o := backend.HTTPOptions{URL: server.URL}
					b, err := backend.NewJSON(o)
					if kind == "jsxc" {
						b, err = backend.NewJSXC(backend.JSXCOptions{HTTPOptions: o, Secret: auth.NewSecret("api")})
					}
					s.wrap = over(t, b, err)
				})
				d := r.dovecot(t, r.listen(listenerBlock("dovecot")), 2)
				expect := func(id int, user, password, want string) {
					t.Helper()
					if got := d.login(id, user, password); got != want {
						t.Errorf("%s with %s is answered %s, want %s", user, password, got, want)
					}
				}
				expect(1, "alice", "good", "OK")
				page.Store(true)
				for id := range 2 { // the first does not cost the verifier
					r.clock.advance(2 * hour)
					expect(10+id, "alice", "good", "OK")
				}
				expect(20, "alice", "new good", "TEMP")
				expect(21, "bob", "good", "TEMP")
				kindOfPage := fmt.Sprintf("HTTP %d with an HTML page", status)
				if status == 302 {
					kindOfPage = "HTTP 302) to"
				}
				if log := r.log.String(); !strings.Contains(log, kindOfPage) {
					t.Errorf("the log does not say %s:\n%s", kindOfPage, log)
				}
				page.Store(false)
				expect(30, "bob", "good", "OK")
				expect(31, "alice", "new good", "OK")
				expect(32, "bob", "wrong", "FAIL")
			})
		}
	}
}

package daemon

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"postern/cmd/e2e/harness"
)

// jsonServer is a web application with kongo2002's API: /login calls login, and every user except
// "nobody" exists. It returns its URL.
func jsonServer(t *testing.T, login func(user, password string) bool) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var q struct{ Username, Password string }
		if err := json.NewDecoder(r.Body).Decode(&q); err != nil {
			http.Error(w, "bad request", http.StatusBadRequest)
			return
		}
		yes := !strings.HasPrefix(q.Username, "nobody@")
		if r.URL.Path == "/login" {
			yes = login(q.Username, q.Password)
		}
		if yes {
			_, _ = io.WriteString(w, `{"success": true}`)
		} else {
			_, _ = io.WriteString(w, `{"success": false, "message": "no"}`)
		}
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// Every protocol is answered from each backend, from the cache and from a token, over a
// socket and over stdin.
func TestEveryProtocolFromEverySource(t *testing.T) {
	app := jsonServer(t, func(user, password string) bool { return user == "joe@json.example" && password == "secret" })
	config := harness.ConfigFile(t, t.TempDir(), harness.UsersConfig+`
backend "json" "app" { url = "`+app+`" }
backend "jsxc" "cloud" {
  url    = "`+harness.JSXCServer(t).URL+`"
  secret = "api-secret"
}
domain "json.example" {
  backends = [backend.json.app]
  cache { bcrypt_cost = 4 }
}
domain "jsxc.example" {
  backends = [backend.jsxc.cloud]
  cache { bcrypt_cost = 4 }
}
`)
	harness.OK(t, "secret\n", "user", "add", "joe@dom.example", "--config", config)
	token := strings.TrimSpace(harness.OK(t, "", "token", "issue", "joe@jsxc.example", "--config", config))
	s := harness.Serve(t, "--config", config)
	type ask func(protocol, input string) string
	over := map[string]ask{
		"socket": func(protocol, input string) string { return harness.Exchange(t, s.Address(protocol), input) },
		"stdin": func(protocol, input string) string {
			r := harness.Command(t, input, "pipe", "--protocol", protocol, "--config", config)
			if r.Code != 0 {
				t.Errorf("pipe: exit status %d", r.Code)
			}
			return r.Out
		},
	}
	for way, send := range over {
		for _, domain := range []string{"dom.example", "json.example", "jsxc.example"} {
			for round := range 2 { // the second is answered from the cache
				where := fmt.Sprintf("%s, %s, round %d", way, domain, round)
				auth := "auth:joe:" + domain + ":"
				if got := send("generic", auth+"secret\n"+auth+"bad\nisuser:joe:"+domain+"\nisuser:nobody:"+domain+"\n"); got != "1\n0\n1\n0\n" {
					t.Errorf("%s: generic answered %q", where, got)
				}
				if got := send("ejabberd", harness.Frame(auth+"secret")+harness.Frame(auth+"bad")+harness.Frame("isuser:joe:"+domain)); got != "\x00\x02\x00\x01\x00\x02\x00\x00\x00\x02\x00\x01" {
					t.Errorf("%s: ejabberd answered %q", where, got)
				}
				if got := send("tcp_table", "get joe@"+domain+"\nget nobody@"+domain+"\n"); !strings.HasPrefix(got, "200 OK\n500 ") {
					t.Errorf("%s: tcp_table answered %q", where, got)
				}
				if got := send("saslauthd", harness.Fields("joe", "secret", "imap", domain)); len(got) < 4 || got[2:4] != "OK" {
					t.Errorf("%s: saslauthd answered %q", where, got)
				}
			}
		}
		if got := send("generic", "auth:joe:jsxc.example:"+token+"\nauth:ann:jsxc.example:"+token+"\nroster:joe:jsxc.example\n"); got !=
			"1\n0\n"+`{"result":"success","data":{"sharedRoster":{"joe":{"name":"Joe","groups":["a"]}}}}`+"\n" {
			t.Errorf("%s: with a token, and a roster: %q", way, got)
		}
	}
	for _, source := range []string{"backend", "hot", "token"} {
		want := "verdict=allow source=" + source
		s.Eventually(want, func() bool { return strings.Contains(s.Log.String(), want) })
	}
}

// After a restart of the process the cache on disk serves, also while the backend is down, and a
// used single-use token stays used.
func TestDiskOutlivesTheProcess(t *testing.T) {
	cloud, data := harness.JSXCServer(t), t.TempDir()
	config := harness.ConfigFile(t, data, `
listen "generic" { address = "127.0.0.1:0" }
backend "jsxc" "cloud" {
  url    = "`+cloud.URL+`"
  secret = "api-secret"
}
domain "dom.example" {
  backends = [backend.jsxc.cloud]
  cache { bcrypt_cost = 4 }
  token "totp" {
    seed    = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"
    secrets = ["totp-secret"]
  }
}
`)
	token := strings.TrimSpace(harness.OK(t, "", "token", "issue", "--kind", "totp", "joe@dom.example", "--config", config))
	s := harness.Serve(t, "--config", config)
	login := "auth:joe:dom.example:secret\n"
	if got := harness.Exchange(t, s.Address("generic"), login+"auth:joe:dom.example:"+token+"\nauth:joe:dom.example:"+token+"\n"); got != "1\n1\n0\n" {
		t.Fatalf("answered %q", got)
	}
	// The hash is made after the answer, and on disk a moment later, whatever end the process
	// then takes.
	s.Eventually("hash on disk", func() bool { return inFiles(t, filepath.Join(data, "store"), "$2a$04$") })
	_ = s.Cmd.Process.Kill()
	<-s.Ended
	cloud.Close()
	s = harness.Serve(t, "--config", config)
	if got := harness.Exchange(t, s.Address("generic"), login+"auth:joe:dom.example:wrong\nauth:joe:dom.example:"+token+"\n"); got != "1\n0\n0\n" {
		t.Errorf("after a kill, without a backend: answered %q", got)
	}
	for _, want := range []string{"verdict=allow source=cache", "verdict=unavailable source=backend", "verdict=deny source=token"} {
		s.Eventually(want, func() bool { return strings.Contains(s.Log.String(), want) })
	}
}

// inFiles reports whether a file of a directory holds text.
func inFiles(t *testing.T, dir, text string) bool {
	t.Helper()
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		data, _ := os.ReadFile(filepath.Join(dir, f.Name())) // it may be gone again
		if bytes.Contains(data, []byte(text)) {
			return true
		}
	}
	return false
}

package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"postern/internal/auth"
	"postern/internal/cache"
)

// cacheWorld is a daemon in front of a web application that knows every user by the password
// secret, and three users in two domains of which one name begins like the other.
func cacheWorld(t *testing.T, app *webApp) string {
	t.Helper()
	const domain = "domain %q {\n  backends = [backend.json.app]\n  cache { bcrypt_cost = 4 }\n}\n"
	return configFile(t, t.TempDir(), "listen \"generic\" { address = \"127.0.0.1:0\" }\n"+
		"backend \"json\" \"app\" { url = \""+app.URL+"\" }\n"+
		fmt.Sprintf(domain+domain, "dom.example", "dom.example.org"))
}

// jsonSecret accepts the password secret of everybody.
func jsonSecret(w http.ResponseWriter, r *http.Request) {
	body := make([]byte, 4096)
	n, _ := r.Body.Read(body)
	answer := jsonNo
	if strings.Contains(string(body[:n]), `"secret"`) || r.URL.Path == "/exists" {
		answer = jsonYes
	}
	_, _ = w.Write([]byte(answer))
}

// statsShown is what the tests look at in the output of `cache stats`.
type statsShown struct {
	Running bool `json:"daemon_running"`
	Memory  map[string]struct {
		BackendAsked uint64 `json:"backend_asked"`
	}
	Disk        map[string]int `json:"disk_users"`
	DiskBytes   uint64         `json:"disk_bytes"`
	StoreFailed string         `json:"store_failed"`
}

var cachedUsers = []string{"joe@dom.example", "ann@dom.example", "joe@dom.example.org"}

// cacheShown is what the tests look at in the output of `cache show`.
type cacheShown struct {
	User      string
	Exists    string
	Refused   int `json:"refused_passwords_remembered"`
	Verifiers []struct {
		First    time.Time `json:"first_verified"`
		Verified time.Time `json:"last_verified"`
		Used     time.Time `json:"last_used"`
		OnDisk   bool      `json:"on_disk"`
		Stale    bool
	}
}

// forgetting is each way to forget, and who must ask the backend again afterwards.
var forgetting = []struct {
	name, args string
	again      []string
}{
	{"nothing", "cache stats", nil},
	{"a user", "cache forget joe@dom.example", cachedUsers[:1]},
	{"a spelling", "cache forget joe@Dom.Example.", cachedUsers[:1]},
	{"a stranger", "cache forget eve@dom.example", nil},
	{"a domain", "cache forget dom.example", cachedUsers[:2]},
	{"another domain", "cache forget DOM.example.org", cachedUsers[2:]},
	{"everybody", "cache flush", cachedUsers},
}

// Each way to forget makes exactly those ask the backend again whom it names, and nobody else.
func TestCacheForgets(t *testing.T) {
	app := newWebApp(t, jsonSecret)
	bothWays(t, func(t *testing.T) string { return cacheWorld(t, app) }, func(t *testing.T, d *restartable) {
		// logIn returns those for whom the backend was asked.
		logIn := func() (asked []string) {
			for _, u := range cachedUsers {
				before := app.asked.Load()
				if got := d.ask("auth:" + strings.Replace(u, "@", ":", 1) + ":secret\n"); got != "1\n" {
					t.Errorf("%s was answered %q", u, got)
				}
				if app.asked.Load() != before {
					asked = append(asked, u)
				}
			}
			for _, u := range cachedUsers {
				d.remembers(u)
			}
			return asked
		}
		if first := logIn(); len(first) != len(cachedUsers) {
			t.Fatalf("at first the backend was asked about %v", first)
		}
		for _, c := range forgetting {
			if out := d.command(strings.Fields(c.args)...); c.again != nil && !strings.HasPrefix(out, "forgotten: ") {
				t.Errorf("%s printed %q", c.args, out)
			}
			if again := logIn(); fmt.Sprint(again) != fmt.Sprint(c.again) {
				t.Errorf("%s: the backend was asked about %v, want %v", c.name, again, c.again)
			}
		}
	})
}

// A refused password and the answer that there is no such user are forgotten, too.
func TestCacheForgetsRefusals(t *testing.T) {
	app := newWebApp(t, always(200, jsonNo))
	d := &restartable{t: t, config: cacheWorld(t, app), stays: true}
	questions := "auth:joe:dom.example:secret\nisuser:joe:dom.example\n"
	if got := d.ask(questions) + d.ask(questions); got != "0\n0\n0\n0\n" || app.asked.Load() != 2 {
		t.Errorf("answered %q, the backend was asked %d times", got, app.asked.Load())
	}
	if shown := decode[cacheShown](t, d.command("cache", "show", "joe@dom.example")); shown.Refused != 1 || shown.Exists != "no" {
		t.Errorf("shown: %+v", shown)
	}
	app.becomes(jsonSecret)
	d.command("cache", "forget", "joe@dom.example")
	if got := d.ask(questions); got != "1\n1\n" {
		t.Errorf("after forgetting: answered %q", got)
	}
}

func TestCacheShowAndStats(t *testing.T) {
	app := newWebApp(t, jsonSecret)
	bothWays(t, func(t *testing.T) string { return cacheWorld(t, app) }, func(t *testing.T, d *restartable) {
		// Before anybody logged in there is nothing to be seen, and nothing is made.
		if shown := decode[cacheShown](t, d.command("cache", "show", "joe@dom.example")); shown.User != "joe@dom.example" ||
			shown.Exists != "unknown" || shown.Verifiers == nil || len(shown.Verifiers) != 0 {
			t.Errorf("of a stranger: %+v", shown)
		}
		if stats := decode[statsShown](t, d.command("cache", "stats")); stats.Running != d.stays || stats.Disk == nil || len(stats.Disk) != 0 {
			t.Errorf("of an empty cache: %+v", stats)
		}
		begun := time.Now().Add(-time.Second)
		d.ask("auth:joe:dom.example:secret\nauth:joe:dom.example:wrong\nisuser:joe:dom.example\n")
		d.remembers("joe@dom.example")
		out := d.command("cache", "show", "joe@DOM.example")
		shown := decode[cacheShown](t, out)
		if shown.User != "joe@dom.example" || len(shown.Verifiers) != 1 {
			t.Fatalf("shown: %s", out)
		}
		v := shown.Verifiers[0]
		if !v.OnDisk || v.Stale || v.First.Before(begun) || v.Verified.Before(v.First) || v.Used.Before(v.Verified) {
			t.Errorf("shown: %s", out)
		}
		if strings.Contains(out, "$2") { // the hash is nobody's business
			t.Errorf("a hash is shown: %s", out)
		}
		stats := decode[statsShown](t, d.command("cache", "stats"))
		if fmt.Sprint(stats.Disk) != "map[dom.example:1]" || stats.DiskBytes == 0 || stats.StoreFailed != "" {
			t.Errorf("stats: %+v", stats)
		}
		if asked := stats.Memory["dom.example"].BackendAsked; d.stays && asked != 3 || !d.stays && stats.Memory != nil {
			t.Errorf("stats of the memory: %+v", stats.Memory)
		}
	})
}

// Errors of the cache's commands, and a store that nobody made yet.
func TestCacheErrors(t *testing.T) {
	app := newWebApp(t, jsonSecret)
	config := cacheWorld(t, app)
	d := &restartable{t: t, config: config}
	for _, args := range []string{"cache flush", "cache forget dom.example", "cache forget joe@dom.example"} {
		ok(t, "", append(strings.Fields(args), "--config", config)...)
	}
	if _, err := os.Stat(filepath.Join(d.data(), "store")); err == nil {
		t.Error("a store was made to forget something in it")
	}
	s := d.running()
	for args, want := range map[string]string{
		"cache show joe":                 "USER@DOMAIN",
		"cache show @dom.example":        "USER@DOMAIN",
		"cache forget a..b":              "USER@DOMAIN or DOMAIN",
		"cache show joe@other.example":   "no such domain is configured",
		"cache forget joe@other.example": "no such domain is configured",
		"cache forget other.example":     "no such domain is configured",
	} {
		r := command(t, "", append(strings.Fields(args), "--config", config)...)
		if r.code != 1 || !strings.Contains(r.err, want) || r.out != "" {
			t.Errorf("%s: exit status %d, %q, %q", args, r.code, r.out, r.err)
		}
	}
	// A daemon that holds the store but does not answer is told from one that is not there.
	if err := os.Remove(filepath.Join(d.data(), "control.sock")); err != nil {
		t.Fatal(err)
	}
	s.eventually("store", func() bool { _, err := os.Stat(filepath.Join(d.data(), "store")); return err == nil })
	r := command(t, "", "cache", "flush", "--config", config)
	if r.code != 1 || !strings.Contains(r.err, "stop the other postern") {
		t.Errorf("while another process has the store: exit status %d, %q", r.code, r.err)
	}
}

// What keeps a password from being used is shown.
func TestCacheShowsDoubts(t *testing.T) {
	for _, v := range []cache.Verifier{{}, {Stale: true}, {Stale: true, Suspect: true}} {
		shown := describeUser(auth.Identity{User: "joe", Domain: "dom.example"}, &cache.User{Verifiers: []cache.Verifier{v}})
		text, err := json.Marshal(shown)
		if want := fmt.Sprintf(`"stale":%t,"suspect":%t`, v.Stale, v.Suspect); err != nil || !strings.Contains(string(text), want) {
			t.Errorf("%s, %v; want %s", text, err, want)
		}
	}
}

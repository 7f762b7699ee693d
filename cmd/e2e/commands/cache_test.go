package commands

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"postern/cmd/e2e/harness"
)

// cacheWorld is a daemon in front of a web application that accepts the password secret for every
// user. It has two domains, and the name of one begins with that of the other.
func cacheWorld(t *testing.T, app *harness.WebApp) string {
	t.Helper()
	const domain = "domain %q {\n  backends = [backend.json.app]\n  cache { bcrypt_cost = 4 }\n}\n"
	return harness.ConfigFile(t, t.TempDir(), "listen \"generic\" { address = \"127.0.0.1:0\" }\n"+
		"backend \"json\" \"app\" { url = \""+app.URL+"\" }\n"+
		fmt.Sprintf(domain+domain, "dom.example", "dom.example.org"))
}

var cachedUsers = []string{"joe@dom.example", "ann@dom.example", "joe@dom.example.org"}

// forgetting is a way to forget, and the users that the backend is asked about again at their next
// login.
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

// Each way to forget makes the logins of exactly the users that it names ask the backend again.
func TestCacheForgets(t *testing.T) {
	app := harness.NewWebApp(t, harness.JSONSecret)
	harness.BothWays(t, func(t *testing.T) string { return cacheWorld(t, app) }, func(t *testing.T, d *harness.Restartable) {
		// logIn returns the users that the backend was asked about.
		logIn := func() (asked []string) {
			for _, u := range cachedUsers {
				before := app.Asked.Load()
				if got := d.Ask("auth:" + strings.Replace(u, "@", ":", 1) + ":secret\n"); got != "1\n" {
					t.Errorf("%s was answered %q", u, got)
				}
				if app.Asked.Load() != before {
					asked = append(asked, u)
				}
			}
			for _, u := range cachedUsers {
				d.Remembers(u)
			}
			return asked
		}
		if first := logIn(); len(first) != len(cachedUsers) {
			t.Fatalf("at first the backend was asked about %v", first)
		}
		for _, c := range forgetting {
			if out := d.Command(strings.Fields(c.args)...); c.again != nil && !strings.HasPrefix(out, "forgotten: ") || strings.HasPrefix(c.args, "cache forget") && c.again == nil && !strings.HasPrefix(out, "nothing to forget: ") {
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
	app := harness.NewWebApp(t, harness.Always(200, harness.JSONNo))
	d := &harness.Restartable{T: t, Config: cacheWorld(t, app), Stays: true}
	questions := "auth:joe:dom.example:secret\nisuser:joe:dom.example\n"
	if got := d.Ask(questions) + d.Ask(questions); got != "0\n0\n0\n0\n" || app.Asked.Load() != 2 {
		t.Errorf("answered %q, the backend was asked %d times", got, app.Asked.Load())
	}
	if shown := harness.Decode[harness.CacheShown](t, d.Command("cache", "show", "joe@dom.example")); shown.Refused != 1 || shown.Exists != "no" {
		t.Errorf("shown: %+v", shown)
	}
	app.Becomes(harness.JSONSecret)
	d.Command("cache", "forget", "joe@dom.example")
	if got := d.Ask(questions); got != "1\n1\n" {
		t.Errorf("after forgetting: answered %q", got)
	}
}

func TestCacheShowAndStats(t *testing.T) {
	app := harness.NewWebApp(t, harness.JSONSecret)
	harness.BothWays(t, func(t *testing.T) string { return cacheWorld(t, app) }, func(t *testing.T, d *harness.Restartable) {
		// Before the first login there is nothing to be seen, and nothing is made.
		if shown := harness.Decode[harness.CacheShown](t, d.Command("cache", "show", "joe@dom.example")); shown.User != "joe@dom.example" ||
			shown.Exists != "unknown" || shown.Verifiers == nil || len(shown.Verifiers) != 0 {
			t.Errorf("of a stranger: %+v", shown)
		}
		if stats := harness.Decode[harness.StatsShown](t, d.Command("cache", "stats")); stats.Running != d.Stays || stats.Disk == nil || len(stats.Disk) != 0 {
			t.Errorf("of an empty cache: %+v", stats)
		}
		begun := time.Now().Add(-time.Second)
		d.Ask("isuser:joe:dom.example\n") // on its own: a login that was answered before would prove that he exists
		d.Ask("auth:joe:dom.example:secret\nauth:joe:dom.example:wrong\n")
		d.Remembers("joe@dom.example")
		out := d.Command("cache", "show", "joe@DOM.example")
		shown := harness.Decode[harness.CacheShown](t, out)
		if shown.User != "joe@dom.example" || len(shown.Verifiers) != 1 {
			t.Fatalf("shown: %s", out)
		}
		v := shown.Verifiers[0]
		if !v.OnDisk || v.Stale || v.First.Before(begun) || v.Verified.Before(v.First) || v.Used.Before(v.Verified) {
			t.Errorf("shown: %s", out)
		}
		if strings.Contains(out, "$2") { // the hash stays inside
			t.Errorf("a hash is shown: %s", out)
		}
		stats := harness.Decode[harness.StatsShown](t, d.Command("cache", "stats"))
		if fmt.Sprint(stats.Disk) != "map[dom.example:1]" || stats.DiskBytes == 0 || stats.StoreFailed != "" {
			t.Errorf("stats: %+v", stats)
		}
		if asked := stats.Memory["dom.example"].BackendAsked; d.Stays && asked != 3 || !d.Stays && stats.Memory != nil {
			t.Errorf("stats of the memory: %+v", stats.Memory)
		}
	})
}

// Errors of the cache's commands, and a store that is not made yet.
func TestCacheErrors(t *testing.T) {
	app := harness.NewWebApp(t, harness.JSONSecret)
	config := cacheWorld(t, app)
	d := &harness.Restartable{T: t, Config: config}
	for _, args := range []string{"cache flush", "cache forget dom.example", "cache forget joe@dom.example"} {
		harness.OK(t, "", append(strings.Fields(args), "--config", config)...)
	}
	if _, err := os.Stat(filepath.Join(d.Data(), "store")); err == nil {
		t.Error("a store was made to forget something in it")
	}
	s := d.Running()
	for args, want := range map[string]string{
		"cache show joe":                 "USER@DOMAIN",
		"cache show @dom.example":        "USER@DOMAIN",
		"cache forget a..b":              "USER@DOMAIN or DOMAIN",
		"cache show joe@other.example":   "no such domain is configured",
		"cache forget joe@other.example": "no such domain is configured",
		"cache forget other.example":     "no such domain is configured",
	} {
		r := harness.Command(t, "", append(strings.Fields(args), "--config", config)...)
		if r.Code != 1 || !strings.Contains(r.Err, want) || r.Out != "" {
			t.Errorf("%s: exit status %d, %q, %q", args, r.Code, r.Out, r.Err)
		}
	}
	// A daemon that holds the store but does not answer is not taken for one that is not there.
	if err := os.Remove(filepath.Join(d.Data(), "control.sock")); err != nil {
		t.Fatal(err)
	}
	s.Eventually("store", func() bool { _, err := os.Stat(filepath.Join(d.Data(), "store")); return err == nil })
	r := harness.Command(t, "", "cache", "flush", "--config", config)
	if r.Code != 1 || !strings.Contains(r.Err, "stop the other postern") {
		t.Errorf("while another process has the store: exit status %d, %q", r.Code, r.Err)
	}
}

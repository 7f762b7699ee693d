package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// registryOnly is a configuration that has no domains of its own.
const registryOnly = `registry {
  idle = "1s"
  cache {
    bcrypt_cost = 4
  }
}
`

const canaryDomain = "canaryDomainSecret"

// secretFile is a file with the secret of a domain.
func secretFile(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte(canaryDomain+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// TestDomainCommands takes a domain through its life, with a daemon and without, and looks for
// its secret in all that is printed.
func TestDomainCommands(t *testing.T) {
	for _, daemon := range []bool{false, true} {
		t.Run(fmt.Sprintf("daemon %t", daemon), func(t *testing.T) {
			dir, cloud, other := t.TempDir(), jsxcServerOf(t, canaryDomain), jsxcServerOf(t, canaryDomain+"2")
			config := configFile(t, dir, oneList+registryOnly+usersBase)
			spy := newSpy(t, config)
			var s *server
			if daemon {
				s = serve(t, "--config", config)
			}
			run := func(stdin, want string, args ...string) string {
				t.Helper()
				r := spy.command(stdin, append([]string{"domain"}, args...)...)
				if r.code != 0 || !strings.Contains(r.out+r.err, want) {
					t.Fatalf("domain %v: exit status %d, want %q\n%s%s", args, r.code, want, r.out, r.err)
				}
				return r.out
			}
			refused := func(stdin, want string, args ...string) {
				t.Helper()
				r := spy.command(stdin, append([]string{"domain"}, args...)...)
				if r.code == 0 || !strings.Contains(r.err, want) || r.out != "" {
					t.Errorf("domain %v: exit status %d, want %q\n%s%s", args, r.code, want, r.out, r.err)
				}
			}
			login := func(domain, want string) {
				t.Helper()
				line := "auth:joe:" + domain + ":secret\n"
				if daemon {
					if got := exchange(t, s.address("generic"), line); got != want+"\n" {
						t.Errorf("joe at %s: %q, want %s", domain, got, want)
					}
				} else if got := command(t, "secret\n", "test", "auth", "joe@"+domain, "--config", config); (got.code == 0) != (want == "1") {
					t.Errorf("joe at %s: exit status %d, want %s\n%s", domain, got.code, want, got.out)
				}
			}
			refused("", "not registered", "show", "a.example")
			login("a.example", "0")
			run("", "registered: a.example", "add", "A.example", "--url", cloud.URL, "--secret-file", secretFile(t), "--contact", "me")
			login("a.example", "1")
			refused(canaryDomain+"\n", "is registered already", "add", "a.example", "--url", cloud.URL)
			run(canaryDomain+"\n", "registered: b.example", "add", "b.example", "--url", cloud.URL, "--auth-domain", "a.example")
			refused("", "unknown backend", "add", "c.example", "--backend", "ldap")
			refused("", "not an absolute", "add", "c.example", "--backend", "json", "--url", "c.example")
			refused(canaryDomain+"\n", "remove what stands before", "add", "c.example", "--url", "https://u:canary@c.example/")
			run("", "note: the configuration has a block", "add", "dom.example", "--backend", "users")
			login("dom.example", "0")
			run("", "changed: a.example", "set", "a.example", "--url", deadURL(t))
			refused("", "nothing to change", "set", "a.example")
			refused("", "not registered", "set", "z.example", "--contact", "x")
			run("", "changed: a.example", "set", "a.example", "--url", other.URL, "--contact", "")
			run(canaryDomain+"2\n", "changed: a.example", "set", "a.example", "--ask-secret")
			login("a.example", "1")

			var list []domainShown
			if err := json.Unmarshal([]byte(run("", "", "list", "--json")), &list); err != nil {
				t.Fatal(err)
			}
			var told []string
			for _, d := range list {
				told = append(told, fmt.Sprintf("%s %s %s %t", d.Domain, d.Source, d.Backend, d.Shadowed))
			}
			want := "dom.example configuration users.local false, a.example registry jsxc false, " +
				"b.example registry jsxc false, dom.example registry users true"
			if got := strings.Join(told, ", "); got != want {
				t.Errorf("listed %s, want %s", got, want)
			}
			run("", "registry (the configuration wins)", "list")
			if out := run("", "a.example", "list", "--source", "registry"); strings.Contains(out, "configuration  ") {
				t.Errorf("the list of the registry has more: %s", out)
			}
			run("", `"has_secret": true`, "show", "a.example")
			bare := run("", "secrets are left out", "export", "--format", "json")
			tsv := run("", "secrets are left out", "export")
			full := ok(t, "", "domain", "export", "--show-secrets", "--config", config)
			if !strings.Contains(full, canaryDomain+"2") || !strings.Contains(ok(t, "", "domain", "show", "a.example", "--show-secrets", "--config", config), canaryDomain) {
				t.Errorf("--show-secrets does not: %s", full)
			}
			run("", "removed: a.example", "remove", "a.example")
			refused("", "not registered", "remove", "a.example")
			login("a.example", "0")
			refused(bare, "nothing was imported: ", "import", "-") // a.example would be new, and has no secret
			refused(strings.Replace(tsv, "domain\t", "dom\t", 1), "the first line must name", "import", "-")
			file := filepath.Join(t.TempDir(), "list")
			if err := os.WriteFile(file, []byte(full), 0o600); err != nil {
				t.Fatal(err)
			}
			run("", "imported: 3 domains, 1 of them new", "import", file)
			run(bare, "imported: 3 domains, 0 of them new", "import", "-")
			login("a.example", "1")
			if daemon {
				spy.saw("log", s.log.String())
				if code := s.stop(syscall.SIGTERM); code != 0 {
					t.Errorf("exit status %d", code)
				}
			}
			spy.check()
		})
	}
}

// TestDomainsOutlive: a daemon whose file names no domain serves those registered before, falls
// asleep, and answers again; with pipes it is their broker that takes the commands.
func TestDomainsOutlive(t *testing.T) {
	app := newWebApp(t, always(http.StatusOK, jsonYes))
	config := configFile(t, t.TempDir(), oneList+registryOnly)
	ok(t, "", "domain", "add", "a.example", "--backend", "json", "--url", app.URL, "--config", config)
	s := serve(t, "--config", config)
	line := "auth:joe:a.example:secret\n"
	address := s.address("generic")
	if got := exchange(t, address, line); got != "1\n" {
		t.Errorf("answered %q", got)
	}
	asleep := func() bool {
		before := strings.Count(s.log.String(), "msg=tree")
		s.signal(syscall.SIGUSR1)
		s.eventually("a tree", func() bool { return strings.Count(s.log.String(), "msg=tree") > before })
		log := s.log.String()
		return !strings.Contains(log[strings.LastIndex(log, "broker inflight"):], "registered:a.example")
	}
	s.eventually("the domain asleep", asleep)
	app.becomes(always(http.StatusServiceUnavailable, ""))
	if got := exchange(t, address, line); got != "1\n" { // from disk
		t.Errorf("answered %q after its sleep", got)
	}
	if code := s.stop(syscall.SIGTERM); code != 0 {
		t.Errorf("exit status %d", code)
	}
	app.becomes(always(http.StatusOK, jsonYes))
	p := start(t, "pipe", "--protocol", "generic", "--config", config)
	p.send("auth:ann:b.example:secret\n")
	p.expect("0\n")
	ok(t, "", "domain", "add", "b.example", "--backend", "json", "--url", app.URL, "--config", config)
	p.send("auth:ann:b.example:secret\n")
	p.expect("1\n")
	p.finish()
}

// TestDomainStoreLost: without its store a daemon that has a registry tells nobody that a domain
// is not served, and its commands say why they fail.
func TestDomainStoreLost(t *testing.T) {
	dir := t.TempDir()
	config := configFile(t, dir, `listen "socketmap" { address = "127.0.0.1:0" }`+"\n"+registryOnly+usersBase)
	if err := os.WriteFile(filepath.Join(dir, "store"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s := serve(t, "--config", config)
	if !strings.Contains(s.log.String(), "registered domains are not known") {
		t.Error("the log does not say that registered domains are not known")
	}
	if got := exchange(t, s.address("socketmap"), "16:domain a.example,"); !strings.Contains(got, "TEMP") {
		t.Errorf("a domain that may be registered: %q", got)
	}
	for _, args := range [][]string{{"add", "a.example", "--backend", "users"}, {"list"}, {"remove", "a.example"}} {
		if r := command(t, "", append(append([]string{"domain"}, args...), "--config", config)...); r.code == 0 || !strings.Contains(r.err, "store is not open") {
			t.Errorf("domain %v: exit status %d, %s", args, r.code, r.err)
		}
	}
	other := configFile(t, t.TempDir(), strings.Replace(usersBase, "cache {", "cache {\n storage = \"memory\"\n", 1))
	if r := command(t, "", "domain", "add", "a.example", "--backend", "users", "--config", other); r.code == 0 || !strings.Contains(r.err, "add a registry {} block") {
		t.Errorf("without a store: exit status %d, %s", r.code, r.err)
	}
}

// TestRegisteredAccounts: a password that is changed in the users file dies in the caches of the
// registered domains that use it.
func TestRegisteredAccounts(t *testing.T) {
	config := configFile(t, t.TempDir(), oneList+registryOnly+usersBase)
	ok(t, "secret\n", "user", "add", "joe@a.example", "--config", config)
	ok(t, "", "domain", "add", "a.example", "--backend", "users", "--config", config)
	ok(t, "", "domain", "add", "b.example", "--backend", "users", "--auth-domain", "A.example", "--config", config)
	s := serve(t, "--config", config)
	for _, domain := range []string{"a.example", "b.example"} {
		if got := exchange(t, s.address("generic"), "auth:joe:"+domain+":secret\n"); got != "1\n" {
			t.Errorf("joe at %s: %q", domain, got)
		}
	}
	ok(t, "changed\n", "user", "passwd", "joe@a.example", "--config", config)
	for _, domain := range []string{"a.example", "b.example"} {
		if got := exchange(t, s.address("generic"), "auth:joe:"+domain+":secret\nauth:joe:"+domain+":changed\n"); got != "0\n1\n" {
			t.Errorf("joe at %s after the change: %q", domain, got)
		}
	}
}

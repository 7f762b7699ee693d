package commands

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"postern/cmd/e2e/harness"
)

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
			dir, cloud, other := t.TempDir(), harness.JSXCServerWithKey(t, canaryDomain), harness.JSXCServerWithKey(t, canaryDomain+"2")
			config := harness.ConfigFile(t, dir, harness.OneList+harness.RegistryOnly+harness.UsersBase)
			spy := harness.NewSpy(t, config)
			var s *harness.Server
			if daemon {
				s = harness.Serve(t, "--config", config)
			}
			run := func(stdin, want string, args ...string) string {
				t.Helper()
				r := spy.Command(stdin, append([]string{"domain"}, args...)...)
				if r.Code != 0 || !strings.Contains(r.Out+r.Err, want) {
					t.Fatalf("domain %v: exit status %d, want %q\n%s%s", args, r.Code, want, r.Out, r.Err)
				}
				return r.Out
			}
			refused := func(stdin, want string, args ...string) {
				t.Helper()
				r := spy.Command(stdin, append([]string{"domain"}, args...)...)
				if r.Code == 0 || !strings.Contains(r.Err, want) || r.Out != "" {
					t.Errorf("domain %v: exit status %d, want %q\n%s%s", args, r.Code, want, r.Out, r.Err)
				}
			}
			login := func(domain, want string) {
				t.Helper()
				line := "auth:joe:" + domain + ":secret\n"
				if daemon {
					if got := harness.Exchange(t, s.Address("generic"), line); got != want+"\n" {
						t.Errorf("joe at %s: %q, want %s", domain, got, want)
					}
				} else if got := harness.Command(t, "secret\n", "test", "auth", "joe@"+domain, "--config", config); (got.Code == 0) != (want == "1") {
					t.Errorf("joe at %s: exit status %d, want %s\n%s", domain, got.Code, want, got.Out)
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
			run("", "changed: a.example", "set", "a.example", "--url", harness.DeadURL(t))
			refused("", "nothing to change", "set", "a.example")
			refused("", "not registered", "set", "z.example", "--contact", "x")
			run("", "changed: a.example", "set", "a.example", "--url", other.URL, "--contact", "")
			run(canaryDomain+"2\n", "changed: a.example", "set", "a.example", "--ask-secret")
			login("a.example", "1")

			var list []harness.DomainShown
			if err := json.Unmarshal([]byte(run("", "", "list", "--json")), &list); err != nil {
				t.Fatal(err)
			}
			var shown []string
			for _, d := range list {
				shown = append(shown, fmt.Sprintf("%s %s %s %t", d.Domain, d.Source, d.Backend, d.Shadowed))
			}
			want := "dom.example configuration users.local false, a.example registry jsxc false, " +
				"b.example registry jsxc false, dom.example registry users true"
			if got := strings.Join(shown, ", "); got != want {
				t.Errorf("listed %s, want %s", got, want)
			}
			run("", "registry (the configuration wins)", "list")
			if out := run("", "a.example", "list", "--source", "registry"); strings.Contains(out, "configuration  ") {
				t.Errorf("the list of the registry has more: %s", out)
			}
			run("", `"has_secret": true`, "show", "a.example")
			bare := run("", "secrets are left out", "export", "--format", "json")
			tsv := run("", "secrets are left out", "export")
			full := harness.OK(t, "", "domain", "export", "--show-secrets", "--config", config)
			if !strings.Contains(full, canaryDomain+"2") || !strings.Contains(harness.OK(t, "", "domain", "show", "a.example", "--show-secrets", "--config", config), canaryDomain) {
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
				spy.Saw("log", s.Log.String())
				if code := s.Stop(syscall.SIGTERM); code != 0 {
					t.Errorf("exit status %d", code)
				}
			}
			spy.Check()
		})
	}
}

// TestDomainsOutlive: a daemon without a domain in its file serves those registered before, unloads
// them when they are idle, and answers for them again; with pipes it is their broker that takes the
// commands.
func TestDomainsOutlive(t *testing.T) {
	app := harness.NewWebApp(t, harness.Always(http.StatusOK, harness.JSONYes))
	config := harness.ConfigFile(t, t.TempDir(), harness.OneList+harness.RegistryOnly)
	harness.OK(t, "", "domain", "add", "a.example", "--backend", "json", "--url", app.URL, "--config", config)
	s := harness.Serve(t, "--config", config)
	line := "auth:joe:a.example:secret\n"
	address := s.Address("generic")
	if got := harness.Exchange(t, address, line); got != "1\n" {
		t.Errorf("answered %q", got)
	}
	asleep := func() bool {
		before := strings.Count(s.Log.String(), "msg=tree")
		s.Signal(syscall.SIGUSR1)
		s.Eventually("a tree", func() bool { return strings.Count(s.Log.String(), "msg=tree") > before })
		log := s.Log.String()
		return !strings.Contains(log[strings.LastIndex(log, "broker inflight"):], "registered:a.example")
	}
	s.Eventually("the domain asleep", asleep)
	app.Becomes(harness.Always(http.StatusServiceUnavailable, ""))
	if got := harness.Exchange(t, address, line); got != "1\n" { // from disk
		t.Errorf("answered %q after its sleep", got)
	}
	if code := s.Stop(syscall.SIGTERM); code != 0 {
		t.Errorf("exit status %d", code)
	}
	app.Becomes(harness.Always(http.StatusOK, harness.JSONYes))
	p := harness.Start(t, "pipe", "--protocol", "generic", "--config", config)
	p.Send("auth:ann:b.example:secret\n")
	p.Expect("0\n")
	harness.OK(t, "", "domain", "add", "b.example", "--backend", "json", "--url", app.URL, "--config", config)
	p.Send("auth:ann:b.example:secret\n")
	p.Expect("1\n")
	p.Finish()
}

// TestDomainStoreLost: without its store a daemon that has a registry never answers that a domain
// is not served, and its commands say why they fail.
func TestDomainStoreLost(t *testing.T) {
	dir := t.TempDir()
	config := harness.ConfigFile(t, dir, `listen "socketmap" { address = "127.0.0.1:0" }`+"\n"+harness.RegistryOnly+harness.UsersBase)
	if err := os.WriteFile(filepath.Join(dir, "store"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s := harness.Serve(t, "--config", config)
	if !strings.Contains(s.Log.String(), "registered domains are not known") {
		t.Error("the log does not say that registered domains are not known")
	}
	if got := harness.Exchange(t, s.Address("socketmap"), "16:domain a.example,"); !strings.Contains(got, "TEMP") {
		t.Errorf("a domain that may be registered: %q", got)
	}
	for _, args := range [][]string{{"add", "a.example", "--backend", "users"}, {"list"}, {"remove", "a.example"}} {
		if r := harness.Command(t, "", append(append([]string{"domain"}, args...), "--config", config)...); r.Code == 0 || !strings.Contains(r.Err, "store is not open") {
			t.Errorf("domain %v: exit status %d, %s", args, r.Code, r.Err)
		}
	}
	other := harness.ConfigFile(t, t.TempDir(), strings.Replace(harness.UsersBase, "cache {", "cache {\n storage = \"memory\"\n", 1))
	if r := harness.Command(t, "", "domain", "add", "a.example", "--backend", "users", "--config", other); r.Code == 0 || !strings.Contains(r.Err, "add a registry {} block") {
		t.Errorf("without a store: exit status %d, %s", r.Code, r.Err)
	}
}

// TestRegisteredAccounts: a password that is changed in the users file is removed from the caches
// of the registered domains that use it.
func TestRegisteredAccounts(t *testing.T) {
	config := harness.ConfigFile(t, t.TempDir(), harness.OneList+harness.RegistryOnly+harness.UsersBase)
	harness.OK(t, "secret\n", "user", "add", "joe@a.example", "--config", config)
	harness.OK(t, "", "domain", "add", "a.example", "--backend", "users", "--config", config)
	harness.OK(t, "", "domain", "add", "b.example", "--backend", "users", "--auth-domain", "A.example", "--config", config)
	s := harness.Serve(t, "--config", config)
	for _, domain := range []string{"a.example", "b.example"} {
		if got := harness.Exchange(t, s.Address("generic"), "auth:joe:"+domain+":secret\n"); got != "1\n" {
			t.Errorf("joe at %s: %q", domain, got)
		}
	}
	harness.OK(t, "changed\n", "user", "passwd", "joe@a.example", "--config", config)
	for _, domain := range []string{"a.example", "b.example"} {
		if got := harness.Exchange(t, s.Address("generic"), "auth:joe:"+domain+":secret\nauth:joe:"+domain+":changed\n"); got != "0\n1\n" {
			t.Errorf("joe at %s after the change: %q", domain, got)
		}
	}
}

// A command that finds no daemon, and then one that has just started, is carried out by it.
func TestDomainMeetsAStartingDaemon(t *testing.T) {
	t.Parallel()
	config := harness.ConfigFile(t, t.TempDir(), "registry {}\n"+harness.OneList+harness.UsersBase)
	s := harness.Serve(t, "--config", config)
	control := filepath.Join(harness.DataDirOf(config), harness.ControlSocket)
	if err := os.Rename(control, control+"~"); err != nil {
		t.Fatal(err)
	}
	p := harness.Start(t, "domain", "add", "new.example", "--backend", "users", "--config", config)
	harness.WaitFor(t, "the command waits for the data directory", func() bool {
		files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", p.Cmd.Process.Pid))
		for _, file := range files {
			if to, err := os.Readlink(file); err == nil && strings.HasSuffix(to, "/"+harness.OwnerLock) {
				return true
			}
		}
		return false
	})
	if err := os.Rename(control+"~", control); err != nil {
		t.Fatal(err)
	}
	if code := p.Exit(); code != 0 {
		t.Errorf("exit status %d: %s", code, p.Log.String())
	}
	harness.Say(t, harness.Connect(t, s.Address("generic")), "isuser:joe:new.example\n", "0\n")
	if out := harness.OK(t, "", "domain", "list", "--config", config); !strings.Contains(out, "new.example") {
		t.Errorf("the daemon has only %s", out)
	}
}

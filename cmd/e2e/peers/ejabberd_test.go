package peers

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"postern/cmd/e2e/harness"
)

// ejabberdHosts takes the command of the external program. The cache is off, as we advise, but
// on one host.
const ejabberdHosts = `
hosts: [dom.example, app.example, cached.example, cloud.example]
extauth_program: "%s"
extauth_pool_size: 2
auth_use_cache: false
host_config:
  cached.example:
    auth_use_cache: true
`

// ejabberdBackends has another backend behind each host. The deadline is the pipes'. The test guesses
// more often than the limit of an account allows.
const ejabberdBackends = `
limit { user_refusals = 0 }
listen "ejabberd" {
  address  = "127.0.0.1:0"
  deadline = "2s"
}
backend "users" "local" { bcrypt_cost = 4 }
backend "json" "app" {
  url              = "%[1]s"
  breaker_failures = 1000
}
backend "jsxc" "cloud" {
  url    = "%[2]s"
  secret = "api-secret"
}
domain "dom.example" { backends = [backend.users.local] }
domain "cloud.example" { backends = [backend.jsxc.cloud] }
domain "app.example" {
  backends = [backend.json.app]
  cache {
    query_ttl   = "0s"
    bcrypt_cost = 4
  }
}
domain "cached.example" {
  backends = [backend.json.app]
  cache {
    absent_ttl  = "0s"
    bcrypt_cost = 4
  }
}
`

// oldPasswords accepts "pw-" and the user's name as password. Users with a name that begins with
// "nobody" do not exist.
func oldPasswords(w http.ResponseWriter, r *http.Request) {
	var q struct{ Username, Password string }
	_ = json.NewDecoder(r.Body).Decode(&q)
	name, _, _ := strings.Cut(q.Username, "@")
	if strings.HasPrefix(name, "nobody") || r.URL.Path == "/login" && q.Password != "pw-"+name {
		_, _ = io.WriteString(w, harness.JSONNo)
		return
	}
	_, _ = io.WriteString(w, harness.JSONYes)
}

// allowAll accepts every login.
var allowAll = harness.Always(http.StatusOK, harness.JSONYes)

// The real ejabberd with a daemon and four virtual hosts. The order of the parts matters little,
// but each leaves the backends as it found them.
func TestRealEjabberd(t *testing.T) { harness.EachRelease(t, ejabberdLogins) }

func ejabberdLogins(t *testing.T, r harness.Release) {
	app := harness.NewWebApp(t, oldPasswords)
	config := harness.ConfigFile(t, t.TempDir(), fmt.Sprintf(ejabberdBackends, app.URL, harness.JSXCServer(t).URL))
	for i, password := range spelledPasswords() {
		harness.OK(t, password+"\n", "user", "add", fmt.Sprintf("joe%d@dom.example", i), "--config", config)
	}
	harness.OK(t, "secret\n", "user", "add", "joe@dom.example", "--config", config)
	harness.Serve(t, "--config", config)
	e := startEjabberd(t, r, fmt.Sprintf(ejabberdHosts, harness.Binary+" pipe --protocol ejabberd --config "+config))
	harness.WaitFor(t, "two copies for each of four hosts", func() bool { return len(e.copies("pipe")) == 8 })
	before := e.copies("pipe")

	t.Run("logins", func(t *testing.T) { e.logins(t, config) })
	t.Run("commands", func(t *testing.T) { e.commands(t, harness.DataDirOf(config)) })
	t.Run("refused change", func(t *testing.T) { e.refusedChange(t) })
	t.Run("backend down", func(t *testing.T) { e.backendDown(t, app) })
	t.Run("backend hangs", func(t *testing.T) { e.backendHangs(t, app) })
	t.Run("too long", func(t *testing.T) { e.tooLong(t) })
	if after := e.copies("pipe"); !slices.Equal(after, before) {
		t.Errorf("the copies were %v and are %v", before, after)
	}
	if lost, _ := e.complaints(); lost > 0 {
		t.Errorf("ejabberd lost %d programs", lost)
	}

	// Nothing is left of the copies when ejabberd ends, however it ends.
	left := e.copies("pipe")
	e.ended()
	for _, pid := range left {
		harness.WaitFor(t, "the end of a copy", func() bool { return !harness.Alive(pid) })
	}
}

func spelledPasswords() []string {
	return []string{"a:b::c:", ":", "  spaced  ", "päss€ 密码", strings.Repeat("x", 200), strings.Repeat("ä", 100)}
}

// logins are right and wrong passwords on every host, and a token.
func (e *ejabberd) logins(t *testing.T, config string) {
	for i, password := range spelledPasswords() {
		user := fmt.Sprintf("joe%d", i)
		e.want(t, user, "dom.example", password, "success")
		e.want(t, user, "dom.example", password+"x", "not-authorized")
		e.want(t, user, "dom.example", password[:len(password)-1], "not-authorized")
		e.want(t, user, "dom.example", "x"+password, "not-authorized")
	}
	for range 2 { // the second time from caches
		for _, c := range [][2]string{{"dom.example", "secret"}, {"cloud.example", "secret"}, {"app.example", "pw-joe"}, {"cached.example", "pw-joe"}} {
			e.want(t, "joe", c[0], c[1], "success")
			e.want(t, "joe", c[0], "wrong", "not-authorized")
			e.want(t, "nobody", c[0], c[1], "not-authorized")
		}
		e.want(t, "joe", "dom.example", "pw-joe", "not-authorized") // each host its own
		e.want(t, "joe", "app.example", "secret", "not-authorized")
	}
	token := strings.TrimSpace(harness.OK(t, "", "token", "issue", "joe@cloud.example", "--config", config))
	e.want(t, "joe", "cloud.example", token, "success")
	e.want(t, "joe", "cloud.example", token[1:], "not-authorized")
	e.want(t, "ann", "cloud.example", token, "not-authorized")
	e.want(t, "joe", "dom.example", token, "not-authorized")
	// ejabberd passes on what clients send, be it text or not.
	for _, password := range []string{"\xff\xfe", "secret\n", "\nsecret", "secret\r\nauth:joe:dom.example:secret", "\x00\x02\x00\x01"} {
		e.want(t, "joe", "dom.example", password, "not-authorized")
		e.want(t, "joe", "app.example", password, "not-authorized")
	}
	e.want(t, "joe", "dom.example", "secret", "success")
	if lost, cannotTell := e.complaints(); lost+cannotTell > 0 {
		t.Errorf("ejabberd lost %d programs and was told %d times that we cannot tell", lost, cannotTell)
	}
}

// commands are what ejabberdctl does to accounts of ours.
func (e *ejabberd) commands(t *testing.T, data string) {
	e.ctl(t, 0, "check_account", "joe", "dom.example")
	e.ctl(t, 1, "check_account", "nobody", "dom.example")
	e.ctl(t, 0, "check_password", "joe0", "dom.example", "a:b::c:")
	e.ctl(t, 1, "check_password", "joe0", "dom.example", "a")

	e.ctl(t, 0, "change_password", "joe", "dom.example", "new: päss")
	e.want(t, "joe", "dom.example", "new: päss", "success")
	e.want(t, "joe", "dom.example", "secret", "not-authorized")

	e.ctl(t, 0, "register", "ann", "dom.example", "ann's")
	e.want(t, "ann", "dom.example", "ann's", "success")
	if said := e.ctl(t, 1, "register", "ann", "dom.example", "other"); !strings.Contains(said, "already registered") {
		t.Errorf("an account is registered twice: %s", said)
	}
	e.want(t, "ann", "dom.example", "ann's", "success")
	e.want(t, "ann", "dom.example", "other", "not-authorized")
	e.ctl(t, 0, "unregister", "ann", "dom.example")
	e.want(t, "ann", "dom.example", "ann's", "not-authorized")
	e.ctl(t, 1, "check_account", "ann", "dom.example")

	// A file that cannot be written: the answer to ejabberd must not be "done".
	lock := filepath.Join(data, "users.lock")
	if err := os.Remove(lock); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(lock, 0o700); err != nil {
		t.Fatal(err)
	}
	e.ctl(t, 1, "change_password", "joe", "dom.example", "third")
	e.ctl(t, 1, "register", "bob", "dom.example", "bob's")
	if err := os.Remove(lock); err != nil {
		t.Fatal(err)
	}
	e.want(t, "joe", "dom.example", "new: päss", "success")
	e.want(t, "joe", "dom.example", "third", "not-authorized")
	e.want(t, "bob", "dom.example", "bob's", "not-authorized")
}

// refusedChange answers ejabberd that passwords cannot be set here, also where it caches passwords
// itself: there a 0 would make it accept the password that was refused.
func (e *ejabberd) refusedChange(t *testing.T) {
	for _, host := range []string{"app.example", "cached.example"} {
		e.want(t, "joe", host, "pw-joe", "success")
		e.ctl(t, 1, "change_password", "joe", host, "changed")
		e.want(t, "joe", host, "changed", "not-authorized")
		e.want(t, "joe", host, "pw-joe", "success")
	}
	e.ctl(t, 0, "unregister", "joe", "app.example") // says "done" whatever we answer
	e.want(t, "joe", "app.example", "pw-joe", "success")
}

// backendDown stops the backend. Users that have logged in before are accepted; others are refused,
// and ejabberd does not remember it, although it remembers a real no.
func (e *ejabberd) backendDown(t *testing.T, app *harness.WebApp) {
	e.want(t, "eve", "app.example", "pw-eve", "success")
	e.ctl(t, 1, "check_account", "nobody1", "cached.example") // a real no
	_, before := e.complaints()
	app.Becomes(harness.Always(http.StatusServiceUnavailable, "down"))
	e.want(t, "eve", "app.example", "pw-eve", "success")
	e.want(t, "eve", "app.example", "wrong", "not-authorized")
	e.want(t, "new", "app.example", "pw-new", "not-authorized")
	e.want(t, "new", "cached.example", "pw-new", "not-authorized")
	e.ctl(t, 0, "check_account", "joe", "cached.example") // known by its logins
	e.ctl(t, 1, "check_account", "nobody2", "cached.example")
	harness.WaitFor(t, "ejabberd was told four times that we cannot tell", func() bool { _, n := e.complaints(); return n >= before+4 })
	app.Becomes(allowAll)
	e.want(t, "new", "app.example", "pw-new", "success")
	e.want(t, "new", "cached.example", "pw-new", "success")
	e.ctl(t, 0, "check_account", "nobody2", "cached.example")
	e.ctl(t, 1, "check_account", "nobody1", "cached.example") // ejabberd's own memory
	app.Becomes(oldPasswords)
}

// backendHangs has a backend that never answers: ejabberd would wait for 30 s and then kill the
// copy.
func (e *ejabberd) backendHangs(t *testing.T, app *harness.WebApp) {
	release := make(chan struct{})
	app.Becomes(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-release:
		case <-r.Context().Done():
		}
	})
	begun := time.Now()
	e.want(t, "late", "app.example", "pw-late", "not-authorized")
	if took := time.Since(begun); took < time.Second || took > 30*time.Second {
		t.Errorf("a hanging backend kept ejabberd waiting for %v; the deadline is 2s", took)
	}
	close(release)
	app.Becomes(oldPasswords)
	e.want(t, "late", "app.example", "pw-late", "success")
}

// tooLong are requests that do not fit ejabberd's own frames. They would end the copies, a few
// dozen of them external authentication on all hosts: max_stanza_size keeps them out.
func (e *ejabberd) tooLong(t *testing.T) {
	for range 20 {
		if got, err := xmppLogin(e.port, "joe", "app.example", strings.Repeat("x", 65536)); err == nil {
			t.Fatalf("ejabberd answered %.100q", got)
		}
	}
	e.want(t, "joe", "app.example", strings.Repeat("x", 45000), "not-authorized")
	e.want(t, "joe", "app.example", "pw-joe", "success")
}

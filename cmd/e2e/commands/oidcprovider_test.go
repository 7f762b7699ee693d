package commands

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"postern/cmd/e2e/harness"
)

// certified is npm's oidc-provider, in scripts/idp/node, which says what it has. setup.sh installs it.
type certified struct {
	t      *testing.T
	issuer string
	run    *exec.Cmd
}

func startCertified(t *testing.T) *certified {
	t.Helper()
	p := &certified{t: t, issuer: "http://" + harness.FreeAddress(t)}
	p.start()
	t.Cleanup(p.stop)
	return p
}

// start runs the provider until it is stopped. Whatever it knew before is gone.
func (p *certified) start() {
	t := p.t
	t.Helper()
	modules := harness.Cached("idp/node_modules")
	if _, err := os.Stat(modules); err != nil {
		t.Fatalf("%v: run scripts/setup.sh", err)
	}
	dir := t.TempDir() // Node.js looks for modules beside a program
	harness.Symlink(t, modules, filepath.Join(dir, "node_modules"))
	program := filepath.Join(dir, "provider.mjs")
	harness.WriteFile(t, program, harness.ReadText("../../../scripts/idp/node/provider.mjs"))
	p.run = exec.Command("node", program, strings.TrimPrefix(p.issuer, "http://"))
	var log harness.OutBuffer
	p.run.Stderr = &log
	out, err := p.run.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.run.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(out)
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			t.Fatalf("the provider does not start: %v\n%s", err, log.String())
		}
		if line == "listening\n" {
			break
		}
	}
	go func() { _, _ = io.Copy(io.Discard, lines) }()
}

func (p *certified) stop() {
	_ = p.run.Process.Kill()
	_ = p.run.Wait()
}

// post sends a form as the client postern, and returns the body of the answer.
func (p *certified) post(path string, form url.Values) []byte {
	p.t.Helper()
	request, err := http.NewRequest(http.MethodPost, p.issuer+path, strings.NewReader(form.Encode()))
	if err != nil {
		p.t.Error(err)
		return nil
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	request.SetBasicAuth("postern", "secret")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		p.t.Error(err)
		return nil
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		p.t.Errorf("POST %s: %s, %v: %s", path, response.Status, err, body)
	}
	return body
}

// tokens gets the tokens of a user for a resource, with scopes.
func (p *certified) tokens(user, resource, scope string) (access, id string) {
	p.t.Helper()
	var tokens struct {
		Access string `json:"access_token"`
		ID     string `json:"id_token"`
	}
	body := p.post("/token", url.Values{"grant_type": {"password"}, "username": {user}, "password": {"secret"}, "resource": {resource}, "scope": {scope}})
	if err := json.Unmarshal(body, &tokens); err != nil || tokens.Access == "" {
		p.t.Errorf("no tokens: %v", err)
	}
	return tokens.Access, tokens.ID
}

// asked returns how often a path was asked for.
func (p *certified) asked(path string) (n int) {
	p.t.Helper()
	response, err := http.Get(p.issuer + "/asked")
	if err != nil {
		p.t.Fatal(err)
	}
	defer response.Body.Close()
	all := map[string]int{}
	if err := json.NewDecoder(response.Body).Decode(&all); err != nil {
		p.t.Fatal(err)
	}
	return all[path]
}

// certifiedConfig takes the issuer and a folder with the client's secret.
const certifiedConfig = `
listen "ejabberd" { address = "127.0.0.1:0" }
listen "dovecot" {
  address        = "127.0.0.1:0"
  default_domain = "dom.example"
}
listen "http" {
  address        = "127.0.0.1:0"
  secret         = "the-secret-of-the-listener"
  default_domain = "dom.example"
}
backend "oidc" "idp" {
  issuer         = %[1]q
  accept         = ["jwt", "introspection", "password_grant"]
  audience       = "postern"
  client_id      = "postern"
  client_secret  = file("%[2]s/secret")
  username_claim = "preferred_username"
}
domain "dom.example" {
  backends = [backend.oidc.idp]
  cache {
    storage     = "memory"
    bcrypt_cost = 4
    query_ttl   = "1s"
    verify_ttl  = "2s"
  }
}
`

// bearerSite is postern before the provider.
type bearerSite struct {
	*certified
	*harness.Server
	config string
}

func newBearerSite(t *testing.T) *bearerSite {
	t.Helper()
	dir, p := t.TempDir(), startCertified(t)
	harness.WriteFile(t, filepath.Join(dir, "secret"), "secret\n")
	config := harness.ConfigFile(t, t.TempDir(), fmt.Sprintf(certifiedConfig, p.issuer, dir))
	return &bearerSite{p, harness.Serve(t, "--config", config), config}
}

// What a login is answered.
const (
	yes   = "yes"
	no    = "no"
	later = "temporary failure"
)

// fronts are the ways to log in, by name.
func (s *bearerSite) fronts() map[string]func(user, secret string) string {
	return map[string]func(user, secret string) string{
		"ejabberd": s.byEjabberd,
		"PLAIN":    func(user, secret string) string { return s.byDovecot("PLAIN", "\x00"+user+"\x00"+secret) },
		"OAUTHBEARER": func(user, secret string) string {
			return s.byDovecot("OAUTHBEARER", "n,a="+user+",\x01auth=Bearer "+secret+"\x01\x01")
		},
		"HTTP": s.byHTTP,
	}
}

func (s *bearerSite) byEjabberd(user, secret string) string {
	got := harness.Exchange(s.certified.t, s.Address("ejabberd"), harness.Frame("auth:"+user+":dom.example:"+secret))
	return map[string]string{"\x00\x02\x00\x01": yes, "\x00\x02\x00\x00": no, "\x00\x02\x00\x02": later}[got]
}

func (s *bearerSite) byDovecot(mechanism, message string) string {
	t := s.certified.t
	c := harness.Connect(t, s.Address("dovecot"))
	defer c.Close()
	if _, err := fmt.Fprintf(c, "VERSION\t1\t2\nCPID\t1\nAUTH\t1\t%s\tservice=smtp\tresp=%s\n", mechanism, harness.Base64(message)); err != nil {
		t.Error(err)
	}
	lines := bufio.NewReader(c)
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			return err.Error()
		}
		fields := strings.Split(strings.TrimSpace(line), "\t")
		switch {
		case fields[0] == "OK":
			return yes
		case fields[0] == "FAIL" && strings.Contains(line, "\ttemp\t"):
			return later
		case fields[0] == "FAIL":
			return no
		case fields[0] == "CONT": // why a token is refused
			if _, err := io.WriteString(c, "CONT\t1\tAQ==\n"); err != nil {
				t.Error(err)
			}
		}
	}
}

func (s *bearerSite) byHTTP(user, secret string) string {
	t := s.certified.t
	request, err := http.NewRequest(http.MethodGet, "http://"+s.Address("http")+"/basic", nil)
	if err != nil {
		t.Error(err)
		return ""
	}
	request.SetBasicAuth(user, secret)
	request.Header.Set("X-Postern-Secret", "the-secret-of-the-listener")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Error(err)
		return ""
	}
	_ = response.Body.Close()
	return map[int]string{200: yes, 401: no, 503: later}[response.StatusCode]
}

// TestOIDCProvider: what the certified provider issues lets in by every front as far as it should, and a token that it has
// taken back does not for longer than verify_ttl.
func TestOIDCProvider(t *testing.T) {
	t.Parallel()
	s := newBearerSite(t)
	signed, id := s.tokens("alice", "urn:signed", "openid")
	_, bare := s.tokens("alice", "urn:signed", "openid bare")
	shop, _ := s.tokens("alice", "urn:shop", "openid")
	unbound, _ := s.tokens("alice", "", "openid") // for the provider itself: opaque, without an audience
	opaque, _ := s.tokens("alice", "urn:opaque", "openid")
	tampered := signed[:len(signed)-8] + "AAAAAAAA"
	for front, login := range s.fronts() {
		asPassword := map[bool]string{true: no, false: yes}[front == "OAUTHBEARER"]
		for _, c := range []struct{ name, user, secret, want string }{
			{"signed", "alice", signed, yes},
			{"signed, again", "alice", signed, yes},
			{"signed, of another user", "bob", signed, no},
			{"tampered with", "alice", tampered, no},
			{"for another audience", "alice", shop, no},
			{"without an audience", "alice", unbound, no},
			{"an ID token", "alice", id, no},
			{"an ID token without at_hash", "alice", bare, no},
			{"opaque", "alice", opaque, yes},
			{"opaque, again", "alice", opaque, yes},
			{"opaque, of another user", "bob", opaque, no},
			{"made up", "alice", strings.Repeat("a", 43), no},
			{"the password", "alice", "secret", asPassword},
			{"a wrong password", "alice", "wrong", no},
		} {
			if got := login(c.user, c.secret); got != c.want {
				t.Errorf("%s: %s: %q, want %q", front, c.name, got, c.want)
			}
		}
	}
	s.post("/token/revocation", url.Values{"token": {opaque}})
	end := time.Now().Add(2 * time.Second)
	for front, login := range s.fronts() {
		harness.WaitFor(t, "a revoked token is refused by "+front, func() bool {
			asked := time.Now()
			got := login("alice", opaque)
			if got != no && (got != yes || asked.After(end)) {
				t.Fatalf("%s: a revoked token: %q, %v after verify_ttl", front, got, asked.Sub(end))
			}
			return got == no
		})
	}
	fresh, _ := s.tokens("bob", "urn:opaque", "openid")
	s.stop()
	for front, login := range s.fronts() {
		if got := login("alice", signed); got != yes {
			t.Errorf("%s: signed, while the provider is away: %q", front, got)
		}
		if got := login("bob", fresh); got != later {
			t.Errorf("%s: opaque, while the provider is away: %q", front, got)
		}
	}
	log := s.Log.String()
	for _, secret := range []string{strings.Split(signed, ".")[1], strings.Split(id, ".")[1], opaque, fresh} {
		if strings.Contains(log, secret) {
			t.Error("a token is in the log")
		}
	}
}

// TestOIDCProviderRotation: while the provider changes its keys, and starts anew with others, under load, no token that
// it has just issued is refused, and postern asks for the keys once in 30 seconds at most.
func TestOIDCProviderRotation(t *testing.T) {
	t.Parallel()
	s := newBearerSite(t)
	begun := time.Now()
	var (
		pause   sync.RWMutex // held by a login from its token on; locked while the provider restarts
		logins  [2]atomic.Int64
		refused atomic.Int64
		ended   = make(chan struct{})
		workers sync.WaitGroup
	)
	for i, login := range []func(user, secret string) string{s.byEjabberd, s.fronts()["OAUTHBEARER"]} {
		workers.Go(func() {
			for {
				select {
				case <-ended:
					return
				default:
				}
				pause.RLock()
				token, _ := s.tokens("alice", "urn:signed", "openid")
				switch got := login("alice", token); got {
				case yes, later:
				default:
					refused.Add(1)
					t.Errorf("a good token: %q", got)
				}
				pause.RUnlock()
				logins[i].Add(1)
			}
		})
	}
	finish := sync.OnceFunc(func() { close(ended); workers.Wait() })
	t.Cleanup(finish)
	// settled waits until a login of each worker has ended that began after now, and one with a new token succeeds.
	settled := func() {
		t.Helper()
		for i := range logins {
			n := logins[i].Load()
			s.Eventually("logins go on", func() bool { return logins[i].Load() > n+1 })
		}
		s.Eventually("a new token lets in", func() bool {
			token, _ := s.tokens("bob", "urn:signed", "openid")
			return s.byEjabberd("bob", token) == yes
		})
	}
	settled()
	for _, query := range []string{"", "?withdraw"} {
		if query != "" {
			pause.Lock() // a token of a key that is withdrawn may be refused
		}
		s.post("/rotate"+query, nil)
		if query != "" {
			pause.Unlock()
		}
		settled()
	}
	asked := s.asked("/jwks")
	if most := 1 + int(time.Since(begun)/(30*time.Second)); asked > most {
		t.Errorf("the keys were fetched %d times in %v", asked, time.Since(begun))
	}
	pause.Lock()
	s.stop()
	s.start()
	pause.Unlock()
	settled()
	finish()
	if t.Failed() || refused.Load() > 0 {
		t.Errorf("%d of %d logins were refused", refused.Load(), logins[0].Load()+logins[1].Load())
	}
	t.Logf("%d and %d logins; the keys were fetched %d times in %v", logins[0].Load(), logins[1].Load(), asked, time.Since(begun).Round(time.Second))
	if code := s.Stop(syscall.SIGTERM); code != 0 {
		t.Errorf("the daemon ended with status %d", code)
	}
}

// scimConfig takes the issuer and a folder with secrets.
const scimConfig = `
listen "ejabberd" { address = "127.0.0.1:0" }
backend "app_passwords" "devices" { key = file("%[2]s/key") }
backend "oidc" "idp" {
  issuer         = %[1]q
  audience       = "postern"
  client_id      = "postern"
  client_secret  = file("%[2]s/secret")
  username_claim = "preferred_username"
  groups_claim   = "groups"
  scim {
    url   = "%[1]s/scim/v2"
    scope = "users"
  }
}
domain "dom.example" {
  backends = [backend.app_passwords.devices, backend.oidc.idp]
  allow { groups = ["mail"] }
  cache {
    storage     = "memory"
    bcrypt_cost = 4
    query_ttl   = "1ms"
    exists_ttl  = "1ms"
    absent_ttl  = "1ms"
    outage_ttl  = "1h"
  }
}
`

// TestOIDCProviderSCIM: app passwords live and end with their accounts, which postern looks up with tokens that the provider
// issues to it; it gets another one when one is taken back.
func TestOIDCProviderSCIM(t *testing.T) {
	t.Parallel()
	dir, p := t.TempDir(), startCertified(t)
	harness.WriteFile(t, filepath.Join(dir, "secret"), "secret\n")
	harness.WriteFile(t, filepath.Join(dir, "key"), strings.Repeat("5a", 32)+"\n")
	config := harness.ConfigFile(t, t.TempDir(), fmt.Sprintf(scimConfig, p.issuer, dir))
	s := &bearerSite{p, harness.Serve(t, "--config", config), config}
	secrets := map[string]string{}
	for _, user := range []string{"alice", "bob", "carol"} {
		secrets[user] = strings.TrimSpace(harness.OK(t, "", "password", "add", user+"@dom.example", "--name", "phone", "--config", config))
	}
	check := func(when string, want map[string]string) {
		t.Helper()
		for user, want := range want {
			if got := s.byEjabberd(user, secrets[user]); got != want {
				t.Errorf("%s: %s: %q, want %q", when, user, got, want)
			}
		}
	}
	all := map[string]string{"alice": yes, "bob": no, "carol": no} // bob is disabled, and carol is not there
	for range 3 {
		check("first", all)
	}
	if n := s.asked("/token"); n != 1 {
		t.Errorf("a token was asked for %d times", n)
	}
	s.post("/forget", nil)
	check("after the token was taken back", all)
	if n := s.asked("/token"); n != 2 {
		t.Errorf("a token was asked for %d times, with one taken back", n)
	}
	doctor := func(want ...string) {
		t.Helper()
		out := harness.Command(t, "", "doctor", "--as", "alice@dom.example", "--config", config).Out
		for _, text := range want {
			if !strings.Contains(out, text) {
				t.Errorf("doctor does not say %q:\n%s", text, out)
			}
		}
	}
	doctor("the SCIM API knows alice@dom.example", "app passwords of dom.example end with their accounts")
	s.stop()
	check("while the provider is away", map[string]string{"alice": yes})
	s.start() // without the tokens that it has issued
	check("after its start", all)
	harness.WriteFile(t, filepath.Join(dir, "secret"), "another\n")
	doctor("the provider does not accept client_id and client_secret")
}

package commands

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"postern/cmd/e2e/harness"
)

// provider is a real OpenID Connect provider: the example of zitadel/oidc, in scripts/idp. Its user test-user2 has the id
// id2.
type provider struct {
	t      *testing.T
	issuer string
}

// startProvider builds the provider and runs it for the time of the test.
func startProvider(t *testing.T) *provider {
	t.Helper()
	binary, address := filepath.Join(t.TempDir(), "idp"), harness.FreeAddress(t)
	build := exec.Command("go", "build", "-C", "../../../scripts/idp", "-o", binary, ".")
	build.Env = append(os.Environ(), "GOWORK=off")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("the provider does not build: %v\n%s", err, out)
	}
	run := exec.Command(binary, address)
	out, err := run.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := run.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = run.Process.Kill(); _ = run.Wait() })
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "listening\n" {
		t.Fatalf("the provider does not start: %q, %v", line, err)
	}
	return &provider{t, "http://" + address}
}

// signIn signs test-user2 in at a client, as a browser does, and returns the tokens.
func (p *provider) signIn(client string) (access, id string) {
	p.t.Helper()
	const callback = "http://127.0.0.1/callback"
	browser := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	to := func(r *http.Response, err error) *url.URL {
		p.t.Helper()
		if err != nil {
			p.t.Fatal(err)
		}
		_ = r.Body.Close()
		at, err := r.Location()
		if err != nil {
			p.t.Fatalf("%s: %v", r.Status, err)
		}
		return at
	}
	at := to(browser.Get(p.issuer + "/auth?" + url.Values{
		"client_id": {client}, "response_type": {"code"}, "scope": {"openid profile"}, "redirect_uri": {callback}, "state": {"x"},
	}.Encode()))
	at = to(browser.PostForm(p.issuer+"/login/username", url.Values{
		"username": {"test-user2"}, "password": {"verysecure"}, "id": {at.Query().Get("authRequestID")},
	}))
	at = to(browser.Get(at.String()))
	form := url.Values{"grant_type": {"authorization_code"}, "code": {at.Query().Get("code")}, "redirect_uri": {callback}}
	request, err := http.NewRequest(http.MethodPost, p.issuer+"/oauth/token", strings.NewReader(form.Encode()))
	if err != nil {
		p.t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	request.SetBasicAuth(client, "secret")
	r, err := browser.Do(request)
	if err != nil {
		p.t.Fatal(err)
	}
	defer r.Body.Close()
	var tokens struct {
		Access string `json:"access_token"`
		ID     string `json:"id_token"`
	}
	if err := json.NewDecoder(r.Body).Decode(&tokens); err != nil || tokens.Access == "" || tokens.ID == "" {
		p.t.Fatalf("no tokens: %s, %v", r.Status, err)
	}
	return tokens.Access, tokens.ID
}

// TestOIDC: tokens of a real provider let in through the daemon, its ID tokens and those of other clients do not, and
// doctor finds it well.
func TestOIDC(t *testing.T) {
	p := startProvider(t)
	dir, keys := t.TempDir(), t.TempDir()
	secret := filepath.Join(keys, "oidc.secret")
	harness.WriteFile(t, secret, "secret\n")
	r := &harness.Restartable{T: t, Config: harness.ConfigFile(t, dir, harness.OneList+fmt.Sprintf(`
backend "oidc" "signed" {
  issuer         = %q
  audience       = "signed"
  username_claim = "sub"
}
backend "oidc" "opaque" {
  issuer         = %[1]q
  accept         = "introspection"
  clients        = ["opaque"]
  client_id      = "opaque"
  client_secret  = file(%[2]q)
  username_claim = "preferred_username"
}
domain "dom.example" { backends = [backend.oidc.signed, backend.oidc.opaque] }
`, p.issuer, secret))}
	signed, signedID := p.signIn("signed")
	opaque, opaqueID := p.signIn("opaque")
	for _, c := range []struct{ name, user, token, want string }{
		{"signed", "id2", signed, "1"},
		{"signed again", "id2", signed, "1"},
		{"of another user", "id1", signed, "0"},
		{"tampered with", "id2", signed[:len(signed)-8] + "AAAAAAAA", "0"},
		{"ID token", "id2", signedID, "0"},
		{"ID token of another client", "id2", opaqueID, "0"},
		{"opaque", "test-user2", opaque, "1"},
		{"opaque, of another user", "test-user", opaque, "0"},
		{"made up", "test-user2", strings.Repeat("a", 43), "0"},
		{"a password", "test-user2", "verysecure", "0"},
	} {
		if got := r.Ask("auth:" + c.user + ":dom.example:" + c.token + "\n"); got != c.want+"\n" {
			t.Errorf("%s: %q, want %s", c.name, got, c.want)
		}
	}
	got := harness.Command(t, signedID+"\n", "test", "auth", "id2@dom.example", "--no-cache", "--config", r.Config)
	if got.Code != 1 || !strings.Contains(got.Out+got.Err, "ID token") {
		t.Errorf("test auth with an ID token: %+v", got)
	}
	if log := r.Running().Log.String(); strings.Contains(log, strings.Split(signed, ".")[1]) || strings.Contains(log, opaque) {
		t.Error("a token is in the log")
	}
	examined := harness.Command(t, "", "doctor", "--config", r.Config)
	for _, want := range []string{"the provider says that it is the issuer", "1 key to verify tokens", "the provider answers the client opaque"} {
		if !strings.Contains(examined.Out, want) {
			t.Errorf("doctor does not say %q:\n%s", want, examined.Out)
		}
	}
}

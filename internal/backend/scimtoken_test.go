package backend

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"postern/internal/auth"
	"postern/internal/backend/oidctest"
	"postern/internal/jsonobject"
)

// scimRig is a provider that issues tokens for its SCIM API, which knows joe.
type scimRig struct {
	*oidcRig
	mu     sync.Mutex
	issued int             // tokens
	scope  string          // asked for last
	life   any             // expires_in; nil: it does not say
	good   map[string]bool // tokens that the API takes
	looked int             // requests to the API
}

const scimPath = "/scim/v2/Users"

func newSCIMRig(t *testing.T) *scimRig {
	r := &scimRig{good: map[string]bool{}, life: 600}
	r.oidcRig = newOIDCRig(t, nil)
	r.ClientToken = func(scope string) map[string]any {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.issued++
		r.scope = scope
		token := fmt.Sprintf("%s-%d", canary, r.issued)
		r.good[token] = true
		out := map[string]any{"access_token": token, "token_type": "bearer"}
		if r.life != nil {
			out["expires_in"] = r.life
		}
		return out
	}
	r.Set(scimPath, func(w http.ResponseWriter, req *http.Request) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.looked++
		if token, _ := strings.CutPrefix(req.Header.Get("Authorization"), "Bearer "); !r.good[token] {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		_, _ = io.WriteString(w, scimBody(1, `{"userName":"joe"}`))
	})
	_ = r.Backend.Close()
	b, err := NewOIDC(OIDCOptions{
		HTTPOptions: HTTPOptions{URL: r.URL}, JWT: true, Audience: "postern", UsernameClaim: "preferred_username",
		ClientID: oidctest.Client, ClientSecret: auth.NewSecret(oidctest.Secret), Fold: true, Now: r.now,
		SCIM: &SCIMOptions{URL: r.URL + "/scim/v2", Scopes: []string{"users", "groups"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	r.Backend = b
	t.Cleanup(func() { _ = b.Close() })
	return r
}

// look looks joe up. No error may hold a secret.
func (r *scimRig) look() Result {
	r.t.Helper()
	return ask(r.t, r.Backend, auth.OpIsUser)
}

// wants checks how many tokens were issued so far, and how many requests the API had since the last call.
func (r *scimRig) wants(name string, issued, looked int) {
	r.t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.issued != issued || r.looked != looked {
		r.t.Errorf("%s: %d tokens, %d requests; want %d and %d", name, r.issued, r.looked, issued, looked)
	}
	r.looked = 0
}

// forget has the API refuse all tokens so far.
func (r *scimRig) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.good)
}

// TestSCIMClientToken: a token is fetched at the first lookup, with the scopes, and serves until shortly before its end. One that
// is refused before that is replaced, once.
func TestSCIMClientToken(t *testing.T) {
	r := newSCIMRig(t)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() { r.oidcRig.want("first", r.look(), Accepted, "") })
	}
	all.Wait()
	r.wants("first", 1, 8)
	if r.scope != "users groups" {
		t.Errorf("asked for the scope %q", r.scope)
	}
	r.advance(569 * time.Second)
	r.oidcRig.want("shortly before its end", r.look(), Accepted, "")
	r.wants("half a minute before the end", 1, 1)
	r.advance(2 * time.Second)
	r.oidcRig.want("at its end", r.look(), Accepted, "")
	r.wants("at its end", 2, 1)

	r.forget()
	for range 8 {
		all.Go(func() { r.oidcRig.want("after a refusal", r.look(), Accepted, "") })
	}
	all.Wait()
	r.mu.Lock()
	issued := r.issued
	r.looked = 0
	r.mu.Unlock()
	if issued != 3 {
		t.Errorf("%d tokens after a refusal, want 3", issued)
	}
}

// TestSCIMClientTokenRefused: where new tokens are refused, too, the provider is not asked for one at each lookup.
func TestSCIMClientTokenRefused(t *testing.T) {
	r := newSCIMRig(t)
	make := r.ClientToken
	r.ClientToken = func(scope string) map[string]any {
		defer r.forget()
		return make(scope)
	}
	r.oidcRig.want("first", r.look(), Misconfigured, "just issued")
	r.wants("first", 2, 2)
	for range 20 {
		r.oidcRig.want("later", r.look(), Misconfigured, "just issued")
	}
	r.wants("later", 2, 20)
	r.advance(faultEvery)
	r.oidcRig.want("10 s later", r.look(), Misconfigured, "just issued")
	r.wants("10 s later", 3, 2)
	r.Lock()
	r.ClientToken = make
	r.Unlock()
	r.oidcRig.want("corrected, but not tried", r.look(), Misconfigured, "")
	r.Backend.(Retrier).Retry()
	r.oidcRig.want("after a reload", r.look(), Accepted, "")
	r.Set(scimPath, canned(http.StatusForbidden, "{}"))
	r.oidcRig.want("a token without rights", r.look(), Misconfigured, "may read users")
	r.wants("a token without rights", 4, 2) // no other one has more rights; of the two requests, one is before
}

// TestSCIMClientTokenFaults: whatever keeps a token from being had, the user is neither there nor absent.
func TestSCIMClientTokenFaults(t *testing.T) {
	for _, c := range []struct {
		name   string
		path   string
		status int
		body   string
		class  Class
		reason string
	}{
		{"away", oidctest.Discovery, 503, "", Outage, "503"},
		{"no endpoint", oidctest.Discovery, 200, `{"issuer":"ISSUER"}`, Misconfigured, "token_endpoint"},
		{"down", oidctest.Token, 503, "<html>", Outage, "503"},
		{"a page", oidctest.Token, 200, "<html>" + canary, Outage, "HTML"},
		{"half", oidctest.Token, 200, `{"access_token":"` + canary, Outage, ""},
		{"limits", oidctest.Token, 429, "{}", Throttled, "429"},
		{"gone", oidctest.Token, 404, "{}", Misconfigured, "404"},
		{"elsewhere", oidctest.Token, 302, "", Outage, "redirect"},
		{"another secret", oidctest.Token, 401, `{"error":"invalid_client"}`, Misconfigured, "client_secret"},
		{"no service account", oidctest.Token, 400, `{"error":"unauthorized_client"}`, Misconfigured, "client credentials"},
		{"no such grant", oidctest.Token, 400, `{"error":"unsupported_grant_type"}`, Misconfigured, "client credentials"},
		{"no such scope", oidctest.Token, 400, `{"error":"invalid_scope"}`, Misconfigured, "scope"},
		{"invalid_grant is for passwords", oidctest.Token, 400, `{"error":"invalid_grant"}`, Outage, "400"},
		{"invalid_client with 500", oidctest.Token, 500, `{"error":"invalid_client"}`, Outage, "500"},
		{"no token", oidctest.Token, 200, `{"token_type":"Bearer"}`, Outage, "access_token"},
		{"null", oidctest.Token, 200, `{"access_token":null}`, Outage, "access_token"},
		{"another member", oidctest.Token, 200, `{"Access_Token":"` + canary + `"}`, Outage, "access_token"},
		{"a line break", oidctest.Token, 200, `{"access_token":"` + canary + `\r\nX-Evil: 1"}`, Outage, "bytes"},
		{"a space", oidctest.Token, 200, `{"access_token":"` + canary + ` x"}`, Outage, "bytes"},
		{"no ASCII", oidctest.Token, 200, `{"access_token":"` + canary + `é"}`, Outage, "bytes"},
		{"a long one", oidctest.Token, 200, `{"access_token":"` + strings.Repeat(canary, 1000) + `"}`, Outage, "bytes"},
		{"bound to a key", oidctest.Token, 200, `{"access_token":"` + canary + `","token_type":"DPoP"}`, Outage, "token_type"},
	} {
		r := newSCIMRig(t)
		r.Set(c.path, canned(c.status, strings.Replace(c.body, "ISSUER", r.URL, 1)))
		begun := r.now()
		for range 20 {
			r.want(c.name, r.look(), c.class, c.reason)
		}
		if n, most := r.Asked(c.path), int64(r.now().Sub(begun)/awayEvery)+1; n > most {
			t.Errorf("%s: asked %d times for 20 lookups", c.name, n)
		}
		r.wants(c.name, 0, 0)
		r.Set(c.path, nil)
		r.Backend.(Retrier).Retry()
		if got := r.look(); got.Class != Accepted && c.name != "no endpoint" { // the document counts for an hour
			t.Errorf("%s, corrected: %s, %v", c.name, got.Class, got.Err)
		}
	}
}

// TestSCIMClientTokenHangs: a lookup that has run out of time says so, and holds up none for longer.
func TestSCIMClientTokenHangs(t *testing.T) {
	r := newSCIMRig(t)
	begun := r.hang(oidctest.Token)
	first, cancel := context.WithCancel(context.Background())
	ended := make(chan Result)
	q := Query{Op: auth.OpIsUser, User: "joe", Domain: "dom.example"}
	go func() { ended <- r.Ask(first, q) }()
	<-begun
	over, end := context.WithCancel(context.Background())
	end()
	r.want("another one", r.Ask(over, q), Outage, "in time")
	cancel()
	r.want("the first", <-ended, Outage, "")
}

// TestSCIMClientTokenLife: what a provider says of a token's life is believed within bounds.
func TestSCIMClientTokenLife(t *testing.T) {
	for said, want := range map[string]time.Duration{
		`600`: 10 * time.Minute, `"600"`: 10 * time.Minute, `600.9`: 10 * time.Minute, `1`: time.Second, `1e300`: clientTokenLife, `99999999999999999999`: clientTokenLife,
		`null`: clientTokenUntold, `0`: clientTokenUntold, `-1`: clientTokenUntold, `"soon"`: clientTokenUntold, `{}`: clientTokenUntold, `"NaN"`: clientTokenUntold, `"Inf"`: clientTokenUntold,
	} {
		_, life, err := parseClientToken(map[string]json.RawMessage{"access_token": json.RawMessage(`"x"`), "expires_in": json.RawMessage(said)})
		if err != nil || life != want {
			t.Errorf("%s: %v, %v; want %v", said, life, err, want)
		}
	}
	if _, err := NewOIDC(OIDCOptions{HTTPOptions: HTTPOptions{URL: "https://id.example.org"}, JWT: true, Audience: "x", UsernameClaim: "sub", SCIM: &SCIMOptions{URL: "https://id.example.org/scim"}}); err == nil {
		t.Error("without a token and a client there is no error")
	}
}

// FuzzClientToken: a token that is taken can stand in a header, and lives for a while.
func FuzzClientToken(f *testing.F) {
	for _, body := range []string{
		`{"access_token":"x","token_type":"Bearer","expires_in":600}`, `{"access_token":"x","expires_in":"1e9"}`, `{"access_token":"\u000d\u000a"}`, `{"access_token":7}`, `{}`,
	} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		fields, err := jsonobject.Split(body)
		if err != nil {
			return
		}
		token, life, err := parseClientToken(fields)
		if err == nil && (token == "" || !printable(token) || strings.Contains(token, " ") || life < time.Second || life > clientTokenLife) {
			t.Errorf("%q for %v", token, life)
		}
	})
}

package backend

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"postern/internal/auth"
	"postern/internal/backend/oidctest"
)

// oidcRig is a backend with its provider, and a clock that the test moves.
type oidcRig struct {
	Backend
	*oidctest.Provider
	t      *testing.T
	offset atomic.Int64
}

func (r *oidcRig) now() time.Time          { return time.Now().Add(time.Duration(r.offset.Load())) }
func (r *oidcRig) advance(d time.Duration) { r.offset.Add(int64(d)) }

func newOIDCRig(t *testing.T, change func(*OIDCOptions)) *oidcRig {
	t.Helper()
	r := &oidcRig{Provider: oidctest.Start(t), t: t}
	o := OIDCOptions{
		HTTPOptions: HTTPOptions{URL: r.URL}, JWT: true, Audience: "postern", UsernameClaim: "preferred_username",
		ClientID: oidctest.Client, ClientSecret: auth.NewSecret(oidctest.Secret), Leeway: 30 * time.Second, Fold: true, Now: r.now,
	}
	if change != nil {
		change(&o)
	}
	b, err := NewOIDC(o)
	if err != nil {
		t.Fatal(err)
	}
	r.Backend = b
	t.Cleanup(func() { _ = b.Close() })
	return r
}

// login asks about alice@dom.example. No error may quote the secret.
func (r *oidcRig) login(secret string) Result { return r.loginAs("alice", secret) }

func (r *oidcRig) loginAs(user, secret string) Result {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	answer := r.Ask(ctx, Query{Op: auth.OpAuth, User: user, Domain: "dom.example", Secret: auth.NewSecret(secret)})
	if answer.Err != nil && (len(answer.Err.Error()) > 600 || len(secret) > 8 && strings.Contains(answer.Err.Error(), secret)) {
		r.t.Errorf("an error quotes the secret, or is long: %.600v", answer.Err)
	}
	return answer
}

// want checks a class and a part of the reason.
func (r *oidcRig) want(name string, got Result, class Class, reason string) {
	r.t.Helper()
	if got.Class != class || reason != "" && (got.Err == nil || !strings.Contains(got.Err.Error(), reason)) {
		r.t.Errorf("%s: %s, %v; want %s, %q", name, got.Class, got.Err, class, reason)
	}
}

// asked checks how often the provider was asked for its keys.
func (r *oidcRig) asked(name string, want int64) {
	r.t.Helper()
	if n := r.Asked(oidctest.Keys); n != want {
		r.t.Errorf("%s: the keys were fetched %d times, want %d", name, n, want)
	}
}

type change = map[string]any

// Tokens that must not let in, and one that must.
func TestOIDCAttacks(t *testing.T) {
	r := newOIDCRig(t, nil)
	key, other := oidctest.RSA(t, "a"), oidctest.RSA(t, "b")
	r.Publish(key)
	now := r.now()
	claims := func(c change) map[string]any { return r.Claims(now, c) }
	good := key.Sign(t, claims(nil))
	if got := r.login(good); got.Class != Accepted || got.Account != "alice" || got.Expires.Unix() != now.Add(time.Hour).Unix() || !got.Known {
		t.Fatalf("%+v", got)
	}
	// The public key as the secret of HS256, in the forms in which it is published.
	public, err := json.Marshal(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	hs256 := oidctest.SignWith(t, jose.SigningKey{Algorithm: jose.HS256, Key: jose.JSONWebKey{Key: public, KeyID: "a"}}, (&jose.SignerOptions{}).WithType("at+jwt"), claims(nil))
	embedded := oidctest.SignWith(t, jose.SigningKey{Algorithm: jose.RS256, Key: jose.JSONWebKey{Key: other.Priv, KeyID: "a"}},
		&jose.SignerOptions{EmbedJWK: true, ExtraHeaders: map[jose.HeaderKey]any{"typ": "at+jwt"}}, claims(nil))
	parts := strings.Split(good, ".")
	named := other
	named.ID = "a"
	es256 := oidctest.EC(t, "a")
	for _, c := range []struct {
		name, token string
		class       Class
		reason      string
		goesOn      bool // to the next backend
	}{
		{"alg none", oidctest.Unsigned(claims(nil)), Refused, "algorithm", false},
		{"signature removed", parts[0] + "." + parts[1] + ".", Refused, "", false},
		{"HS256 with the public key", hs256, Refused, "algorithm", false},
		{"a key in the header", embedded, Refused, "signature", false},
		{"another key of the name", named.Sign(t, claims(nil)), Refused, "signature", false},
		{"another kind of key of the name", es256.Sign(t, claims(nil)), Refused, "signature", false},
		{"other claims", parts[0] + "." + strings.Split(key.Sign(t, claims(change{"preferred_username": "alice", "x": 1})), ".")[1] + "." + parts[2], Refused, "signature", false},
		{"expired", key.Sign(t, claims(change{"exp": now.Add(-time.Minute).Unix()})), Refused, "expired", false},
		{"not yet", key.Sign(t, claims(change{"nbf": now.Add(time.Minute).Unix()})), Unsure, "valid in", false},
		{"foreign issuer", key.Sign(t, claims(change{"iss": "https://evil.example"})), Refused, "another issuer", true},
		{"foreign audience", key.Sign(t, claims(change{"aud": "shop"})), Refused, "another audience", false},
		{"ID token", key.SignAs(t, "JWT", claims(change{"scope": nil, "aud": "postern", "nonce": "x"})), Refused, "access token", false},
		{"ID token of Keycloak", key.SignAs(t, "JWT", claims(change{"typ": "ID"})), Refused, "access token", false},
		{"another account", key.Sign(t, claims(change{"preferred_username": "bob"})), Refused, "another account", false},
		{"with a domain", key.Sign(t, claims(change{"preferred_username": "alice@dom.example"})), Refused, "another account", false},
		{"JWE", "eyJhbGciOiJSU0EtT0FFUCIsImVuYyI6IkEyNTZHQ00ifQ.a.b.c.d", Refused, "not a token", true},
		{"not JSON", "eyJhbGci.eyJhbGci.abc", Refused, "not a token", true},
		{"a password", "hunter2", Refused, "not a token", true},
		{"a long password", strings.Repeat("hunter2", 10), Refused, "not a token", true},
		{"no password", "", Refused, "", true},
		{"no name", key.Sign(t, claims(change{"preferred_username": nil})), Misconfigured, "username_claim", false},
	} {
		got := r.login(c.token)
		r.want(c.name, got, c.class, c.reason)
		own := r.Backend.(Screener).Screen(Query{Op: auth.OpAuth, User: "alice", Domain: "dom.example", Secret: auth.NewSecret(c.token)}).Own
		if own == c.goesOn || !own && c.token != "" && !got.Absent {
			t.Errorf("%s: its own %v, absent %v", c.name, own, got.Absent)
		}
	}
	// Without a kid every key counts.
	r.want("no kid", r.login(oidctest.SignWith(t, jose.SigningKey{Algorithm: jose.RS256, Key: key.Priv}, (&jose.SignerOptions{}).WithType("at+jwt"), claims(nil))), Accepted, "")
	r.asked("all", 1)
	r.want("a user that does not exist is not known", r.Ask(context.Background(), Query{Op: auth.OpIsUser, User: "alice", Domain: "dom.example"}), Unsure, "")
	r.want("no changes", r.Ask(context.Background(), Query{Op: auth.OpSetPass, User: "alice", Domain: "dom.example"}), Unsupported, "")
}

// E-mail addresses count only where they are verified.
func TestOIDCEmail(t *testing.T) {
	r := newOIDCRig(t, func(o *OIDCOptions) { o.UsernameClaim = "email" })
	key := oidctest.RSA(t, "a")
	r.Publish(key)
	for verified, class := range map[any]Class{true: Accepted, false: Refused, nil: Refused} {
		c := change{"email": "alice@dom.example", "email_verified": verified}
		r.want(fmt.Sprint("verified: ", verified), r.login(key.Sign(t, r.Claims(r.now(), c))), class, "")
	}
}

// A thousand bad signatures fetch the keys once in 30 seconds, and keep no good token out.
func TestOIDCBadSignatures(t *testing.T) {
	r := newOIDCRig(t, nil)
	key, other := oidctest.RSA(t, "a"), oidctest.RSA(t, "b")
	named := other
	named.ID = "a"
	r.Publish(key)
	claims := r.Claims(r.now(), nil)
	good, bad, unknown := key.Sign(t, claims), named.Sign(t, claims), other.Sign(t, claims)
	flood := func(class Class) {
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for range 125 {
					if got := r.login(bad); got.Class != class && got.Class != Refused { // Unsure while the keys are being fetched
						t.Errorf("a bad signature: %s, %v", got.Class, got.Err)
					}
					if got := r.login(unknown); got.Class != class && got.Class != Refused {
						t.Errorf("an unknown key: %s, %v", got.Class, got.Err)
					}
				}
			})
		}
		wg.Wait()
	}
	r.want("good", r.login(good), Accepted, "")
	flood(Unsure)
	r.asked("right after the first fetch", 1)
	r.advance(fetchEvery + time.Second)
	flood(Unsure)
	r.asked("after 30 s", 2)
	r.want("good", r.login(good), Accepted, "")
}

// A key that is new at the provider is found at once, or after 30 seconds at the latest; never is a token refused
// that is signed with it.
func TestOIDCRotation(t *testing.T) {
	r := newOIDCRig(t, nil)
	old, key, third := oidctest.RSA(t, "a"), oidctest.RSA(t, "b"), oidctest.EC(t, "c")
	r.Publish(old)
	claims := r.Claims(r.now(), nil)
	r.want("the first", r.login(old.Sign(t, claims)), Accepted, "")
	r.advance(fetchEvery + time.Second)
	r.Publish(old, key)
	r.want("a new key", r.login(key.Sign(t, claims)), Accepted, "")
	r.Publish(key, third)
	r.want("another one, soon", r.login(third.Sign(t, claims)), Unsure, "a moment ago")
	r.want("the withdrawn one, soon", r.login(old.Sign(t, claims)), Accepted, "")
	r.advance(fetchEvery + time.Second)
	r.want("another one, later", r.login(third.Sign(t, claims)), Accepted, "")
	r.want("the withdrawn one, later", r.login(old.Sign(t, claims)), Unsure, "")
	r.advance(fetchEvery + time.Second)
	r.want("the withdrawn one, at the end", r.login(old.Sign(t, claims)), Refused, "signature")
	r.asked("rotation", 4)
	r.advance(keysAge)
	r.want("old keys are fetched anew", r.login(key.Sign(t, r.Claims(r.now(), nil))), Accepted, "")
	r.asked("an hour later", 5)
}

// While the provider is away, tokens of known keys let in, and no other is refused for it.
func TestOIDCAway(t *testing.T) {
	key, other := oidctest.RSA(t, "a"), oidctest.RSA(t, "b")
	t.Run("from the start", func(t *testing.T) {
		r := newOIDCRig(t, nil)
		r.Publish(key)
		token := key.Sign(t, r.Claims(r.now(), nil))
		for _, path := range []string{oidctest.Discovery, oidctest.Keys} {
			for status, class := range map[int]Class{500: Outage, 503: Outage, 401: Outage, 302: Outage, 429: Throttled, 404: Misconfigured} {
				r.Fail(path, status)
				r.want(fmt.Sprint(path, " ", status), r.login(token), class, "")
				r.advance(faultEvery)
			}
			r.Set(path, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>login</html>")) })
			r.want(path+" is a page", r.login(token), Outage, "an HTML page")
			r.Set(path, nil)
			r.advance(awayEvery)
		}
		if s := r.Backend.(Screener).Screen(Query{Op: auth.OpAuth, User: "alice", Domain: "dom.example", Secret: auth.NewSecret(token)}); s.Local || !s.Token {
			t.Errorf("without keys: %+v", s)
		}
		r.want("back", r.login(token), Accepted, "")
		if s := r.Backend.(Screener).Screen(Query{Op: auth.OpAuth, User: "alice", Domain: "dom.example", Secret: auth.NewSecret(token)}); !s.Local || !s.Token {
			t.Errorf("with keys: %+v", s)
		}
	})
	t.Run("later", func(t *testing.T) {
		r := newOIDCRig(t, nil)
		r.Publish(key)
		r.want("before", r.login(key.Sign(t, r.Claims(r.now(), nil))), Accepted, "")
		r.Provider.Close()
		named := other
		named.ID = "a"
		r.advance(fetchEvery + time.Second)
		r.want("a known key", r.login(key.Sign(t, r.Claims(r.now(), nil))), Accepted, "")
		r.want("an unknown key", r.login(other.Sign(t, r.Claims(r.now(), nil))), Unsure, "not to be had")
		r.want("a bad signature", r.login(named.Sign(t, r.Claims(r.now(), nil))), Unsure, "")
		r.advance(2 * keysAge)
		r.want("hours later", r.login(key.Sign(t, r.Claims(r.now(), nil))), Accepted, "")
		r.advance(keysGrace)
		r.want("a day later", r.login(key.Sign(t, r.Claims(r.now(), nil))), Outage, "for a day")
	})
	t.Run("slow", func(t *testing.T) {
		r := newOIDCRig(t, func(o *OIDCOptions) { o.Timeout = 20 * time.Millisecond })
		ended := make(chan struct{})
		t.Cleanup(func() { close(ended) })
		r.Publish(key)
		r.Set(oidctest.Keys, func(_ http.ResponseWriter, req *http.Request) {
			select {
			case <-ended:
			case <-req.Context().Done():
			}
		})
		r.want("a provider that hangs", r.login(key.Sign(t, r.Claims(r.now(), nil))), Outage, "in time")
	})
}

// hang has a path answer when the test ends; the requests are sent to the channel.
func (r *oidcRig) hang(path string) <-chan struct{} {
	ended, begun := make(chan struct{}), make(chan struct{}, 100)
	r.t.Cleanup(func() { close(ended) })
	r.Set(path, func(_ http.ResponseWriter, req *http.Request) {
		begun <- struct{}{}
		select {
		case <-ended:
		case <-req.Context().Done():
		}
	})
	return begun
}

// A provider that hangs holds up no token with a known key, and one other at a time.
func TestOIDCHangs(t *testing.T) {
	r := newOIDCRig(t, func(o *OIDCOptions) { o.PasswordGrant = true })
	key, other := oidctest.RSA(t, "a"), oidctest.RSA(t, "b")
	r.Publish(key)
	r.Users = map[string]string{"alice": "pw"}
	r.want("before", r.login(key.Sign(t, r.Claims(r.now(), nil))), Accepted, "")
	begun := r.hang(oidctest.Keys)
	r.advance(fetchEvery + time.Second)
	held, cancel := context.WithCancel(context.Background())
	ended := make(chan Result)
	ask := func(ctx context.Context, secret string) Result {
		return r.Ask(ctx, Query{Op: auth.OpAuth, User: "alice", Domain: "dom.example", Secret: auth.NewSecret(secret)})
	}
	unknown := other.Sign(t, r.Claims(r.now(), nil))
	go func() { ended <- ask(held, unknown) }()
	<-begun
	for range 3 { // at once: without a deadline they would wait for the first
		r.want("another one with an unknown key", ask(context.Background(), unknown), Unsure, "another login")
		r.want("a known key", ask(context.Background(), key.Sign(t, r.Claims(r.now(), nil))), Accepted, "")
	}
	cancel()
	r.want("the first", <-ended, Unsure, "not to be had")
	// An hour later the first one waits, for half of its time at most; then old keys serve at once.
	r.advance(keysAge)
	short, cancel := context.WithTimeout(context.Background(), 4*time.Second)
	defer cancel()
	r.want("old keys", ask(short, key.Sign(t, r.Claims(r.now(), nil))), Accepted, "")
	if short.Err() != nil {
		t.Error("no time was left")
	}
	r.advance(fetchEvery + time.Second)
	r.want("beside", ask(context.Background(), key.Sign(t, r.Claims(r.now(), nil))), Accepted, "")
	// The discovery document is older than an hour, too, and is fetched while the keys' turn is taken.
	r.want("a password", ask(context.Background(), "pw"), Accepted, "")
}

// An old discovery document serves while a newer one is fetched.
func TestOIDCOldDocument(t *testing.T) {
	r := newOIDCRig(t, func(o *OIDCOptions) { o.PasswordGrant = true })
	r.Users = map[string]string{"alice": "pw"}
	r.want("first", r.login("pw"), Accepted, "")
	begun := r.hang(oidctest.Discovery)
	r.advance(metadataAge)
	for range 4 {
		r.want("while it hangs", r.login("pw"), Accepted, "")
	}
	<-begun
	if n := r.Asked(oidctest.Discovery); n != 2 {
		t.Errorf("the document was asked for %d times", n)
	}
}

// From half an hour on, keys are fetched beside the logins, so that a key that was withdrawn verifies nothing after an
// hour, and no login waits.
func TestOIDCKeysBeside(t *testing.T) {
	r := newOIDCRig(t, nil)
	old, key := oidctest.RSA(t, "a"), oidctest.RSA(t, "b")
	r.Publish(old)
	r.want("before", r.login(old.Sign(t, r.Claims(r.now(), nil))), Accepted, "")
	r.Publish(key)
	r.advance(keysEarly)
	r.want("while new keys come", r.login(old.Sign(t, r.Claims(r.now(), nil))), Accepted, "")
	r.Backend.(*oidcBackend).fetching.Wait()
	r.asked("beside", 2)
	r.want("a new key", r.login(key.Sign(t, r.Claims(r.now(), nil))), Accepted, "")
	r.advance(keysAge)
	r.Publish(old)
	r.want("a withdrawn key after an hour", r.login(key.Sign(t, r.Claims(r.now(), nil))), Refused, "signature")
}

// That the provider was away once says nothing of it later: after a day without logins, new keys come first.
func TestOIDCWasAway(t *testing.T) {
	r := newOIDCRig(t, nil)
	old, key := oidctest.RSA(t, "a"), oidctest.RSA(t, "b")
	r.Publish(old)
	r.want("before", r.login(old.Sign(t, r.Claims(r.now(), nil))), Accepted, "")
	r.Fail(oidctest.Keys, 503)
	r.advance(keysAge)
	r.want("away", r.login(old.Sign(t, r.Claims(r.now(), nil))), Accepted, "")
	r.Set(oidctest.Keys, nil)
	r.Publish(key)
	r.advance(12 * time.Hour)
	r.want("a withdrawn key, when it is back", r.login(old.Sign(t, r.Claims(r.now(), nil))), Refused, "signature")
}

// Without any keys, too, the provider is asked for them once a second at most.
func TestOIDCNoKeysYet(t *testing.T) {
	for path, status := range map[string]int{oidctest.Keys: 404, oidctest.Discovery: 503} {
		r := newOIDCRig(t, nil)
		r.Publish(oidctest.RSA(t, "a"))
		r.Fail(path, status)
		token := oidctest.RSA(t, "a").Sign(t, r.Claims(r.now(), nil))
		begun := r.now()
		for range 50 {
			r.login(token)
		}
		if n, most := r.Asked(path), int64(r.now().Sub(begun)/awayEvery)+1; n > most {
			t.Errorf("%s: asked %d times for 50 tokens", path, n)
		}
		r.Set(path, nil)
		r.Backend.(Retrier).Retry()
		r.want("after a retry", r.login(token), Accepted, "")
	}
}

// A leeway of any length is that of the tokens' times: it is no less for nbf.
func TestOIDCLeeway(t *testing.T) {
	r := newOIDCRig(t, func(o *OIDCOptions) { o.Leeway = 5 * time.Minute })
	key := oidctest.RSA(t, "a")
	r.Publish(key)
	for name, c := range map[string]struct {
		claim string
		in    time.Duration
		class Class
	}{
		"begins soon": {"nbf", 4 * time.Minute, Accepted}, "ended": {"exp", -4 * time.Minute, Accepted},
		"begins later": {"nbf", 6 * time.Minute, Unsure}, "ended long ago": {"exp", -6 * time.Minute, Refused},
	} {
		r.want(name, r.login(key.Sign(t, r.Claims(r.now(), change{c.claim: r.now().Add(c.in).Unix()}))), c.class, "")
	}
}

// Of the two forms of a name one counts: many providers let a user take the address of another for a name.
func TestOIDCNames(t *testing.T) {
	for withDomain, good := range map[bool]string{false: "alice", true: "alice@dom.example"} {
		r := newOIDCRig(t, func(o *OIDCOptions) { o.UsernameDomain = withDomain })
		key := oidctest.RSA(t, "a")
		r.Publish(key)
		for _, name := range []string{"alice", "alice@dom.example"} {
			want := Refused
			if name == good {
				want = Accepted
			}
			r.want(fmt.Sprint(name, " with a domain: ", withDomain), r.login(key.Sign(t, r.Claims(r.now(), change{"preferred_username": name}))), want, "")
		}
	}
}

// A provider that says odd things of itself is a fault of the configuration, or an outage.
func TestOIDCLies(t *testing.T) {
	key := oidctest.RSA(t, "a")
	for name, c := range map[string]struct {
		path, body string
		class      Class
		reason     string
	}{
		"another issuer":  {oidctest.Discovery, `{"issuer":"https://evil.example","jwks_uri":"URL/keys"}`, Misconfigured, "https://evil.example"},
		"no issuer":       {oidctest.Discovery, `{"jwks_uri":"URL/keys"}`, Misconfigured, "calls itself"},
		"no keys":         {oidctest.Discovery, `{"issuer":"URL"}`, Misconfigured, "no jwks_uri"},
		"keys in a file":  {oidctest.Discovery, `{"issuer":"URL","jwks_uri":"file:///etc/passwd"}`, Misconfigured, "jwks_uri"},
		"not an object":   {oidctest.Discovery, `[]`, Outage, "JSON of another form"},
		"an empty set":    {oidctest.Keys, `{"keys":[]}`, Outage, "no key"},
		"no set":          {oidctest.Keys, `{}`, Outage, "no key"},
		"a secret key":    {oidctest.Keys, `{"keys":[{"kty":"oct","k":"AAAA","kid":"a"}]}`, Outage, "no key"},
		"keys of strings": {oidctest.Keys, `{"keys":["a",7,null]}`, Outage, "no key"},
	} {
		r := newOIDCRig(t, nil)
		r.Publish(key)
		r.Set(c.path, func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte(strings.ReplaceAll(c.body, "URL", r.URL)))
		})
		token := key.Sign(t, r.Claims(r.now(), nil))
		r.want(name, r.login(token), c.class, c.reason)
		n := r.Asked(oidctest.Discovery)
		r.want(name+" again", r.login(token), c.class, c.reason)
		if c.class == Misconfigured && c.path == oidctest.Discovery && c.reason != "no jwks_uri" && r.Asked(oidctest.Discovery) != n {
			t.Errorf("%s: a wrong provider is asked for each login", name)
		}
		r.Set(c.path, nil)
		r.Backend.(Retrier).Retry()
		if c.reason != "no jwks_uri" { // a document that is right is asked for an hour later
			r.want(name+", corrected", r.login(token), Accepted, "")
		}
	}
}

// That the header of a good token is kept lets in no other token, and takes no more than so much memory.
func TestOIDCHeaders(t *testing.T) {
	r := newOIDCRig(t, nil)
	key := oidctest.RSA(t, "a")
	r.Publish(key)
	good, bob := key.Sign(t, r.Claims(r.now(), nil)), key.Sign(t, r.Claims(r.now(), change{"preferred_username": "bob"}))
	g, b := strings.Split(good, "."), strings.Split(bob, ".")
	r.want("good", r.login(good), Accepted, "")
	for name, token := range map[string]string{
		"of another token": g[0] + "." + g[1] + "." + b[2], "with another's claims": g[0] + "." + b[1] + "." + g[2], "without a signature": g[0] + "." + g[1] + ".",
		"a short signature": good[:len(good)-4], "no base64": good + "A", "a long signature": good + "AAAA",
	} {
		for user := range map[string]bool{"alice": true, "bob": true} {
			if got := r.loginAs(user, token); got.Class != Refused || name != "with another's claims" && user == "alice" && !got.Forged {
				t.Errorf("%s, of %s: %+v", name, user, got)
			}
		}
	}
	r.want("good once more", r.login(key.Sign(t, r.Claims(r.now(), nil))), Accepted, "")
	for i := range 2 * maxHeaders {
		o := (&jose.SignerOptions{}).WithType("at+jwt").WithHeader("n", i)
		token := oidctest.SignWith(t, jose.SigningKey{Algorithm: key.Alg, Key: jose.JSONWebKey{Key: key.Priv, KeyID: key.ID}}, o, r.Claims(r.now(), nil))
		for range 2 {
			r.want(fmt.Sprint("header ", i), r.login(token), Accepted, "")
		}
	}
	kept := 0
	r.Backend.(*oidcBackend).headers.known.Range(func(_, jws any) bool {
		kept++
		if payload := jws.(*jose.JSONWebSignature).UnsafePayloadWithoutVerification(); string(payload) != "{}" {
			t.Errorf("kept with the header: %s", payload)
		}
		return true
	})
	if kept != maxHeaders {
		t.Errorf("%d headers are kept", kept)
	}
}

// BenchmarkOIDC: what a token takes at its first verification, beside what its signature takes alone, in turn. The ratio
// is the metric of-signature.
func BenchmarkOIDC(b *testing.B) {
	for name, key := range map[string]oidctest.Key{"RS256": oidctest.RSA(b, "a"), "ES256": oidctest.EC(b, "b")} {
		p := oidctest.Start(b)
		p.Publish(key)
		be, err := NewOIDC(OIDCOptions{HTTPOptions: HTTPOptions{URL: p.URL}, JWT: true, Audience: "postern", UsernameClaim: "preferred_username"})
		if err != nil {
			b.Fatal(err)
		}
		defer be.Close()
		token := key.Sign(b, p.Claims(time.Now(), nil))
		q := Query{Op: auth.OpAuth, User: "alice", Domain: "dom.example", Secret: auth.NewSecret(token)}
		whole := func() {
			if r := be.Ask(context.Background(), q); r.Class != Accepted {
				b.Fatal(r.Err)
			}
		}
		jws, err := jose.ParseSignedCompact(token, []jose.SignatureAlgorithm{key.Alg})
		if err != nil {
			b.Fatal(err)
		}
		public := key.Public()
		signature := func() {
			if _, err := jws.Verify(&public); err != nil {
				b.Fatal(err)
			}
		}
		whole()
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			var took [2]time.Duration
			for b.Loop() {
				for i, do := range []func(){whole, signature} {
					begun := time.Now()
					do()
					took[i] += time.Since(begun)
				}
			}
			b.ReportMetric(float64(took[0])/float64(took[1]), "of-signature")
			b.ReportMetric(float64(took[1])/float64(b.N), "ns/signature")
		})
		b.Run(name+"/screening", func(b *testing.B) {
			for b.Loop() {
				be.(Screener).Screen(q)
			}
		})
	}
}

// A set with keys of other kinds serves with those that are known.
func TestOIDCKeySet(t *testing.T) {
	r := newOIDCRig(t, nil)
	key, enc := oidctest.RSA(t, "a"), oidctest.RSA(t, "b").Public()
	enc.Use = "enc"
	r.Publish(key)
	one, err1 := json.Marshal(key.Public())
	two, err2 := json.Marshal(enc)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	r.Set(oidctest.Keys, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprintf(w, `{"keys":[{"kty":"OKP","crv":"Ed448","x":"AA","kid":"z"},{"kty":"RSA"},{"kty":"EC","crv":"secp256k1","alg":"ES256K"},%s,%s]}`, two, one)
	})
	r.want("a key among others", r.login(key.Sign(t, r.Claims(r.now(), nil))), Accepted, "")
	r.want("a key for encryption", r.login(oidctest.RSA(t, "b").Sign(t, r.Claims(r.now(), nil))), Unsure, "no key that is known")
}

func TestOIDCOptions(t *testing.T) {
	for want, change := range map[string]func(*OIDCOptions){
		"accept":         func(o *OIDCOptions) { o.JWT = false },
		"username_claim": func(o *OIDCOptions) { o.UsernameClaim = "" },
		"audience":       func(o *OIDCOptions) { o.Audience = "" },
		"client_id":      func(o *OIDCOptions) { o.PasswordGrant, o.ClientID = true, "" },
		"algorithms":     func(o *OIDCOptions) { o.Algorithms = []string{"HS256"} },
		"url":            func(o *OIDCOptions) { o.URL = "id.example.org" },
	} {
		o := OIDCOptions{HTTPOptions: HTTPOptions{URL: "https://id.example.org"}, JWT: true, Audience: "postern", UsernameClaim: "sub", ClientID: "x"}
		change(&o)
		if _, err := NewOIDC(o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

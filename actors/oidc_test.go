package actors

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"postern/internal/apppassword"
	"postern/internal/auth"
	"postern/internal/backend"
	"postern/internal/backend/oidctest"
	"postern/internal/config"
)

// oidcBackend is the backend of a provider, in the place of a fake one.
type oidcBackend struct {
	backend.Backend
	fake *fakeBackend
}

func (b *oidcBackend) Ask(ctx context.Context, q backend.Query) backend.Result {
	b.fake.asked.Add(1)
	return b.Backend.Ask(ctx, q)
}

func (b *oidcBackend) Screen(q backend.Query) backend.Screening {
	return b.Backend.(backend.Screener).Screen(q)
}

func (b *oidcBackend) Close() error { b.fake.closed.Store(true); return b.Backend.Close() }

// oidcRig is a rig with a provider as its backend, before others if change adds them.
type oidcRig struct {
	*rig
	*oidctest.Provider
	key oidctest.Key
}

func newOIDCRig(t testing.TB, change func(*setup, *backend.OIDCOptions)) *oidcRig {
	r := &oidcRig{Provider: oidctest.Start(t), key: oidctest.RSA(t, "a")}
	r.Publish(r.key)
	r.rig = newRig(t, func(s *setup) {
		o := backend.OIDCOptions{
			HTTPOptions: backend.HTTPOptions{URL: r.URL}, JWT: true, Audience: "postern", UsernameClaim: "preferred_username",
			ClientID: oidctest.Client, ClientSecret: auth.NewSecret(oidctest.Secret), Leeway: 30 * time.Second, Fold: true, Now: s.clock.now,
		}
		s.level = slog.LevelDebug
		if change != nil {
			change(s, &o)
		}
		b := &s.cfg.Backends[0]
		b.OIDC.Audience, b.OIDC.UsernameClaim, b.OIDC.UsernameDomain = o.Audience, o.UsernameClaim, o.UsernameDomain
		b.FoldCase, b.BreakerFailures, b.BreakerCooldown = true, 5, time.Hour
		for what, on := range map[string]bool{config.AcceptJWT: o.JWT, config.AcceptIntrospection: o.Introspection, config.AcceptPasswordGrant: o.PasswordGrant} {
			if on {
				b.OIDC.Accept = append(b.OIDC.Accept, what)
			}
		}
		asks, err := backend.NewOIDC(o)
		if err != nil {
			t.Fatal(err)
		}
		s.wrap = func(f *fakeBackend) backend.Backend {
			if f == s.fake {
				return &oidcBackend{asks, f}
			}
			return f
		}
	})
	return r
}

// withNext adds a backend behind that of the provider.
func withNext(s *setup, next *fakeBackend) {
	ref := config.BackendRef{Kind: "json", Name: "next"}
	s.cfg.Backends = append(s.cfg.Backends, config.Backend{BackendRef: ref, Slots: 8, Queue: 64, FoldCase: true, BreakerFailures: 1000, BreakerCooldown: time.Second})
	s.cfg.Domains[0].Backends = append(s.cfg.Domains[0].Backends, ref)
	s.more = map[string]*fakeBackend{"next": next}
}

// token is one that lets alice in, with changes to its claims.
func (r *oidcRig) token(changes map[string]any) string {
	return r.key.Sign(r.t, r.Claims(r.clock.now(), changes))
}

// Attacks over a listener: what ejabberd is answered, that no token goes to another backend or into the log, and
// how often the provider is asked.
func TestOIDCAttacks(t *testing.T) {
	next := &fakeBackend{}
	var sent sync.Map
	next.ask = func(_ context.Context, q backend.Query) backend.Result {
		sent.Store(q.Secret.Reveal(), true)
		return goodPassword(q)
	}
	r := newOIDCRig(t, func(s *setup, _ *backend.OIDCOptions) { withNext(s, next) })
	address := r.listen(listenerBlock("ejabberd"))
	now := r.clock.now()
	public, err := r.key.Public().MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	named := oidctest.RSA(t, "b")
	other := named
	named.ID = "a"
	hs256 := oidctest.SignWith(t, jose.SigningKey{Algorithm: jose.HS256, Key: jose.JSONWebKey{Key: public, KeyID: "a"}}, (&jose.SignerOptions{}).WithType("at+jwt"), r.Claims(now, nil))
	const yes, no, unknown = "\x00\x02\x00\x01", "\x00\x02\x00\x00", "\x00\x02\x00\x02"
	good := r.token(nil)
	tokens := []string{good}
	for _, c := range []struct {
		name, token, want, reason string
		goesOn                    bool
	}{
		{"good", good, yes, "", false},
		{"good again", good, yes, "", false},
		{"alg none", oidctest.Unsigned(r.Claims(now, nil)), no, "algorithm", false},
		{"HS256 with the public key", hs256, no, "algorithm", false},
		{"another key of the name", named.Sign(t, r.Claims(now, nil)), no, "signature", false},
		{"wrong kid", other.Sign(t, r.Claims(now, nil)), unknown, "no key that is known", false},
		{"expired", r.token(map[string]any{"exp": now.Add(-time.Minute).Unix()}), no, "expired", false},
		{"not yet", r.token(map[string]any{"nbf": now.Add(time.Hour).Unix()}), unknown, "clock", false},
		{"foreign audience", r.token(map[string]any{"aud": "shop"}), no, "another audience", false},
		{"foreign issuer", r.token(map[string]any{"iss": "https://evil.example"}), no, "", true},
		{"ID token", r.key.SignAs(t, "JWT", r.Claims(now, map[string]any{"scope": nil})), no, "access token", false},
		{"64 kB", r.token(map[string]any{"x": strings.Repeat("x", 44<<10)}), no, "", false},
		{"another account", r.token(map[string]any{"preferred_username": "bob"}), no, "another account", false},
		{"JWE", "eyJhbGciOiJSU0EtT0FFUCIsImVuYyI6IkEyNTZHQ00ifQ.QQ.QQ.QQ.QQ", no, "", true},
		{"the next backend's password", "good", yes, "", true},
		{"a wrong password", "hunter2", no, "", true},
	} {
		if got := r.exchange(address, ejabberdFrame("auth:alice:dom.example:"+c.token)); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
		if _, went := sent.Load(c.token); went != c.goesOn {
			t.Errorf("%s: sent to the next backend: %v", c.name, went)
		}
		if c.reason != "" && !strings.Contains(r.log.String(), c.reason) {
			t.Errorf("%s: the log does not say %q", c.name, c.reason)
		}
		if len(c.token) > 20 {
			tokens = append(tokens, c.token)
		}
	}
	if n := r.Asked(oidctest.Keys); n != 1 {
		t.Errorf("the keys were fetched %d times", n)
	}
	tree := strings.Join(r.Tree(), "\n")
	r.stop()
	for _, token := range tokens {
		for _, part := range strings.Split(token, ".")[1:] { // the header is the same in all
			if len(part) > 20 && (strings.Contains(r.log.String(), part) || strings.Contains(tree, part)) {
				t.Errorf("a token is in the log: %.80s", part)
			}
		}
	}
}

// A token is verified once, answers from memory until it ends, and has no grace after that. Refused ones, however
// many, do not have the account limited for it.
func TestOIDCRemembered(t *testing.T) {
	in := openStore(t)
	r := newOIDCRig(t, func(s *setup, _ *backend.OIDCOptions) {
		s.store, s.cfg.Domains[0].Cache.Storage = in, config.StorageDisk
		s.cfg.Domains[0].Limit = config.Limit{UserRefusals: 3, Window: time.Hour, FirstPause: time.Hour, LongestPause: time.Hour}
	})
	token := r.token(map[string]any{"exp": r.clock.now().Add(10 * time.Minute).Unix()})
	r.want(r.auth("alice", token), auth.Allow, auth.SourceBackend)
	r.want(r.auth("alice", token), auth.Allow, auth.SourceHot)
	if a := r.auth("Alice", token); a.Verdict != auth.Allow || a.Account != "alice" {
		t.Errorf("another spelling: %+v", a)
	}
	named := oidctest.RSA(t, "b")
	named.ID = "a"
	bad := named.Sign(t, r.Claims(r.clock.now(), nil))
	for i := range 20 {
		if a := r.auth("alice", bad+fmt.Sprint(i)+"x"); a.Verdict != auth.Deny {
			t.Fatalf("a bad signature: %+v", a)
		}
	}
	r.want(r.auth("alice", r.token(nil)), auth.Allow, auth.SourceBackend)
	r.Provider.Close()
	r.clock.advance(9 * time.Minute)
	r.want(r.auth("alice", token), auth.Allow, auth.SourceHot)
	r.clock.advance(2 * time.Minute)
	if a := r.auth("alice", token); a.Verdict != auth.Deny || !strings.Contains(a.Reason, "expired") {
		t.Errorf("an expired token: %+v", a)
	}
	if a := r.ask(auth.Request{Op: auth.OpIsUser, User: "alice", Domain: "dom.example"}); a.Verdict != auth.Allow {
		t.Errorf("the account of a token is not known: %+v", a)
	}
	if a := r.ask(auth.Request{Op: auth.OpIsUser, User: "nobody", Domain: "dom.example"}); a.Verdict != auth.Unavailable {
		t.Errorf("an account that was never seen: %+v", a)
	}
}

// A web mail server has expired tokens of many users: its address is not limited for them, as it is for passwords.
func TestOIDCFromOneAddress(t *testing.T) {
	r := newOIDCRig(t, func(s *setup, _ *backend.OIDCOptions) {
		s.cfg.Domains[0].Limit = config.Limit{AddressRefusals: 3, Window: time.Hour, FirstPause: time.Hour, LongestPause: time.Hour}
	})
	login := func(secret string) auth.Answer {
		return r.ask(auth.Request{Op: auth.OpAuth, User: "alice", Domain: "dom.example", Secret: auth.NewSecret(secret), Client: "192.0.2.1"})
	}
	for range 10 {
		r.want(login(r.token(map[string]any{"exp": r.clock.now().Add(-time.Minute).Unix()})), auth.Deny, auth.SourceBackend)
	}
	r.want(login("wrong"), auth.Deny, auth.SourceBackend)
	for i := range 10 {
		login(fmt.Sprint("wrong", i))
	}
	r.want(login("another"), auth.Unavailable, auth.SourceLimitAddress)
	r.want(login(r.token(nil)), auth.Allow, auth.SourceBackend)
}

// Made-up tokens limit the address that sends them, but neither the passwords nor the remembered tokens from there, nor
// those of a key that was withdrawn.
func TestOIDCForged(t *testing.T) {
	r := newOIDCRig(t, func(s *setup, _ *backend.OIDCOptions) {
		withNext(s, &fakeBackend{})
		s.cfg.Domains[0].Limit = config.Limit{AddressRefusals: 3, Window: time.Hour, FirstPause: time.Hour, LongestPause: time.Hour}
	})
	login := func(client, secret string) auth.Answer {
		return r.ask(auth.Request{Op: auth.OpAuth, User: "alice", Domain: "dom.example", Secret: auth.NewSecret(secret), Client: client})
	}
	const attacker, webmail = "192.0.2.1", "192.0.2.2"
	known := r.token(nil)
	r.want(login(attacker, known), auth.Allow, auth.SourceBackend)
	named := oidctest.RSA(t, "b")
	named.ID = "a"
	fake := named.Sign(t, r.Claims(r.clock.now(), nil))
	for i := range 10 {
		login(attacker, fake) // the same one counts once
		if a := login(attacker, fmt.Sprint(fake, i)); a.Verdict == auth.Allow {
			t.Fatalf("%+v", a)
		}
	}
	r.want(login(attacker, r.token(nil)), auth.Unavailable, auth.SourceLimitAddress)
	r.want(login(attacker, known), auth.Allow, auth.SourceHot)
	r.want(login(attacker, "good"), auth.Allow, auth.SourceBackend)
	if l, err := r.AddressLimit(attacker); err != nil || l.Refusals < 3 || !strings.Contains(r.log.String(), "too many made-up tokens") {
		t.Errorf("shown: %+v, %v", l, err)
	}
	if _, err := r.ForgetAddressLimit(attacker); err != nil {
		t.Error(err)
	}
	r.want(login(attacker, r.token(nil)), auth.Allow, auth.SourceBackend)

	old := r.key
	r.key = oidctest.RSA(t, "c")
	r.Publish(r.key)
	r.clock.advance(31 * time.Second)
	r.want(login(webmail, r.token(nil)), auth.Allow, auth.SourceBackend) // the new key is fetched for it
	for i := range 10 {
		r.clock.advance(31 * time.Second)
		if a := login(webmail, old.Sign(t, r.Claims(r.clock.now(), nil))); a.Verdict != auth.Deny {
			t.Fatalf("token %d of a withdrawn key: %+v", i, a)
		}
	}
	r.want(login(webmail, r.token(nil)), auth.Allow, auth.SourceBackend)
}

// A token that another backend accepted as a password before its issuer was configured does not answer for it.
func TestOIDCWasPassword(t *testing.T) {
	lax := &fakeBackend{ask: func(context.Context, backend.Query) backend.Result { return backend.Result{Class: backend.Accepted} }}
	for name, withStore := range map[string]bool{"in memory": false, "on disk": true} {
		in := openStore(t)
		r := newOIDCRig(t, func(s *setup, _ *backend.OIDCOptions) {
			withNext(s, lax)
			if withStore {
				s.store, s.cfg.Domains[0].Cache.Storage = in, config.StorageDisk
			}
			s.cfg.Backends[0].Kind = config.KindOIDC
			s.cfg.Domains[0].Backends[0] = s.cfg.Backends[0].BackendRef
			slices.Reverse(s.cfg.Domains[0].Backends) // lax, and then the provider
			s.cfg.Domains[0].Backends = s.cfg.Domains[0].Backends[:1]
		})
		expired := r.token(map[string]any{"exp": r.clock.now().Add(-time.Hour).Unix()})
		foreign := r.token(map[string]any{"iss": "https://other.example"})
		for _, secret := range []string{expired, foreign} {
			r.want(r.auth("alice", secret), auth.Allow, auth.SourceBackend)
		}
		r.reload(func(c *config.Config) {
			c.Domains[0].Backends = append(slices.Clone(c.Domains[0].Backends), c.Backends[0].BackendRef)
		})
		if a := r.auth("alice", expired); a.Verdict != auth.Deny || !strings.Contains(a.Reason, "expired") {
			t.Errorf("%s: %+v", name, a)
		}
		if a := r.auth("alice", foreign); a.Verdict != auth.Allow || a.Source == auth.SourceBackend {
			t.Errorf("%s: a password in the form of a token: %+v", name, a)
		}
	}
}

// While the provider is away, and its breaker open, passwords of the next backend are what they are.
func TestOIDCAwayBeforeOthers(t *testing.T) {
	r := newOIDCRig(t, func(s *setup, _ *backend.OIDCOptions) { withNext(s, &fakeBackend{}) })
	r.Fail(oidctest.Discovery, 503)
	for range 10 {
		if a := r.auth("alice", r.token(nil)); a.Verdict != auth.Unavailable {
			t.Fatalf("a token without a provider: %+v", a)
		}
	}
	if !strings.Contains(r.log.String(), "breaker changed") {
		t.Error("the breaker is not open")
	}
	r.want(r.auth("alice", "good"), auth.Allow, auth.SourceBackend)
	if a := r.auth("alice", "wrong"); a.Verdict != auth.Deny {
		t.Errorf("a wrong password: %+v", a)
	}
}

// With the keys at hand, outages of the provider keep no token out.
func TestOIDCBreakerOpen(t *testing.T) {
	r := newOIDCRig(t, func(_ *setup, o *backend.OIDCOptions) { o.PasswordGrant = true })
	r.want(r.auth("alice", r.token(nil)), auth.Allow, auth.SourceBackend)
	r.Fail(oidctest.Token, 503)
	for i := range 40 { // failures that may be of one account count for half
		if a := r.auth(fmt.Sprint("user", i), "password"); a.Verdict != auth.Unavailable {
			t.Fatalf("a password without a provider: %+v", a)
		}
	}
	if !strings.Contains(r.log.String(), "breaker changed") {
		t.Error("the breaker is not open")
	}
	r.want(r.auth("alice", r.token(nil)), auth.Allow, auth.SourceBackend)
	r.Set(oidctest.Token, nil)
	if a := r.auth("alice", "password"); a.Verdict != auth.Unavailable {
		t.Errorf("a verified token has closed the breaker: %+v", a)
	}
}

// Where app passwords are required, signed tokens are accepted all the same; other passwords are not.
func TestOIDCBesideAppPasswords(t *testing.T) {
	in := openStore(t)
	r := newOIDCRig(t, func(s *setup, _ *backend.OIDCOptions) {
		withApps(s, in)
		s.cfg.Domains[0].AppPasswords.RequireAll = true
		withNext(s, &fakeBackend{})
	})
	r.want(r.login("alice", "imap", r.token(nil)), auth.Allow, auth.SourceBackend)
	r.want(r.login("alice", "imap", "good"), auth.Deny, auth.SourceAppPassword)
}

// A storm of bad signatures asks the provider once, and good tokens get in beside it.
func TestOIDCStorm(t *testing.T) {
	r := newOIDCRig(t, nil)
	r.want(r.auth("alice", r.token(nil)), auth.Allow, auth.SourceBackend)
	fetched := r.Asked(oidctest.Keys)
	r.clock.advance(31 * time.Second)
	named := oidctest.RSA(t, "b")
	named.ID = "a"
	bad := named.Sign(t, r.Claims(r.clock.now(), map[string]any{"preferred_username": "bob"}))
	var wg sync.WaitGroup
	var failed atomic.Pointer[auth.Answer]
	for i := range 8 {
		good := r.token(nil)
		wg.Go(func() {
			for j := range 125 {
				if a := r.auth("bob", fmt.Sprintf("%s%d_%d", bad, i, j)); a.Verdict == auth.Allow {
					failed.Store(&a)
				}
			}
			if a := r.auth("alice", good); a.Verdict != auth.Allow {
				failed.Store(&a)
			}
		})
	}
	wg.Wait()
	if a := failed.Load(); a != nil {
		t.Errorf("%+v", *a)
	}
	if n := r.Asked(oidctest.Keys) - fetched; n > 1 {
		t.Errorf("1,000 bad signatures fetched the keys %d times", n)
	}
}

// withFirst adds a backend before that of the provider.
func withFirst(s *setup, first *fakeBackend) {
	withNext(s, first)
	slices.Reverse(s.cfg.Domains[0].Backends)
}

// strict are limits that a few wrong passwords reach.
func strict() config.Limit {
	return config.Limit{UserRefusals: 3, AddressRefusals: 3, Window: time.Hour, FirstPause: time.Hour, LongestPause: time.Hour}
}

// sentTo is a backend that keeps what it is asked.
func sentTo(sent *sync.Map) *fakeBackend {
	return &fakeBackend{ask: func(_ context.Context, q backend.Query) backend.Result {
		if q.Op == auth.OpAuth {
			sent.Store(q.Secret.Reveal(), true)
		}
		r := goodPassword(q)
		r.Known = true // as of a backend that knows the account
		return r
	}}
}

// Wherever the provider stands in the chain, its tokens go to no other backend, which would count them as wrong
// passwords. What another backend knows of the account decides nothing.
func TestOIDCBehindOthers(t *testing.T) {
	var sent sync.Map
	r := newOIDCRig(t, func(s *setup, _ *backend.OIDCOptions) {
		withFirst(s, sentTo(&sent))
		s.cfg.Domains[0].Limit = strict()
	})
	for range 7 {
		token := r.token(nil)
		r.want(r.auth("alice", token), auth.Allow, auth.SourceBackend)
		if _, went := sent.Load(token); went {
			t.Fatal("the first backend was asked about a token")
		}
	}
	past := r.token(nil) // as `postern test auth --no-cache` asks
	r.want(r.ask(auth.Request{Op: auth.OpAuth, User: "alice", Domain: "dom.example", Secret: auth.NewSecret(past), Fresh: true}), auth.Allow, auth.SourceBackend)
	if _, went := sent.Load(past); went {
		t.Error("the first backend was asked about a token past the cache")
	}
	bad := r.token(map[string]any{"aud": "shop"})
	if a := r.auth("alice", bad); a.Verdict != auth.Deny || !strings.Contains(a.Reason, "another audience") {
		t.Errorf("a token for another audience: %+v", a)
	}
	if _, went := sent.Load(bad); went {
		t.Error("the first backend was asked about a refused token")
	}
	r.want(r.auth("alice", "good"), auth.Allow, auth.SourceBackend)
	foreign := r.token(map[string]any{"iss": "https://other.example"})
	if a := r.auth("alice", foreign); a.Verdict != auth.Deny {
		t.Errorf("a token of another issuer: %+v", a)
	}
	if _, went := sent.Load(foreign); !went {
		t.Error("the first backend was not asked about a text that is no token of the domain")
	}
}

// A domain with two names at the provider has the accounts of both.
func TestOIDCAuthDomains(t *testing.T) {
	const opaque = "opaque-0123456789-0123456789-0123456789"
	for name, introspection := range map[string]bool{"signed": false, "opaque": true} {
		var sent sync.Map
		r := newOIDCRig(t, func(s *setup, o *backend.OIDCOptions) {
			withNext(s, sentTo(&sent))
			o.UsernameDomain, o.Introspection = true, introspection
			s.cfg.Domains[0].AuthDomains = []string{"one.example", "two.example"}
		})
		for domain, want := range map[string]auth.Verdict{"one.example": auth.Allow, "two.example": auth.Allow, "dom.example": auth.Deny} {
			claims := map[string]any{"preferred_username": "alice@" + domain}
			secret := r.token(claims)
			if introspection {
				secret = opaque + domain
				about := r.Claims(r.clock.now(), claims)
				about["active"] = true
				r.Lock()
				r.Active[secret] = about
				r.Unlock()
			}
			if a := r.auth("alice", secret); a.Verdict != want {
				t.Errorf("%s, of %s: %+v", name, domain, a)
			}
			if _, went := sent.Load(secret); went {
				t.Errorf("%s, of %s: sent to the next backend", name, domain)
			}
		}
	}
}

// After its key was withdrawn a token has no grace: the provider is there, and its keys do not have that of the token.
func TestOIDCWithdrawnKey(t *testing.T) {
	r := newOIDCRig(t, nil)
	token := r.token(map[string]any{"exp": r.clock.now().Add(72 * time.Hour).Unix()})
	r.want(r.auth("alice", token), auth.Allow, auth.SourceBackend)
	r.Publish(oidctest.RSA(t, "new"))
	r.clock.advance(2 * time.Hour) // past query_ttl
	stranger := oidctest.RSA(t, "stranger").Sign(t, r.Claims(r.clock.now(), map[string]any{"preferred_username": "eve"}))
	if a := r.auth("eve", stranger); a.Verdict == auth.Allow {
		t.Errorf("a stranger: %+v", a)
	}
	if a := r.auth("alice", token); a.Verdict != auth.Unavailable {
		t.Errorf("soon after the keys were fetched: %+v", a)
	}
	r.clock.advance(31 * time.Second)
	if a := r.auth("alice", token); a.Verdict != auth.Deny {
		t.Errorf("later: %+v", a)
	}
}

// An opaque token has grace while the provider cannot be reached, for verify_ttl.
func TestOIDCGrace(t *testing.T) {
	const opaque = "opaque-0123456789-0123456789-0123456789"
	r := newOIDCRig(t, func(_ *setup, o *backend.OIDCOptions) { o.JWT, o.Introspection = false, true })
	r.Active[opaque] = map[string]any{"active": true, "aud": "postern", "preferred_username": "alice", "exp": r.clock.now().Add(30 * 24 * time.Hour).Unix()}
	r.want(r.auth("alice", opaque), auth.Allow, auth.SourceBackend)
	r.Fail(oidctest.Introspec, 503)
	r.clock.advance(23 * time.Hour)
	r.want(r.auth("alice", opaque), auth.Allow, auth.SourceGrace)
	r.clock.advance(time.Hour)
	if a := r.auth("alice", opaque); a.Verdict != auth.Unavailable {
		t.Errorf("after verify_ttl: %+v", a)
	}
}

// Made-up tokens of the issuer cost no comparison with the hashes of the user's passwords, also where those hashes are
// all that a process knows of them.
func TestOIDCComparesNothing(t *testing.T) {
	in := openStore(t)
	with := func(s *setup, _ *backend.OIDCOptions) {
		withNext(s, &fakeBackend{})
		s.store, s.cfg.Domains[0].Cache.Storage = in, config.StorageDisk
	}
	first := newOIDCRig(t, with)
	first.want(first.auth("alice", "good"), auth.Allow, auth.SourceBackend)
	first.hashed("alice", 1)
	first.stop()
	r := newOIDCRig(t, with)
	r.want(r.auth("bob", r.token(map[string]any{"preferred_username": "bob"})), auth.Allow, auth.SourceBackend)
	unknown, named := oidctest.RSA(t, "zz"), oidctest.RSA(t, "b")
	named.ID = "a"
	for i := range 5 {
		claims := r.Claims(r.clock.now(), map[string]any{"x": i})
		for _, token := range []string{named.Sign(t, claims), unknown.Sign(t, claims), r.token(map[string]any{"exp": 1}), oidctest.Unsigned(claims)} {
			if a := r.auth("alice", token); a.Verdict == auth.Allow {
				t.Fatalf("%+v", a)
			}
		}
	}
	if n := r.stats().Compares; n != 0 {
		t.Errorf("%d comparisons", n)
	}
	r.want(r.auth("alice", "good"), auth.Allow, auth.SourceCache)
	if r.stats().Compares == 0 {
		t.Error("comparisons are not counted")
	}
}

// After a reload with narrower rules, what was let in by the wider ones is verified again.
func TestOIDCReload(t *testing.T) {
	r := newOIDCRig(t, func(s *setup, _ *backend.OIDCOptions) {
		s.cfg.Backends[0].Kind = config.KindOIDC
		s.cfg.Domains[0].Backends[0] = s.cfg.Backends[0].BackendRef
	})
	token := r.token(nil)
	r.want(r.auth("alice", token), auth.Allow, auth.SourceBackend)
	r.reload(func(c *config.Config) { c.Backends[0].Slots++ })
	r.want(r.auth("alice", token), auth.Allow, auth.SourceHot)
	r.reload(func(c *config.Config) { c.Backends[0].OIDC.Audience = "other" })
	r.want(r.auth("alice", token), auth.Allow, auth.SourceBackend) // by the rig's backend, which has the former rules
}

// Where app passwords are required, no password passes for a token, whatever its form.
func TestOIDCRequiredAppPassword(t *testing.T) {
	in := openStore(t)
	accepts := &fakeBackend{ask: func(context.Context, backend.Query) backend.Result { return backend.Result{Class: backend.Accepted} }}
	r := newOIDCRig(t, func(s *setup, _ *backend.OIDCOptions) {
		withApps(s, in)
		s.cfg.Domains[0].AppPasswords.RequireAll = true
		withNext(s, accepts)
	})
	claims := r.Claims(r.clock.now(), nil)
	for name, secret := range map[string]string{
		"dots": "eyJ.my.own-password", "an empty JWT": "eyJhbGciOiJub25lIn0.e30.x",
		"of another issuer": r.token(map[string]any{"iss": "https://other.example"}),
		"made up":           oidctest.Unsigned(claims),
	} {
		if a := r.login("alice", "imap", secret); a.Verdict != auth.Deny {
			t.Errorf("%s: %+v", name, a)
		}
	}
	if n := accepts.asked.Load(); n != 0 {
		t.Errorf("the next backend was asked %d times", n)
	}
	r.want(r.login("alice", "imap", r.token(nil)), auth.Allow, auth.SourceBackend)
}

// Alone, the provider says why a password is none of its tokens, past the cache as well.
func TestOIDCReasonAlone(t *testing.T) {
	r := newOIDCRig(t, nil)
	for secret, want := range map[string]string{"password": "not a token", r.token(map[string]any{"iss": "https://other.example"}): "another issuer"} {
		for _, fresh := range []bool{false, true} {
			a := r.ask(auth.Request{Op: auth.OpAuth, User: "alice", Domain: "dom.example", Secret: auth.NewSecret(secret), Fresh: fresh})
			if a.Verdict != auth.Deny || !strings.Contains(a.Reason, want) {
				t.Errorf("past the cache %v: %+v", fresh, a)
			}
		}
	}
}

// A text in the form of a token that is none of the domain's issuer is a guess like any other.
func TestOIDCForeignIsAGuess(t *testing.T) {
	for name, change := range map[string]func(s *setup, o *backend.OIDCOptions){
		"behind another":       func(s *setup, _ *backend.OIDCOptions) { withFirst(s, &fakeBackend{}) },
		"before another":       func(s *setup, _ *backend.OIDCOptions) { withNext(s, &fakeBackend{}) },
		"password grant alone": func(_ *setup, o *backend.OIDCOptions) { o.JWT, o.PasswordGrant = false, true },
	} {
		r := newOIDCRig(t, func(s *setup, o *backend.OIDCOptions) {
			change(s, o)
			s.cfg.Domains[0].Limit = strict()
			s.cfg.Domains[0].Limit.UserRefusals = 0
		})
		login := func(user, secret string) auth.Answer {
			return r.ask(auth.Request{Op: auth.OpAuth, User: user, Domain: "dom.example", Secret: auth.NewSecret(secret), Client: "192.0.2.1"})
		}
		for i := range 10 {
			login("alice", r.token(map[string]any{"iss": "https://other.example", "x": i}))
		}
		if a := login("alice", r.token(map[string]any{"iss": "https://other.example"})); a.Source != auth.SourceLimitAddress {
			t.Errorf("%s: %+v", name, a)
		}
	}
}

// What is put to the provider for introspection keeps to its budget, and limits no account for it.
func TestOIDCIntrospectionBudget(t *testing.T) {
	const opaque = "opaque-0123456789-0123456789-0123456789"
	r := newOIDCRig(t, func(s *setup, o *backend.OIDCOptions) {
		o.Introspection = true
		s.cfg.Backends[0].RefusalBudget, s.cfg.Backends[0].RefusalWindow = 20, time.Hour
		s.cfg.Domains[0].Limit = config.Limit{UserRefusals: 3, Window: time.Hour, FirstPause: time.Hour, LongestPause: time.Hour}
	})
	r.Active[opaque] = map[string]any{"active": true, "aud": "postern", "preferred_username": "alice", "exp": r.clock.now().Add(time.Hour).Unix()}
	for i := range 8 {
		r.auth("alice", fmt.Sprintf("opaque-%032d", i))
	}
	r.want(r.auth("alice", opaque), auth.Allow, auth.SourceBackend)
	for i := range 100 {
		r.auth(fmt.Sprint("user", i), fmt.Sprintf("opaque+%032d", i))
	}
	if n := r.Asked(oidctest.Introspec); n > 21 {
		t.Errorf("with a budget of 20, %d made-up tokens were put to the provider", n-1)
	}
	r.want(r.auth("alice", r.token(nil)), auth.Allow, auth.SourceBackend)
}

// That the provider has nothing to do with a password is not why a login fails.
func TestOIDCReason(t *testing.T) {
	for name, c := range map[string]struct {
		answer backend.Result
		want   string
	}{
		"away":     {backend.Result{Class: backend.Outage, Err: errors.New("connection refused by the next")}, "connection refused by the next"},
		"refuses":  {backend.Result{Class: backend.Refused}, "the backend refused the password"},
		"has none": {backend.Result{Class: backend.Refused, Absent: true}, "the backend refused the password"},
	} {
		for _, add := range []func(*setup, *fakeBackend){withFirst, withNext} {
			r := newOIDCRig(t, func(s *setup, _ *backend.OIDCOptions) {
				add(s, &fakeBackend{ask: func(context.Context, backend.Query) backend.Result { return c.answer }})
			})
			if a := r.auth("alice", "password"); a.Reason != c.want {
				t.Errorf("%s: %q", name, a.Reason)
			}
		}
	}
}

// bearerLogin asks for a login with a token.
func bearerLogin(id int, user, token string) string {
	return fmt.Sprintf("AUTH\t%d\tOAUTHBEARER\tservice=smtp\trip=192.0.2.7\tresp=%s\n", id,
		base64.StdEncoding.EncodeToString([]byte("n,a="+user+",\x01host=mail.dom.example\x01port=587\x01auth=Bearer "+token+"\x01\x01")))
}

// By the mechanisms of tokens only tokens let in: no other backend is asked, no password that is known passes, and what
// is learned of a text there says nothing of it as a password.
func TestOIDCMechanism(t *testing.T) {
	const opaque, password = "opaque-0123456789-0123456789-0123456789", "good"
	for name, introspection := range map[string]bool{"signed": false, "both": true} {
		var sent sync.Map
		in := openStore(t)
		r := newOIDCRig(t, func(s *setup, o *backend.OIDCOptions) {
			withApps(s, in)
			withFirst(s, sentTo(&sent))
			o.Introspection, o.PasswordGrant = introspection, introspection
		})
		r.Lock()
		r.Active[opaque] = map[string]any{"active": true, "aud": "postern", "preferred_username": "alice", "exp": r.clock.now().Add(time.Hour).Unix()}
		r.Users["alice"] = password
		r.Unlock()
		l := listenerBlock("dovecot")
		l.Bearer = config.Bearer{Offered: true, Discovery: r.URL + oidctest.Discovery}
		d := r.dovecot(t, r.listen(l), 0)
		id := 0
		login := func(user, token string) bool {
			t.Helper()
			id++
			d.say(bearerLogin(id, user, token))
			got := d.line()
			if got == fmt.Sprintf("OK\t%d\tuser=alice@dom.example", id) {
				return true
			}
			text, _ := base64.StdEncoding.DecodeString(strings.TrimPrefix(got, fmt.Sprintf("CONT\t%d\t", id)))
			if string(text) != `{"status":"invalid_token","openid-configuration":"`+l.Bearer.Discovery+`"}` {
				t.Fatalf("%s, %s: %q, %q", name, user, got, text)
			}
			d.say(fmt.Sprintf("CONT\t%d\tAQ==\n", id))
			d.expect(fmt.Sprintf("FAIL\t%d\tuser=%s", id, user))
			return false
		}
		plain := func() {
			t.Helper()
			id++
			d.say(plainLogin(id, "alice", password))
			d.expect(fmt.Sprintf("OK\t%d\tuser=alice@dom.example", id))
		}
		apps := r.add("alice", apppassword.New{Name: "phone"})
		token := r.token(nil)
		for range 2 {
			for _, c := range []struct {
				user, token string
				want        bool
			}{
				{"alice", token, true},
				{"bob", token, false},
				{"alice", r.token(map[string]any{"exp": 1}), false},
				{"alice", r.token(map[string]any{"iss": "https://other.example"}), false},
				{"alice", password, false},
				{"alice", strings.ReplaceAll(apps, " ", "-"), false},
				{"alice", opaque, introspection},
				{"bob", opaque, false},
			} {
				if got := login(c.user, c.token); got != c.want {
					t.Errorf("%s, %s with %.20s: %v", name, c.user, c.token, got)
				}
				if _, went := sent.Load(c.token); went && c.token != password {
					t.Errorf("%s: %.20s was sent to the first backend", name, c.token)
				}
			}
			plain()
		}
		if n := r.Asked(oidctest.Token); n != 0 {
			t.Errorf("%s: %d tokens were put to the provider as passwords", name, n)
		}
	}
}

// A temporary failure is one by every mechanism.
func TestOIDCMechanismAway(t *testing.T) {
	r := newOIDCRig(t, nil)
	r.Provider.Close()
	l := listenerBlock("dovecot")
	l.Bearer.Offered = true
	address := r.listen(l)
	d := r.dovecot(t, address, 0)
	d.say(bearerLogin(1, "alice", r.token(nil)))
	d.ended()
	d = r.dovecot(t, address, 2)
	d.say(bearerLogin(1, "alice", r.token(nil)))
	d.expect("FAIL\t1\tuser=alice\ttemp\tcode=temp_fail")
}

package backend

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-jose/go-jose/v4"

	"postern/internal/auth"
	"postern/internal/oidc"
)

// OIDCOptions configure a backend that asks an OpenID Connect provider.
type OIDCOptions struct {
	HTTPOptions // URL is the issuer, byte for byte as its tokens have it
	// JWT: passwords that are JWTs of the issuer are verified here. Introspection: opaque ones are put to the
	// provider. PasswordGrant: so are passwords.
	JWT, Introspection, PasswordGrant bool

	Audience      string      // that a token must have; empty only with Introspection alone
	Clients       []string    // to one of which a token was issued; empty: any
	ClientID      string      // of postern, for Introspection and PasswordGrant
	ClientSecret  auth.Secret // may be empty, for a public client
	UsernameClaim string      // the claim that names the user
	// UsernameDomain: the claim is user@domain, as "email" always is; else it is the user alone.
	UsernameDomain bool

	GroupsClaim string       // the claim that lists the account's groups; empty: none does
	SCIM        *SCIMOptions // where accounts are looked up; nil: they cannot be

	Scopes     []string // that a token must have, and a password grant asks for
	Algorithms []string // some of oidc.Algorithms; empty: all
	Leeway     time.Duration
	Fold       bool             // names that differ by letter case are one account
	Now        func() time.Time // nil: time.Now
}

// oidcBackend asks an OpenID Connect provider.
type oidcBackend struct {
	options    OIDCOptions
	rules      oidc.Rules
	algorithms []jose.SignatureAlgorithm
	discovery  *httpClient
	scim       *scim // nil: accounts cannot be looked up

	headers  headers
	turn     chan struct{} // held by the one that fetches metadata or keys
	provider atomic.Pointer[provider]
	keys     atomic.Pointer[keySet] // nil: not fetched yet
	away     atomic.Int64           // when the keys were asked for last, if they were not to be had; in ns

	// With the turn alone.
	tried                   time.Time // when keys were asked for last
	undiscovered, unfetched *miss     // of the discovery, and of the keys

	life     context.Context // of what is fetched beside the logins
	end      context.CancelFunc
	fetching sync.WaitGroup
}

// NewOIDC returns a backend for the OpenID Connect provider at o.URL. It answers auth and, with o.SCIM, isuser. Nothing is fetched before
// the first question. Its errors say what to correct in the options.
func NewOIDC(o OIDCOptions) (Backend, error) {
	rules := oidc.Rules{
		Issuer: o.URL, Audience: o.Audience, Clients: o.Clients, Scopes: o.Scopes,
		Claim: o.UsernameClaim, Domain: o.UsernameDomain || o.UsernameClaim == "email", Leeway: o.Leeway, Fold: o.Fold,
	}
	switch {
	case !o.JWT && !o.Introspection && !o.PasswordGrant:
		return nil, errors.New("accept is empty")
	case o.UsernameClaim == "":
		return nil, errors.New("username_claim is empty")
	case !rules.Bounded(o.JWT, o.Introspection):
		return nil, errors.New("audience is empty: tokens that were issued for other applications would let in")
	case (o.Introspection || o.PasswordGrant) && o.ClientID == "":
		return nil, errors.New("client_id is empty")
	}
	if len(o.Algorithms) == 0 {
		o.Algorithms = oidc.Algorithms
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	b := &oidcBackend{options: o, rules: rules, turn: make(chan struct{}, 1)}
	for _, name := range o.Algorithms {
		if !slices.Contains(oidc.Algorithms, name) {
			return nil, errors.New("algorithms has one that is not known, or not asymmetric")
		}
		b.algorithms = append(b.algorithms, jose.SignatureAlgorithm(name))
	}
	at := o.HTTPOptions
	at.URL = oidc.DiscoveryURL(o.URL)
	var err error
	if b.discovery, err = newHTTPClient(at); err != nil {
		return nil, err
	}
	if o.SCIM != nil {
		if b.scim, err = newSCIM(*o.SCIM, o.HTTPOptions, b, o.Fold); err != nil {
			return nil, err
		}
	}
	b.life, b.end = context.WithCancel(context.Background())
	return b, nil
}

// Close implements Backend.
func (b *oidcBackend) Close() error {
	b.end()
	b.fetching.Wait()
	b.discovery.close()
	if b.scim != nil {
		b.scim.client.close()
	}
	if p := b.provider.Load(); p != nil {
		p.close(nil)
	}
	return nil
}

var (
	errNoToken   = errors.New("it is not a token, and the provider takes no other passwords")
	errNoLookup  = errors.New("an OpenID Connect provider cannot be asked whether a user exists, but by its SCIM API (scim)")
	errAlgorithm = errors.New("the token is malformed, or its algorithm is not one of algorithms")
	errSignature = errors.New("the signature is of none of the issuer's keys")
)

// Screen implements Screener.
func (b *oidcBackend) Screen(q Query) Screening {
	answered := func(r Result) Screening { return Screening{Answer: &r} }
	switch q.Op {
	case auth.OpIsUser:
		if b.scim != nil {
			return Screening{}
		}
		return answered(Result{Class: Unsure, Err: errNoLookup})
	case auth.OpAuth:
	default:
		return answered(Result{Class: Unsupported})
	}
	secret, o := q.Secret.Reveal(), &b.options
	if q.User == "" || secret == "" {
		return answered(Result{Class: Refused})
	}
	if u := b.jwt(q); u != nil {
		switch err := b.rules.Ours(*u); {
		case err != nil: // it is a secret of another provider, which this one must not see
			return answered(Result{Class: Refused, Absent: true, Err: err})
		case o.JWT:
			return Screening{Own: true, Token: true, Offline: true, Local: b.keys.Load() != nil}
		}
		return Screening{Own: true, Token: true}
	}
	switch {
	case b.opaque(q):
		return Screening{Token: q.Bearer || !o.PasswordGrant}
	case q.Bearer || !o.PasswordGrant:
		return answered(Result{Class: Refused, Absent: true, Err: errNoToken})
	}
	return Screening{}
}

// opaque reports whether a secret is put to the provider for introspection, unless it is a JWT.
func (b *oidcBackend) opaque(q Query) bool {
	return b.options.Introspection && (q.Bearer || oidc.LooksOpaque(q.Secret.Reveal()))
}

// jwt returns what a secret says of itself; nil if it is no JWT, or one like any password to this backend.
func (b *oidcBackend) jwt(q Query) *oidc.Unverified {
	switch {
	case !b.options.JWT && !b.options.Introspection:
		return nil
	case q.JWT != nil:
		return q.JWT
	}
	return oidc.Read(q.Secret.Reveal())
}

// Ask implements Backend.
func (b *oidcBackend) Ask(ctx context.Context, q Query) Result {
	if q.Op == auth.OpAuth && q.JWT == nil {
		q.JWT = b.jwt(q)
	}
	s := b.Screen(q)
	switch {
	case s.Answer != nil:
		return *s.Answer
	case q.Op == auth.OpIsUser:
		return b.scim.exists(ctx, q)
	case s.Offline:
		return b.signed(ctx, q, *q.JWT)
	case s.Own, b.opaque(q):
		if r := b.introspect(ctx, q); r.Class != Refused || r.Final || s.Own || q.Bearer || !b.options.PasswordGrant {
			return r
		}
	}
	return b.grant(ctx, q)
}

// signed decides on a JWT. Its claims come first: they cost no signature, and no request to the provider.
func (b *oidcBackend) signed(ctx context.Context, q Query, u oidc.Unverified) Result {
	now := b.options.Now()
	pass, fault := b.rules.Signed(u, q.User, q.Domain, now)
	if fault != nil && fault.Kind != oidc.Incomplete {
		return faulty(fault)
	}
	header, _, _ := strings.Cut(q.Secret.Reveal(), ".")
	jws, err := b.headers.parse(q.Secret.Reveal(), header, b.algorithms)
	if err != nil {
		return Result{Class: Refused, Forged: true, Err: errAlgorithm}
	}
	if failed := b.verified(ctx, &signature{jws, u.Payload}, now); failed != nil {
		return *failed
	}
	b.headers.keep(header, b.algorithms)
	if fault != nil {
		return faulty(fault)
	}
	return Result{Class: Accepted, Known: true, Account: pass.Account, Expires: pass.Expires, Groups: b.groups(q, u.Claims)}
}

// groups returns what claims say of the groups that are asked about.
func (b *oidcBackend) groups(q Query, c oidc.Claims) auth.Groups {
	has, said := c.Groups(b.options.GroupsClaim)
	if !said {
		return ""
	}
	return auth.GroupsOf(q.Groups, has)
}

// faulty is the Result for a token that does not let its bearer in.
func faulty(f *oidc.Fault) Result {
	switch f.Kind {
	case oidc.Foreign, oidc.Elsewhere:
		return Result{Class: Refused, Absent: true, Err: f}
	case oidc.NotYet:
		return Result{Class: Unsure, Err: f}
	case oidc.Incomplete:
		return Result{Class: Misconfigured, Err: f}
	}
	return Result{Class: Refused, Err: f}
}

package backend

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-jose/go-jose/v4"

	"postern/internal/jsonobject"
	"postern/internal/oidc"
)

// How long what a provider has published counts.
const (
	// metadataAge is that of the discovery document.
	metadataAge = time.Hour
	// keysAge is that of the keys. A key that was withdrawn verifies no token after it, unless the provider cannot
	// be reached: then for keysGrace.
	keysAge   = time.Hour
	keysEarly = keysAge / 2 // from when on they are fetched beside the logins
	keysGrace = 24 * time.Hour
	// fetchEvery is the shortest time between two requests for the keys: a stranger can make up any number of
	// tokens with keys that are not known.
	fetchEvery = 30 * time.Second
	// renewPatience bounds the wait for new keys where there are some.
	renewPatience = 3 * time.Second
	// besideTimeout bounds a request that no login waits for.
	besideTimeout = 30 * time.Second
	// faultEvery is that between two discoveries while the provider, or the configuration of its address, is wrong, and
	// awayEvery that between two requests of any kind while nothing has been had of it yet.
	faultEvery = 10 * time.Second
	awayEvery  = time.Second
	// awayFor is how long the provider counts as away after it was found to be. Then a login waits for new keys again: one
	// of a withdrawn key may be the first for a day.
	awayFor = 2 * time.Minute
	// maxKeys bounds a key set.
	maxKeys = 64
)

// provider is what an issuer has published of itself. Its endpoints are nil if it has none.
type provider struct {
	at                         time.Time // when it was asked
	keys, introspection, token *endpoint
}

// endpoint is a URL of a provider.
type endpoint struct {
	url    string
	client *httpClient
}

// close closes the connections of endpoints that another provider has not taken over.
func (p *provider) close(heir *provider) {
	for _, e := range []*endpoint{p.keys, p.introspection, p.token} {
		if e != nil && (heir == nil || e != heir.keys && e != heir.introspection && e != heir.token) {
			e.client.close()
		}
	}
}

// miss is why something was not had of the provider, until it is asked again.
type miss struct {
	result Result
	until  time.Time
}

// missed keeps why something was not had. An old one serves meanwhile, so that there is time.
func missed(r *Result, now time.Time, old bool) *miss {
	if old || r.Class == Misconfigured {
		return &miss{*r, now.Add(faultEvery)}
	}
	return &miss{*r, now.Add(awayEvery)}
}

// standing returns the result as long as it counts.
func (m *miss) standing(now time.Time) *Result {
	if m == nil || !now.Before(m.until) || m.until.Sub(now) > faultEvery { // the clock was set back
		return nil
	}
	return &m.result
}

// take waits for the turn to fetch something. Without one, ctx has ended.
func (b *oidcBackend) take(ctx context.Context) *Result {
	select {
	case b.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return &Result{Class: Outage, Err: fmt.Errorf("the provider's keys or metadata did not come in time: %w", ctx.Err())}
	}
}

// takeFree takes the turn if no other has it.
func (b *oidcBackend) takeFree() bool {
	select {
	case b.turn <- struct{}{}:
		return true
	default:
		return false
	}
}

func (b *oidcBackend) give() { <-b.turn }

// beside fetches something that no login waits for, unless something is being fetched, or it is not due. due is called
// with the turn.
func (b *oidcBackend) beside(due func() bool, fetch func(context.Context)) {
	if !b.takeFree() {
		return
	}
	if !due() {
		b.give()
		return
	}
	b.fetching.Go(func() {
		defer b.give()
		defer func() { _ = recover() }() // as if the provider had not answered
		ctx, cancel := context.WithTimeout(b.life, besideTimeout)
		defer cancel()
		fetch(ctx)
	})
}

// Retry implements Retrier.
func (b *oidcBackend) Retry() {
	if b.scim != nil && b.scim.issued != nil {
		b.scim.issued.retry()
	}
	if !b.takeFree() {
		return // it is being tried
	}
	b.undiscovered, b.unfetched, b.tried = nil, nil, time.Time{}
	b.give()
}

// known returns what the provider has published, which is asked for if it is not known yet. An older document serves
// while a newer one is fetched.
func (b *oidcBackend) known(ctx context.Context) (*provider, *Result) {
	if p := b.provider.Load(); p != nil {
		if b.options.Now().Sub(p.at) >= metadataAge {
			b.beside(func() bool { return b.undiscovered.standing(b.options.Now()) == nil }, func(ctx context.Context) { _, _ = b.discover(ctx) })
		}
		return p, nil
	}
	if r := b.take(ctx); r != nil {
		return nil, r
	}
	defer b.give()
	return b.discover(ctx)
}

// Discover implements Publisher.
func (b *oidcBackend) Discover(ctx context.Context) Result {
	if _, r := b.known(ctx); r != nil {
		return *r
	}
	return Result{Class: Accepted}
}

// Keys implements Publisher.
func (b *oidcBackend) Keys(ctx context.Context) (int, Result) {
	set, r := b.renew(ctx, b.keys.Load())
	if r != nil {
		return 0, *r
	}
	return len(set.keys), Result{Class: Accepted}
}

// discover is known, with the turn. An older document stays in use if there is no newer one.
func (b *oidcBackend) discover(ctx context.Context) (*provider, *Result) {
	now, old := b.options.Now(), b.provider.Load()
	if old != nil && now.Sub(old.at) < metadataAge {
		return old, nil
	}
	r := b.undiscovered.standing(now)
	var p *provider
	if r == nil {
		if p, r = b.ask(ctx, old); r != nil {
			b.undiscovered = missed(r, now, old != nil)
		}
	}
	switch {
	case r == nil:
	case old != nil:
		return old, nil
	default:
		return nil, r
	}
	b.undiscovered, p.at = nil, now
	b.provider.Store(p)
	if old != nil {
		old.close(p)
	}
	return p, nil
}

// ask fetches the discovery document.
func (b *oidcBackend) ask(ctx context.Context, old *provider) (*provider, *Result) {
	fields, r := b.get(ctx, b.discovery, "discovery document")
	if r != nil {
		return nil, r
	}
	if issuer, _ := text(fields["issuer"]); issuer != b.rules.Issuer {
		r := misconfigured(fmt.Sprintf("the provider at issuer calls itself %.200q: write that, byte for byte", issuer))
		return nil, &r
	}
	p := new(provider)
	for name, to := range map[string]**endpoint{"jwks_uri": &p.keys, "introspection_endpoint": &p.introspection, "token_endpoint": &p.token} {
		at, ok := text(fields[name])
		if !ok {
			continue
		}
		e, err := b.endpoint(at, old)
		if err != nil {
			r := misconfigured(name + " of the provider: " + err.Error())
			return nil, &r
		}
		*to = e
	}
	return p, nil
}

var errEndpoint = errors.New("it is not an absolute URL, or not https as the issuer is")

// endpoint returns the client of a URL, that of a former document if it has the same.
func (b *oidcBackend) endpoint(at string, old *provider) (*endpoint, error) {
	if old != nil {
		for _, e := range []*endpoint{old.keys, old.introspection, old.token} {
			if e != nil && e.url == at {
				return e, nil
			}
		}
	}
	u, err := url.Parse(at)
	if err != nil || u.Scheme != "https" && b.discovery.secure != nil {
		return nil, errEndpoint
	}
	o := b.options.HTTPOptions
	o.URL = at
	client, err := newHTTPClient(o)
	if err != nil {
		return nil, errEndpoint
	}
	return &endpoint{at, client}, nil
}

// get fetches a document, which is a JSON object.
func (b *oidcBackend) get(ctx context.Context, c *httpClient, what string) (oidc.Claims, *Result) {
	resp, err := c.do(ctx, request{method: http.MethodGet, target: c.target, header: []headerField{
		{"Accept", "application/json"}, {"Cache-Control", "no-cache"},
	}})
	if err != nil {
		r := unanswered(err)
		r.OneAccount = false // no account is part of the question
		return nil, &r
	}
	fields, err := jsonobject.Split(resp.body)
	if err == nil && resp.status == http.StatusOK {
		return fields, nil
	}
	r := foreignProvider(resp, what)
	r.OneAccount = false
	return nil, &r
}

// foreignProvider classifies a response that is not a provider's own.
func foreignProvider(r response, what string) Result {
	switch status := r.status; {
	case status == http.StatusNotFound:
		return misconfigured("HTTP 404 in place of the " + what + ": check issuer")
	case status == http.StatusTooManyRequests:
		return Result{Class: Throttled, OneAccount: true, Err: errors.New("HTTP 429: the provider limits postern: " + Exempting(r.from))}
	case status >= 300 && status < 400:
		return outage("redirect (HTTP %d) in place of the %s, which is not followed: write the final address of the provider into issuer", status, what)
	}
	return outage("HTTP %d with %s in place of the %s: the provider failed, or something in front of it answered", r.status, r.kind(), what)
}

// keySet is the set of an issuer's keys at some time.
type keySet struct {
	keys []jose.JSONWebKey
	at   time.Time // when it was asked for
}

// signature is that of a token, and what it is for: the payload as it was read.
type signature struct {
	jws     *jose.JSONWebSignature
	payload []byte
}

// verify reports whether one of the keys has signed a token. named: one of them has the token's kid.
func (s *keySet) verify(of *signature) (signed, named bool) {
	header := of.jws.Signatures[0].Header
	for i := range s.keys {
		k := &s.keys[i]
		if header.KeyID != "" && k.KeyID != header.KeyID {
			continue
		}
		if named = true; k.Algorithm != "" && k.Algorithm != header.Algorithm {
			continue
		}
		if of.jws.DetachedVerify(of.payload, k) == nil {
			return true, true
		}
	}
	return false, named
}

// maxHeaders is how many headers are kept: an issuer has one for each key, unless it writes something of the token there.
const maxHeaders = 64

// headers has the headers of tokens that were good: go-jose reads one in several passes.
type headers struct {
	known sync.Map // text -> *jose.JSONWebSignature, of a token without content
	n     atomic.Int32
}

// parse reads header and signature of a token.
func (h *headers) parse(token, header string, algorithms []jose.SignatureAlgorithm) (*jose.JSONWebSignature, error) {
	known, ok := h.known.Load(header)
	if !ok {
		return jose.ParseSignedCompact(token, algorithms)
	}
	text, err := base64.RawURLEncoding.DecodeString(token[strings.LastIndexByte(token, '.')+1:])
	if err != nil {
		return nil, err
	}
	jws := *known.(*jose.JSONWebSignature)
	jws.Signatures = slices.Clone(jws.Signatures)
	jws.Signatures[0].Signature = text
	return &jws, nil
}

// keep takes note of the header of a token that is good: only the issuer can make up others.
func (h *headers) keep(header string, algorithms []jose.SignatureAlgorithm) {
	if _, ok := h.known.Load(header); ok || h.n.Load() >= maxHeaders {
		return
	}
	jws, err := jose.ParseSignedCompact(header+".e30.AA", algorithms) // no secret stays in memory
	if err != nil {
		return
	}
	if _, ok := h.known.LoadOrStore(strings.Clone(header), jws); !ok {
		h.n.Add(1)
	}
}

// verified returns nil if a token is signed, or why it is not known to be. It is refused if no key of a set has signed it
// that is newer than the question, begun then; or one hardly older, if that has the key it names. Whatever else, it is not
// known. It is made up if there is a key of its name: those of a key that was withdrawn were good once.
func (b *oidcBackend) verified(ctx context.Context, of *signature, begun time.Time) *Result {
	set, r := b.current(ctx, begun)
	if r != nil {
		return r
	}
	signed, named := set.verify(of)
	switch {
	case signed:
		return nil
	case !set.at.Before(begun), named && begun.Sub(set.at) < fetchEvery:
		return &Result{Class: Refused, Forged: named, Err: errSignature}
	}
	newer, r := b.renew(ctx, set)
	if r != nil {
		return &Result{Class: Unsure, Err: fmt.Errorf("the signature is of no key that is known, and newer keys are not to be had now: %w", r.Err)}
	}
	if signed, named = newer.verify(of); signed {
		return nil
	}
	if newer.at.Before(begun) && !named { // fetched for another token, before this one came
		return &Result{Class: Unsure, Err: errHeld}
	}
	return &Result{Class: Refused, Forged: named, Err: errSignature}
}

var (
	errFetching = errors.New("they are being fetched for another login")
	errHeld     = errors.New("the issuer's keys were fetched a moment ago, and did not have that of the token")
	errNoKeys   = errors.New("the issuer has no key that signs tokens")
	errTooOld   = errors.New("the issuer's keys have not been had for a day")
)

// current returns the keys in use. They are fetched if there are none, or if they are old: beside the login once the
// provider was found to be away.
func (b *oidcBackend) current(ctx context.Context, now time.Time) (*keySet, *Result) {
	set := b.keys.Load()
	if set == nil {
		return b.renew(ctx, nil)
	}
	age := now.Sub(set.at)
	if age < keysEarly {
		return set, nil
	}
	if age < keysAge || age < keysGrace && b.isAway(now) {
		b.beside(func() bool { return !b.held(b.options.Now()) }, func(ctx context.Context) { _, _ = b.fetch(ctx, set) })
		return set, nil
	}
	newer, r := b.renew(ctx, set)
	switch {
	case r == nil:
		return newer, nil
	case age < keysGrace:
		return set, nil
	}
	return nil, &Result{Class: Outage, Err: fmt.Errorf("%w: %w", errTooOld, r.Err)}
}

// renew is fetch once the turn has come. It waits for the turn only where the keys that there are do not serve: made-up
// tokens must not take all slots from others while a provider hangs.
func (b *oidcBackend) renew(ctx context.Context, old *keySet) (*keySet, *Result) {
	if old != nil {
		patience := renewPatience
		if end, ok := ctx.Deadline(); ok { // what there is may serve, if there is time left to check a signature
			patience = min(patience, time.Until(end)/2)
		}
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, patience)
		defer cancel()
	}
	if old != nil && b.options.Now().Sub(old.at) < keysAge {
		if !b.takeFree() {
			return nil, &Result{Class: Unsure, Err: errFetching}
		}
	} else if r := b.take(ctx); r != nil {
		return nil, r
	}
	defer b.give()
	return b.fetch(ctx, old)
}

// fetch fetches the keys, with the turn, unless that was done a moment ago. old is the set that the caller has; if
// another one has come meanwhile, that is returned.
func (b *oidcBackend) fetch(ctx context.Context, old *keySet) (*keySet, *Result) {
	now, set := b.options.Now(), b.keys.Load()
	switch {
	case set != old:
		return set, nil
	case set != nil && b.held(now):
		return nil, &Result{Class: Unsure, Err: errHeld}
	case set == nil:
		if r := b.unfetched.standing(now); r != nil {
			return nil, r
		}
	}
	b.tried = now
	set, r := b.published(ctx)
	if r != nil {
		b.away.Store(now.UnixNano())
		b.unfetched = missed(r, now, old != nil)
		return nil, r
	}
	set.at = now
	b.away.Store(0)
	b.keys.Store(set)
	return set, nil
}

// isAway reports whether the keys were not to be had a moment ago.
func (b *oidcBackend) isAway(now time.Time) bool {
	since := now.UnixNano() - b.away.Load()
	return 0 <= since && since < int64(awayFor)
}

// held reports, with the turn, whether the keys were asked for a moment ago.
func (b *oidcBackend) held(now time.Time) bool {
	return !b.tried.IsZero() && now.Sub(b.tried) < fetchEvery && !now.Before(b.tried)
}

// published asks the provider for its keys.
func (b *oidcBackend) published(ctx context.Context) (*keySet, *Result) {
	p, r := b.discover(ctx)
	if r != nil {
		return nil, r
	}
	if p.keys == nil {
		r := misconfigured("the provider's discovery document has no jwks_uri")
		return nil, &r
	}
	fields, r := b.get(ctx, p.keys.client, "key set")
	if r != nil {
		return nil, r
	}
	set := &keySet{keys: signing(fields["keys"])}
	if len(set.keys) == 0 {
		return nil, &Result{Class: Outage, Err: errNoKeys}
	}
	return set, nil
}

// signing reads the public keys of a set that may sign tokens. Keys of other kinds are left out, as RFC 7517 says.
func signing(raw json.RawMessage) (keys []jose.JSONWebKey) {
	var all []json.RawMessage
	_ = json.Unmarshal(raw, &all) // none, then
	for _, one := range all[:min(len(all), maxKeys)] {
		var k jose.JSONWebKey
		if json.Unmarshal(one, &k) != nil || !k.Valid() || !k.IsPublic() || k.Use == "enc" ||
			k.Algorithm != "" && !slices.Contains(oidc.Algorithms, k.Algorithm) {
			continue
		}
		keys = append(keys, k)
	}
	return keys
}

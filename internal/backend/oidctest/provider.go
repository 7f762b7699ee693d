// Package oidctest is an OpenID Connect provider for tests: discovery, keys, introspection and the password grant. It
// fails and lies as a test wants.
package oidctest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// Paths of the provider.
const (
	Discovery = "/.well-known/openid-configuration"
	Keys      = "/keys"
	Introspec = "/introspect"
	Token     = "/token"
)

// Provider is the issuer at URL. Its fields may be changed between requests, under Lock.
type Provider struct {
	URL    string
	server *httptest.Server

	sync.Mutex
	Issuer    string                                                  // in the discovery document
	Published []jose.JSONWebKey                                       // the key set
	Handlers  map[string]func(w http.ResponseWriter, r *http.Request) // replace an endpoint, by path
	Active    map[string]map[string]any                               // what is said of opaque tokens
	Users     map[string]string                                       // passwords
	Granted   any                                                     // the scope in the answer to a password grant; nil: none
	// ClientToken answers the client credentials grant; nil: there is none.
	ClientToken func(scope string) map[string]any

	asked sync.Map // path -> *atomic.Int64
}

// Client is the client as which postern asks, and Secret its secret; both need encoding in a header.
const (
	Client = "post:ern"
	Secret = "client%20 secret"
)

// Start starts a provider for the time of a test.
func Start(t testing.TB) *Provider {
	p := New("")
	p.server = httptest.NewServer(p)
	t.Cleanup(p.server.Close)
	p.URL, p.Issuer = p.server.URL, p.server.URL
	return p
}

// New returns a provider that another server answers for, at a URL.
func New(url string) *Provider {
	return &Provider{
		URL: url, Issuer: url,
		Handlers: map[string]func(http.ResponseWriter, *http.Request){}, Active: map[string]map[string]any{}, Users: map[string]string{},
	}
}

// Close ends the provider: connections are refused from here on.
func (p *Provider) Close() { p.server.Close() }

// Set replaces an endpoint; nil restores it.
func (p *Provider) Set(path string, h func(http.ResponseWriter, *http.Request)) {
	p.Lock()
	defer p.Unlock()
	p.Handlers[path] = h
}

// Fail has an endpoint answer with a status.
func (p *Provider) Fail(path string, status int) {
	p.Set(path, func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", status) })
}

// Asked returns how often a path was requested.
func (p *Provider) Asked(path string) int64 {
	n, _ := p.asked.LoadOrStore(path, new(atomic.Int64))
	return n.(*atomic.Int64).Load()
}

// ServeHTTP implements http.Handler.
func (p *Provider) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	n, _ := p.asked.LoadOrStore(r.URL.Path, new(atomic.Int64))
	n.(*atomic.Int64).Add(1)
	p.Lock()
	h := p.Handlers[r.URL.Path]
	p.Unlock()
	switch {
	case h != nil:
		h(w, r)
	case r.URL.Path == Discovery:
		p.Lock()
		issuer := p.Issuer
		p.Unlock()
		answer(w, 200, map[string]any{"issuer": issuer, "jwks_uri": p.URL + Keys, "introspection_endpoint": p.URL + Introspec, "token_endpoint": p.URL + Token})
	case r.URL.Path == Keys:
		p.Lock()
		defer p.Unlock()
		answer(w, 200, jose.JSONWebKeySet{Keys: p.Published})
	case r.URL.Path == Introspec || r.URL.Path == Token:
		p.authenticated(w, r)
	default:
		http.NotFound(w, r)
	}
}

// authenticated serves the endpoints at which a client has to say what it is.
func (p *Provider) authenticated(w http.ResponseWriter, r *http.Request) {
	id, secret, _ := r.BasicAuth()
	if r.Method != http.MethodPost || id != "post%3Aern" || secret != "client%2520+secret" {
		answer(w, 401, map[string]any{"error": "invalid_client"})
		return
	}
	p.Lock()
	defer p.Unlock()
	if r.URL.Path == Introspec {
		if about, ok := p.Active[r.PostFormValue("token")]; ok {
			answer(w, 200, about)
			return
		}
		answer(w, 200, map[string]any{"active": false})
		return
	}
	if grant := r.PostFormValue("grant_type"); grant == "client_credentials" && p.ClientToken != nil {
		answer(w, 200, p.ClientToken(r.PostFormValue("scope")))
		return
	}
	user := r.PostFormValue("username")
	switch password, ok := p.Users[user]; {
	case r.PostFormValue("grant_type") != "password":
		answer(w, 400, map[string]any{"error": "unsupported_grant_type"})
	case !ok || password != r.PostFormValue("password"):
		answer(w, 400, map[string]any{"error": "invalid_grant"})
	default:
		id := "eyJhbGciOiJub25lIn0." + encode(map[string]any{"iss": p.URL, "aud": Client, "sub": "1", "preferred_username": user}) + "."
		grant := map[string]any{"access_token": "x", "token_type": "Bearer", "id_token": id}
		if p.Granted != nil {
			grant["scope"] = p.Granted
		}
		answer(w, 200, grant)
	}
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}

// Key is a private key with its name.
type Key struct {
	ID   string
	Alg  jose.SignatureAlgorithm
	Priv crypto.Signer
}

var rsaKeys sync.Map // by name: making one takes long

// RSA returns a key for RS256. One of a name is made once.
func RSA(t testing.TB, id string) Key {
	t.Helper()
	made, _ := rsaKeys.LoadOrStore(id, sync.OnceValue(func() *rsa.PrivateKey {
		k, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			panic(err)
		}
		return k
	}))
	return Key{id, jose.RS256, made.(func() *rsa.PrivateKey)()}
}

// EC returns a new key for ES256.
func EC(t testing.TB, id string) Key {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return Key{id, jose.ES256, k}
}

// Public is the key as a provider publishes it.
func (k Key) Public() jose.JSONWebKey {
	return jose.JSONWebKey{Key: k.Priv.Public(), KeyID: k.ID, Algorithm: string(k.Alg), Use: "sig"}
}

// Publish replaces the provider's key set.
func (p *Provider) Publish(keys ...Key) {
	p.Lock()
	defer p.Unlock()
	p.Published = nil
	for _, k := range keys {
		p.Published = append(p.Published, k.Public())
	}
}

// Claims are those of an access token of the provider that lets alice@dom.example in for an hour from now, with
// changes. A nil value removes a claim.
func (p *Provider) Claims(now time.Time, changes map[string]any) map[string]any {
	c := map[string]any{
		"iss": p.URL, "aud": []string{"postern"}, "sub": "1", "azp": "webmail", "scope": "openid mail",
		"iat": now.Unix(), "exp": now.Add(time.Hour).Unix(), "preferred_username": "alice", "jti": fmt.Sprint(serial.Add(1)),
	}
	for name, v := range changes {
		if v == nil {
			delete(c, name)
		} else {
			c[name] = v
		}
	}
	return maps.Clone(c)
}

var serial atomic.Int64

// Sign makes a token of the type at+jwt.
func (k Key) Sign(t testing.TB, claims map[string]any) string { return k.SignAs(t, "at+jwt", claims) }

// SignAs makes a token of a type; "" has none.
func (k Key) SignAs(t testing.TB, typ string, claims map[string]any) string {
	t.Helper()
	o := new(jose.SignerOptions)
	if typ != "" {
		o.WithType(jose.ContentType(typ))
	}
	return SignWith(t, jose.SigningKey{Algorithm: k.Alg, Key: jose.JSONWebKey{Key: k.Priv, KeyID: k.ID}}, o, claims)
}

// SignWith makes a token as a test wants it.
func SignWith(t testing.TB, key jose.SigningKey, o *jose.SignerOptions, claims map[string]any) string {
	t.Helper()
	s, err := jose.NewSigner(key, o)
	if err != nil {
		t.Fatal(err)
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	jws, err := s.Sign(payload)
	if err != nil {
		t.Fatal(err)
	}
	text, err := jws.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// Unsigned makes a token of the algorithm none.
func Unsigned(claims map[string]any) string {
	return "eyJhbGciOiJub25lIiwidHlwIjoiYXQrand0In0." + encode(claims) + "."
}

func encode(v any) string {
	data, _ := json.Marshal(v) // maps of texts and numbers
	return base64.RawURLEncoding.EncodeToString(data)
}

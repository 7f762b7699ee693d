package main

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// idpPath is where the web server is an OpenID Connect provider.
const idpPath = "/idp"

// idpKeys are the keys that the provider publishes: what was last put there.
var idpKeys atomic.Pointer[[]byte]

// answerProvider answers as the provider.
func answerProvider(w http.ResponseWriter, r *http.Request) {
	issuer := "http://" + r.Host + idpPath
	body := []byte(fmt.Sprintf(`{"issuer":%q,"jwks_uri":%q}`, issuer, issuer+"/keys"))
	if strings.HasSuffix(r.URL.Path, "/keys") {
		if r.Method == http.MethodPut {
			keys, _ := io.ReadAll(r.Body)
			idpKeys.Store(&keys)
		}
		body = nil
		if keys := idpKeys.Load(); keys != nil {
			body = *keys
		}
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(body)
}

// provider is the provider from where its tokens are made.
type provider struct {
	issuer string
	public jose.JSONWebKey
	signer jose.Signer
}

// newProvider makes a key, which the web server at an address publishes.
func newProvider(cloud string) (*provider, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, err
	}
	p := &provider{issuer: "http://" + cloud + idpPath, public: jose.JSONWebKey{Key: key.Public(), KeyID: "bench", Algorithm: string(jose.RS256), Use: "sig"}}
	p.signer, err = jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: jose.JSONWebKey{Key: key, KeyID: "bench"}}, (&jose.SignerOptions{}).WithType("at+jwt"))
	if err != nil {
		return nil, err
	}
	keys, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{p.public}})
	if err != nil {
		return nil, err
	}
	put, err := http.NewRequest(http.MethodPut, p.issuer+"/keys", bytes.NewReader(keys))
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(put)
	if err == nil {
		err = resp.Body.Close()
	}
	return p, err
}

// token makes a token of a user, with the claims that Keycloak has at the least.
func (p *provider) token(user string) (string, error) {
	now := time.Now()
	claims, err := json.Marshal(map[string]any{
		"iss": p.issuer, "aud": []string{"account", "postern"}, "sub": "f1f8c2a5-5a5e-4d31-9d0c-8c1c7e0a4c55", "typ": "Bearer", "azp": "webmail",
		"exp": now.Add(24 * time.Hour).Unix(), "iat": now.Unix(), "jti": rand.Text(), "scope": "openid mail profile", "preferred_username": user,
	})
	if err != nil {
		return "", err
	}
	jws, err := p.signer.Sign(claims)
	if err != nil {
		return "", err
	}
	return jws.CompactSerialize()
}

// bearerUsers is how many users have a token: making one takes a millisecond.
const bearerUsers = 200

// bearerTokens returns ask functions of logins by a token for each user: one in a domain that remembers tokens, one in a
// domain that verifies them each time.
func (b *bench) bearerTokens() (remembered, first func([]byte, int, int) []byte, err error) {
	var lines [2][]string
	for i := range bearerUsers {
		user := fmt.Sprint("user", i)
		token, err := b.idp.token(user)
		if err != nil {
			return nil, nil, err
		}
		for i, domain := range []string{"bearer.bench", "first.bench"} {
			lines[i] = append(lines[i], genericLogin(user, domain, token))
		}
	}
	ask := func(i int) func([]byte, int, int) []byte {
		return func(b []byte, conn, _ int) []byte { return append(b, lines[i][conn%bearerUsers]...) }
	}
	return ask(0), ask(1), nil
}

// signature is the processor time of the check of a token's signature alone.
func (p *provider) signature() (time.Duration, error) {
	token, err := p.token("user0")
	if err != nil {
		return 0, err
	}
	jws, err := jose.ParseSignedCompact(token, []jose.SignatureAlgorithm{jose.RS256})
	if err != nil {
		return 0, err
	}
	least := time.Hour // of a few, as other work may be in the way
	for range 20 {
		const times = 100
		begun := time.Now()
		for range times {
			if _, err := jws.Verify(&p.public); err != nil {
				return 0, errors.New("the signature is wrong")
			}
		}
		least = min(least, time.Since(begun)/times)
	}
	return least, nil
}

// judgeBearer adds the aims of the paths of tokens.
func (t *table) judgeBearer(signature time.Duration) {
	at := cell{"closed", 128}
	hot, remembered, first := t.of("hot cache", at), t.of("bearer remembered", at), t.of("bearer first time", at)
	if hot.Rate > 0 && remembered.Rate > 0 {
		t.atLeast("bearer remembered, 128 connections: of the hot cache", remembered.Rate/hot.Rate, "", 0.85)
	}
	if first.CPU > 0 && signature > 0 {
		t.atMost("bearer first time, 128 connections: CPU of the signature check alone", float64(first.CPU)/float64(signature), "", 1.2)
		if hot.CPU > 0 {
			t.atMost("bearer first time, 128 connections: CPU beyond that of the hot cache, of the signature check alone",
				float64(first.CPU-hot.CPU)/float64(signature), "", 1.2)
		}
	}
}

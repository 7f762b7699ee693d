package main

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
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

// provider is the provider from where its tokens are made, with a key for each algorithm.
type provider struct {
	issuer string
	keys   map[jose.SignatureAlgorithm]idpKey
}

type idpKey struct {
	public jose.JSONWebKey
	signer jose.Signer
}

// newProvider makes keys, which the web server at an address publishes.
func newProvider(cloud string) (*provider, error) {
	rs, err1 := rsa.GenerateKey(rand.Reader, 2048)
	es, err2 := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	p := &provider{issuer: "http://" + cloud + idpPath, keys: map[jose.SignatureAlgorithm]idpKey{}}
	var set jose.JSONWebKeySet
	for alg, private := range map[jose.SignatureAlgorithm]crypto.Signer{jose.RS256: rs, jose.ES256: es} {
		k := idpKey{public: jose.JSONWebKey{Key: private.Public(), KeyID: string(alg), Algorithm: string(alg), Use: "sig"}}
		var err error
		k.signer, err = jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: jose.JSONWebKey{Key: private, KeyID: string(alg)}}, (&jose.SignerOptions{}).WithType("at+jwt"))
		if err != nil {
			return nil, err
		}
		p.keys[alg], set.Keys = k, append(set.Keys, k.public)
	}
	keys, err := json.Marshal(set)
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
func (p *provider) token(user string, alg jose.SignatureAlgorithm) (string, error) {
	now := time.Now()
	claims, err := json.Marshal(map[string]any{
		"iss": p.issuer, "aud": []string{"account", "postern"}, "sub": "f1f8c2a5-5a5e-4d31-9d0c-8c1c7e0a4c55", "typ": "Bearer", "azp": "webmail",
		"exp": now.Add(24 * time.Hour).Unix(), "iat": now.Unix(), "jti": rand.Text(), "scope": "openid mail profile", "preferred_username": user,
	})
	if err != nil {
		return "", err
	}
	jws, err := p.keys[alg].signer.Sign(claims)
	if err != nil {
		return "", err
	}
	return jws.CompactSerialize()
}

// bearerUsers is how many users have a token: making one takes a millisecond.
const bearerUsers = 200

// bearerTokens returns an ask function of logins by a token for each user, in a domain.
func (b *bench) bearerTokens(domain string, alg jose.SignatureAlgorithm) (func([]byte, int, int) []byte, error) {
	var lines []string
	for i := range bearerUsers {
		user := fmt.Sprint("user", i)
		token, err := b.idp.token(user, alg)
		if err != nil {
			return nil, err
		}
		lines = append(lines, genericLogin(user, domain, token))
	}
	return func(b []byte, conn, _ int) []byte { return append(b, lines[conn%bearerUsers]...) }, nil
}

// signature is the processor time of the check of a token's signature alone, while all processors are busy with it as
// they are with logins: two of them may be one core, on which each check takes longer then.
func (p *provider) signature(alg jose.SignatureAlgorithm) (time.Duration, error) {
	token, err := p.token("user0", alg)
	if err != nil {
		return 0, err
	}
	jws, err := jose.ParseSignedCompact(token, []jose.SignatureAlgorithm{alg})
	if err != nil {
		return 0, err
	}
	public := p.keys[alg].public
	var each []float64
	for range 20 { // of which the median counts, as with the logins
		const times = 200
		var wrong atomic.Bool
		var wg sync.WaitGroup
		begun := ownCPU()
		for range runtime.NumCPU() {
			wg.Go(func() {
				for range times {
					if _, err := jws.Verify(&public); err != nil {
						wrong.Store(true)
					}
				}
			})
		}
		wg.Wait()
		if wrong.Load() {
			return 0, errors.New("the signature is wrong")
		}
		each = append(each, float64(ownCPU()-begun)/float64(times*runtime.NumCPU()))
	}
	return time.Duration(median(each)), nil
}

// ownCPU is the processor time of this process so far.
func ownCPU() time.Duration {
	var used syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &used) // of a process that exists
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// judgeBearer adds the aims of the paths of tokens.
func (t *table) judgeBearer(p *provider) error {
	at := cell{"closed", 128}
	hot, remembered := t.of(hotPath, at), t.of("bearer remembered", at)
	if hot.Rate > 0 && remembered.Rate > 0 {
		t.atLeast("bearer remembered, 128 connections: of the hot cache", remembered.Rate/hot.Rate, "", 0.85)
	}
	for _, alg := range []jose.SignatureAlgorithm{jose.RS256, jose.ES256} {
		first := t.of(firstPath(alg), at)
		if first.CPU == 0 {
			continue
		}
		signature, err := p.signature(alg)
		if err != nil {
			return err
		}
		name := firstPath(alg) + ", 128 connections: CPU "
		t.atMost(name+"of the signature check alone", float64(first.CPU)/float64(signature), "", 1.2)
		if hot.CPU > 0 {
			t.atMost(name+"beyond that of the hot cache, of the signature check alone", float64(first.CPU-hot.CPU)/float64(signature), "", 1.2)
		}
	}
	return nil
}

// firstPath is the name of the path of tokens that are verified each time.
func firstPath(alg jose.SignatureAlgorithm) string {
	if alg == jose.RS256 {
		return "bearer first time"
	}
	return "bearer first time " + string(alg)
}

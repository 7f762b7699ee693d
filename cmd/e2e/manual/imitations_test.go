package manual

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net/http"
	"net/http/httputil"
	"strings"
	"testing"
	"time"

	"postern/cmd/e2e/harness"
	"postern/internal/backend/nextcloudtest"
	"postern/internal/backend/oidctest"
)

// authority is a certificate authority that the machines of a test trust.
type authority struct {
	t    *testing.T
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
	pem  string
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "postern's tests"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(24 * time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	a.key = a.newKey()
	der := a.sign(template, template, a.key)
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	a.cert, a.pem = cert, block("CERTIFICATE", der)
	return a
}

func (a *authority) newKey() *ecdsa.PrivateKey {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	return key
}

func (a *authority) sign(template, parent *x509.Certificate, key *ecdsa.PrivateKey) []byte {
	a.t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	return der
}

func block(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

// certificate makes a certificate of a name, and its key.
func (a *authority) certificate(name string) (chain, key string) {
	a.t.Helper()
	private := a.newKey()
	der := a.sign(&x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}, a.cert, private)
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		a.t.Fatal(err)
	}
	return block("CERTIFICATE", der) + a.pem, block("PRIVATE KEY", pkcs8)
}

// trust makes a machine trust the authority.
func (a *authority) trust(m *machine) {
	m.T.Helper()
	m.Write("/usr/local/share/ca-certificates/postern-tests.crt", a.pem, 0o644)
	m.Must("mkdir -p /etc/ssl/certs")
	m.Add("/etc/ssl/certs/ca-certificates.crt", "\n"+a.pem)
}

// nextcloud puts an imitation of Nextcloud into the place of a host, with users written NAME=PASSWORD.
// "postern" is an administrator.
func (a *authority) nextcloud(m *machine, host string, users []string) {
	m.T.Helper()
	var accounts []*nextcloudtest.User
	for _, user := range users {
		name, password, _ := strings.Cut(user, "=")
		u := &nextcloudtest.User{ID: name, Password: password}
		if name == "postern" {
			u.Groups = []string{"admin"}
		}
		accounts = append(accounts, u)
	}
	cloud, stop := nextcloudtest.Start(accounts...)
	m.T.Cleanup(stop)
	a.serve(m, host, cloud)
}

// provider is an imitation of Keycloak.
type provider struct {
	t *testing.T
	*oidctest.Provider
	key oidctest.Key
}

// provider puts an OpenID Connect provider into the place of a host, with the realm staff.
func (a *authority) provider(m *machine, host string) *provider {
	m.T.Helper()
	const realm = "/realms/staff"
	p := &provider{m.T, oidctest.New("https://" + host + realm), oidctest.RSA(m.T, "a")}
	p.Publish(p.key)
	a.serve(m, host, http.StripPrefix(realm, p))
	return p
}

// token is an access token of a user.
func (p *provider) token(user string) string {
	return p.key.Sign(p.t, p.Claims(time.Now(), map[string]any{"preferred_username": user}))
}

// serve answers https requests to a host.
func (a *authority) serve(m *machine, host string, handler http.Handler) {
	m.T.Helper()
	chain, key := a.certificate(host)
	pair, err := tls.X509KeyPair([]byte(chain), []byte(key))
	if err != nil {
		m.T.Fatal(err)
	}
	m.Add("/etc/hosts", "127.0.0.1 "+host+"\n")
	server := &http.Server{Handler: handler, TLSConfig: &tls.Config{Certificates: []tls.Certificate{pair}}, ReadHeaderTimeout: harness.Timeout}
	listener := m.Listen("0.0.0.0:443")
	go func() { _ = server.ServeTLS(listener, "", "") }()
	m.T.Cleanup(func() { _ = server.Close() })
}

// proxy lets apt of a machine reach the mirrors that the test can reach.
func proxy(m *machine) {
	m.T.Helper()
	server := &http.Server{ReadHeaderTimeout: harness.Timeout, Handler: &httputil.ReverseProxy{Rewrite: func(*httputil.ProxyRequest) {}}}
	listener := m.Listen("0.0.0.0:3142")
	go func() { _ = server.Serve(listener) }()
	m.T.Cleanup(func() { _ = server.Close() })
	m.Write("/etc/apt/apt.conf.d/99proxy", "Acquire::http::Proxy \"http://127.0.0.1:3142\";\n", 0o644)
}

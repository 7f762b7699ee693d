package doctor

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"postern/internal/config"
)

// identity is a certificate with its key.
type identity struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// issue makes a certificate signed by another, or self-signed if by is nil.
func issue(t *testing.T, by *identity, change func(*x509.Certificate)) *identity {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: t.Name()},
		NotBefore: time.Now().Add(-100 * 24 * time.Hour), NotAfter: time.Now().Add(100 * 24 * time.Hour),
		DNSNames: []string{"cloud.example"}, BasicConstraintsValid: true,
	}
	change(template)
	id := &identity{template, key}
	if by == nil {
		by = id
	}
	der, err := x509.CreateCertificate(rand.Reader, template, by.cert, &key.PublicKey, by.key)
	if err != nil {
		t.Fatal(err)
	}
	if id.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return id
}

func authority(name string) func(*x509.Certificate) {
	return func(c *x509.Certificate) {
		c.Subject.CommonName, c.IsCA, c.DNSNames, c.KeyUsage = name, true, nil, x509.KeyUsageCertSign
	}
}

// pemFile writes an authority's certificate.
func pemFile(t *testing.T, id *identity) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(name, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: id.cert.Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// network simulates one: every name is 192.0.2.1, and every address leads to a server of the test.
func network(server string) *Env {
	e := OSEnv()
	e.Connect = connect
	e.LookupHost = func(context.Context, string) ([]string, error) { return []string{"192.0.2.1"}, nil }
	e.Dial = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, server)
	}
	return e
}

// jsonBackend is a configuration of one backend.
func jsonBackend(url, caFile string) *config.Config {
	b := config.Backend{BackendRef: config.BackendRef{Kind: config.KindJSON, Name: "app"}, URL: url, CAFile: caFile, Timeout: stepTimeout}
	return &config.Config{Backends: []config.Backend{b}, Domains: []config.Domain{{Name: "dom.example", Backends: []config.BackendRef{b.BackendRef}}}}
}

func examine(t *testing.T, e *Env, cfg *config.Config, known KnownUser) Report {
	t.Helper()
	r := NewReport("", time.Now(), Run(t.Context(), e.backends(cfg, &Subject{Known: known})))
	holdsNoSecret(t, r)
	return r
}

// startTLS serves with a certificate and those that follow it.
func startTLS(t *testing.T, ids ...*identity) string {
	t.Helper()
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`{"success": false}`))
	}))
	cert := tls.Certificate{PrivateKey: ids[0].key}
	for _, id := range ids {
		cert.Certificate = append(cert.Certificate, id.cert.Raw)
	}
	s.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
	s.Config.ErrorLog = quietLog()
	s.StartTLS()
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

func TestTLS(t *testing.T) {
	ca := issue(t, nil, authority("Our CA"))
	middle := issue(t, ca, authority("Our Middle CA"))
	old := issue(t, ca, func(c *x509.Certificate) {
		authority("Our Old CA")(c)
		c.NotAfter = time.Now().Add(-time.Hour)
	})
	trusted := pemFile(t, ca)
	day := 24 * time.Hour
	as := func(change func(*x509.Certificate)) *identity { return issue(t, ca, change) }
	same := func(*x509.Certificate) {}
	for name, c := range map[string]struct {
		chain  []*identity
		caFile string
		want   want
	}{
		"good":    {[]*identity{as(same)}, trusted, want{status: OK, text: "TLS 1.3, certificate for cloud.example until "}},
		"chain":   {[]*identity{issue(t, middle, same), middle}, trusted, want{status: OK, text: "TLS 1.3"}},
		"expired": {[]*identity{as(func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-day) })}, trusted, want{status: Failure, text: "expired on", cure: "renew"}},
		"expires": {[]*identity{as(func(c *x509.Certificate) { c.NotAfter = time.Now().Add(3*day + time.Hour) })}, trusted, want{status: Warning, text: "in 3 days", cure: "renew"}},
		"not yet": {[]*identity{as(func(c *x509.Certificate) { c.NotBefore = time.Now().Add(day) })}, trusted, want{status: Failure, text: "not valid before", cure: "clock"}},
		"name":    {[]*identity{as(func(c *x509.Certificate) { c.DNSNames = []string{"other.example"} })}, trusted, want{status: Failure, text: "not for cloud.example, but for other.example", cure: "in url"}},
		"common name": {[]*identity{as(func(c *x509.Certificate) { c.Subject.CommonName, c.DNSNames = "cloud.example", nil })}, trusted,
			want{status: Failure, text: "in its subject (CN) only", cure: "subject alternative name"}},
		"no authority":  {[]*identity{issue(t, nil, same)}, "", want{status: Failure, text: "self-signed", cure: "ca_file"}},
		"unknown":       {[]*identity{issue(t, middle, same), middle}, "", want{status: Failure, text: "signed by Our Middle CA, which this machine does not trust", cure: "ca_file"}},
		"other":         {[]*identity{as(same)}, pemFile(t, issue(t, nil, authority("Other CA"))), want{status: Failure, text: "no authority in ca_file", cure: "put the certificate"}},
		"missing link":  {[]*identity{issue(t, middle, same)}, "", want{status: Failure, text: "without the intermediate ones", cure: "fullchain.pem"}},
		"old authority": {[]*identity{issue(t, old, same), old}, trusted, want{status: Failure, text: "authority's certificate in the chain has expired", cure: "current chain"}},
		"no ca_file":    {[]*identity{as(same)}, "/nowhere.pem", want{status: Failure, text: "ca_file: ", cure: "correct ca_file"}},
	} {
		t.Run(name, func(t *testing.T) {
			r := examine(t, network(startTLS(t, c.chain...)), jsonBackend("https://cloud.example/auth", c.caFile), KnownUser{})
			c.want.hop, c.want.check = "backend.json.app", "tls"
			c.want.expect(t, r)
			then := want{"backend.json.app", "http", OK, "answers", ""}
			if c.want.status == Failure {
				then = want{"backend.json.app", "http", Skipped, "because tls failed", ""}
			}
			then.expect(t, r)
		})
	}
}

// Faults below TLS, and of TLS itself.
func TestNetwork(t *testing.T) {
	plainServer := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`{"success": false}`))
	}))
	defer plainServer.Close()
	hangsUp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer hangsUp.Close()
	go func() {
		for {
			c, err := hangsUp.Accept()
			if err != nil {
				return
			}
			_ = c.Close()
		}
	}()
	plainAddress := plainServer.Listener.Addr().String()
	failing := func(err error) func(*Env) {
		return func(e *Env) {
			e.Dial = func(context.Context, string, string) (net.Conn, error) {
				return nil, &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", err)}
			}
		}
	}
	lookup := func(addresses []string, err error) func(*Env) {
		return func(e *Env) { e.LookupHost = func(context.Context, string) ([]string, error) { return addresses, err } }
	}
	for name, c := range map[string]struct {
		breaks func(*Env)
		url    string
		want   want
	}{
		"no name":        {lookup(nil, &net.DNSError{IsNotFound: true}), "https://cloud.example", want{check: "dns", status: Failure, text: "no host cloud.example", cure: "/etc/hosts"}},
		"no name server": {lookup(nil, &net.DNSError{IsTimeout: true}), "https://cloud.example", want{check: "dns", status: Failure, text: "does not answer", cure: "/etc/resolv.conf"}},
		"address":        {lookup(nil, syscall.EIO), "http://192.0.2.7", want{check: "dns", status: OK, text: "192.0.2.7 itself"}},
		"refused":        {failing(syscall.ECONNREFUSED), "https://cloud.example:444", want{check: "tcp", status: Failure, text: "no server listens at 192.0.2.1:444 (refused)", cure: "start the web server"}},
		"no route":       {failing(syscall.EHOSTUNREACH), "https://cloud.example", want{check: "tcp", status: Failure, text: "no connection to 192.0.2.1:443 (no route)", cure: "firewall"}},
		"silence":        {failing(context.DeadlineExceeded), "https://cloud.example", want{check: "tcp", status: Failure, text: "(no answer)", cure: "firewall"}},
		"half": {func(e *Env) {
			lookup([]string{"2001:db8::1", "192.0.2.1"}, nil)(e)
			dial := e.Dial
			e.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
				if address == "[2001:db8::1]:443" {
					return nil, syscall.ENETUNREACH
				}
				return dial(ctx, network, address)
			}
		}, "https://cloud.example", want{check: "tcp", status: Warning, text: "no connection to [2001:db8::1]:443 (no route), but to 192.0.2.1:443", cure: "IPv6"}},
		"no TLS":   {func(*Env) {}, "https://cloud.example", want{check: "tls", status: Failure, text: "does not speak TLS at port 443", cure: "port"}},
		"hangs up": {func(e *Env) { e.Dial = network(hangsUp.Addr().String()).Dial }, "https://cloud.example", want{check: "tls", status: Failure, text: "handshake failed", cure: "openssl s_client -connect cloud.example:443"}},
		"in clear": {func(*Env) {}, "http://cloud.example", want{check: "tls", status: Warning, text: "in clear", cure: "https"}},
		"loopback": {func(*Env) {}, "http://127.0.0.1:8000", want{check: "tls", status: OK, text: "not used"}},
	} {
		t.Run(name, func(t *testing.T) {
			e := network(plainAddress)
			c.breaks(e)
			r := examine(t, e, jsonBackend(c.url, ""), KnownUser{})
			c.want.hop = "backend.json.app"
			c.want.expect(t, r)
		})
	}
}

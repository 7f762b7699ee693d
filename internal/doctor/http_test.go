package doctor

import (
	"crypto/x509"
	"encoding/pem"
	"strings"
	"testing"
	"time"

	"postern/internal/auth"
	"postern/internal/config"
)

// What keeps strangers from a listener of HTTP.
func TestPeersOfHTTP(t *testing.T) {
	for name, c := range map[string]struct {
		listener config.Listener
		status   Status
		text     string
	}{
		"a secret":            {config.Listener{Network: "tcp", Secret: auth.NewSecret(canary)}, OK, "the secret"},
		"certificates":        {config.Listener{Network: "tcp", TLS: config.TLS{ClientCA: "x"}}, OK, "client_ca"},
		"a socket file":       {config.Listener{Network: "unix"}, OK, "open the socket"},
		"a socket of systemd": {config.Listener{Network: "systemd", Address: "web"}, Warning, "if web is a port"},
	} {
		got := peers(&c.listener)
		if len(got) != 1 || got[0].Status != c.status || !strings.Contains(got[0].Text, c.text) || strings.Contains(got[0].Text+got[0].Cure, canary) {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

// A listener's certificate that expires is found before clients find it.
func TestCertificateOfListener(t *testing.T) {
	e := &Env{Now: time.Now}
	for name, c := range map[string]struct {
		from, until time.Duration
		status      Status
		text        string
	}{
		"good":    {-time.Hour, 90 * 24 * time.Hour, OK, "valid until"},
		"soon":    {-time.Hour, 3*24*time.Hour + time.Hour, Warning, "in 3 days"},
		"expired": {-48 * time.Hour, -24 * time.Hour, Failure, "expired on"},
		"early":   {24 * time.Hour, 48 * time.Hour, Failure, "not valid before"},
	} {
		id := issue(t, nil, func(x *x509.Certificate) {
			x.NotBefore, x.NotAfter = time.Now().Add(c.from), time.Now().Add(c.until)
		})
		text := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: id.cert.Raw}))
		got := e.certificate(&config.Listener{TLS: config.TLS{Certificate: text}})
		if len(got) != 1 || got[0].Status != c.status || !strings.Contains(got[0].Text, c.text) || (got[0].Cure == "") != (c.status == OK) {
			t.Errorf("%s: %+v", name, got)
		}
	}
	if got := e.certificate(&config.Listener{}); got != nil {
		t.Errorf("without TLS: %+v", got)
	}
}

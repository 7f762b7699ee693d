package peers

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"postern/cmd/e2e/harness"
)

// slixmpp logs a user in by Debian 13's slixmpp. The ways and the outcome are those of
// testdata/slixmpp/login.py; token is the FAST token that the server gave.
func slixmpp(t *testing.T, port int, jid, way, secret string) (outcome, token string) {
	t.Helper()
	r := harness.Trixie(t)
	script := absolute(t, "testdata/slixmpp/login.py")
	result := r.Run(t, "", r.Program(t, "python3"), script, strconv.Itoa(port), jid, way, secret)
	outcome, token, _ = strings.Cut(strings.TrimSpace(result.Out), " ")
	if result.Code != 0 || outcome != "success" && token != "" {
		t.Errorf("%s of %s: exit status %d: %s%s", way, jid, result.Code, result.Out, result.Err)
	}
	return outcome, token
}

// fastOptions are Prosody's options for SASL2, Bind 2 and FAST.
func fastOptions(t *testing.T, r harness.Release) string {
	t.Helper()
	modules := r.Unpacked(t, "prosody-modules/usr/lib/prosody/modules")
	return "plugin_paths = { \"" + absolute(t, "../../../scripts/prosody") + "\", \"" + modules + "\" }\n" +
		`modules_enabled = { "saslauth"; "ping"; "register_ibr"; "user_account_management"; "admin_shell"; "sasl2"; "sasl2_bind2"; "sasl2_fast" }
`
}

// Clients that slixmpp makes log in by SASL, SASL2 and FAST, on the Prosody that has them.
func TestSlixmppOnProsody(t *testing.T) {
	r := harness.Trixie(t)
	config := harness.ConfigFile(t, t.TempDir(), harness.UsersConfig)
	harness.OK(t, "sec ret: päss\n", "user", "add", "joe@dom.example", "--config", config)
	s := harness.Serve(t, "--config", config)
	p := startProsody(t, r, posternAt(s.Address("ejabberd"), fastOptions(t, r)))
	want := func(way, secret, condition string) string {
		t.Helper()
		got, token := slixmpp(t, p.port, "joe@dom.example", way, secret)
		if got != condition || (token != "") != (way == "request" && got == "success") {
			t.Errorf("%s with %q: %s, token %q; want %s", way, secret, got, token, condition)
		}
		return token
	}
	for _, way := range []string{"sasl1", "sasl2", "request"} {
		want(way, "sec ret: päss", "success")
		want(way, "wrong", "not-authorized")
	}
	token := want("request", "sec ret: päss", "success")
	want("fast", token, "success")
	want("fast", token, "success")
	want("fast", token+"x", "not-authorized")
	_ = s.Cmd.Process.Kill()
	<-s.Ended
	want("fast", token, "success") // Prosody knows the token
	for _, way := range []string{"sasl1", "sasl2"} {
		want(way, "sec ret: päss", "temporary-auth-failure")
	}
}

// certificate writes a key and a certificate of its own for a name, for servers that need TLS.
func certificate(t *testing.T, name string) (file string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{name}, NotAfter: time.Now().Add(time.Hour)}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	file = filepath.Join(t.TempDir(), name+".pem")
	harness.WriteFile(t, file, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}))+
		string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert})))
	return file
}

// fastEjabberd takes the port of the clients, the certificate's file, and the external program.
const fastEjabberd = `
hosts: [dom.example]
loglevel: warning
certfiles: ["%[2]s"]
listen:
  - port: %[1]d
    ip: "127.0.0.1"
    module: ejabberd_c2s
    starttls: true
auth_method: [external]
extauth_program: "%[3]s"
auth_use_cache: false
disable_sasl_mechanisms: ["X-OAUTH2"]
modules:
  mod_auth_fast: {}
`

// The same on ejabberd, which offers SASL2 and FAST over TLS only.
func TestSlixmppOnEjabberd(t *testing.T) {
	config, _ := harness.PipeUsers(t, "")
	port := harness.FreePort(t)
	startEjabberdNode(t, harness.Trixie(t), fmt.Sprintf(fastEjabberd, port, certificate(t, "dom.example"),
		harness.Binary+" pipe --protocol ejabberd --config "+config))
	harness.WaitFor(t, "ejabberd accepts connections", func() bool {
		c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
	want := func(way, secret, condition string) string {
		t.Helper()
		got, token := slixmpp(t, port, "joe@dom.example", way, secret)
		if got != condition || (token != "") != (way == "request" && got == "success") {
			t.Errorf("%s with %q: %s, token %q; want %s", way, secret, got, token, condition)
		}
		return token
	}
	for _, way := range []string{"sasl1", "sasl2", "request"} {
		want(way, "secret", "success")
		want(way, "wrong", "not-authorized")
	}
	token := want("request", "secret", "success")
	want("fast", token, "success")
	want("fast", token+"x", "not-authorized")
}

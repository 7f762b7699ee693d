package peers

import (
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"postern/cmd/e2e/harness"
	"postern/internal/scram/scramtest"
)

// SCRAM is offered once every account has keys, which logins by PLAIN make. Then clients log in by it, and by
// PLAIN as before.
func TestProsodyScram(t *testing.T) { harness.EachRelease(t, prosodyScram) }

func prosodyScram(t *testing.T, r harness.Release) {
	config := harness.ConfigFile(t, t.TempDir(), harness.UsersConfig)
	harness.OK(t, "secret\n", "user", "add", "joe@dom.example", "--config", config)
	text := strings.Replace(harness.ReadText(config), "  cache { bcrypt_cost = 4 }\n", "  cache { bcrypt_cost = 4 }\n  scram = true\n", 1)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	harness.OK(t, "sec=ret, päss\n", "user", "add", "ann@dom.example", "--config", config)
	s := harness.Serve(t, "--config", config)
	secure := harness.FreePort(t)
	file := certificate(t, "dom.example")
	p := startProsody(t, r, posternAt(s.Address("ejabberd"), fmt.Sprintf(
		"c2s_direct_tls_ports = { %d }\nc2s_direct_tls_interfaces = { \"127.0.0.1\" }\nssl = { key = %q; certificate = %[2]q }", secure, file)))
	offers := func() string {
		t.Helper()
		x, err := xmppOpen(p.port, "dom.example")
		if err != nil {
			t.Fatal(err)
		}
		defer x.c.Close()
		return x.offers
	}
	if offered := offers(); strings.Contains(offered, "SCRAM") || !strings.Contains(offered, "<mechanism>PLAIN</mechanism>") {
		t.Errorf("before all have keys: %s", offered)
	}
	p.eventually("secret")
	harness.WaitFor(t, "SCRAM is offered", func() bool {
		p.again() // or the module would ask within a minute
		return strings.Contains(offers(), "<mechanism>SCRAM-SHA-256</mechanism>")
	})
	for _, c := range []struct{ user, way, secret, want string }{
		{"joe", "SCRAM-SHA-256", "secret", "success"},
		{"joe", "SCRAM-SHA-256", "wrong", "not-authorized"},
		{"ann", "SCRAM-SHA-1", "sec=ret, päss", "success"},
		{"nobody", "SCRAM-SHA-1", "secret", "not-authorized"},
		{"ann", "sasl1", "sec=ret, päss", "success"},
	} {
		if got, _ := slixmpp(t, p.port, c.user+"@dom.example", c.way, c.secret); got != c.want {
			t.Errorf("%s by %s with %q: %s, want %s", c.user, c.way, c.secret, got, c.want)
		}
	}
	p.wantLogin("joe", "wrong", "not-authorized")
	prosodyBinding(t, secure)
	s.Eventually("the login in the log", func() bool {
		log := s.Log.String()
		return strings.Contains(log, "mechanism=SCRAM-SHA-256-PLUS") && strings.Contains(log, "client=127.0.0.1")
	})
	_ = s.Cmd.Process.Kill()
	<-s.Ended
	if got, _ := slixmpp(t, p.port, "joe@dom.example", "SCRAM-SHA-256", "secret"); got != "temporary-auth-failure" {
		t.Errorf("while postern is away: %s", got)
	}
	p.again()
	if offered := offers(); !strings.Contains(offered, "SCRAM-SHA-256<") {
		t.Errorf("after a restart while postern is away: %s", offered)
	}
}

// prosodyBinding logs in with channel binding, on a port with TLS: a proof is good on its own connection alone.
func prosodyBinding(t *testing.T, port int) {
	t.Helper()
	harness.WaitFor(t, "the port with TLS is open", func() bool {
		c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
	for name, change := range map[string]func(*scramtest.Client){
		"success":                         func(*scramtest.Client) {},
		"not-authorized: another channel": func(c *scramtest.Client) { c.Binding = strings.Repeat("x", len(c.Binding)) },
		"not-authorized: downgraded": func(c *scramtest.Client) {
			c.Mechanism, c.GS2, c.Binding = "SCRAM-SHA-256", "y,,", ""
		},
		"not-authorized: wrong password": func(c *scramtest.Client) { c.Password = "wrong" },
	} {
		x, binding, data := xmppTLS(t, port)
		c := scramtest.Client{Mechanism: "SCRAM-SHA-256-PLUS", User: "joe", Password: "secret", GS2: "p=" + binding + ",,", Binding: data}
		change(&c)
		if !strings.Contains(x.offers, "<mechanism>SCRAM-SHA-256-PLUS</mechanism>") {
			t.Errorf("offered over TLS: %s", x.offers)
		}
		want, _, _ := strings.Cut(name, ":")
		if got, err := x.scram(&c); err != nil || got != want {
			t.Errorf("%s: %s, %v", name, got, err)
		}
	}
}

// xmppTLS connects over TLS, and returns the channel binding of the connection that the server knows.
func xmppTLS(t *testing.T, port int) (x *xmpp, binding, data string) {
	t.Helper()
	c, err := tls.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port), &tls.Config{InsecureSkipVerify: true, ServerName: "dom.example"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(harness.Timeout))
	state := c.ConnectionState()
	exported, err := state.ExportKeyingMaterial("EXPORTER-Channel-Binding", nil, 32)
	if err != nil {
		t.Fatal(err)
	}
	x = &xmpp{c: c, host: "dom.example"}
	if err := x.stream(); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(x.offers, "SCRAM-SHA-256-PLUS") {
		return x, "tls-exporter", string(exported)
	}
	// Prosody 0.12 has the binding of TLS 1.2 alone.
	_ = c.Close()
	c, err = tls.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port), &tls.Config{InsecureSkipVerify: true, ServerName: "dom.example", MaxVersion: tls.VersionTLS12})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(harness.Timeout))
	x = &xmpp{c: c, host: "dom.example"}
	if err := x.stream(); err != nil {
		t.Fatal(err)
	}
	return x, "tls-unique", string(c.ConnectionState().TLSUnique)
}

// scram logs in, and reports "success" or the failure's condition.
func (x *xmpp) scram(c *scramtest.Client) (string, error) {
	fmt.Fprintf(x.c, "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='%s'>%s</auth>",
		c.Mechanism, base64.StdEncoding.EncodeToString([]byte(c.First())))
	answer, err := until(x.c, "</challenge>", "</failure>")
	if err != nil {
		return answer, err
	}
	text, challenged := strings.CutSuffix(answer, "</challenge>")
	if challenged {
		challenge, err := base64.StdEncoding.DecodeString(text[strings.LastIndexByte(text, '>')+1:])
		if err != nil {
			return answer, err
		}
		fmt.Fprintf(x.c, "<response xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>%s</response>",
			base64.StdEncoding.EncodeToString([]byte(c.Final(string(challenge)))))
		if answer, err = until(x.c, "</success>", "</failure>"); err != nil {
			return answer, err
		}
	}
	if strings.Contains(answer, base64.StdEncoding.EncodeToString([]byte(c.Signature))+"</success>") && c.Signature != "" {
		return "success", nil
	}
	for _, condition := range []string{"not-authorized", "temporary-auth-failure", "malformed-request"} {
		if strings.Contains(answer, "<"+condition) {
			return condition, nil
		}
	}
	return answer, nil
}

// Through a pipe, as inetd starts one for each connection, there is PLAIN alone, also for a Prosody that has offered SCRAM
// before.
func TestProsodyScramThroughPipe(t *testing.T) {
	config := harness.ConfigFile(t, t.TempDir(), strings.Replace(harness.UsersConfig, "  cache { bcrypt_cost = 4 }\n", "  scram = true\n", 1))
	harness.OK(t, "secret\n", "user", "add", "joe@dom.example", "--config", config)
	s := harness.Serve(t, "--config", config)
	p := startProsody(t, harness.Trixie(t), posternAt(s.Address("ejabberd"), ""))
	harness.FileSays(t, p.mechanisms("dom%2eexample"), `["scram"] = true`)
	if got, _ := slixmpp(t, p.port, "joe@dom.example", "SCRAM-SHA-256", "secret"); got != "success" {
		t.Errorf("without a pipe: %s", got)
	}
	p.stop()
	text := strings.Replace(harness.ReadText(p.config), s.Address("ejabberd"), pipes(t, config), 1)
	harness.WriteFile(t, p.config, text)
	p.start()
	harness.FileSays(t, p.mechanisms("dom%2eexample"), `["scram"] = false`)
	if got, _ := slixmpp(t, p.port, "joe@dom.example", "sasl1", "secret"); got != "success" {
		t.Errorf("PLAIN through a pipe: %s", got)
	}
	x, err := xmppOpen(p.port, "dom.example")
	if err != nil {
		t.Fatal(err)
	}
	defer x.c.Close()
	if strings.Contains(x.offers, "SCRAM") || !strings.Contains(x.offers, "<mechanism>PLAIN</mechanism>") {
		t.Errorf("through a pipe there is %s", x.offers)
	}
}

// pipes starts a pipe for each connection to an address.
func pipes(t *testing.T, config string) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	t.Cleanup(func() { _ = l.Close(); all.Wait() })
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			f, err := c.(*net.TCPConn).File()
			_ = c.Close()
			if err != nil {
				continue
			}
			cmd := exec.Command(harness.Binary, "pipe", "--protocol", "ejabberd", "--config", config)
			cmd.Stdin, cmd.Stdout = f, f
			if err := cmd.Start(); err == nil {
				all.Go(func() { _ = cmd.Wait() }) // it ends with its peer
			}
			_ = f.Close()
		}
	})
	return l.Addr().String()
}

package peers

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"postern/cmd/e2e/harness"
	"postern/internal/backend/oidctest"
)

// bearerConfig is postern behind a mail server with users of an OpenID Connect provider. It takes a folder and the issuer.
const bearerConfig = `
listen "dovecot" {
  address        = "127.0.0.1:0"
  default_domain = "dom.example"
}
listen "dovecot-unix" {
  protocol       = "dovecot"
  address        = "unix:%[1]s/dovecot"
  mode           = "0666"
  default_domain = "dom.example"
}
backend "oidc" "idp" {
  issuer         = %[2]q
  audience       = "postern"
  username_claim = "preferred_username"
  required_scope = "mail"
}
domain "dom.example" { backends = [backend.oidc.idp] }
`

// bearer is postern with a provider, for a mail server.
type bearer struct {
	*mail
	idp *oidctest.Provider
	key oidctest.Key
}

func newBearer(t *testing.T) *bearer {
	t.Helper()
	dir, err := os.MkdirTemp("", "mail") // as newMail
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	b := &bearer{idp: oidctest.Start(t), key: oidctest.RSA(t, "a")}
	b.idp.Publish(b.key)
	config := harness.ConfigFile(t, t.TempDir(), fmt.Sprintf(bearerConfig, dir, b.idp.URL))
	b.mail = &mail{dir: dir, config: config, Server: harness.Serve(t, "--config", config)}
	return b
}

// token is one for alice, with changes to its claims.
func (b *bearer) token(changes map[string]any) string {
	return b.key.Sign(b.T, b.idp.Claims(time.Now(), changes))
}

// codes are the replies of an SMTP server in what curl prints.
var codes = regexp.MustCompile(`(?m)^< (\d{3})`)

// curlSMTP logs in with a token by curl, which takes OAUTHBEARER if that is offered, and returns the code that ends the
// login. ir: the token is sent with the command, unless it is long.
func curlSMTP(t *testing.T, port int, user, token string, ir bool) string {
	t.Helper()
	args := []string{"-sv", "--max-time", fmt.Sprint(int(harness.Timeout.Seconds())), "--url", fmt.Sprintf("smtp://127.0.0.1:%d/client.example", port),
		"--user", user + ":", "--oauth2-bearer", token, "-X", "NOOP"}
	if ir {
		args = append(args, "--sasl-ir")
	}
	out, _ := exec.Command("curl", args...).CombinedOutput() // its status says less
	_, after, _ := strings.Cut(string(out), "> AUTH OAUTHBEARER")
	for _, code := range codes.FindAllStringSubmatch(after, -1) {
		if code[1] != "334" {
			return code[1]
		}
	}
	t.Errorf("curl says\n%s", out)
	return ""
}

// bearerSMTP logs in with a token that is sent with the command, and returns the code that ends the login.
func bearerSMTP(t *testing.T, port int, mechanism, user, token string) string {
	t.Helper()
	s := dialSMTP(t, port)
	defer s.Close()
	message, dummy := "n,a="+user+",\x01auth=Bearer "+token+"\x01\x01", "AQ=="
	if mechanism == "XOAUTH2" {
		message, dummy = "user="+user+"\x01auth=Bearer "+token+"\x01\x01", ""
	}
	code, _ := s.say("AUTH " + mechanism + " " + harness.Base64(message))
	if code == 334 { // why the token is refused
		code, _ = s.say(dummy)
	}
	return fmt.Sprint(code)
}

// check logs in with good and bad tokens. later is the code of a temporary failure.
func (b *bearer) check(t *testing.T, port int, later string) {
	t.Helper()
	ways := map[string]func(user, token string) string{
		"curl":          func(user, token string) string { return curlSMTP(t, port, user, token, false) },
		"curl, at once": func(user, token string) string { return curlSMTP(t, port, user, token, true) },
		"XOAUTH2":       func(user, token string) string { return bearerSMTP(t, port, "XOAUTH2", user, token) },
	}
	for name, login := range ways {
		for _, c := range []struct{ name, user, token, want string }{
			{"good", "alice", b.token(nil), "235"},
			{"with the domain", "alice@dom.example", b.token(nil), "235"},
			{"expired", "alice", b.token(map[string]any{"exp": 1}), "535"},
			{"of another user", "bob", b.token(nil), "535"},
			{"without the scope", "alice", b.token(map[string]any{"scope": "openid"}), "535"},
			{"a password", "alice", "secret", "535"},
		} {
			if got := login(c.user, c.token); got != c.want {
				t.Errorf("%s, %s: %s, want %s", name, c.name, got, c.want)
			}
		}
	}
	stranger := oidctest.RSA(t, "stranger").Sign(t, b.idp.Claims(time.Now(), nil))
	if got := ways["curl"]("alice", stranger); got != later {
		t.Errorf("of an unknown key: %s, want %s", got, later)
	}
	harness.WaitFor(t, "logins work again", func() bool { return bearerSMTP(t, port, "OAUTHBEARER", "alice", b.token(nil)) == "235" })
}

// long logs in with a token that is longer than the line that Postfix takes.
func (b *bearer) long(t *testing.T, want string, port int) {
	t.Helper()
	token := b.token(map[string]any{"groups": strings.Repeat("staff ", 300)})
	if got := bearerSMTP(t, port, "OAUTHBEARER", "alice", token); got != want {
		t.Errorf("a token of %d bytes: %s, want %s", len(token), got, want)
	}
}

// Mail clients log in with tokens through the real Postfix, which offers their mechanisms by itself. It takes long ones
// with longer lines only.
func TestPostfixBearer(t *testing.T) { harness.EachRelease(t, postfixBearer) }

func postfixBearer(t *testing.T, r harness.Release) {
	b := newBearer(t)
	page := harness.PageBlocks(t, "webmail", "TestPostfixBearer")
	if len(page) != 2 {
		t.Fatalf("%d blocks of the manual: %q", len(page), page)
	}
	// The lines for Postfix are settings of a service here, and its TLS is not tried.
	_, setting, _ := strings.Cut(page[0], "postconf -e '")
	setting, _, _ = strings.Cut(setting, "'")
	p := b.startPostfix(r, "", map[string]string{
		"usual": "smtpd_sasl_type=dovecot smtpd_sasl_path=inet:" + b.Address("dovecot"),
		"long":  "smtpd_sasl_type=dovecot smtpd_sasl_path=" + b.Address("dovecot-unix") + " " + strings.ReplaceAll(setting, " ", ""),
	})
	b.check(t, p.ports["usual"], "454")
	b.long(t, "535", p.ports["usual"])
	b.long(t, "235", p.ports["long"])
	command := strings.NewReplacer("--ssl-reqd ", "", "mail.example.org:587", fmt.Sprintf("127.0.0.1:%d/client.example", p.ports["usual"]), "alice@example.org", "alice@dom.example").Replace(page[1])
	for token, want := range map[string]string{b.token(nil): "235", b.token(map[string]any{"exp": 1}): "535"} {
		curl := exec.Command("sh", "-c", command)
		curl.Env = append(os.Environ(), "TOKEN="+token)
		if out, _ := curl.CombinedOutput(); !strings.Contains(string(out), "\n< "+want) {
			t.Errorf("%q: no %s, but\n%s", command, want, out)
		}
	}
}

// The same through the real Exim, which takes long lines.
func TestEximBearer(t *testing.T) { harness.EachRelease(t, eximBearer) }

func eximBearer(t *testing.T, r harness.Release) {
	b := newBearer(t)
	port := b.serveExim(t, r, b.Address("dovecot-unix"))
	b.check(t, port, "435")
	b.long(t, "235", port)
}

// serveExim has an Exim that asks postern at a socket serve each connection to a port.
func (m *mail) serveExim(t *testing.T, r harness.Release, socket string) (port int) {
	t.Helper()
	program, config := r.Unpacked(t, "exim4/usr/sbin/exim4"), m.configureExim(t, socket)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	t.Cleanup(func() { _ = l.Close(); <-ended })
	go func() {
		defer close(ended)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			cmd := r.Command(program, "-C", config, "-bs", "-oMa", "192.0.2.9.4242")
			f, err := c.(*net.TCPConn).File()
			_ = c.Close()
			if err != nil {
				continue
			}
			cmd.Stdin, cmd.Stdout = f, f
			_ = cmd.Run() // what it says goes to the client
			_ = f.Close()
		}
	}()
	return l.Addr().(*net.TCPAddr).Port
}

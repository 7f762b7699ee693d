package peers

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"postern/cmd/e2e/harness"
)

// login is one login over SMTP and the code that ends it.
type login struct {
	user, password string
	want           int
}

// mailLogins are right and wrong logins, with and without a domain.
var mailLogins = []login{
	{"joe", "secret", 235}, // the listener's default domain
	{"joe@dom.example", "secret", 235},
	{"ann@shop.example", "secret", 235},
	{"joe", "wrong", 535},
	{"joe@dom.example", "wrong", 535},
	{"nobody", "secret", 535},
	{"ann@shop.example", "wrong", 535},
	{"joe@elsewhere.example", "secret", 535},
	{"a@b@dom.example", "secret", 535},
}

// check logs in by every mechanism, each time in a new session.
func (m *mail) check(t *testing.T, session func() *smtp, logins ...login) {
	t.Helper()
	for how, attempt := range smtpLogins {
		for _, l := range logins {
			s := session()
			if got := attempt(s, l.user, l.password); got != l.want {
				t.Errorf("%s, %s with %q: %d, want %d", how, l.user, l.password, got, l.want)
			}
			_ = s.Close()
		}
	}
}

// outage checks that no login that depends on the application is answered "wrong password" while it
// is down, and that logins work again afterwards: smtpd loses the first one or two after the end of
// a dovecot connection.
func (m *mail) outage(t *testing.T, session func() *smtp, cannotTell int) {
	t.Helper()
	m.app.Becomes(harness.AppDown)
	defer m.app.Becomes(harness.AppUp)
	m.check(t, session, login{"ann@shop.example", "secret", cannotTell}, login{"ann@shop.example", "wrong", cannotTell})
	m.app.Becomes(harness.AppUp)
	harness.WaitFor(t, "logins work again", func() bool {
		s := session()
		defer s.Close()
		return smtpLogins["PLAIN"](s, "ann@shop.example", "secret") == 235
	})
	m.check(t, session, login{"ann@shop.example", "secret", 235})
}

// The real Postfix asks for logins: by the dovecot protocol on a port and on a Unix socket, and
// by Cyrus SASL's saslauthd protocol, without a realm and with one.
func TestPostfixLogins(t *testing.T) { harness.EachRelease(t, postfixLogins) }

func postfixLogins(t *testing.T, r harness.Release) {
	m := newMail(t)
	const cyrus = "smtpd_sasl_type=cyrus smtpd_sasl_path=smtpd "
	p := m.startPostfix(r, "", map[string]string{
		"dovecot":      "smtpd_sasl_type=dovecot smtpd_sasl_path=inet:" + m.Address("dovecot"),
		"dovecot-unix": "smtpd_sasl_type=dovecot smtpd_sasl_path=" + m.Address("dovecot-unix"),
		"cyrus":        cyrus,
		"cyrus-realm":  cyrus + "smtpd_sasl_local_domain=shop.example",
	})
	for name, port := range p.ports {
		t.Run(name, func(t *testing.T) {
			session := func() *smtp { return dialSMTP(t, port) }
			logins := mailLogins
			if name == "cyrus-realm" { // its realm completes a name without a domain
				logins = append([]login{{"ann", "secret", 235}, {"nobody", "secret", 535}}, mailLogins[1:]...)
			}
			m.check(t, session, logins...)
			m.outage(t, session, 454)
			giveUp(t, session())
		})
	}
	m.Eventually("the client's address in the log", func() bool {
		log := m.Log.String()
		return strings.Contains(log, "front=dovecot op=auth verdict=allow source=") && strings.Contains(log, "client=127.0.0.1")
	})
	if log := m.Log.String(); strings.Contains(log, "secret") || strings.Contains(log, harness.Base64("\x00joe\x00secret")) {
		t.Error("the log holds a password")
	}
}

// giveUp is a mail client that gives up in the midst of a login, and logs in after that.
func giveUp(t *testing.T, s *smtp) {
	t.Helper()
	for _, line := range []string{"AUTH LOGIN", "AUTH PLAIN"} {
		if code, text := s.say(line); code != 334 {
			t.Fatalf("%s: %d %s", line, code, text)
		}
		if code, text := s.say("*"); code != 501 {
			t.Fatalf("*: %d %s", code, text)
		}
	}
	if code := smtpLogins["LOGIN"](s, "joe@dom.example", "secret"); code != 235 {
		t.Errorf("after giving up: %d", code)
	}
}

// A reload does not touch the connection over which smtpd asks: it would answer the next logins
// 454, and end itself if no daemon listened.
func TestPostfixOverReloads(t *testing.T) { harness.EachRelease(t, postfixOverReloads) }

func postfixOverReloads(t *testing.T, r harness.Release) {
	m := newMail(t)
	p := m.startPostfix(r, "", map[string]string{
		"dovecot": "smtpd_sasl_type=dovecot smtpd_sasl_path=inet:" + m.Address("dovecot"),
	})
	text := harness.ReadText(m.config)
	for i := range 5 {
		s := dialSMTP(t, p.ports["dovecot"])
		if got := smtpLogins["PLAIN"](s, "joe", "secret"); got != 235 {
			t.Errorf("login %d: %d", i, got)
		}
		_ = s.Close()
		more := fmt.Sprintf("listen \"generic%d\" {\n  protocol = \"generic\"\n  address  = \"127.0.0.1:0\"\n}\n"+
			"domain \"d%[1]d.example\" { backends = [backend.users.local] }\n", i)
		if err := os.WriteFile(m.config, []byte(text+more), 0o600); err != nil {
			t.Fatal(err)
		}
		if out := harness.OK(t, "", "reload", "--config", m.config); !strings.Contains(out, fmt.Sprintf("domain d%d.example added", i)) {
			t.Errorf("reload %d: %s", i, out)
		}
	}
	if log := harness.ReadText(filepath.Join(m.dir, "mail.log")); strings.Contains(log, "fatal") || strings.Contains(log, "auth socket") {
		t.Errorf("smtpd complains:\n%s", log)
	}
}

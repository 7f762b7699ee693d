package pipes

import (
	"strings"
	"testing"

	"postern/cmd/e2e/harness"
)

// SCRAM and bearer tokens do not go through a pipe. It offers nothing to Prosody's module but ejabberd's operations, and
// to one that asks all the same it says so: a "no" would have clients forget their passwords.
func TestPipeOffersNoMechanisms(t *testing.T) {
	harness.BothWays(t, func(t *testing.T) string {
		config, _ := harness.PipeUsers(t, "")
		text := strings.Replace(harness.ReadText(config), "cache {", "scram = true\n  cache {", 1)
		text += "listen \"ejabberd\" { address = \"127.0.0.1:0\" }\n"
		text += "backend \"oidc\" \"idp\" {\n  issuer = \"https://id.example\"\n  audience = \"postern\"\n  username_claim = \"preferred_username\"\n}\n"
		text += "domain \"idp.example\" { backends = [backend.oidc.idp] }\n"
		harness.WriteFile(t, config, text)
		harness.OK(t, "secret\n", "user", "passwd", "joe@dom.example", "--config", config) // makes keys
		return config
	}, func(t *testing.T, d *harness.Restartable) {
		if d.Stays { // what the listener itself offers: SCRAM, and tokens
			d.Running()
			for domain, want := range map[string]string{"dom.example": "\x00\x02\x02\x01", "idp.example": "\x00\x02\x04\x01"} {
				if got := harness.Exchange(t, d.Server.Address("ejabberd"), harness.Frame("watch:0:"+domain)); got != want {
					t.Errorf("the daemon offers %q for %s, want %q", got, domain, want)
				}
			}
		}
		p := harness.Start(t, "pipe", "--protocol", "ejabberd", "--config", d.Config)
		for _, c := range []struct{ question, want string }{
			{"watch:0:dom.example", "\x00\x02\x00\x00"}, // ejabberd's operations alone
			{"watch:0:idp.example", "\x00\x02\x00\x00"},
			{"login:joe:dom.example:xmpp 192.0.2.1 secret", "\x00\x02\x00\x01"},
			{"scram:joe:dom.example:xmpp - SCRAM-SHA-256 - n,,n=joe,r=abcdefgh", "\x00\x02\x00\x03"},
			{"proof:joe:dom.example:xmpp - SCRAM-SHA-256 - state c=biws,r=x,p=AA==", "\x00\x02\x00\x03"},
			{"bearer:joe:dom.example:xmpp - secret", "\x00\x02\x00\x03"},
			{"bearer::dom.example:xmpp - secret", "\x00\x02\x00\x03"},
			{"bearer:joe:dom.example:xmpp - not a token", "\x00\x02\x00\x00"},
			{"login:joe:dom.example:xmpp 192.0.2.1 secret", "\x00\x02\x00\x01"}, // the connection goes on
		} {
			p.Send(harness.Frame(c.question))
			p.Expect(c.want)
		}
		p.Logged("do not go through a pipe")
		if rest, code := p.Finish(); rest != "" || code != 0 {
			t.Errorf("at the end: %q, exit status %d", rest, code)
		}
		if strings.Contains(p.Log.String(), "secret") {
			t.Errorf("a secret is in the log:\n%s", p.Log.String())
		}
	})
}

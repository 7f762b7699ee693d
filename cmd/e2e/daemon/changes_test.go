package daemon

import (
	"net"
	"strings"
	"testing"

	"postern/cmd/e2e/harness"
	"postern/internal/doctor"
)

// Without changes = true a stranger cannot change an account, by no port and no trick; and whatever an
// administrator looks at names the listeners that refuse, with the line to add.
func TestStrangersChangeNothing(t *testing.T) {
	text := strings.ReplaceAll(harness.UsersConfig, "  changes = true\n", "")
	config := harness.ConfigFile(t, t.TempDir(), text)
	harness.OK(t, "secret\n", "user", "add", "joe@dom.example", "--config", config)
	s := harness.Serve(t, "--config", config)
	const line = `add changes = true to listen `
	checked := harness.OK(t, "", "config", "check", config)
	for _, name := range []string{"ejabberd", "generic"} {
		if !strings.Contains(checked, line+`"`+name+`"`) || !strings.Contains(s.Log.String(), line+`\"`+name+`\"`) {
			t.Errorf("%s is not named: %s", name, checked)
		}
	}
	if strings.Contains(checked, `listen "dovecot"`) {
		t.Errorf("dovecot is named: %s", checked)
	}
	report := harness.Decode[doctor.Report](t, harness.Command(t, "", "doctor", "--json", "--config", config).Out)
	harness.WantFinding(t, report, "configuration", "notes", doctor.OK, line)

	for _, op := range []string{"setpass:joe:dom.example:x", "tryregister:eve:dom.example:x", "removeuser:joe:dom.example", "removeuser3:joe:dom.example:secret"} {
		if got := harness.Exchange(t, s.Address("ejabberd"), harness.Frame(op)); got != "\x00\x02\x00\x02" {
			t.Errorf("ejabberd: %s: answered %q", op, got)
		}
		if got := harness.Exchange(t, s.Address("generic"), op+"\n"); got != "0\n" {
			t.Errorf("generic: %s: answered %q", op, got)
		}
		for _, listener := range []string{"generic", "ejabberd", "tcp_table"} {
			c := harness.Connect(t, s.Address(listener))
			if _, err := c.Write([]byte("POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n\r\n" + op + "\n")); err != nil {
				t.Fatal(err)
			}
			harness.ClosedBy(t, c) // without a word
		}
	}
	if got := harness.Exchange(t, s.Address("generic"), harness.JoeLine+"isuser:eve:dom.example\n"); got != "1\n0\n" {
		t.Errorf("afterwards: %q", got)
	}
	s.Eventually("lines about HTTP", func() bool { return strings.Count(s.Log.String(), "looks_like=\"an HTTP request\"") == 12 })
	if out := s.Log.String(); !strings.Contains(out, "source=forbidden") || !strings.Contains(out, "peer=127.0.0.1:") {
		t.Errorf("the log does not say who was refused: %s", out)
	}
}

// The kernel names the peer of a Unix socket.
func TestPeerOfUnixSocket(t *testing.T) {
	s, _ := harness.UsersServer(t)
	address := s.Address("saslauthd")
	c, err := net.Dial("unix", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	harness.Say(t, c, harness.Fields("Jo e", "wrong", "imap", "DOM.example"), harness.Frame("NO authentication failed"))
	want := []string{"peer=\"pid ", "service=imap", `given="Jo e@DOM.example"`, "reason="}
	s.Eventually("the line of the refusal", func() bool {
		for line := range strings.Lines(s.Log.String()) {
			ok := strings.Contains(line, "front=saslauthd")
			for _, part := range want {
				ok = ok && strings.Contains(line, part)
			}
			if ok {
				return true
			}
		}
		return false
	})
}

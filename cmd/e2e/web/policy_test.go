package web

import (
	"bufio"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"postern/cmd/e2e/harness"
)

// policy23 and policy24 take a folder; the passwords are Dovecot's own.
const policy23 = `
disable_plaintext_auth = no
mail_location = maildir:~/Maildir
passdb {
  driver = static
  args = password=right
}
userdb {
  driver = static
  args = uid=65534 gid=65534 home=%[1]s/mail/%%u
}
`

const policy24 = `
auth_allow_cleartext = yes
mail_driver = maildir
mail_path = ~/Maildir
passdb static {
  passdb_static_password = right
}
userdb static {
  fields {
    uid = 65534
    gid = 65534
    home = %[1]s/mail/%%{user}
  }
}
`

// Dovecot, with passwords of its own, has the limits of postern by auth-policy: what it refuses is counted, and an
// address that is limited is refused by its policy, also with the right password, while others are let in.
func TestWebDovecotPolicy(t *testing.T) { harness.EachRelease(t, dovecotPolicy) }

func dovecotPolicy(t *testing.T, r harness.Release) {
	s, port := newSite(t, 1, 1), harness.FreePort(t)
	file := harness.ConfigFile(t, t.TempDir(), harness.UsersBase+`
listen "http" {
  address        = "127.0.0.1:0"
  secret         = "`+secret+`"
  default_domain = "dom.example"
}
audit { file = "audit.log" }
limit {
  address_refusals = 3
  exempt           = []
  first_pause      = "15m"
}
`)
	lends := harness.Serve(t, "--config", file)
	text, own := fmt.Sprintf(dovecotCommon, s.dir, port), policy23
	if r.Trixie() {
		text, own = "dovecot_config_version = 2.4.1\ndovecot_storage_version = 2.4.1\n"+text, policy24
	}
	page := harness.PageBlocks(t, "http", "TestWebDovecotPolicy", "127.0.0.1:23670", lends.Address("http"), "SECRET", secret)
	conf := s.write(t, "dovecot.conf", text+fmt.Sprintf(own, s.dir)+page[0])
	s.start(t, r, port, filepath.Join(s.dir, "log"), "dovecot", "-F", "-c", conf)

	const attacker, other, yes, no, limited = "127.0.1.1", "127.0.1.2", "a OK", "a NO [AUTHENTICATIONFAILED]", "a NO [ALERT] too many wrong passwords"
	want := func(from, password, want string) {
		t.Helper()
		if got := loginFrom(t, from, port, password); !strings.HasPrefix(got, want) {
			t.Errorf("from %s with %q: %s; want %s", from, password, got, want)
		}
	}
	refusals := func(from string) (n struct{ Refusals, Pauses int }) {
		return harness.Decode[struct{ Refusals, Pauses int }](t, harness.OK(t, "", "limit", "show", from, "--config", file))
	}
	want(attacker, "right", yes)
	for i := range 3 {
		want(attacker, fmt.Sprint("wrong", i), no)
		lends.Eventually("the report", func() bool { return refusals(attacker).Refusals == i+1 })
	}
	want(attacker, "right", limited)
	want(other, "right", yes)
	if n := refusals(attacker); n.Refusals != 3 || n.Pauses != 1 {
		t.Errorf("of the attacker are known %+v", n)
	}
	if n := refusals(other); n.Refusals != 0 {
		t.Errorf("of another client are known %+v", n)
	}
	harness.OK(t, "", "limit", "forget", attacker, "--config", file)
	want(attacker, "right", yes)
}

// loginFrom logs in by IMAP from an address of this machine, and returns the answer.
func loginFrom(t *testing.T, from string, port int, password string) string {
	t.Helper()
	c, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}).Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(harness.Timeout))
	in := bufio.NewReader(c)
	if line, err := in.ReadString('\n'); !strings.HasPrefix(line, "* OK") {
		t.Fatalf("%q, %v", line, err)
	}
	if _, err := fmt.Fprintf(c, "a LOGIN joe@dom.example %s\r\n", password); err != nil {
		t.Fatal(err)
	}
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(line, "a ") {
			return line
		}
	}
}

package peers

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"postern/cmd/e2e/harness"
)

// mailConfig is postern behind a mail server: dom.example has a users file, and the users of
// shop.example are an application's. It takes the application's address and a folder.
const mailConfig = `
listen "tcp_table" { address = "127.0.0.1:0" }
listen "socketmap" {
  address             = "127.0.0.1:0"
  recipient_delimiter = "+"
}
listen "saslauthd" {
  address        = "unix:%[2]s/mux"
  mode           = "0666"
  default_domain = "dom.example"
}
listen "dovecot" {
  address        = "127.0.0.1:0"
  default_domain = "dom.example"
}
listen "dovecot-unix" {
  protocol       = "dovecot"
  address        = "unix:%[2]s/dovecot"
  mode           = "0666"
  default_domain = "dom.example"
}
listen "dovecot-shop" {
  protocol       = "dovecot"
  address        = "unix:%[2]s/shop"
  mode           = "0666"
  default_domain = "shop.example"
}
backend "users" "local" { bcrypt_cost = 4 }
backend "json" "app" {
  url              = "%[1]s"
  breaker_failures = 1000
}
domain "dom.example" {
  backends = [backend.users.local]
  cache { bcrypt_cost = 4 }
}
domain "shop.example" {
  backends = [backend.json.app]
  cache { storage = "none" }
}
`

// mail is postern for a mail server.
type mail struct {
	*harness.Server
	app    *harness.WebApp // shop.example
	config string
	dir    string // that the mail server's user can reach
}

func newMail(t *testing.T) *mail {
	t.Helper()
	dir, err := os.MkdirTemp("", "mail") // t.TempDir is for its owner only, and its path is long
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	m := &mail{app: harness.NewWebApp(t, harness.AppUp), dir: dir}
	m.config = harness.ConfigFile(t, t.TempDir(), fmt.Sprintf(mailConfig, m.app.URL, dir))
	for _, user := range []string{"joe", "josé", "a b", "a%41b", `a"b`} {
		harness.OK(t, "secret\n", "user", "add", user+"@dom.example", "--config", m.config)
	}
	m.Server = harness.Serve(t, "--config", m.config)
	return m
}

// postfix is a private Postfix; each smtpd has a port of its own.
type postfix struct {
	harness.Release
	ports map[string]int
}

// mainCF takes the folder; chroots and proxies are off.
const mainCF = `compatibility_level = 3.6
queue_directory = %[1]s/queue
data_directory = %[1]s/data
maillog_file = %[1]s/mail.log
maillog_file_prefixes = %[1]s
myhostname = mail.dom.example
mydestination =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
alias_maps =
alias_database =
mynetworks =
local_recipient_maps =
smtpd_sasl_auth_enable = yes
cyrus_sasl_config_path = %[1]s/etc/sasl
smtpd_relay_restrictions = reject_unauth_destination
smtpd_error_sleep_time = 0
in_flow_delay = 0
smtpd_peername_lookup = no
`

const masterCF = `rewrite unix - - n - - trivial-rewrite
cleanup unix n - n - 0 cleanup
anvil unix - - n - 1 anvil
postlog unix-dgram n - n - 1 postlogd
`

// startPostfix starts a Postfix with more of a main.cf, and ends it with the test. Its smtpds
// have further options and one process each, so that one connection to postern serves all.
func (m *mail) startPostfix(r harness.Release, main string, smtpd map[string]string) *postfix {
	t := m.T
	t.Helper()
	p := &postfix{r, make(map[string]int)}
	services := masterCF
	for name, options := range smtpd {
		p.ports[name] = harness.FreePort(t)
		services += fmt.Sprintf("127.0.0.1:%d inet n - n - 1 smtpd\n", p.ports[name])
		for option := range strings.FieldsSeq(options) {
			services += "  -o " + option + "\n"
		}
	}
	etc := filepath.Join(m.dir, "etc")
	for file, text := range map[string]string{
		"etc/main.cf": fmt.Sprintf(mainCF, m.dir) + main, "etc/master.cf": services,
		"etc/sasl/smtpd.conf": "pwcheck_method: saslauthd\nsaslauthd_path: " + m.dir + "/mux\nmech_list: PLAIN LOGIN\n",
		"queue/.keep":         "",
	} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(m.dir, file)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(m.dir, file), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if check := r.Run(t, "", r.Program(t, "postfix"), "-c", etc, "check"); check.Code != 0 { // makes its folders
		t.Fatalf("postfix check: %s%s", check.Out, check.Err)
	}
	daemons := strings.TrimSpace(r.Run(t, "", r.Program(t, "postconf"), "-c", etc, "-h", "daemon_directory").Out)
	master := r.Command(filepath.Join(daemons, "master"), "-c", etc, "-d")
	master.SysProcAttr.Setpgid = true // at its end it signals its group
	var out harness.OutBuffer
	master.Stdout, master.Stderr = &out, &out
	if err := master.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = master.Process.Signal(syscall.SIGTERM)
		_ = master.Wait()
		if t.Failed() {
			t.Logf("postfix:\n%s\n%s", out.String(), harness.ReadText(filepath.Join(m.dir, "mail.log")))
		}
	})
	harness.FileSays(t, filepath.Join(m.dir, "mail.log"), "daemon started")
	return p
}

// Postfix's own lookups, and what its smtpd makes of them: a mailbox that is there, one that is
// not, and while the backend is down a temporary error, so that mail is deferred and not bounced.
func TestPostfixTables(t *testing.T) { harness.EachRelease(t, postfixTables) }

func postfixTables(t *testing.T, r harness.Release) {
	m := newMail(t)
	tables := map[string]string{
		"tcp": "tcp:" + m.Address("tcp_table"), "socketmap": "socketmap:inet:" + m.Address("socketmap") + ":mailbox",
	}
	domains := "socketmap:inet:" + m.Address("socketmap") + ":domain"
	p := m.startPostfix(r, "virtual_mailbox_domains = "+domains+"\n", map[string]string{
		"tcp": "virtual_mailbox_maps=" + tables["tcp"], "socketmap": "virtual_mailbox_maps=" + tables["socketmap"],
	})
	extended := map[string]int{"tcp": 550, "socketmap": 250} // which has a recipient_delimiter
	for name, table := range tables {
		t.Run(name, func(t *testing.T) {
			m.postmap(t, r, table, map[string]string{
				"joe@dom.example": "OK", "josé@dom.example": "OK", `"a b"@dom.example`: "OK", "a%41b@dom.example": "OK",
				`"a\"b"@dom.example`: "OK", "aab@dom.example": "", "nobody@dom.example": "", "joe@elsewhere.example": "",
				"joe": "", "@dom.example": "", "ann@shop.example": "OK", "nobody@shop.example": "",
			})
			m.app.Becomes(harness.AppDown)
			defer m.app.Becomes(harness.AppUp)
			m.postmap(t, r, table, map[string]string{"ann@shop.example": "error", "joe@dom.example": "OK"})
			s := dialSMTP(t, p.ports[name])
			for address, want := range map[string]int{
				"joe@dom.example": 250, "JOE@DOM.example": 250, "josé@dom.example": 250, `"a b"@dom.example`: 250,
				"nobody@dom.example": 550, "joe+x@dom.example": extended[name], "nobody+x@dom.example": 550, "ann+x@shop.example": 451, "ann@shop.example": 451, "nobody@shop.example": 451,
				"joe@elsewhere.example": 554,
			} {
				if got := s.recipient(address); got != want {
					t.Errorf("RCPT TO:<%s> is answered %d, want %d", address, got, want)
				}
			}
		})
	}
	m.postmap(t, r, domains, map[string]string{"dom.example": "OK", "DOM.Example": "OK", "elsewhere.example": "", "a/b": ""})
}

// postmap looks keys up as Postfix does; "" means that a key is not there, "error" is a temporary
// failure.
func (m *mail) postmap(t *testing.T, r harness.Release, table string, want map[string]string) {
	t.Helper()
	for key, want := range want {
		q := r.Run(t, "", r.Program(t, "postmap"), "-c", filepath.Join(m.dir, "etc"), "-q", key, table)
		got := strings.TrimSpace(q.Out)
		if q.Code != 0 && q.Err != "" {
			got = "error"
		}
		if got != want || (q.Code == 0) != (want == "OK") {
			t.Errorf("postmap -q %q %s: %q, exit status %d, %s; want %q", key, table, got, q.Code, q.Err, want)
		}
	}
}

// The dovecot listeners are opened before all others.
func TestDovecotListensFirst(t *testing.T) {
	m := newMail(t)
	var order []string
	for line := range strings.Lines(m.Log.String()) {
		if _, rest, listening := strings.Cut(line, "msg=listening listener="); listening {
			name, _, _ := strings.Cut(rest, " ")
			order = append(order, name)
		}
	}
	want := []string{"dovecot", "dovecot-unix", "dovecot-shop", "tcp_table", "socketmap", "saslauthd"}
	if !slices.Equal(order, want) {
		t.Errorf("opened in the order %v, want %v", order, want)
	}
}

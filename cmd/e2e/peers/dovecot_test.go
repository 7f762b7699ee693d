package peers

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"postern/cmd/e2e/harness"
)

// dovecotConf takes a folder, the port of IMAP, the program under test and the relay's socket.
const dovecotConf = `
base_dir = %[1]s/run
log_path = %[1]s/log
protocols = imap
listen = 127.0.0.1
ssl = no
disable_plaintext_auth = no
auth_mechanisms = plain
auth_failure_delay = 0
auth_cache_size = 0
first_valid_uid = 1
first_valid_gid = 1
mail_location = maildir:%[1]s/mail/%%u
passdb {
  driver = checkpassword
  args = %[3]s checkpassword --socket %[4]s
}
userdb {
  driver = static
  args = uid=nobody gid=nogroup home=%[1]s/mail/%%u
}
service auth {
  vsz_limit = 4G
}
service imap-login {
  chroot =
  inet_listener imap {
    port = %[2]d
  }
  inet_listener imaps {
    port = 0
  }
}
`

// dovecotListeners take a folder.
const dovecotListeners = `
listen "relay" {
  address        = "unix:%[1]s/relay"
  mode           = "0666"
  default_domain = "shop.example"
}
listen "dovecot_userdb" {
  address        = "unix:%[1]s/userdb"
  mode           = "0666"
  default_domain = "dom.example"
  userdb {
    uid  = 5000
    gid  = "mail"
    home = "/var/vmail/%%{domain}/%%{user}"
  }
}
`

// withListeners adds listeners to postern and reloads it.
func (m *mail) withListeners(t *testing.T) {
	t.Helper()
	f, err := os.OpenFile(m.config, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Fprintf(f, dovecotListeners, m.dir); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	harness.OK(t, "", "reload", "--config", m.config)
}

// The real doveadm asks the dovecot and dovecot_userdb listeners.
func TestDoveadm(t *testing.T) { harness.EachRelease(t, doveadm) }

func doveadm(t *testing.T, release harness.Release) {
	m := newMail(t)
	m.withListeners(t)
	program, conf, text := release.Program(t, "doveadm"), filepath.Join(t.TempDir(), "dovecot.conf"), "ssl = no\n"
	if release.Trixie() { // Dovecot 2.4
		text = "dovecot_config_version = 2.4.1\ndovecot_storage_version = 2.4.1\n" + text
	}
	harness.WriteFile(t, conf, text)
	run := func(code int, want string, args ...string) {
		t.Helper()
		r := release.Run(t, "", program, append([]string{"-c", conf}, args...)...)
		if r.Code != code || !strings.Contains(r.Out+r.Err, want) {
			t.Errorf("doveadm %v: status %d, %s%s; want %d and %q", args, r.Code, r.Out, r.Err, code, want)
		}
	}
	client, shop, userdb := m.Address("dovecot-unix"), m.Address("dovecot-shop"), filepath.Join(m.dir, "userdb")
	run(0, "user=joe@dom.example", "auth", "test", "-a", client, "joe", "secret")
	run(0, "user=joe@dom.example", "auth", "test", "-a", client, "joe@DOM.example", "secret")
	run(77, "auth failed", "auth", "test", "-a", client, "joe", "wrong")
	m.app.Becomes(harness.AppDown)
	outage := 77 // Dovecot 2.3 does not distinguish it by the status
	if release.Trixie() {
		outage = 75
	}
	run(outage, "code=temp_fail", "auth", "test", "-a", shop, "ann", "secret")
	m.app.Becomes(harness.AppUp)
	run(0, "home\t/var/vmail/dom.example/joe", "user", "-a", userdb, "joe@dom.example")
	run(0, "uid\t5000\ngid\t8\n", "user", "-a", userdb, "joe@DOM.example")
	run(67, "", "user", "-a", userdb, "nobody@dom.example")
	run(75, "", "user", "-a", userdb, "*")
}

// A real Dovecot asks by `postern checkpassword`: right, wrong, and an outage, which is not the
// password's fault.
func TestCheckpassword(t *testing.T) {
	m := newMail(t)
	m.withListeners(t)
	program := filepath.Join(m.dir, "postern")
	if out, err := exec.Command("cp", harness.Binary, program).CombinedOutput(); err != nil { // where Dovecot's user can reach it
		t.Fatalf("%s: %v", out, err)
	}
	if err := os.Chmod(program, 0o755); err != nil {
		t.Fatal(err)
	}
	dir, port := filepath.Join(m.dir, "dovecot.d"), harness.FreePort(t)
	for _, d := range []string{dir, filepath.Join(dir, "mail")} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(d, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	conf := filepath.Join(dir, "dovecot.conf")
	if err := os.WriteFile(conf, fmt.Appendf(nil, dovecotConf, dir, port, program, filepath.Join(m.dir, "relay")), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(harness.Program(t, "dovecot"), "-F", "-c", conf)
	var out harness.OutBuffer
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = &out, &out, harness.Timeout
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("dovecot:\n%s\n%s", out.String(), harness.ReadText(filepath.Join(dir, "log")))
		}
	})
	harness.WaitFor(t, "dovecot accepts connections", func() bool {
		c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
	login := func(user, password, want string) {
		t.Helper()
		c := harness.Connect(t, fmt.Sprintf("127.0.0.1:%d", port))
		defer c.Close()
		in := bufio.NewReader(c)
		if greeting, err := in.ReadString('\n'); err != nil || !strings.HasPrefix(greeting, "* OK") {
			t.Fatalf("greeted by %q, %v", greeting, err)
		}
		fmt.Fprintf(c, "a LOGIN {%d+}\r\n%s {%d+}\r\n%s\r\n", len(user), user, len(password), password)
		for {
			line, err := in.ReadString('\n')
			if err != nil {
				t.Fatal(err)
			}
			if strings.HasPrefix(line, "* ") {
				continue
			}
			if !strings.HasPrefix(line, "a "+want) {
				t.Errorf("%s with %q: %s; want %s", user, password, line, want)
			}
			return
		}
	}
	login("joe@dom.example", "secret", "OK")
	login("joe@DOM.example", "secret", "OK")
	login("joe@dom.example", "wrong", "NO [AUTHENTICATIONFAILED]")
	login("ann", "secret", "OK") // of the default domain
	m.Eventually("the address in the log", func() bool { return strings.Contains(m.Log.String(), "client=127.0.0.1") })
	m.app.Becomes(harness.AppDown)
	login("ann", "secret", "NO [UNAVAILABLE]")
	m.app.Becomes(harness.AppUp)
	login("ann", "wrong", "NO [AUTHENTICATIONFAILED]")
	if !strings.Contains(harness.ReadText(filepath.Join(dir, "log")), "user=<joe@dom.example>") ||
		strings.Contains(harness.ReadText(filepath.Join(dir, "log")), "Login: user=<joe@DOM.example>") {
		t.Error("Dovecot does not go by the account's name")
	}
}

// checkpassword without a server: every way to misuse it has its status, and the program gets its
// own arguments.
func TestCheckpasswordByHand(t *testing.T) {
	m := newMail(t)
	m.withListeners(t)
	socket := filepath.Join(m.dir, "relay")
	for name, c := range map[string]struct {
		input, args string
		env         string
		code        int
		out         string
	}{
		"right":         {"joe@dom.example\\0secret\\0\\0", "--socket " + socket + ` sh -c 'echo "$USER,$HOME,$1"' sh --config`, "", 0, "joe@dom.example,,--config\n"},
		"other domain":  {"joe@DOM.Example.\\0secret\\0now\\0", "--socket " + socket + ` sh -c 'echo "$USER"'`, "", 0, "joe@dom.example\n"},
		"wrong":         {"joe@dom.example\\0wrong\\0\\0", "--socket " + socket + " echo in", "", 1, ""},
		"no password":   {"joe@dom.example\\0\\0\\0", "--socket " + socket + " echo in", "", 1, ""},
		"no name":       {"\\0secret\\0\\0", "--socket " + socket + " echo in", "", 1, ""},
		"no end":        {"joe@dom.example\\0secret", "--socket " + socket + " echo in", "", 2, ""},
		"nothing":       {"", "--socket " + socket + " echo in", "", 2, ""},
		"no program":    {"joe@dom.example\\0secret\\0\\0", "--socket " + socket, "", 2, ""},
		"unknown flag":  {"joe@dom.example\\0secret\\0\\0", "--nosuch echo in", "", 2, ""},
		"lookup":        {"joe@dom.example\\0\\0\\0", "--socket " + socket + " echo in", "AUTHORIZED=1", 111, ""},
		"no daemon":     {"joe@dom.example\\0secret\\0\\0", "--socket " + socket + "x echo in", "", 111, ""},
		"no config":     {"joe@dom.example\\0secret\\0\\0", "--config " + socket + "x echo in", "", 111, ""},
		"configuration": {"joe@dom.example\\0secret\\0\\0", "--config " + m.config + " echo in", "", 0, "in\n"},
		"not there":     {"joe@dom.example\\0secret\\0\\0", "--socket " + socket + " /no/such/program", "", 111, ""},
	} {
		line := fmt.Sprintf("printf '%s' | %s %s checkpassword %s 3<&0 </dev/null", c.input, "env "+c.env, harness.Binary, c.args)
		r := harness.RunCommand(t, "", "/bin/sh", "-c", line)
		if r.Code != c.code || r.Out != c.out || c.code > 1 && r.Err == "" || strings.Contains(r.Err, "secret") {
			t.Errorf("%s: status %d, %q, %q; want %d, %q", name, r.Code, r.Out, r.Err, c.code, c.out)
		}
	}
}

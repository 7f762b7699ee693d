package peers

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"postern/cmd/e2e/harness"
)

// eximConfig is the beginning of a configuration. It takes a folder.
const eximConfig = `primary_hostname = mail.dom.example
spool_directory = %[1]s/spool
log_file_path = %[1]s/%%slog
exim_user = mail
exim_group = mail
keep_environment =
tls_advertise_hosts =
begin authenticators
`

// exim is an SMTP session with Exim on standard input and output, from a client at 192.0.2.9.
type exim struct {
	io.Reader
	io.WriteCloser
	cmd *exec.Cmd
}

// Close ends the session.
func (e *exim) Close() error {
	_ = e.WriteCloser.Close()
	timer := time.AfterFunc(harness.Timeout, func() { _ = e.cmd.Process.Kill() })
	defer timer.Stop()
	return e.cmd.Wait()
}

// startExim returns what makes sessions with an Exim that asks postern at a socket.
func (m *mail) startExim(t *testing.T, r harness.Release, socket string) func() *smtp {
	t.Helper()
	program, config := r.Unpacked(t, "exim4/usr/sbin/exim4"), m.configureExim(t, socket)
	return func() *smtp {
		t.Helper()
		cmd := r.Command(program, "-C", config, "-bs", "-oMa", "192.0.2.9.4242")
		in, errIn := cmd.StdinPipe()
		out, errOut := cmd.StdoutPipe()
		if errIn != nil || errOut != nil {
			t.Fatal(errIn, errOut)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		return newSMTP(t, &exim{out, in, cmd})
	}
}

// configureExim writes a configuration of an Exim that asks postern at a socket, and returns its path.
func (m *mail) configureExim(t *testing.T, socket string) string {
	t.Helper()
	dir := filepath.Join(m.dir, "exim"+fmt.Sprint(len(socket)))
	if err := os.Mkdir(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o777); err != nil { // for the user mail, whatever the umask
		t.Fatal(err)
	}
	config, text := filepath.Join(dir, "exim.conf"), fmt.Sprintf(eximConfig, dir)
	for _, mechanism := range []string{"PLAIN", "LOGIN"} {
		text += fmt.Sprintf("%s:\n  driver = dovecot\n  public_name = %[1]s\n  server_socket = %s\n  server_set_id = $auth1\n", mechanism, socket)
	}
	// Those of tokens are the manual's, but offered without TLS, too.
	const withTLS = "  server_advertise_condition = ${if def:tls_in_cipher}\n"
	for _, block := range harness.PageBlocks(t, "webmail", "TestEximBearer", "127.0.0.1 23668", socket, withTLS, "") {
		text += block
	}
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("exim:\n%s", harness.ReadText(filepath.Join(dir, "mainlog")))
		}
	})
	return config
}

// The real Exim, on a port and on a Unix socket.
func TestEximLogins(t *testing.T) { harness.EachRelease(t, eximLogins) }

func eximLogins(t *testing.T, r harness.Release) {
	m := newMail(t)
	for name, socket := range map[string]string{
		"port": strings.Replace(m.Address("dovecot"), ":", " ", 1), "socket": m.Address("dovecot-unix"),
	} {
		t.Run(name, func(t *testing.T) {
			session := m.startExim(t, r, socket)
			m.check(t, session, mailLogins...)
			m.outage(t, session, 435)
			giveUp(t, session())
		})
	}
	if n := strings.Count(m.Log.String(), "client=192.0.2.9"); n == 0 {
		t.Error("the log does not name the client's address")
	}
}

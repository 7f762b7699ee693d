package packages

import (
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"postern/cmd/e2e/harness"
)

// The tools of each Debian take what the package has for them: lintian, AppArmor, logrotate and fail2ban, all but
// AppArmor as they run there.
func TestTools(t *testing.T) {
	for release, root := range map[string]string{harness.Machine().Name: "/", "trixie": harness.Cached("trixie")} {
		t.Run(release, func(t *testing.T) {
			t.Parallel()
			g := harness.Boot(t, root)
			lintian(g)
			g.Copy(deb(t), "/root/postern.deb", 0o644)
			g.Must("dpkg -i postern.deb; mkdir -p /etc/fail2ban/action.d")
			if release == "trixie" { // where ejabberd has no profile any more
				g.Must("test ! -e " + profile)
			} else {
				apparmor(g)
			}
			g.Write("/etc/fail2ban/action.d/note.conf", noteAction, 0o644)
			g.Write("/etc/postern/config.hcl", clientUsers, 0o644)
			g.Must("echo secret | postern user add joe@dom.example; systemctl enable --now postern")
			ban(g, "192.0.2.1", "", func() {})

			g.Write("/etc/postern/config.hcl", clientUsers+`log { file = "/var/log/postern/postern.log" }`, 0o644)
			g.Must("systemctl restart postern")
			ban(g, "192.0.2.2", "backend = auto\n", func() { rotate(g) })
		})
	}
}

// lintian demands that there are neither errors nor warnings.
func lintian(g *harness.Guest) {
	g.T.Helper()
	packages, err := filepath.Glob(filepath.Join(filepath.Dir(harness.Binary), "postern_*.deb"))
	if err != nil || len(packages) == 0 || full() && len(packages) < 2 {
		g.T.Fatalf("%q, %v", packages, err)
	}
	for _, file := range packages {
		name := filepath.Base(file)
		g.Copy(file, "/root/"+name, 0o644)
		if out := g.Must("lintian --allow-root --fail-on error,warning '" + name + "'"); out != "" {
			g.T.Errorf("lintian of %s:\n%s", name, out)
		}
		g.Must("rm '" + name + "'")
	}
}

// profile is that of ejabberd, to which the package has an addition.
const profile = "/etc/apparmor.d/usr.sbin.ejabberdctl"

// apparmor has AppArmor's compiler read the profile with the addition.
func apparmor(g *harness.Guest) {
	g.T.Helper()
	const parse = "apparmor_parser --skip-kernel-load --skip-cache "
	before := g.Must(parse + "--stdout " + profile + " | sha256sum")
	g.Must("cp /usr/share/doc/postern/examples/apparmor/usr.sbin.ejabberdctl /etc/apparmor.d/local/")
	if g.Must(parse+"--stdout "+profile+" | sha256sum") == before {
		g.T.Error("the addition to ejabberd's profile changes nothing")
	}
	rules := g.Must(parse + "--preprocess " + profile)
	for _, program := range []string{"/usr/bin/postern", "/usr/lib/postern/postern-relay"} {
		g.Must("test -x " + program)
		if !strings.Contains(rules, "\n"+program+" Ux,\n") {
			g.T.Errorf("the profile has no rule for %s", program)
		}
	}
}

// clientUsers is ownUsers for clients that send their address.
var clientUsers = strings.Replace(ownUsers, `"generic"`, `"saslauthd"`, 1)

// noteAction is an action of fail2ban that notes the addresses that it bans.
const noteAction = `[Definition]
actionban = echo <ip> >> /run/banned
actionunban = true
`

// maxRetry is that of the shipped jail.
const maxRetry = 20

// ban has a client guess until fail2ban bans it, which is with the guess that the jail says; meanwhile is called
// halfway. More is added to the jail.
func ban(g *harness.Guest, client, more string, meanwhile func()) {
	g.T.Helper()
	g.Write("/etc/fail2ban/jail.local", "[DEFAULT]\nbanaction = note\n[sshd]\nenabled = false\n[postern]\nenabled = true\n"+more, 0o644)
	g.Must("fail2ban-client --test; systemctl restart fail2ban")
	harness.WaitFor(g.T, "the jail", func() bool {
		_, status := g.Run("", "fail2ban-client status postern")
		return status == 0
	})
	for i := range maxRetry - 1 {
		if i == maxRetry/2 {
			seen(g, i)
			meanwhile()
		}
		ask(g, fmt.Sprintf("user%d", i), "guess by "+client, client, "NO") // what was refused before is no guess
	}
	for range maxRetry {
		ask(g, "joe", "secret", "192.0.2.9", "OK")
	}
	seen(g, maxRetry-1)
	if banned := harness.ReadText(g.Path("/run/banned")); strings.Contains(banned, client) {
		g.T.Errorf("banned too soon: %s", banned)
	}
	ask(g, "joe", "guess by "+client, client, "NO")
	harness.WaitFor(g.T, client+" is banned", func() bool { return strings.Contains(harness.ReadText(g.Path("/run/banned")), client+"\n") })
	if banned := harness.ReadText(g.Path("/run/banned")); strings.Contains(banned, "192.0.2.9") {
		g.T.Errorf("banned in spite of the right password: %s", banned)
	}
}

// seen waits until fail2ban has seen a number of guesses.
func seen(g *harness.Guest, guesses int) {
	g.T.Helper()
	want, status := fmt.Sprintf("Total failed:\t%d\n", guesses), ""
	end := time.Now().Add(harness.Timeout)
	for !strings.Contains(status, want) {
		if time.Now().After(end) {
			logs, _ := g.Run("", "tail -n 30 /var/log/fail2ban.log /var/log/postern/postern.log; journalctl --no-pager --unit=postern --lines=30")
			g.T.Fatalf("of %d guesses fail2ban has seen: %s\n%s", guesses, status, logs)
		}
		time.Sleep(100 * time.Millisecond)
		status = g.Must("fail2ban-client status postern")
	}
}

// ask logs in as saslauthd's clients do; the answer begins with a text.
func ask(g *harness.Guest, user, password, client, want string) {
	g.T.Helper()
	err := g.In(func() error {
		c, err := net.Dial("tcp", address)
		if err != nil {
			return err
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(harness.Timeout))
		if _, err := io.WriteString(c, harness.Fields(user, password, "imap", "dom.example")+harness.Frame(client+";1234")); err != nil {
			return err
		}
		answer := make([]byte, 2+len(want))
		if _, err := io.ReadFull(c, answer); err != nil || string(answer[2:]) != want {
			return fmt.Errorf("%s with %s is answered %q, %v", user, password, answer, err)
		}
		return nil
	})
	if err != nil {
		g.T.Fatal(err)
	}
}

// rotate checks that postern writes to the new file after each rotation, and that old files are packed.
func rotate(g *harness.Guest) {
	g.T.Helper()
	const file = "/var/log/postern/postern.log"
	lines := harness.ReadText(g.Path(file))
	for range 2 {
		// fail2ban drops a file that is missing for too long.
		g.Must("logrotate --force /etc/logrotate.d/postern; test ! -s " + file + "; test \"$(stat --format '%U %a' " + file + ")\" = 'postern 600'")
		harness.WaitFor(g.T, "a line in the new file of the log", func() bool {
			ask(g, "joe", "secret", "192.0.2.9", "OK")
			return strings.Contains(harness.ReadText(g.Path(file)), "user=joe")
		})
	}
	if old := g.Must("zcat " + file + ".2.gz"); lines == "" || !strings.HasPrefix(old, lines) {
		g.T.Errorf("the packed log has\n%sbefore that there was\n%s", old, lines)
	}
}

package packages

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"postern/cmd/e2e/harness"
)

// address is where the daemon of ownUsers answers.
const address = "127.0.0.1:23663"

// ownUsers is a configuration with the daemon's own users.
const ownUsers = `listen "generic" { address = "` + address + `" }
backend "users" "local" { bcrypt_cost = 4 }
domain "dom.example" { backends = [backend.users.local] }
`

// Under systemd the package is installed, started, upgraded while clients log in without failing one of
// them, removed and purged.
func TestPackage(t *testing.T) {
	if !full() {
		lifeOfPackage(t, harness.Boot(t, "/"))
		return
	}
	for _, release := range []string{"bookworm", "trixie"} {
		t.Run(release, func(t *testing.T) {
			root := harness.Cached("fresh-" + release)
			if harness.Missing(filepath.Join(root, "complete")) {
				t.Fatalf("%s is missing: run scripts/setup.sh all", root)
			}
			lifeOfPackage(t, harness.Boot(t, root))
		})
	}
}

func lifeOfPackage(t *testing.T, g *harness.Guest) {
	g.Copy(deb(t), "/root/postern.deb", 0o644)
	g.Copy(later(t), "/root/later.deb", 0o644)
	const ours = "find /etc /usr /var -xdev -name '*postern*' | sort"
	before := g.Must(ours)
	g.Must("dpkg -i postern.deb && dpkg --verify postern && postern --version")
	if state, _ := g.Run("", "systemctl is-enabled postern || true; systemctl is-active postern"); state != "disabled\ninactive\n" {
		t.Errorf("without a configuration the service is %q", state)
	}

	g.Write("/etc/postern/config.hcl", ownUsers, 0o644)
	g.Must("echo secret | postern user add joe@dom.example; systemctl enable --now postern-dovecot.socket; systemctl enable --now postern")
	if got := g.Must("echo secret | runuser -u postern -- postern test auth joe@dom.example"); !strings.Contains(got, "yes") {
		t.Errorf("a login: %s", got)
	}

	strangers(g)
	failedReload(g)

	c := startClients(t, g, 4)
	for _, script := range []string{"dpkg -i later.deb", "systemctl restart postern", "systemctl reload postern"} {
		first := mainPID(g)
		g.Must(script)
		if now := mainPID(g); now == first && script != "systemctl reload postern" {
			t.Errorf("%s did not restart the service", script)
		}
		c.more(100)
	}
	t.Logf("%d logins, none failed", c.stop())
	if got := g.Must("dpkg-query -W -f '${Version}' postern"); !strings.HasPrefix(got, "9.") {
		t.Errorf("the upgraded package has version %s", got)
	}

	comeBack(t, g)
	brokenUpgrade(t, g)

	g.Must("dpkg -r postern")
	if state, _ := g.Run("", "systemctl is-active postern postern-dovecot.socket"); strings.Contains("\n"+state, "\nactive\n") {
		t.Errorf("after the removal: %s", state)
	}
	g.Must("test -f /etc/postern/config.hcl -a -d /var/lib/postern/store -a ! -e /usr/bin/postern -a ! -e /usr/lib/systemd/system/postern.service")
	g.Must("rm /etc/systemd/system/postern.service.d/other.conf") // the admin's
	g.Must("dpkg -P postern")
	if after := g.Must(ours); after != before {
		t.Errorf("before the installation there were\n%safter the purge\n%s", before, after)
	}
	g.Must("id postern")
}

// strangers checks that a user without the right to run a command reads which user has it.
func strangers(g *harness.Guest) {
	g.T.Helper()
	for _, command := range []string{
		"test auth joe@dom.example", "cache show joe@dom.example", "cache stats", "forget joe@dom.example", "limit show", "user list", "domain list", "reload",
	} {
		const want = "permission denied: run it as root or as postern (sudo -u postern postern ...)\n"
		if out, status := g.Run("secret\n", "runuser -u nobody -- postern "+command); status == 0 || !strings.HasSuffix(out, want) {
			g.T.Errorf("%s as nobody: exit status %d, %s", command, status, out)
		}
	}
}

// failedReload checks that a reload with an error in the configuration fails, is seen, and changes nothing.
func failedReload(g *harness.Guest) {
	g.T.Helper()
	const file, seen = "/etc/postern/config.hcl", "RELOAD FAILED, the configuration of "
	g.Write(file, "retries = 3\n"+ownUsers, 0o644)
	if out, status := g.Run("", "systemctl reload postern"); status == 0 {
		g.T.Errorf("a reload with an error: %s", out)
	}
	if out, _ := g.Run("", "systemctl status postern; journalctl --no-pager -u postern -p err"); !strings.Contains(out, seen) || !strings.Contains(out, "retries") {
		g.T.Errorf("after a reload with an error: %s", out)
	}
	if err := login(g); err != nil {
		g.T.Error(err)
	}
	g.Write(file, ownUsers, 0o644)
	g.Must("systemctl reload postern")
	if out, _ := g.Run("", "systemctl status postern"); strings.Contains(out, seen) {
		g.T.Errorf("after a reload without one: %s", out)
	}
}

// brokenUpgrade checks that the old version goes on where the new one does not accept the configuration that
// the service reads, here by a drop-in.
func brokenUpgrade(t *testing.T, g *harness.Guest) {
	t.Helper()
	g.Write("/etc/systemd/system/postern.service.d/other.conf", "[Service]\nExecStart=\nExecStart=/usr/bin/postern serve --config /etc/postern/other.hcl\n", 0o644)
	g.Write("/etc/postern/other.hcl", ownUsers, 0o644)
	g.Must("systemctl daemon-reload; systemctl restart postern")
	g.Write("/etc/postern/other.hcl", "retries = 3\n"+ownUsers, 0o644)
	first := mainPID(g)
	if out := g.Must("dpkg -i later.deb"); !strings.Contains(out, "the old version keeps running, because `postern config check` of this one fails:\n") || !strings.Contains(out, "/etc/postern/other.hcl") {
		t.Errorf("an upgrade with an error in the configuration: %s", out)
	}
	if now := mainPID(g); now != first {
		t.Error("the service was restarted with a configuration that is not valid")
	}
	if err := login(g); err != nil {
		t.Error(err)
	}
}

// mainPID is the process of the service.
func mainPID(g *harness.Guest) string { return g.Must("systemctl show --property=MainPID postern") }

// later makes the same package with a higher version.
func later(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	dpkg := harness.Program(t, "dpkg-deb")
	must := func(args ...string) {
		t.Helper()
		if r := harness.RunCommand(t, "", dpkg, args...); r.Code != 0 {
			t.Fatalf("%+v", r)
		}
	}
	must("-R", deb(t), dir+"/new")
	control := filepath.Join(dir, "new/DEBIAN/control")
	text := strings.Replace(harness.ReadText(control), "Version: ", "Version: 9.", 1)
	if err := os.WriteFile(control, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	must("--root-owner-group", "-Znone", "-b", dir+"/new", dir+"/new.deb")
	return dir + "/new.deb"
}

// clients connect and log in all the time.
type clients struct {
	t     *testing.T
	asked atomic.Int64
	over  atomic.Bool
	wg    sync.WaitGroup
}

// startClients starts n clients. Each login must be answered yes.
func startClients(t *testing.T, g *harness.Guest, n int) *clients {
	t.Helper()
	c := &clients{t: t}
	for range n {
		c.wg.Go(func() {
			err := g.In(func() error {
				for !c.over.Load() {
					if err := loginHere(); err != nil {
						return err
					}
					c.asked.Add(1)
					time.Sleep(5 * time.Millisecond) // leaves the machine to the upgrade
				}
				return nil
			})
			if err != nil {
				t.Errorf("after %d logins: %v", c.asked.Load(), err)
			}
		})
	}
	t.Cleanup(func() { c.stop() })
	c.more(100)
	return c
}

// more waits for n more logins.
func (c *clients) more(n int64) {
	c.t.Helper()
	before := c.asked.Load()
	harness.WaitFor(c.t, fmt.Sprintf("%d more logins", n), func() bool { return c.asked.Load() >= before+n || c.t.Failed() })
}

// stop ends the clients, and returns how many logins there were.
func (c *clients) stop() int64 {
	c.over.Store(true)
	c.wg.Wait()
	return c.asked.Load()
}

// login logs in once from the test.
func login(g *harness.Guest) error { return g.In(loginHere) }

// patience is how long a stopping daemon surely waits for the first request of a new connection.
const patience = 250 * time.Millisecond

// loginHere logs in by a connection of its own, in the network of this thread. A client that was slower
// than the daemon's patience, on a busy machine, may find its connection closed: it asks again.
func loginHere() error {
	for end := time.Now().Add(harness.Timeout); ; {
		if slow, err := tryLogin(); err == nil || !slow || time.Now().After(end) {
			return err
		}
	}
}

func tryLogin() (slow bool, err error) {
	begun := time.Now()
	c, err := net.Dial("tcp", address)
	if err != nil {
		return false, err
	}
	defer c.Close()
	_ = c.(*net.TCPConn).SetLinger(0) // its port is free again at once
	_ = c.SetDeadline(time.Now().Add(harness.Timeout))
	_, err = io.WriteString(c, harness.JoeLine)
	slow = time.Since(begun) > patience
	if err != nil {
		return slow, err
	}
	got := make([]byte, 2)
	n, err := io.ReadFull(c, got)
	if err == nil && !bytes.Equal(got, []byte("1\n")) {
		return false, fmt.Errorf("a login is answered %q", got)
	}
	if err != nil {
		err = fmt.Errorf("a login is answered %q, %w, %v after it was asked", got[:n], err, time.Since(begun))
	}
	return slow && n == 0, err
}

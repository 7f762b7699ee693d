// Package manual carries out the README and the pages of postern's manual: every command and every file in
// them, in order, on a Debian of its own with systemd, and then logs in by a real client. What cannot be
// installed here, such as Nextcloud, is imitated under the recipe's name.
//
// `make manual-test` follows every page in fresh installations of Debian 12 and 13, into which apt
// installs the servers. `make test` follows a few in a copy of the machine's own root, which has
// the servers already.
package manual

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"postern/cmd/e2e/harness"
	"postern/internal/manual"
)

// repository is the root of the source tree.
const repository = "../../.."

// machine is what a page is carried out on.
type machine = harness.Guest

// full reports whether every page is followed. The tests then need a network, and root.
func full() bool { return os.Getenv("POSTERN_MANUAL") == "full" }

func TestMain(m *testing.M) {
	if full() {
		harness.BareMain(m) // buildDeb builds it
		return
	}
	harness.ServersMain(m)
}

// readme is the README among the topics.
const readme = "README"

// topics lists the README and the pages.
func topics() []string { return append([]string{readme}, manual.Topics()...) }

// find reads a page or the README.
func find(t *testing.T, topic string) *manual.Page {
	t.Helper()
	page, err := manual.Find(topic)
	if topic == readme {
		page, err = manual.Parse(readme, harness.ReadText(repository+"/README.md"))
	}
	if err != nil {
		t.Fatal(err)
	}
	return page
}

// trixie is the folder of Debian 13 with the clients.
func trixie(t *testing.T) string {
	t.Helper()
	root := harness.Cached("trixie")
	if _, err := os.Stat(filepath.Join(root, "complete")); err != nil {
		t.Fatalf("%v: run scripts/setup.sh", err)
	}
	return root
}

// Each page can be followed to its end.
func TestPages(t *testing.T) {
	if full() {
		deb := buildDeb(t)
		var table []string
		defer func() { t.Logf("followed to the end:\n%s", strings.Join(table, "\n")) }()
		for _, release := range []string{"bookworm", "trixie"} {
			for _, topic := range topics() {
				t.Run(release+"/"+topic, func(t *testing.T) {
					if line := followFresh(t, release, topic, deb); line != "" && !t.Failed() {
						table = append(table, line)
					}
				})
			}
		}
		return
	}
	machine := harness.ReadText("/etc/os-release")
	for _, topic := range []string{readme, "prosody", "mail", "accounts", "oidc"} {
		t.Run(topic, func(t *testing.T) {
			if only := releaseOf(find(t, topic)); only != "" && !strings.Contains(machine, "\nVERSION_CODENAME="+only+"\n") {
				t.Logf("%s is for %s", topic, only)
				return
			}
			t.Parallel()
			m := harness.Boot(t, "/")
			installed(m)
			r := follow(t, m, topic)
			if r.logins == 0 || r.ran < 2 {
				t.Errorf("%d blocks of commands and %d logins", r.ran, r.logins)
			}
		})
	}
}

// follow carries out a page on a machine.
func follow(t *testing.T, m *machine, topic string) *reader {
	t.Helper()
	page := find(t, topic)
	a := newAuthority(t)
	a.trust(m)
	m.Write("/usr/local/bin/sudo", sudo, 0o755)
	r := &reader{machine: m, page: page, authority: a}
	r.follow()
	return r
}

// sudo is what the pages need of it.
const sudo = `#!/bin/sh
case "$1" in
-u) user="$2"; shift 2; exec runuser -u "$user" -- "$@" ;;
*) exec "$@" ;;
esac
`

// apt takes the place of apt on a machine that has all that may be installed.
const apt = `#!/bin/sh
set -eu
[ "$1" = install ] || exit 1
shift
for package; do
	case "$package" in
	./*) ;;
	*) dpkg --status "$package" >/dev/null ;;
	esac
done
`

// installed puts postern on a machine as its package does, and has apt install nothing.
func installed(m *machine) {
	m.T.Helper()
	program, err := harness.Released()
	if err != nil {
		m.T.Fatal(err)
	}
	scripts := repository + "/scripts"
	for pattern, dir := range map[string]string{
		program:                        "/usr/bin",
		program + "-relay":             "/usr/lib/postern",
		scripts + "/systemd/*.service": "/usr/lib/systemd/system",
		scripts + "/systemd/*.socket":  "/usr/lib/systemd/system",
		scripts + "/prosody/*.lua":     "/usr/lib/prosody/modules",
		scripts + "/dovecot/*.lua":     "/usr/share/postern/dovecot",
	} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			m.T.Fatalf("%s: %v", pattern, err)
		}
		for _, file := range files {
			mode := os.FileMode(0o644)
			if !strings.HasPrefix(pattern, scripts) {
				mode = 0o755
			}
			m.Copy(file, filepath.Join(dir, filepath.Base(file)), mode)
		}
	}
	m.Copy(scripts+"/systemd/postern.sysusers", "/usr/lib/sysusers.d/postern.conf", 0o644)
	m.Copy(scripts+"/systemd/postern.tmpfiles", "/usr/lib/tmpfiles.d/postern.conf", 0o644)
	m.Write("/usr/local/bin/apt", apt, 0o755)
	m.Must("mkdir -p /etc/postern; systemd-sysusers postern.conf; systemd-tmpfiles --create postern.conf; systemctl daemon-reload")
}

// buildDeb builds the package, unless POSTERN_DEB names one.
func buildDeb(t *testing.T) string {
	t.Helper()
	if deb := os.Getenv("POSTERN_DEB"); deb != "" {
		return deb
	}
	dir := t.TempDir()
	out, err := exec.Command("make", "-C", repository, "deb", "ARCH="+runtime.GOARCH, "OUT="+dir).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	files, err := filepath.Glob(filepath.Join(dir, "postern_*.deb"))
	if err != nil || len(files) != 1 {
		t.Fatalf("%q, %v", files, err)
	}
	return files[0]
}

// Beginnings of the comment before a block that TestPages passes by.
const (
	elsewhere   = "test: elsewhere "   // another test carries it out
	unavailable = "test: unavailable " // nothing that reads it can be installed
)

// Each block of every page is carried out: commands and files of servers by TestPages or the test that is named,
// and parts of postern's configuration by TestManualConfigurations, if not by TestPages.
func TestEveryBlock(t *testing.T) {
	var tests strings.Builder
	files, err := filepath.Glob("../*/*_test.go")
	if err != nil || len(files) < 50 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	files = append(files, "../../../internal/store/valkeystore/store_test.go", "../../../internal/store/valkeystore/guided_test.go")
	for _, file := range files {
		tests.WriteString(harness.ReadText(file))
	}
	for _, topic := range topics() {
		page := find(t, topic)
		named, running := false, 0
		for _, b := range page.Blocks {
			if b.Kind == manual.Comment && b.Text == "test: running" {
				if running++; running > 1 { // its account exists by then
					t.Errorf("%s.md:%d: postern runs already", topic, b.Line)
				}
			}
			switch name, found := strings.CutPrefix(b.Text, elsewhere); {
			case b.Kind == manual.Comment && found:
				if named = strings.Contains(tests.String(), "\nfunc "+name+"(t *testing.T)"); !named {
					t.Errorf("%s.md:%d: there is no %s", topic, b.Line, name)
				}
			case b.Kind == manual.Comment && strings.HasPrefix(b.Text, unavailable):
				named = true
			case b.Kind == manual.Code:
				language, file, _ := strings.Cut(b.Info, " ")
				if !named && language != "sh" && language != "hcl" && file == "" {
					t.Errorf("%s.md:%d: nothing reads this", topic, b.Line)
				}
				named = false
			}
		}
	}
}

// releaseOf is the only release whose servers can do what a page says; "" if all can.
func releaseOf(page *manual.Page) string {
	for _, b := range page.Blocks {
		if only, found := strings.CutPrefix(b.Text, "test: release "); b.Kind == manual.Comment && found {
			return only
		}
	}
	return ""
}

// commands reports whether a page has commands that are not skipped.
func commands(page *manual.Page) bool {
	skip := false
	for _, b := range page.Blocks {
		switch {
		case b.Kind == manual.Comment && (strings.HasPrefix(b.Text, elsewhere) || strings.HasPrefix(b.Text, unavailable)):
			skip = true
		case b.Kind == manual.Code:
			if b.Info == "sh" && !skip {
				return true
			}
			skip = false
		}
	}
	return false
}

// followFresh carries out a page in a fresh Debian, and returns what there was to do; "" if there was nothing.
func followFresh(t *testing.T, release, topic, deb string) string {
	page := find(t, topic)
	if only := releaseOf(page); only != "" && only != release {
		t.Logf("%s is for %s", topic, only)
		return ""
	}
	if !commands(page) {
		t.Logf("%s has no commands", topic)
		return ""
	}
	root := harness.Cached("fresh-" + release)
	if _, err := os.Stat(filepath.Join(root, "complete")); err != nil {
		t.Fatalf("%v: run scripts/setup.sh all", err)
	}
	m := harness.Boot(t, root)
	proxy(m)
	m.Copy(deb, "/root/"+filepath.Base(deb), 0o644)
	m.Write("/etc/apt/apt.conf.d/99yes", "APT::Get::Assume-Yes \"true\";\n", 0o644)
	m.Must("apt-get update -q")
	r := follow(t, m, topic)
	if slices.Contains(recipes, topic) && r.logins == 0 {
		t.Errorf("the recipe %s ends without a login", topic)
	}
	return fmt.Sprintf("%-13s on %-8s: %2d commands in %2d blocks, %d logins by real clients", topic, release, r.typed, r.ran, r.logins)
}

// recipes are the pages that lead from nothing to a login.
var recipes = []string{readme, "prosody", "ejabberd", "mail", "exim", "cyrus", "xcauth", "x-token", "containers", "oidc"}

package peers

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"postern/cmd/e2e/harness"
	"postern/internal/config"
)

const unitDir = "../../../scripts/systemd"

// exposure is the worst rating that systemd may give the service, in tenths. 0 is safe, and a
// service without a sandbox has 96.
const exposure = "14"

// units copies the units to a directory, with the program under test in the service.
func units(t *testing.T) (dir string, files []string) {
	t.Helper()
	dir = t.TempDir()
	found, err := filepath.Glob(filepath.Join(unitDir, "postern*.s*e*")) // .service and .socket
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range found {
		if ext := filepath.Ext(file); ext != ".service" && ext != ".socket" {
			continue
		}
		text := strings.ReplaceAll(harness.ReadText(file), "/usr/bin/postern", harness.Binary)
		copied := filepath.Join(dir, filepath.Base(file))
		if err := os.WriteFile(copied, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		files = append(files, copied)
	}
	return dir, files
}

// systemd finds nothing to complain of in the units, and rates the sandbox as it should.
func TestUnits(t *testing.T) {
	analyze := harness.Program(t, "systemd-analyze")
	dir, files := units(t)
	if len(files) < 6 {
		t.Fatalf("units: %v", files)
	}
	for _, file := range files { // each by itself: a complaint is shown once
		r := harness.RunCommand(t, "", analyze, "verify", "--man=no", "--recursive-errors=no", file)
		if r.Code != 0 || r.Out+r.Err != "" {
			t.Errorf("%s: exit status %d\n%s%s", filepath.Base(file), r.Code, r.Out, r.Err)
		}
	}
	r := harness.RunCommand(t, "", analyze, "security", "--offline=true", "--no-pager", "--threshold="+exposure, filepath.Join(dir, "postern.service"))
	if r.Code != 0 || !strings.Contains(r.Out, "OK") {
		t.Errorf("exit status %d\n%s%s", r.Code, r.Out, r.Err)
	}
}

// settings are the values of a unit's lines, by name.
func settings(t *testing.T, file string) map[string][]string {
	t.Helper()
	m := map[string][]string{}
	for line := range strings.Lines(harness.ReadText(file)) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok && !strings.HasPrefix(name, "#") {
			m[name] = append(m[name], value)
		}
	}
	return m
}

// The socket units bring the service, on xcauth's ports and on loopback only, and name the
// protocol so that it is served without a listen block.
func TestSocketUnits(t *testing.T) {
	ports := map[string]string{"ejabberd": "23662", "generic": "23663", "tcp_table": "23665", "saslauthd": "23666", "socketmap": "23667", "dovecot": "23668"}
	files, err := filepath.Glob(filepath.Join(unitDir, "*.socket"))
	if err != nil || len(files) != len(ports) {
		t.Fatalf("%v, %v", files, err)
	}
	for protocol, port := range ports {
		u := settings(t, filepath.Join(unitDir, "postern-"+protocol+".socket"))
		want := []string{"127.0.0.1:" + port, "[::1]:" + port}
		if protocol == "saslauthd" {
			want = append([]string{"/run/saslauthd/mux"}, want...)
			if !slices.Equal(u["SocketUser"], []string{"root"}) || !slices.Equal(u["SocketGroup"], []string{"sasl"}) ||
				!slices.Equal(u["SocketMode"], []string{"0660"}) {
				t.Errorf("%s: %v", protocol, u)
			}
		}
		if !slices.Equal(u["ListenStream"], want) || !slices.Equal(u["FileDescriptorName"], []string{protocol}) ||
			!slices.Equal(u["Service"], []string{"postern.service"}) || !slices.Equal(u["WantedBy"], []string{"sockets.target"}) || u["Accept"] != nil {
			t.Errorf("%s: %v", protocol, u)
		}
		if l, ok := config.DefaultListener(u["FileDescriptorName"][0]); !ok || l.Protocol != protocol {
			t.Errorf("%s: served as %v", protocol, l.Protocol)
		}
	}
	u := settings(t, filepath.Join(unitDir, "postern.service"))
	// listen "relay" {} is in the directory that the unit gives the service, which all may enter.
	if "/run/"+strings.Join(u["RuntimeDirectory"], " ") != filepath.Dir(config.RelayPath) || u["RuntimeDirectoryMode"] != nil {
		t.Errorf("the directory of %s: %v", config.RelayPath, u["RuntimeDirectory"])
	}
	if !slices.Equal(u["Type"], []string{"notify"}) || u["WatchdogSec"] == nil || !slices.Equal(u["Before"], []string{"postfix.service postfix@-.service exim4.service"}) || !slices.Equal(u["ExecStart"], []string{"/usr/bin/postern serve"}) ||
		!slices.Equal(u["ExecReload"], []string{"/usr/bin/postern reload"}) {
		t.Errorf("%v", u)
	}
}

// systemd can make the user, its groups and the directory of the socket.
func TestUserAndDirectory(t *testing.T) {
	root := t.TempDir()
	for from, to := range map[string]string{"postern.sysusers": "usr/lib/sysusers.d", "postern.tmpfiles": "usr/lib/tmpfiles.d"} {
		if err := os.MkdirAll(filepath.Join(root, to), 0o755); err != nil {
			t.Fatal(err)
		}
		harness.WriteFile(t, filepath.Join(root, to, "postern.conf"), harness.ReadText(filepath.Join(unitDir, from)))
	}
	harness.Mkdir(t, filepath.Join(root, "etc"))
	if r := harness.RunCommand(t, "", harness.Program(t, "systemd-sysusers"), "--root="+root); r.Code != 0 {
		t.Fatalf("exit status %d\n%s%s", r.Code, r.Out, r.Err)
	}
	if passwd := harness.ReadText(filepath.Join(root, "etc/passwd")); !strings.Contains(passwd, "postern:") || !strings.Contains(passwd, "/var/lib/postern") {
		t.Errorf("users: %s", passwd)
	}
	if group := harness.ReadText(filepath.Join(root, "etc/group")); !regexp.MustCompile(`(?m)^sasl:.*:postern$`).MatchString(group) {
		t.Errorf("groups: %s", group)
	}
	if r := harness.RunCommand(t, "", harness.Program(t, "systemd-tmpfiles"), "--root="+root, "--create"); r.Code != 0 {
		t.Fatalf("exit status %d\n%s%s", r.Code, r.Out, r.Err)
	}
	if info, err := os.Stat(filepath.Join(root, "run/saslauthd")); err != nil || info.Mode() != os.ModeDir|0o710 {
		t.Errorf("%v, %v", info, err)
	}
}

package commands

import (
	"crypto/tls"
	"encoding/pem"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"postern/cmd/e2e/harness"
	"postern/internal/doctor"
)

const doctorConfig = `
listen "generic" { address = "127.0.0.1:0" }
backend "users" "local" {}
domain "dom.example" { backends = [backend.users.local] }
metrics { address = "127.0.0.1:0" }
`

// A healthy daemon is reported as such: all is ok, and the exit status is 0.
func TestDoctorHealthy(t *testing.T) {
	config := harness.ConfigFile(t, t.TempDir(), doctorConfig)
	harness.OK(t, "secret\n", "user", "add", "joe@dom.example", "--config", config)
	s := harness.Serve(t, "--config", config)
	before := s.Log.String()
	r := harness.Diagnose(t, 0, "--config", config)
	harness.WantFinding(t, r, "daemon", "running", doctor.OK, "process ")
	harness.WantFinding(t, r, "daemon", "version", doctor.OK, strings.Fields(harness.OK(t, "", "version"))[1])
	harness.WantFinding(t, r, "daemon", "loaded", doctor.OK, "current configuration")
	harness.WantFinding(t, r, "listener.generic", "address", doctor.OK, "served at")
	harness.WantFinding(t, r, "metrics", "address", doctor.OK, "served at")
	harness.WantFinding(t, r, "store", "open", doctor.OK, "in use by the daemon")
	harness.WantFinding(t, r, "backend.users.local", "file", doctor.OK, "is readable")
	if now := s.Log.String(); now != before {
		t.Errorf("the daemon has noticed:\n%s", strings.TrimPrefix(now, before))
	}
	text := harness.Command(t, "", "doctor", "--config", config, "--ejabberd", "../../../LICENSE")
	if text.Code != 0 || !strings.Contains(text.Out, "0 failures, 0 warnings\n") || strings.Contains(text.Out, "\x1b") {
		t.Errorf("exit status %d, %q\n%s", text.Code, text.Err, text.Out)
	}
}

// The daemon says what a reload would change, and why it would fail.
func TestDoctorReload(t *testing.T) {
	config := harness.ConfigFile(t, t.TempDir(), doctorConfig)
	harness.OK(t, "secret\n", "user", "add", "joe@dom.example", "--config", config)
	harness.Serve(t, "--config", config)
	text := harness.ReadText(config)
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(strings.Replace(text, "metrics { address = \"127.0.0.1:0\" }", "", 1))
	harness.OK(t, "", "reload", "--config", config)
	write(text)
	harness.WantFinding(t, harness.Diagnose(t, 2, "--config", config), "metrics", "address", doctor.Failure, "does not serve", "postern reload")
	write(text + "domain \"new.example\" { backends = [backend.users.local] }\nlisten \"ejabberd\" { address = \"127.0.0.1:0\" }\n")
	r := harness.Diagnose(t, 2, "--config", config)
	harness.WantFinding(t, r, "daemon", "loaded", doctor.Warning, "domain new.example added", "postern reload")
	harness.WantFinding(t, r, "listener.ejabberd", "address", doctor.Failure, "does not serve", "postern reload")
	harness.OK(t, "", "reload", "--config", config)
	harness.WantFinding(t, harness.Diagnose(t, 0, "--config", config), "daemon", "loaded", doctor.OK)
	write(text + "nonsense = 1\n")
	harness.WantFinding(t, harness.Diagnose(t, 2, "--config", config), "configuration", "text", doctor.Failure, "nonsense")
	other := harness.ConfigFile(t, filepath.Dir(config), "")
	data, _, _ := strings.Cut(text, "\n")
	if err := os.WriteFile(other, []byte(data+doctorConfig), 0o600); err != nil {
		t.Fatal(err)
	}
	harness.WantFinding(t, harness.Diagnose(t, 1, "--config", other), "daemon", "loaded", doctor.Warning, config, "--config")
	write(text)
	if err := os.Chmod(config, 0o602); err != nil {
		t.Fatal(err)
	}
	harness.WantFinding(t, harness.Diagnose(t, 2, "--config", config), "configuration", "mode", doctor.Failure, "chmod o-w")
}

// Without a daemon, its store and its ports are tried, and nothing is left behind.
func TestDoctorAlone(t *testing.T) {
	dir := t.TempDir()
	socket, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	config := harness.ConfigFile(t, dir, strings.Replace(doctorConfig, "127.0.0.1:0", socket.Addr().String(), 1)+`
backend "json" "away" { url = "`+harness.DeadURL(t)+`" }
domain "away.example" { backends = [backend.json.away] }
`)
	harness.OK(t, "secret\n", "user", "add", "joe@dom.example", "--config", config)
	harness.OK(t, "", "test", "isuser", "joe@dom.example", "--config", config) // makes the store
	before := dirNames(t, dir)
	r := harness.Diagnose(t, 2, "--config", config)
	harness.WantFinding(t, r, "daemon", "running", doctor.Failure, "no listener is served", "start it: postern serve --config "+config)
	harness.WantFinding(t, r, "listener.generic", "address", doctor.Failure, "another program listens on "+socket.Addr().String())
	harness.WantFinding(t, r, "store", "writable", doctor.OK)
	harness.WantFinding(t, r, "store", "open", doctor.OK, "can be opened")
	harness.WantFinding(t, r, "backend.json.away", "tcp", doctor.Failure, "refused", "start the web server")
	harness.WantFinding(t, r, "backend.json.away", "http", doctor.Skipped, "because tcp failed")
	if after := dirNames(t, dir); after != before {
		t.Errorf("left behind: %s, it was %s", after, before)
	}
	manifests, _ := filepath.Glob(filepath.Join(storeDirOf(dir), "MANIFEST-*"))
	for _, m := range manifests {
		if err := os.WriteFile(m, []byte("damaged by the test"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	harness.WantFinding(t, harness.Diagnose(t, 2, "--config", config), "store", "open", doctor.Failure, "cannot be opened", "move ")
}

func storeDirOf(dataDir string) string { return filepath.Join(dataDir, "store") }

func dirNames(t *testing.T, dir string) string {
	t.Helper()
	var names []string
	err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		names = append(names, path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(names, " ")
}

// The way to a backend, through real TLS, and the signature: right and wrong.
func TestDoctorBackends(t *testing.T) {
	server := harness.JSXCServer(t)
	secure := httptest.NewUnstartedServer(server.Config.Handler)
	secure.Config.ErrorLog = log.New(io.Discard, "", 0)
	secure.StartTLS()
	defer secure.Close()
	dir := t.TempDir()
	ca := filepath.Join(dir, "ca.pem")
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secure.Certificate().Raw})
	if err := os.WriteFile(ca, certificate, 0o600); err != nil {
		t.Fatal(err)
	}
	insecure := &tls.Config{Certificates: secure.TLS.Certificates, MaxVersion: tls.VersionTLS11}
	old := httptest.NewUnstartedServer(server.Config.Handler)
	old.TLS, old.Config.ErrorLog = insecure, secure.Config.ErrorLog
	old.StartTLS()
	defer old.Close()
	config := harness.ConfigFile(t, dir, doctorConfig+`
backend "jsxc" "right" {
  url     = "`+secure.URL+`"
  secret  = "api-secret"
  ca_file = "`+ca+`"
}
backend "jsxc" "wrong" {
  url    = "`+server.URL+`"
  secret = "another-secret-of-ours"
}
backend "jsxc" "distrusted" {
  url    = "`+secure.URL+`"
  secret = "api-secret"
}
backend "jsxc" "old" {
  url     = "`+old.URL+`"
  secret  = "api-secret"
  ca_file = "`+ca+`"
}
domain "jsxc.example" { backends = [backend.jsxc.right, backend.jsxc.wrong, backend.jsxc.distrusted, backend.jsxc.old] }
`)
	r := harness.Diagnose(t, 2, "--config", config, "--as", "joe@jsxc.example")
	harness.WantFinding(t, r, "backend.jsxc.right", "tls", doctor.OK, "TLS 1.3")
	harness.WantFinding(t, r, "backend.jsxc.right", "http", doctor.OK, "refuses a wrong signature")
	harness.WantFinding(t, r, "backend.jsxc.right", "signature", doctor.OK, "accepted")
	harness.WantFinding(t, r, "backend.jsxc.right", "user", doctor.OK, "knows joe@jsxc.example")
	harness.WantFinding(t, r, "backend.jsxc.wrong", "signature", doctor.Failure, "refuses the signature", "copy the API secret")
	harness.WantFinding(t, r, "backend.jsxc.distrusted", "tls", doctor.Failure, "self-signed", "ca_file")
	harness.WantFinding(t, r, "backend.jsxc.distrusted", "signature", doctor.Skipped, "because tls failed")
	harness.WantFinding(t, r, "backend.jsxc.old", "tls", doctor.Failure, "handshake failed", "TLS 1.2")
	harness.WantFinding(t, r, "tokens", "jsxc", doctor.Warning, "only 10 bytes", "openssl rand")
	if text := harness.Command(t, "", "doctor", "--config", config).Out; strings.Contains(text, "another-secret") || strings.Contains(text, "api-secret") {
		t.Errorf("a secret is in the report:\n%s", text)
	}
}

// Clock skew as the Date header shows it, and ejabberd's own cache.
func TestDoctorAround(t *testing.T) {
	app := harness.NewWebApp(t, harness.Always(200, harness.JSONNo))
	file := filepath.Join(t.TempDir(), "ejabberd.yml")
	if err := os.WriteFile(file, []byte("auth_method: [external]\nextauth_program: "+harness.Binary+" pipe --protocol ejabberd\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	config := harness.ConfigFile(t, t.TempDir(), doctorConfig+`
backend "json" "app" { url = "`+app.URL+`" }
domain "app.example" { backends = [backend.json.app] }
`)
	r := harness.Diagnose(t, 2, "--config", config, "--ejabberd", file)
	harness.WantFinding(t, r, "ejabberd", "auth", doctor.Warning, "auth_use_cache: false")
	harness.WantFinding(t, r, "backend.json.app", "clock", doctor.OK)
	harness.WantFinding(t, r, "backend.json.app", "shape", doctor.OK)
	app.Becomes(wrongTime)
	harness.WantFinding(t, harness.Diagnose(t, 2, "--config", config), "backend.json.app", "clock", doctor.Failure, "ahead of the server's", "NTP")
}

// wrongTime answers as a server with a clock that is an hour slow.
func wrongTime(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Date", time.Now().Add(-time.Hour).UTC().Format(http.TimeFormat))
	harness.Always(200, harness.JSONNo)(w, r)
}

// A report that could not be made has the exit status of a failure.
func TestDoctorFails(t *testing.T) {
	for args, want := range map[string]string{
		"doctor --nonsense":                "postern doctor --help",
		"doctor joe":                       "postern doctor",
		"doctor --as joe@":                 "USER@DOMAIN",
		"doctor --data-dir " + t.TempDir(): "--embedded",
	} {
		if r := harness.Command(t, "", strings.Fields(args)...); r.Code != 2 || r.Out != "" || !strings.Contains(r.Err, want) {
			t.Errorf("%s: exit status %d, %q, %q; want 2 and %q", args, r.Code, r.Out, r.Err, want)
		}
	}
	r := harness.Diagnose(t, 2, "--config", filepath.Join(t.TempDir(), "none.hcl"))
	harness.WantFinding(t, r, "configuration", "text", doctor.Failure, "no such file", "--config")
	// The built-in configuration in a directory of its own.
	embedded := harness.Diagnose(t, 2, "--embedded", "--data-dir", t.TempDir())
	harness.WantFinding(t, embedded, "configuration", "text", doctor.OK, "built-in")
	harness.WantFinding(t, embedded, "backend.users.local", "file", doctor.Warning, "postern user add")
}

// A daemon that does not know the question is of an older version.
func TestDoctorOlderDaemon(t *testing.T) {
	dir := t.TempDir()
	config := harness.ConfigFile(t, dir, doctorConfig)
	socket, err := net.Listen("unix", filepath.Join(dir, harness.ControlSocket))
	if err != nil {
		t.Fatal(err)
	}
	older := &http.Server{Handler: http.NotFoundHandler()}
	go func() { _ = older.Serve(socket) }()
	defer older.Close()
	r := harness.Diagnose(t, 1, "--config", config)
	harness.WantFinding(t, r, "daemon", "version", doctor.Warning, "older version", "restart")
	harness.WantFinding(t, r, "listener.generic", "address", doctor.Skipped, "a daemon may be listening")
}

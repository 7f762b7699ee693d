package main

import (
	"crypto/tls"
	"encoding/json"
	"encoding/pem"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"postern/internal/doctor"
)

// diagnosis runs `postern doctor --json`.
func diagnosis(t *testing.T, code int, args ...string) doctor.Report {
	t.Helper()
	r := command(t, "", append([]string{"doctor", "--json", "--ejabberd", "../../LICENSE"}, args...)...)
	var report doctor.Report
	if err := json.Unmarshal([]byte(r.out), &report); err != nil {
		t.Fatalf("%v in %q, %q", err, r.out, r.err)
	}
	if r.code != code || report.Exit != code || r.err != "" {
		t.Errorf("exit status %d, said to be %d, %q; want %d\n%s", r.code, report.Exit, r.err, code, r.out)
	}
	return report
}

// found expects a finding; status, text and cure are joined, and parts of that are wanted.
func found(t *testing.T, r doctor.Report, hop, check string, status doctor.Status, parts ...string) {
	t.Helper()
	there := ""
	for _, f := range r.Findings {
		if f.Hop != hop || f.Check != check {
			continue
		}
		text := f.Text + " -> " + f.Cure
		if f.Status == status && !slices.ContainsFunc(parts, func(p string) bool { return !strings.Contains(text, p) }) {
			return
		}
		there += "\n" + string(f.Status) + ": " + text
	}
	t.Errorf("no %s of %s %s with %q, but%s", status, hop, check, parts, there)
}

const doctorConfig = `
listen "generic" { address = "127.0.0.1:0" }
backend "users" "local" {}
domain "dom.example" { backends = [backend.users.local] }
metrics { address = "127.0.0.1:0" }
`

// A daemon that is well is said to be: all is ok, and the exit status 0.
func TestDoctorHealthy(t *testing.T) {
	config := configFile(t, t.TempDir(), doctorConfig)
	ok(t, "secret\n", "user", "add", "joe@dom.example", "--config", config)
	s := serve(t, "--config", config)
	before := s.log.String()
	r := diagnosis(t, 0, "--config", config)
	found(t, r, "daemon", "running", doctor.OK, "process ")
	found(t, r, "daemon", "version", doctor.OK, strings.Fields(ok(t, "", "version"))[1])
	found(t, r, "daemon", "loaded", doctor.OK, "that of the file")
	found(t, r, "listener.generic", "address", doctor.OK, "served at")
	found(t, r, "metrics", "address", doctor.OK, "served at")
	found(t, r, "store", "open", doctor.OK, "in use by the daemon")
	found(t, r, "backend.users.local", "file", doctor.OK, "can be read")
	if now := s.log.String(); now != before {
		t.Errorf("the daemon has noticed:\n%s", strings.TrimPrefix(now, before))
	}
	text := command(t, "", "doctor", "--config", config, "--ejabberd", "../../LICENSE")
	if text.code != 0 || !strings.Contains(text.out, "0 failures, 0 warnings\n") || strings.Contains(text.out, "\x1b") {
		t.Errorf("exit status %d, %q\n%s", text.code, text.err, text.out)
	}
}

// The daemon tells what a reload would change, and why it would fail.
func TestDoctorReload(t *testing.T) {
	config := configFile(t, t.TempDir(), doctorConfig)
	ok(t, "secret\n", "user", "add", "joe@dom.example", "--config", config)
	serve(t, "--config", config)
	text := readText(config)
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(strings.Replace(text, "metrics { address = \"127.0.0.1:0\" }", "", 1))
	ok(t, "", "reload", "--config", config)
	write(text)
	found(t, diagnosis(t, 2, "--config", config), "metrics", "address", doctor.Failure, "does not serve", "postern reload")
	write(text + "domain \"new.example\" { backends = [backend.users.local] }\nlisten \"ejabberd\" { address = \"127.0.0.1:0\" }\n")
	r := diagnosis(t, 2, "--config", config)
	found(t, r, "daemon", "loaded", doctor.Warning, "domain new.example added", "postern reload")
	found(t, r, "listener.ejabberd", "address", doctor.Failure, "does not serve", "postern reload")
	ok(t, "", "reload", "--config", config)
	found(t, diagnosis(t, 0, "--config", config), "daemon", "loaded", doctor.OK)
	write(text + "nonsense = 1\n")
	found(t, diagnosis(t, 2, "--config", config), "configuration", "text", doctor.Failure, "nonsense")
	other := configFile(t, filepath.Dir(config), "")
	data, _, _ := strings.Cut(text, "\n")
	if err := os.WriteFile(other, []byte(data+doctorConfig), 0o600); err != nil {
		t.Fatal(err)
	}
	found(t, diagnosis(t, 1, "--config", other), "daemon", "loaded", doctor.Warning, config, "--config")
	write(text)
	if err := os.Chmod(config, 0o602); err != nil {
		t.Fatal(err)
	}
	found(t, diagnosis(t, 2, "--config", config), "configuration", "mode", doctor.Failure, "chmod o-w")
}

// Without a daemon, its store and its ports are tried, and nothing is left behind.
func TestDoctorAlone(t *testing.T) {
	dir := t.TempDir()
	socket, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	config := configFile(t, dir, strings.Replace(doctorConfig, "127.0.0.1:0", socket.Addr().String(), 1)+`
backend "json" "away" { url = "`+deadURL(t)+`" }
domain "away.example" { backends = [backend.json.away] }
`)
	ok(t, "secret\n", "user", "add", "joe@dom.example", "--config", config)
	ok(t, "", "test", "isuser", "joe@dom.example", "--config", config) // makes the store
	before := dirNames(t, dir)
	r := diagnosis(t, 2, "--config", config)
	found(t, r, "daemon", "running", doctor.Failure, "nobody listens")
	found(t, r, "listener.generic", "address", doctor.Failure, "another program listens on "+socket.Addr().String())
	found(t, r, "store", "writable", doctor.OK)
	found(t, r, "store", "open", doctor.OK, "can be opened")
	found(t, r, "backend.json.away", "tcp", doctor.Failure, "refused", "start the web server")
	found(t, r, "backend.json.away", "http", doctor.Skipped, "because tcp failed")
	if after := dirNames(t, dir); after != before {
		t.Errorf("left behind: %s, it was %s", after, before)
	}
	manifests, _ := filepath.Glob(filepath.Join(storeDirOf(dir), "MANIFEST-*"))
	for _, m := range manifests {
		if err := os.WriteFile(m, []byte("damaged by the test"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	found(t, diagnosis(t, 2, "--config", config), "store", "open", doctor.Failure, "cannot be opened", "move ")
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
	server := jsxcServer(t)
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
	config := configFile(t, dir, doctorConfig+`
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
	r := diagnosis(t, 2, "--config", config, "--as", "joe@jsxc.example")
	found(t, r, "backend.jsxc.right", "tls", doctor.OK, "TLS 1.3")
	found(t, r, "backend.jsxc.right", "http", doctor.OK, "refuses a wrong signature")
	found(t, r, "backend.jsxc.right", "signature", doctor.OK, "accepted")
	found(t, r, "backend.jsxc.right", "user", doctor.OK, "knows joe@jsxc.example")
	found(t, r, "backend.jsxc.wrong", "signature", doctor.Failure, "refuses our signature", "copy the API secret")
	found(t, r, "backend.jsxc.distrusted", "tls", doctor.Failure, "signed by itself", "ca_file")
	found(t, r, "backend.jsxc.distrusted", "signature", doctor.Skipped, "because tls failed")
	found(t, r, "backend.jsxc.old", "tls", doctor.Failure, "handshake failed", "TLS 1.2")
	found(t, r, "tokens", "jsxc", doctor.Warning, "only 10 bytes", "openssl rand")
	if text := command(t, "", "doctor", "--config", config).out; strings.Contains(text, "another-secret") || strings.Contains(text, "api-secret") {
		t.Errorf("a secret is in the report:\n%s", text)
	}
}

// Clock skew as the Date header shows it, and ejabberd's own cache.
func TestDoctorAround(t *testing.T) {
	app := newWebApp(t, always(200, jsonNo))
	file := filepath.Join(t.TempDir(), "ejabberd.yml")
	if err := os.WriteFile(file, []byte("auth_method: [external]\nextauth_program: "+binary+" pipe --protocol ejabberd\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	config := configFile(t, t.TempDir(), doctorConfig+`
backend "json" "app" { url = "`+app.URL+`" }
domain "app.example" { backends = [backend.json.app] }
`)
	r := diagnosis(t, 2, "--config", config, "--ejabberd", file)
	found(t, r, "ejabberd", "auth", doctor.Warning, "auth_use_cache: false")
	found(t, r, "backend.json.app", "clock", doctor.OK)
	found(t, r, "backend.json.app", "shape", doctor.OK)
	app.becomes(wrongTime)
	found(t, diagnosis(t, 2, "--config", config), "backend.json.app", "clock", doctor.Failure, "ahead of the server's", "NTP")
}

// wrongTime answers as a server whose clock is an hour slow.
func wrongTime(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Date", time.Now().Add(-time.Hour).UTC().Format(http.TimeFormat))
	always(200, jsonNo)(w, r)
}

// A report that could not be made has the exit status of a failure.
func TestDoctorFails(t *testing.T) {
	for args, want := range map[string]string{
		"doctor --nonsense":                "postern doctor --help",
		"doctor joe":                       "postern doctor",
		"doctor --as joe@":                 "USER@DOMAIN",
		"doctor --data-dir " + t.TempDir(): "--embedded",
	} {
		if r := command(t, "", strings.Fields(args)...); r.code != 2 || r.out != "" || !strings.Contains(r.err, want) {
			t.Errorf("%s: exit status %d, %q, %q; want 2 and %q", args, r.code, r.out, r.err, want)
		}
	}
	r := diagnosis(t, 2, "--config", filepath.Join(t.TempDir(), "none.hcl"))
	found(t, r, "configuration", "text", doctor.Failure, "no such file", "--config")
	// The built-in configuration in a directory of its own.
	embedded := diagnosis(t, 2, "--embedded", "--data-dir", t.TempDir())
	found(t, embedded, "configuration", "text", doctor.OK, "built-in")
	found(t, embedded, "backend.users.local", "file", doctor.Warning, "postern user add")
}

// A daemon that does not know the question is of an older version.
func TestDoctorOlderDaemon(t *testing.T) {
	dir := t.TempDir()
	config := configFile(t, dir, doctorConfig)
	socket, err := net.Listen("unix", filepath.Join(dir, controlFile))
	if err != nil {
		t.Fatal(err)
	}
	older := &http.Server{Handler: http.NotFoundHandler()}
	go func() { _ = older.Serve(socket) }()
	defer older.Close()
	r := diagnosis(t, 1, "--config", config)
	found(t, r, "daemon", "version", doctor.Warning, "older version", "restart")
	found(t, r, "listener.generic", "address", doctor.Skipped, "a daemon may be listening")
}

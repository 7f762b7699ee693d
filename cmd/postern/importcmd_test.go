package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"postern/internal/auth"
	"postern/internal/auth/passhash"
	"postern/internal/config"
	"postern/internal/xcauth"
)

// xcauthSchema makes the tables of xcauth 2.0 (PROTOCOLS 6.3).
const xcauthSchema = `
CREATE TABLE domains (xmppdomain TEXT PRIMARY KEY, authsecret TEXT, authurl TEXT, authdomain TEXT, regcontact TEXT,
  regfirst TEXT DEFAULT CURRENT_TIMESTAMP, reglatest TEXT DEFAULT CURRENT_TIMESTAMP);
CREATE TABLE authcache (jid TEXT PRIMARY KEY, pwhash TEXT, firstauth TEXT DEFAULT CURRENT_TIMESTAMP,
  remoteauth TEXT DEFAULT CURRENT_TIMESTAMP, anyauth TEXT DEFAULT CURRENT_TIMESTAMP);
CREATE TABLE rosterinfo (jid TEXT PRIMARY KEY, fullname TEXT, grouplist TEXT, responsehash TEXT, last_update TEXT);
CREATE TABLE rostergroups (groupname TEXT PRIMARY KEY, userlist TEXT);
`

// missing reports whether there is no file.
func missing(path string) bool {
	_, err := os.Stat(path)
	return errors.Is(err, fs.ErrNotExist)
}

// hashOf is a hash as Python's bcrypt writes it.
func hashOf(t *testing.T, password string) string {
	t.Helper()
	hash, err := passhash.New(password, 4)
	if err != nil {
		t.Fatal(err)
	}
	return "$2b$" + hash[4:]
}

// xcauthWorld is what xcauth leaves behind: a database made by SQL and a configuration file.
type xcauthWorld struct {
	dir, conf, db string
}

func newXcauthWorld(t *testing.T, url, secret, more string) xcauthWorld {
	t.Helper()
	w := xcauthWorld{dir: t.TempDir()}
	w.conf, w.db = filepath.Join(w.dir, "xcauth.conf"), filepath.Join(w.dir, "xcauth.sqlite3")
	w.sql(t, xcauthSchema)
	log := filepath.Join(w.dir, "log")
	if err := os.Mkdir(log, 0o700); err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf("# made by hand\n[xcauth]\nurl=%s\nsecret: %s\ndb = %s ; here\nlog %s\ncache-storage=db\n%s", url, secret, w.db, log, more)
	if err := os.WriteFile(w.conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w xcauthWorld) sql(t *testing.T, text string) {
	t.Helper()
	if r := runCommand(t, text, program(t, "sqlite3"), "-bail", w.db); r.code != 0 {
		t.Fatalf("sqlite3: %s", r.err)
	}
}

// knows puts accounts into the cache: whose password was verified how long ago.
func (w xcauthWorld) knows(t *testing.T, jid, password string, ago time.Duration) {
	t.Helper()
	at := time.Now().UTC().Add(-ago).Format("2006-01-02 15:04:05.999999")
	w.sql(t, fmt.Sprintf("INSERT INTO authcache VALUES ('%s', '%s', '2019-01-01 00:00:00', '%s', '%s');", jid, hashOf(t, password), at, at))
}

func (w xcauthWorld) imports(t *testing.T, args ...string) string {
	t.Helper()
	return ok(t, "", append([]string{"import", "xcauth", "--conf", w.conf}, args...)...)
}

// importedConfig is the file that --out writes, with ports that are free and without its log file.
func importedConfig(t *testing.T, file string) string {
	t.Helper()
	text := readText(file)
	for _, port := range []string{"23662", "23663", "23665", "23666"} {
		text = strings.ReplaceAll(text, "127.0.0.1:"+port, "127.0.0.1:0")
	}
	other := filepath.Join(filepath.Dir(file), "test.hcl")
	if err := os.WriteFile(other, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return other
}

// TestImportRegisters: domains of the table that an existing configuration lacks are registered,
// once, and their users log in from the imported hashes while the server is down.
func TestImportRegisters(t *testing.T) {
	w := newXcauthWorld(t, deadURL(t), "default", "")
	w.sql(t, fmt.Sprintf(`INSERT INTO domains VALUES ('other.example', 'own secret', '%[1]s/own', 'cloud.example', 'me@x', '2019-01-01 10:00:00', '2020-02-03 10:00:00');
INSERT INTO domains VALUES ('dom.example', 'x', '%[1]s/x', NULL, NULL, NULL, NULL);
INSERT INTO domains VALUES ('bad.example', 'x', 'ftp://bad', NULL, NULL, NULL, NULL);`, deadURL(t)))
	w.knows(t, "ann@other.example", "secret", time.Hour/2)
	cfg := configFile(t, t.TempDir(), oneList+"registry {}\nbackend \"users\" \"local\" {}\ndomain \"dom.example\" { backends = [backend.users.local] }\n")
	if dry := w.imports(t, "--config", cfg, "--dry-run"); !strings.Contains(dry, "domains: 2 found, 1 to import, 0 registered already, 1 in the configuration") ||
		!strings.Contains(dry, "passwords: 1 found, 1 to import") {
		t.Errorf("dry run:\n%s", dry)
	}
	report := w.imports(t, "--config", cfg)
	if !strings.Contains(report, "domains: 2 found, 1 imported, 0 registered already") || !strings.Contains(report, "left out: domains") || strings.Contains(report, "own secret") {
		t.Errorf("the report:\n%s", report)
	}
	if again := w.imports(t, "--config", cfg); !strings.Contains(again, "domains: 2 found, 0 imported, 1 registered already") || !strings.Contains(again, "0 imported, 1 known already") {
		t.Errorf("the second report:\n%s", again)
	}
	shown := ok(t, "", "domain", "show", "other.example", "--config", cfg)
	for _, want := range []string{"cloud.example", "me@x", "2019-01-01", "/own"} {
		if !strings.Contains(shown, want) {
			t.Errorf("the registered domain lacks %s:\n%s", want, shown)
		}
	}
	s := serve(t, "--config", cfg)
	if got := exchange(t, s.address("generic"), "auth:ann:other.example:secret\nauth:ann:other.example:wrong\n"); got != "1\n0\n" {
		t.Errorf("answered %q", got)
	}
}

// TestImportXcauth moves in with everything: after it, logins are answered from the imported
// hashes while the server is down, and nothing changes when it is done again.
func TestImportXcauth(t *testing.T) {
	w := newXcauthWorld(t, deadURL(t)+"/api", "s3cr${t \"x\"", "ejabberdctl=/usr/sbin/ejabberdctl\ncache-unreachable-ttl=2w\ndebug\nobsolete=1\n")
	w.sql(t, fmt.Sprintf(`INSERT INTO domains VALUES ('Other.example', 'own secret', '%s/own', 'cloud.example', 'me@x', '2019-01-01', NULL);
INSERT INTO rosterinfo VALUES ('joe@dom.example', 'Joe', 'Family'||char(9)||'Work', 'hash', NULL);
INSERT INTO rostergroups VALUES ('Work@dom.example', 'ann@dom.example'||char(9)||'joe@dom.example');
INSERT INTO authcache VALUES ('rubbish', 'x', NULL, NULL, NULL);`, deadURL(t)))
	w.knows(t, "joe@dom.example", "secret", time.Hour/2)
	w.knows(t, "ann@other.example", "pass:word", 10*24*time.Hour)
	w.knows(t, "old@dom.example", "secret", 15*24*time.Hour)
	out, data := filepath.Join(w.dir, "postern", "config.hcl"), t.TempDir()

	dry := w.imports(t, "--out", out, "--data-dir", data, "--dry-run")
	if !missing(out) || !strings.Contains(dry, "passwords: 3 found, 2 to import, 0 known already, 1 too old") || !strings.Contains(dry, "nothing was changed") {
		t.Fatalf("dry run:\n%s", dry)
	}
	if left, _ := os.ReadDir(data); len(left) > 0 {
		t.Fatalf("a dry run wrote %v", left)
	}
	report := w.imports(t, "--out", out, "--data-dir", data)
	for _, want := range []string{
		"config.hcl: written", "domains: 1 found, 1 in the configuration", "passwords: 3 found, 2 imported, 0 known already, 1 too old",
		"roster users: 1 found, 1 imported", "roster groups: 1 found, 1 imported", `left out: authcache "rubbish": it is not written as user@domain`,
	} {
		if !strings.Contains(report, want) {
			t.Errorf("the report lacks %q:\n%s", want, report)
		}
	}
	for _, name := range []string{"config.hcl", "default.secret", "s_127_0_0_1.secret"} {
		info, err := os.Stat(filepath.Join(w.dir, "postern", name))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
	if text := readText(out); strings.Contains(text, "s3cr") || strings.Contains(text, "own secret") {
		t.Error("a secret stands in the configuration")
	}
	ok(t, "", "config", "check", out)

	cfg := importedConfig(t, out)
	ask := func(s *server, line, want string) {
		t.Helper()
		if got := exchange(t, s.address("generic"), line+"\n"); got != want+"\n" {
			t.Errorf("%s: %q, want %s", line, got, want)
		}
	}
	s := serve(t, "--config", cfg)
	ask(s, "auth:joe:dom.example:secret", "1")
	ask(s, "auth:joe:dom.example:Secret", "0")
	ask(s, "auth:ann:other.example:pass:word", "1")
	ask(s, "auth:old:dom.example:secret", "0")
	if shown := ok(t, "", "roster", "show", "joe@dom.example", "--config", cfg); !strings.Contains(shown, "Family") || !strings.Contains(shown, "Joe") {
		t.Errorf("roster: %s", shown)
	}
	if r := command(t, "", "import", "xcauth", "--conf", w.conf, "--config", cfg); r.code != 1 || !strings.Contains(r.err, "stop it first") {
		t.Errorf("beside a daemon: %+v", r)
	}
	s.stop(syscall.SIGTERM)

	before := ok(t, "", "cache", "show", "joe@dom.example", "--config", cfg)
	again := w.imports(t, "--out", out, "--data-dir", data)
	if !strings.Contains(again, "config.hcl: unchanged") || !strings.Contains(again, "passwords: 3 found, 0 imported, 2 known already") ||
		!strings.Contains(again, "roster users: 1 found, 0 imported, 1 known") || !strings.Contains(again, "roster groups: 1 found, 0 imported, 1 known") {
		t.Errorf("the second run:\n%s", again)
	}
	if after := ok(t, "", "cache", "show", "joe@dom.example", "--config", cfg); after != before {
		t.Errorf("the second run changed the cache:\n%s\nbefore:\n%s", after, before)
	}
	serve(t, "--config", cfg)
	forgot := ok(t, "", "forget", "joe@dom.example", "--config", cfg)
	if !strings.Contains(forgot, "1 records with 1 accepted") || !strings.Contains(forgot, "shared rosters: 1 users, and 1 groups") {
		t.Errorf("forget: %s", forgot)
	}
	if forgot := ok(t, "", "forget", "joe@dom.example", "--config", cfg); !strings.Contains(forgot, "0 records with 0") || !strings.Contains(forgot, "shared rosters: 0 users, and 0 groups") {
		t.Errorf("forget again: %s", forgot)
	}
}

// TestImportBringsBackNothing: a password that the server has refused since the first import is
// not let in by a second one.
func TestImportBringsBackNothing(t *testing.T) {
	app := newWebApp(t, always(http.StatusOK, `{"result":"noauth"}`))
	w := newXcauthWorld(t, app.URL, "s", "cache-verification-ttl=1m\ncache-query-ttl=1s\n")
	w.knows(t, "joe@dom.example", "secret", time.Hour)
	out, data := filepath.Join(w.dir, "config.hcl"), t.TempDir()
	w.imports(t, "--out", out, "--data-dir", data)
	cfg := importedConfig(t, out)
	s := serve(t, "--config", cfg)
	if got := exchange(t, s.address("generic"), "auth:joe:dom.example:secret\n"); got != "0\n" {
		t.Fatalf("refused: %q", got)
	}
	s.eventually("the refused password is gone", func() bool {
		return len(decode[cacheShown](t, ok(t, "", "cache", "show", "joe@dom.example", "--config", cfg)).Verifiers) == 0
	})
	s.stop(syscall.SIGTERM)
	if again := w.imports(t, "--config", cfg); !strings.Contains(again, "0 imported, 1 known already") {
		t.Errorf("%s", again)
	}
	app.becomes(always(http.StatusServiceUnavailable, ""))
	s = serve(t, "--config", cfg)
	if got := exchange(t, s.address("generic"), "auth:joe:dom.example:secret\n"); got != "0\n" {
		t.Errorf("the refused password was let in: %q", got)
	}
}

// TestImportDumps: the Berkeley DB files of older versions, made and dumped by Debian's db-util.
func TestImportDumps(t *testing.T) {
	dir := t.TempDir()
	now := time.Now().Unix()
	dump := func(name string, flags []string, records ...string) string {
		file := filepath.Join(dir, name)
		if r := runCommand(t, strings.Join(records, "\n")+"\n", program(t, "db_load"), "-T", "-t", "hash", file+".db"); r.code != 0 {
			t.Fatalf("db_load: %s", r.err)
		}
		r := runCommand(t, "", program(t, "db_dump"), append(flags, file+".db")...)
		if r.code != 0 {
			t.Fatalf("db_dump: %s", r.err)
		}
		if err := os.WriteFile(file, []byte(r.out), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	domains := dump("domains", []string{"-p"}, "other.example", "own\t"+deadURL(t)+"\tcloud.example\t")
	cache := dump("cache", nil, "joe:dom.example", fmt.Sprintf("%s\t%d\t%d\t%d\t", hashOf(t, "secret"), now-9999, now-99, now-9))
	rosters := dump("rosters", []string{"-p"}, "FNC:joe:dom.example", "Jöe", "LIG:joe:dom.example", "Work", "RGC:Work:dom.example", "joe@dom.example")
	w := newXcauthWorld(t, deadURL(t), "s", "ejabberdctl=/bin/true\ncache-db="+cache+".db\n")
	if err := os.Remove(w.db); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(dir, "config.hcl")
	if r := command(t, "", "import", "xcauth", "--conf", w.conf, "--out", out); r.code != 1 || !strings.Contains(r.err, "db_dump -p "+cache+".db") {
		t.Errorf("without a dump: %+v", r)
	}
	report := ok(t, readText(cache), "import", "xcauth", "--conf", w.conf, "--out", out, "--data-dir", t.TempDir(),
		"--dump", domains, "--dump", "-", "--dump", rosters)
	for _, want := range []string{"domains: 1 found", "passwords: 1 found, 1 imported", "roster users: 1 found, 1 imported", "roster groups: 1 found, 1 imported"} {
		if !strings.Contains(report, want) {
			t.Errorf("the report lacks %q:\n%s", want, report)
		}
	}
	s := serve(t, "--config", importedConfig(t, out))
	if got := exchange(t, s.address("generic"), "auth:joe:dom.example:secret\n"); got != "1\n" {
		t.Errorf("%q", got)
	}
}

func TestImportErrors(t *testing.T) {
	w := newXcauthWorld(t, deadURL(t), "s", "")
	bare := filepath.Join(w.dir, "bare.conf")
	notADatabase := filepath.Join(w.dir, "text")
	for path, text := range map[string]string{bare: "db=/nowhere/x.sqlite3\n", notADatabase: strings.Repeat("no database ", 100)} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	out := filepath.Join(w.dir, "o.hcl")
	for _, c := range []struct{ args, want string }{
		{"--conf /nowhere.conf --out " + out, "/nowhere.conf"},
		{"--conf " + bare + " --out " + out, "does not name its server"},
		{"--conf " + bare + " --config " + out, "there is no database /nowhere/x.sqlite3"},
		{"--conf " + w.conf + " --out " + out + " --config " + out, "give one of them"},
		{"--conf " + w.conf + " --config /nowhere.hcl", "there is no configuration /nowhere.hcl"},
		{"--conf " + w.conf + " --db /nowhere.db --out " + out, "/nowhere.db"},
		{"--conf " + w.conf + " --db " + notADatabase + " --out " + out, "is it xcauth's"},
		{"--conf " + w.conf + " --dump " + notADatabase + " --out " + out, "not the output of db_dump"},
		{"--conf " + w.conf + " --out " + bare, "says something else"},
		{"extra", "write `postern import xcauth"},
	} {
		r := command(t, "", append([]string{"import", "xcauth"}, strings.Fields(c.args)...)...)
		if r.code != 1 || !strings.Contains(r.err, c.want) {
			t.Errorf("%s: %+v", c.args, r)
		}
	}
	if !missing(out) {
		t.Error("a failed import wrote a configuration")
	}
}

// TestWrittenConfigurationsParse: whatever xcauth's options and rows hold, the text that is made
// of them means the same to the configuration's own parser.
func TestWrittenConfigurationsParse(t *testing.T) {
	for _, secret := range []string{"plain", `q"uote\`, "${env(\"HOME\")}", "%{ if x }", "$${", "ä€\u200b", "tab\there", " blanks ", "\x7f\x01"} {
		o := xcauth.Defaults()
		o.URL, o.Secret, o.Ejabberdctl = "https://cloud.example/x?a=${b}", auth.NewSecret(secret), "/opt/e j/ctl"
		o.QueryTTL = 0
		var data xcauth.Data
		for i, name := range []string{"a.example", "b.example", "ü.example", "c.example"} {
			data.AddRow(xcauth.Domains, []xcauth.Text{{Value: name, Valid: true}, {Value: fmt.Sprint(secret, i), Valid: true},
				{Value: "https://cloud.example/" + name, Valid: true}, {Value: "auth.example", Valid: true}, {}, {}, {}})
		}
		w := xcauth.Writer{DataDir: "/tmp/x y", Listen: true, LogFile: "/tmp/l", Banner: "a\nb",
			Secret: func(_ string, s auth.Secret) string { return xcauth.Quote(s.Reveal()) }}
		cfg, problems := config.Parse("/x.hcl", []byte(w.Config(&o, data.Domains)), config.Env{})
		if problems.Failed() {
			t.Fatalf("%q: %v", secret, problems.Err())
		}
		if len(cfg.Backends) != 5 || len(cfg.Domains) != 5 || len(cfg.Listeners) != 4 || cfg.DataDir != "/tmp/x y" {
			t.Errorf("%q: %d backends, %d domains", secret, len(cfg.Backends), len(cfg.Domains))
		}
		if got := cfg.Backends[0].Secret.Reveal(); got != secret {
			t.Errorf("%q became %q", secret, got)
		}
		for _, d := range data.Domains {
			found := configured(cfg, d.Name)
			if found == nil || found.Name != d.Name || found.AuthDomains[0] != "auth.example" || found.Roster == nil || found.Cache.QueryTTL != 0 {
				t.Errorf("%s: %+v", d.Name, found)
				continue
			}
			for _, b := range cfg.Backends {
				if b.BackendRef == found.Backends[0] && (b.URL != d.URL || b.Secret.Reveal() != d.Secret.Reveal()) {
					t.Errorf("%s has the server %s", d.Name, b.URL)
				}
			}
		}
	}
}

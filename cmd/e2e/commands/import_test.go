package commands

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"postern/cmd/e2e/harness"
)

// importedConfig is the file that --out writes, with ports that are free and without its log file.
func importedConfig(t *testing.T, file string) string {
	t.Helper()
	text := harness.ReadText(file)
	for _, port := range []string{"23662", "23663", "23665", "23666"} {
		text = strings.ReplaceAll(text, "127.0.0.1:"+port, "127.0.0.1:0")
	}
	text = strings.Replace(text, "listen \"relay\" {\n", "listen \"relay\" {\n  address = \"unix:others.sock\"\n", 1)
	other := filepath.Join(filepath.Dir(file), "test.hcl")
	if err := os.WriteFile(other, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return other
}

// TestImportRegisters: domains of the table that an existing configuration lacks are registered,
// once, and their users log in from the imported hashes while the server is down.
func TestImportRegisters(t *testing.T) {
	w := harness.NewXcauth(t, harness.DeadURL(t), "default", "")
	w.SQL(t, fmt.Sprintf(`INSERT INTO domains VALUES ('other.example', 'own secret', '%[1]s/own', 'cloud.example', 'me@x', '2019-01-01 10:00:00', '2020-02-03 10:00:00');
INSERT INTO domains VALUES ('dom.example', 'x', '%[1]s/x', NULL, NULL, NULL, NULL);
INSERT INTO domains VALUES ('bad.example', 'x', 'ftp://bad', NULL, NULL, NULL, NULL);`, harness.DeadURL(t)))
	w.Knows(t, "ann@other.example", "secret", time.Hour/2)
	cfg := harness.ConfigFile(t, t.TempDir(), harness.OneList+"registry {}\nbackend \"users\" \"local\" {}\ndomain \"dom.example\" { backends = [backend.users.local] }\n")
	if dry := w.Imports(t, "--config", cfg, "--dry-run"); !strings.Contains(dry, "domains: 2 found, 1 to import, 0 registered already, 1 in the configuration") ||
		!strings.Contains(dry, "passwords: 1 found, 1 to import") {
		t.Errorf("dry run:\n%s", dry)
	}
	report := w.Imports(t, "--config", cfg)
	if !strings.Contains(report, "domains: 2 found, 1 imported, 0 registered already") || !strings.Contains(report, "left out: domains") || strings.Contains(report, "own secret") {
		t.Errorf("the report:\n%s", report)
	}
	if again := w.Imports(t, "--config", cfg); !strings.Contains(again, "domains: 2 found, 0 imported, 1 registered already") || !strings.Contains(again, "0 imported, 1 known already") {
		t.Errorf("the second report:\n%s", again)
	}
	shown := harness.OK(t, "", "domain", "show", "other.example", "--config", cfg)
	for _, want := range []string{"cloud.example", "me@x", "2019-01-01", "/own"} {
		if !strings.Contains(shown, want) {
			t.Errorf("the registered domain lacks %s:\n%s", want, shown)
		}
	}
	s := harness.Serve(t, "--config", cfg)
	if got := harness.Exchange(t, s.Address("generic"), "auth:ann:other.example:secret\nauth:ann:other.example:wrong\n"); got != "1\n0\n" {
		t.Errorf("answered %q", got)
	}
}

// TestImportXcauth moves in with everything: after it, logins are answered from the imported
// hashes while the server is down, and nothing changes when it is done again.
func TestImportXcauth(t *testing.T) {
	w := harness.NewXcauth(t, harness.DeadURL(t)+"/api", "s3cr${t \"x\"", "ejabberdctl=/usr/sbin/ejabberdctl\ncache-unreachable-ttl=2w\ndebug\nobsolete=1\n")
	w.SQL(t, fmt.Sprintf(`INSERT INTO domains VALUES ('Other.example', 'own secret', '%s/own', 'cloud.example', 'me@x', '2019-01-01', NULL);
INSERT INTO rosterinfo VALUES ('joe@dom.example', 'Joe', 'Family'||char(9)||'Work', 'hash', NULL);
INSERT INTO rostergroups VALUES ('Work@dom.example', 'ann@dom.example'||char(9)||'joe@dom.example');
INSERT INTO authcache VALUES ('rubbish', 'x', NULL, NULL, NULL);`, harness.DeadURL(t)))
	w.Knows(t, "joe@dom.example", "secret", time.Hour/2)
	w.Knows(t, "ann@other.example", "pass:word", 10*24*time.Hour)
	w.Knows(t, "old@dom.example", "secret", 15*24*time.Hour)
	out, data := filepath.Join(w.Dir, "postern", "config.hcl"), t.TempDir()
	dry := w.Imports(t, "--out", out, "--data-dir", data, "--dry-run")
	if !harness.Missing(out) || !strings.Contains(dry, "passwords: 3 found, 2 to import, 0 known already, 1 too old") || !strings.Contains(dry, "nothing was changed") {
		t.Fatalf("dry run:\n%s", dry)
	}
	if left, _ := os.ReadDir(data); len(left) > 0 {
		t.Fatalf("a dry run wrote %v", left)
	}
	report := w.Imports(t, "--out", out, "--data-dir", data)
	for _, want := range []string{
		"config.hcl: written", "domains: 1 found, 1 in the configuration", "passwords: 3 found, 2 imported, 0 known already, 1 too old",
		"roster users: 1 found, 1 imported", "roster groups: 1 found, 1 imported", `left out: authcache "rubbish": it is not written as user@domain`,
	} {
		if !strings.Contains(report, want) {
			t.Errorf("the report lacks %q:\n%s", want, report)
		}
	}
	for _, name := range []string{"config.hcl", "default.secret", "s_127_0_0_1.secret"} {
		info, err := os.Stat(filepath.Join(w.Dir, "postern", name))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
	if text := harness.ReadText(out); strings.Contains(text, "s3cr") || strings.Contains(text, "own secret") {
		t.Error("a secret stands in the configuration")
	}
	harness.OK(t, "", "config", "check", out)
	cfg := importedConfig(t, out)
	ask := func(s *harness.Server, line, want string) {
		t.Helper()
		if got := harness.Exchange(t, s.Address("generic"), line+"\n"); got != want+"\n" {
			t.Errorf("%s: %q, want %s", line, got, want)
		}
	}
	s := harness.Serve(t, "--config", cfg)
	ask(s, "auth:joe:dom.example:secret", "1")
	ask(s, "auth:joe:dom.example:Secret", "0")
	ask(s, "auth:ann:other.example:pass:word", "1")
	ask(s, "auth:old:dom.example:secret", "0")
	if shown := harness.OK(t, "", "roster", "show", "joe@dom.example", "--config", cfg); !strings.Contains(shown, "Family") || !strings.Contains(shown, "Joe") {
		t.Errorf("roster: %s", shown)
	}
	if r := harness.Command(t, "", "import", "xcauth", "--conf", w.Conf, "--config", cfg); r.Code != 1 || !strings.Contains(r.Err, "stop it first") {
		t.Errorf("beside a daemon: %+v", r)
	}
	s.Stop(syscall.SIGTERM)
	before := harness.OK(t, "", "cache", "show", "joe@dom.example", "--config", cfg)
	again := w.Imports(t, "--out", out, "--data-dir", data)
	if !strings.Contains(again, "config.hcl: unchanged") || !strings.Contains(again, "passwords: 3 found, 0 imported, 2 known already") ||
		!strings.Contains(again, "roster users: 1 found, 0 imported, 1 known") || !strings.Contains(again, "roster groups: 1 found, 0 imported, 1 known") {
		t.Errorf("the second run:\n%s", again)
	}
	if after := harness.OK(t, "", "cache", "show", "joe@dom.example", "--config", cfg); after != before {
		t.Errorf("the second run changed the cache:\n%s\nbefore:\n%s", after, before)
	}
	harness.Serve(t, "--config", cfg)
	forgot := harness.OK(t, "", "forget", "joe@dom.example", "--config", cfg)
	if !strings.Contains(forgot, "1 records with 1 accepted") || !strings.Contains(forgot, "shared rosters: 1 users, and 1 groups") {
		t.Errorf("forget: %s", forgot)
	}
	if forgot := harness.OK(t, "", "forget", "joe@dom.example", "--config", cfg); !strings.HasPrefix(forgot, "nothing to forget") {
		t.Errorf("forget again: %s", forgot)
	}
}

// TestRefusedImport: an import that is refused leaves the machine as it was: neither a file nor a data directory
// is made, whatever refuses it.
func TestRefusedImport(t *testing.T) {
	w := harness.NewXcauth(t, harness.DeadURL(t), "s", "")
	w.SQL(t, "INSERT INTO domains VALUES ('other.example', 'own', '"+harness.DeadURL(t)+"', NULL, NULL, NULL, NULL);")
	_, served := harness.UsersServer(t)
	owned := ""
	for line := range strings.Lines(harness.ReadText(served)) {
		if dir, ok := strings.CutPrefix(strings.TrimSpace(line), "data_dir = "); ok {
			owned = strings.Trim(dir, `"`)
		}
	}
	for name, c := range map[string]struct {
		data, there, want string
	}{
		"a daemon runs":                   {owned, "", "stop it first"},
		"another configuration":           {"", "config.hcl", "different content"},
		"another secret":                  {"", "default.secret", "different content"},
		"the secret of the second server": {"", "s_127_0_0_1.secret", "different content"},
		"no data directory":               {"/proc/none", "", "data directory"},
	} {
		out, data := filepath.Join(t.TempDir(), "etc"), c.data
		if data == "" {
			data = filepath.Join(t.TempDir(), "data")
		}
		if c.there != "" {
			harness.Mkdir(t, out)
			harness.WriteFile(t, filepath.Join(out, c.there), "other")
		}
		r := harness.Command(t, "", "import", "xcauth", "--conf", w.Conf, "--out", filepath.Join(out, "config.hcl"), "--data-dir", data)
		if r.Code != 1 || !strings.Contains(r.Err, c.want) || r.Out != "" {
			t.Errorf("%s: exit status %d, %q, %q", name, r.Code, r.Out, r.Err)
		}
		left, _ := os.ReadDir(out)
		if len(left) > 1 || len(left) == 1 && left[0].Name() != c.there || c.data == "" && !harness.Missing(data) {
			t.Errorf("%s: it has written %v, or the data directory", name, left)
		}
	}
}

// TestImportBringsBackNothing: a second import does not make a password valid again that the server
// has refused since the first.
func TestImportBringsBackNothing(t *testing.T) {
	app := harness.NewWebApp(t, harness.Always(http.StatusOK, `{"result":"noauth"}`))
	w := harness.NewXcauth(t, app.URL, "s", "cache-verification-ttl=1m\ncache-query-ttl=1s\n")
	w.Knows(t, "joe@dom.example", "secret", time.Hour)
	out, data := filepath.Join(w.Dir, "config.hcl"), t.TempDir()
	w.Imports(t, "--out", out, "--data-dir", data)
	cfg := importedConfig(t, out)
	s := harness.Serve(t, "--config", cfg)
	if got := harness.Exchange(t, s.Address("generic"), "auth:joe:dom.example:secret\n"); got != "0\n" {
		t.Fatalf("refused: %q", got)
	}
	s.Eventually("the refused password is gone", func() bool {
		return len(harness.Decode[harness.CacheShown](t, harness.OK(t, "", "cache", "show", "joe@dom.example", "--config", cfg)).Verifiers) == 0
	})
	s.Stop(syscall.SIGTERM)
	if again := w.Imports(t, "--config", cfg); !strings.Contains(again, "0 imported, 1 known already") {
		t.Errorf("%s", again)
	}
	app.Becomes(harness.Always(http.StatusServiceUnavailable, ""))
	s = harness.Serve(t, "--config", cfg)
	if got := harness.Exchange(t, s.Address("generic"), "auth:joe:dom.example:secret\n"); got != "0\n" {
		t.Errorf("the refused password was let in: %q", got)
	}
}

// TestImportDumps: the Berkeley DB files of older versions, made and dumped by Debian's db-util.
func TestImportDumps(t *testing.T) {
	dir := t.TempDir()
	now := time.Now().Unix()
	dump := func(name string, flags []string, records ...string) string {
		file := filepath.Join(dir, name)
		if r := harness.RunCommand(t, strings.Join(records, "\n")+"\n", harness.Program(t, "db_load"), "-T", "-t", "hash", file+".db"); r.Code != 0 {
			t.Fatalf("db_load: %s", r.Err)
		}
		r := harness.RunCommand(t, "", harness.Program(t, "db_dump"), append(flags, file+".db")...)
		if r.Code != 0 {
			t.Fatalf("db_dump: %s", r.Err)
		}
		if err := os.WriteFile(file, []byte(r.Out), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	domains := dump("domains", []string{"-p"}, "other.example", "own\t"+harness.DeadURL(t)+"\tcloud.example\t")
	cache := dump("cache", nil, "joe:dom.example", fmt.Sprintf("%s\t%d\t%d\t%d\t", harness.HashOf(t, "secret"), now-9999, now-99, now-9))
	rosters := dump("rosters", []string{"-p"}, "FNC:joe:dom.example", "Jöe", "LIG:joe:dom.example", "Work", "RGC:Work:dom.example", "joe@dom.example")
	w := harness.NewXcauth(t, harness.DeadURL(t), "s", "ejabberdctl=/bin/true\ncache-db="+cache+".db\n")
	if err := os.Remove(w.DB); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(dir, "config.hcl")
	if r := harness.Command(t, "", "import", "xcauth", "--conf", w.Conf, "--out", out); r.Code != 1 || !strings.Contains(r.Err, "db_dump -p "+cache+".db") {
		t.Errorf("without a dump: %+v", r)
	}
	report := harness.OK(t, harness.ReadText(cache), "import", "xcauth", "--conf", w.Conf, "--out", out, "--data-dir", t.TempDir(),
		"--dump", domains, "--dump", "-", "--dump", rosters)
	for _, want := range []string{"domains: 1 found", "passwords: 1 found, 1 imported", "roster users: 1 found, 1 imported", "roster groups: 1 found, 1 imported"} {
		if !strings.Contains(report, want) {
			t.Errorf("the report lacks %q:\n%s", want, report)
		}
	}
	s := harness.Serve(t, "--config", importedConfig(t, out))
	if got := harness.Exchange(t, s.Address("generic"), "auth:joe:dom.example:secret\n"); got != "1\n" {
		t.Errorf("%q", got)
	}
}

func TestImportErrors(t *testing.T) {
	w := harness.NewXcauth(t, harness.DeadURL(t), "s", "")
	bare := filepath.Join(w.Dir, "bare.conf")
	notADatabase := filepath.Join(w.Dir, "text")
	for path, text := range map[string]string{bare: "db=/nowhere/x.sqlite3\n", notADatabase: strings.Repeat("no database ", 100)} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	out := filepath.Join(w.Dir, "o.hcl")
	for _, c := range []struct{ args, want string }{
		{"--conf /nowhere.conf --out " + out, "/nowhere.conf"},
		{"--out " + out, "there is neither /etc/xcauth.conf nor /etc/external_cloud.conf: name xcauth's configuration file with --conf"},
		{"--conf " + bare + " --out " + out, "does not name its server"},
		{"--conf " + bare + " --config " + out, "there is no database /nowhere/x.sqlite3"},
		{"--conf " + w.Conf + " --out " + out + " --config " + out, "give one of them"},
		{"--conf " + w.Conf + " --config /nowhere.hcl", "there is no configuration /nowhere.hcl"},
		{"--conf " + w.Conf + " --db /nowhere.db --out " + out, "/nowhere.db"},
		{"--conf " + w.Conf + " --db " + notADatabase + " --out " + out, "is it xcauth's"},
		{"--conf " + w.Conf + " --dump " + notADatabase + " --out " + out, "not the output of db_dump"},
		{"--conf " + w.Conf + " --out " + bare, "different content"},
		{"extra", "write `postern import xcauth"},
	} {
		r := harness.Command(t, "", append([]string{"import", "xcauth"}, strings.Fields(c.args)...)...)
		if r.Code != 1 || !strings.Contains(r.Err, c.want) {
			t.Errorf("%s: %+v", c.args, r)
		}
	}
	if !harness.Missing(out) {
		t.Error("a failed import wrote a configuration")
	}
}

// Domains are not said to be registered where no daemon would look for them, as `domain add` does
// not: the configuration keeps nothing on disk.
func TestImportRegistersNothingUnseen(t *testing.T) {
	w := harness.NewXcauth(t, harness.DeadURL(t), "default", "")
	w.SQL(t, "INSERT INTO domains VALUES ('other.example', 'own', '"+harness.DeadURL(t)+"', NULL, NULL, NULL, NULL);")
	for _, c := range []struct {
		more   string
		unseen bool
	}{
		{"", true}, {"registry {}\n", false},
		{"domain \"disk.example\" {\n  backends = [backend.users.local]\n  cache { storage = \"disk\" }\n}\n", false},
	} {
		cfg := harness.ConfigFile(t, t.TempDir(), harness.PipeConfig+c.more)
		for _, flags := range [][]string{{"--dry-run"}, nil, {"--dry-run"}, nil} {
			r := harness.Command(t, "", append([]string{"import", "xcauth", "--conf", w.Conf, "--config", cfg}, flags...)...)
			if refused := r.Code == 1 && strings.Contains(r.Err, "add a registry {} block") && r.Out == ""; refused != c.unseen || !refused && r.Code != 0 {
				t.Errorf("with %q, %v: %+v", c.more, flags, r)
			}
		}
	}
}

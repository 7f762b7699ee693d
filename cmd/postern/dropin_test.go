package main

import (
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// called is the program under test under another name.
func called(t *testing.T, name string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.Symlink(binary, path); err != nil {
		t.Fatal(err)
	}
	return path
}

// dropIn is what stands where xcauth stood: its database knows joe's password, and its server is
// down.
func dropIn(t *testing.T, more string) xcauthWorld {
	t.Helper()
	w := newXcauthWorld(t, deadURL(t)+"/api", "cAnArY-of-the-server", more)
	w.knows(t, "joe@dom.example", "secret", time.Minute)
	return w
}

// ownerEnds waits for the broker that copies have started, so that it leaves its directory alone.
func (w xcauthWorld) ownerEnds(t *testing.T) {
	t.Helper()
	locks, _ := filepath.Glob(filepath.Join(w.dir, "postern-*", lockFile))
	for _, lock := range locks {
		if owner := ownerOf(t, filepath.Dir(lock)); owner != 0 {
			waitFor(t, "the end of the owner", func() bool { return !alive(owner) })
		}
	}
}

// home is the directory of the broker that copies have started.
func (w xcauthWorld) home(t *testing.T) string {
	t.Helper()
	homes, _ := filepath.Glob(filepath.Join(w.dir, "postern-*"))
	if len(homes) != 1 {
		t.Fatalf("the brokers' directories: %v, want one", homes)
	}
	return homes[0]
}

// TestDropInSpeaksEveryType: each --type on standard input, from the imported hash.
func TestDropInSpeaksEveryType(t *testing.T) {
	w := dropIn(t, "")
	t.Cleanup(func() { w.ownerEnds(t) })
	for _, c := range []struct {
		name  string
		flags []string
		in    string
		want  string
		whole bool
	}{
		{"xcauth", []string{"-t", "generic"}, "auth:joe:dom.example:secret\nauth:joe:dom.example:Secret\nisuser:joe:dom.example\nroster:joe:dom.example\nquit\n", "1\n0\n1\nNone\n", true},
		{"xcauth.py", []string{"--type=prosody"}, "auth:joe:dom.example:secret\n", "1\n", true},
		{"external_cloud.py", []string{"-tejabberd", "-d"}, frame("auth:joe:dom.example:secret") + frame("auth:joe:dom.example:no"), "\x00\x02\x00\x01\x00\x02\x00\x02", true},
		{"xcauth", []string{"-t", "saslauthd"}, fields("joe", "secret", "smtp", "dom.example"), "\x00\x0aOK", false},
		{"xcauth", []string{"-t", "postfix"}, "get joe@dom.example\n", "200 ", false},
	} {
		p := startProgram(t, called(t, c.name), nil, append([]string{"-c", w.conf}, c.flags...)...)
		p.send(c.in)
		rest, code := p.finish()
		if !strings.HasPrefix(rest, c.want) || c.whole && rest != c.want || code != 0 {
			t.Errorf("%s %v: %q, status %d, want %q\n%s", c.name, c.flags, rest, code, c.want, p.log.String())
		}
	}
	fileSays(t, filepath.Join(w.dir, "log", "xcauth.log"), "verdict=allow source=cache domain=")
}

// TestDropInTests: the one-shot tests print what xcauth prints, whatever the answer, and end with
// status 0.
func TestDropInTests(t *testing.T) {
	app := newWebApp(t, func(wr http.ResponseWriter, r *http.Request) {
		_ = r.ParseForm()
		switch {
		case r.Form.Get("username") != "ann":
			_, _ = wr.Write([]byte(`{"result":"noauth"}`))
		case r.Form.Get("operation") == "isuser":
			_, _ = wr.Write([]byte(`{"result":"success","data":{"isUser":true}}`))
		case r.Form.Get("operation") == "sharedroster":
			_, _ = wr.Write([]byte(`{"result":"success","data":{"sharedRoster":[]}}`))
		default:
			_, _ = wr.Write([]byte(`{"result":"success","data":{"uid":"ann"}}`))
		}
	})
	program := called(t, "xcauth")
	dir := t.TempDir()
	for _, c := range []struct {
		url, args, want string
	}{
		{app.URL, "-A ann dom.example secret", "True\n"},
		{app.URL, "--auth-test joe dom.example secret", "False\n"},
		{app.URL, "-I ann dom.example", "True\n"},
		{app.URL, "-I joe dom.example", "False\n"},
		{app.URL, "-R ann dom.example", `{"result":"success","data":{"sharedRoster":[]}}` + "\n"},
		{app.URL, "-R joe dom.example", "None\n"},
		{deadURL(t), "-A ann dom.example secret", "False\n"},
		{deadURL(t), "-I ann dom.example", "False\n"},
		{deadURL(t), "-R ann dom.example", "None\n"},
	} {
		args := append(strings.Fields(c.args), "-u", c.url, "-s", "S", "--db", filepath.Join(dir, "x.sqlite3"))
		if r := runCommand(t, "", program, args...); r.code != 0 || r.out != c.want {
			t.Errorf("%s: %+v", c.args, r)
		}
	}
	if r := runCommand(t, "", program, "--version"); r.code != 0 || !strings.HasPrefix(r.out, "postern ") {
		t.Errorf("--version: %+v", r)
	}
	if r := runCommand(t, "", program, "--help"); r.code != 0 || !strings.Contains(r.out, "--cache-unreachable-ttl") {
		t.Errorf("--help: %+v", r)
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	cmd := exec.Command(program, "-u", app.URL, "-s", "S")
	cmd.Stdin = null
	if out, err := cmd.CombinedOutput(); cmd.ProcessState.ExitCode() != 2 || !strings.Contains(string(out), "is required") {
		t.Errorf("without work: %v, %s", err, out)
	}
}

// TestDropInOnSockets: sockets of systemd speak what their names say, and --type where these say
// nothing.
func TestDropInOnSockets(t *testing.T) {
	w := dropIn(t, "type=saslauthd\n")
	addresses := []string{freeAddress(t), freeAddress(t), freeAddress(t), freeAddress(t)}
	flags := []string{"-E", "GORACE", "--fdname=prosody:ejabberd:postfix:mail"}
	for _, a := range addresses {
		flags = append(flags, "-l", a)
	}
	p := &process{t: t, ended: make(chan struct{})}
	p.cmd = exec.Command(program(t, "systemd-socket-activate"), append(flags, called(t, "xcauth"), "-c", w.conf)...)
	p.cmd.Stdout, p.cmd.Stderr = &p.log, &p.log
	p.run()
	for _, a := range addresses {
		p.logged("Listening on " + a)
	}
	for i, c := range []struct{ in, want string }{
		{"auth:joe:dom.example:secret\n", "1\n"},
		{frame("auth:joe:dom.example:secret"), "\x00\x02\x00\x01"},
		{"get joe@dom.example\n", "200 "},
		{fields("joe", "secret", "smtp", "dom.example"), "\x00"},
	} {
		got := exchange(t, addresses[i], c.in)
		if !strings.HasPrefix(got, c.want) || i == 3 && !strings.HasPrefix(got[2:], "OK") {
			t.Errorf("socket %d: %q, want %q", i, got, c.want)
		}
	}
	p.signal(syscall.SIGTERM)
	if code := p.exit(); code != 0 {
		t.Errorf("status %d", code)
	}
}

// TestDropInHidesTheSecret: what stands in a configuration file is in no process's arguments and
// in no file that others can read.
func TestDropInHidesTheSecret(t *testing.T) {
	w := dropIn(t, "type=ejabberd\n")
	t.Cleanup(func() { w.ownerEnds(t) })
	p := startProgram(t, called(t, "xcauth"), nil, "-c", w.conf)
	p.send(frame("auth:joe:dom.example:secret"))
	p.expect("\x00\x02\x00\x01")
	lists, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	seen := 0
	for _, list := range lists {
		line := readText(list)
		if strings.Contains(line, w.dir) {
			seen++
		}
		if strings.Contains(line, "cAnArY-of-the-server") {
			t.Errorf("the secret stands in the arguments %q", line)
		}
	}
	if seen < 2 {
		t.Errorf("%d processes were looked at, want the copy and its broker", seen)
	}
	files, _ := filepath.Glob(filepath.Join(w.dir, "postern-*", "*"))
	found := false
	for _, file := range files {
		if strings.Contains(readText(file), "cAnArY-of-the-server") {
			found = true
			if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("%s holds the secret: %v, %v", file, info.Mode(), err)
			}
		}
	}
	if !found {
		t.Error("the broker's configuration was not found")
	}
	if log := readText(filepath.Join(w.dir, "log", "xcauth.log")); strings.Contains(log, "cAnArY") || log == "" {
		t.Errorf("the log: %s", log)
	}
	p.finish()
}

// TestDropInWaitsForSettings: broken settings do not end a copy that a server has started, and
// it works when they are mended.
func TestDropInWaitsForSettings(t *testing.T) {
	w := dropIn(t, "")
	t.Cleanup(func() { w.ownerEnds(t) })
	good := readText(w.conf)
	if err := os.WriteFile(w.conf, []byte("url=https://x/\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := startProgram(t, called(t, "xcauth"), nil, "-c", w.conf, "-t", "ejabberd")
	p.send(frame("auth:joe:dom.example:secret"))
	p.expect("\x00\x02\x00\x02")
	p.logged("required: --secret/-s")
	if err := os.WriteFile(w.conf, []byte(good), 0o600); err != nil {
		t.Fatal(err)
	}
	var answer [4]byte
	waitFor(t, "an answer from the cache", func() bool {
		p.send(frame("auth:joe:dom.example:secret"))
		_ = p.out.SetReadDeadline(time.Now().Add(patience))
		if _, err := p.out.Read(answer[:]); err != nil {
			t.Fatal(err)
		}
		time.Sleep(50 * time.Millisecond) // between two questions, or the copy never rests
		return answer[3] == 1
	})
	p.finish()
}

// TestDropInUnderACopiedName: the broker is started by the program's own file, which is called
// xcauth, too, where it was copied.
func TestDropInUnderACopiedName(t *testing.T) {
	w := dropIn(t, "type=prosody\n")
	t.Cleanup(func() { w.ownerEnds(t) })
	data, err := os.ReadFile(binary)
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(t.TempDir(), "xcauth")
	if err := os.WriteFile(program, data, 0o700); err != nil {
		t.Fatal(err)
	}
	p := startProgram(t, program, nil, "-c", w.conf)
	p.send("auth:joe:dom.example:secret\n")
	p.expect("1\n")
	p.finish()
}

// TestDropInNeedsItsDomains: passwords of a domain with a server of its own go nowhere else when
// the table of domains cannot be read.
func TestDropInNeedsItsDomains(t *testing.T) {
	app := newWebApp(t, always(http.StatusOK, `{"result":"success","data":{"uid":"joe"}}`))
	program := called(t, "xcauth")
	for name, prepare := range map[string]func(w xcauthWorld) error{
		"a damaged database": func(w xcauthWorld) error { return os.WriteFile(w.db, []byte(strings.Repeat("x", 5000)), 0o600) },
		"an older database": func(w xcauthWorld) error {
			old := filepath.Join(w.dir, "domains.db")
			conf := readText(w.conf) + "domain-db=" + old + "\n"
			for file, text := range map[string]string{old: "Berkeley", w.conf: conf} {
				if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
					return err
				}
			}
			return os.Remove(w.db)
		},
	} {
		w := newXcauthWorld(t, app.URL, "S", "")
		if err := prepare(w); err != nil {
			t.Fatal(err)
		}
		p := startProgram(t, program, nil, "-c", w.conf, "-t", "ejabberd")
		p.send(frame("auth:joe:dom.example:secret"))
		p.expect("\x00\x02\x00\x02")
		if _, code := p.finish(); code != 0 || app.asked.Load() != 0 {
			t.Errorf("%s: status %d, the server was asked %d times", name, code, app.asked.Load())
		}
	}
	// Its own server is asked about a domain of the table.
	own := newWebApp(t, always(http.StatusOK, `{"result":"success","data":{"uid":"joe"}}`))
	w := newXcauthWorld(t, app.URL, "S", "")
	w.sql(t, "INSERT INTO domains (xmppdomain, authsecret, authurl) VALUES ('own.example', 'T', '"+own.URL+"');")
	for _, domain := range []string{"own.example", "dom.example"} {
		if r := runCommand(t, "", program, "-c", w.conf, "-A", "joe", domain, "secret"); r.out != "True\n" {
			t.Errorf("%s: %+v", domain, r)
		}
	}
	if own.asked.Load() != 1 || app.asked.Load() != 1 {
		t.Errorf("asked %d and %d times", own.asked.Load(), app.asked.Load())
	}
}

// TestEjabberdAuth: kongo2002's auth.py under its name.
func TestEjabberdAuth(t *testing.T) {
	app := newWebApp(t, jsonSecret)
	log := t.TempDir()
	homes := func() (list []string) { // root's copies only; others use a directory of their own
		list, _ = filepath.Glob("/var/lib/ejabberd-auth/postern-*")
		return list
	}
	before := homes()
	t.Cleanup(func() {
		for _, home := range homes() {
			if !slices.Contains(before, home) {
				owner := ownerOf(t, home)
				waitFor(t, "the end of the owner", func() bool { return !alive(owner) })
				_ = os.RemoveAll(home)
				_ = os.Remove(filepath.Dir(home))
			}
		}
	})
	p := startProgram(t, called(t, "ejabberd-auth"), nil, app.URL, "-l", log, "-d")
	p.send(frame("auth:joe:dom.example:secret"))
	p.expect("\x00\x02\x00\x01")
	p.send(frame("auth:joe:dom.example:wrong") + frame("isuser:joe:dom.example"))
	p.expect("\x00\x02\x00\x00\x00\x02\x00\x01")
	fileSays(t, filepath.Join(log, "extauth.log"), "verdict=allow source=backend domain=")
	p.finish()
	r := runCommand(t, "", called(t, "ejabberd-auth"), "--help")
	if r.code != 0 || !strings.Contains(r.out, "[URL]") {
		t.Errorf("--help: %+v", r)
	}
}

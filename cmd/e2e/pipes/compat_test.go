package pipes

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

	"postern/cmd/e2e/harness"
)

// TestDropInSpeaksEveryType: each --type on standard input, from the imported hash.
func TestDropInSpeaksEveryType(t *testing.T) {
	w := harness.XcauthDown(t, "")
	t.Cleanup(func() { w.OwnerEnds(t) })
	for _, c := range []struct {
		name  string
		flags []string
		in    string
		want  string
		whole bool
	}{
		{"xcauth", []string{"-t", "generic"}, "auth:joe:dom.example:secret\nauth:joe:dom.example:Secret\nisuser:joe:dom.example\nroster:joe:dom.example\nquit\n", "1\n0\n1\nNone\n", true},
		{"xcauth.py", []string{"--type=prosody"}, "auth:joe:dom.example:secret\n", "1\n", true},
		{"external_cloud.py", []string{"-tejabberd", "-d"}, harness.Frame("auth:joe:dom.example:secret") + harness.Frame("auth:joe:dom.example:no"), "\x00\x02\x00\x01\x00\x02\x00\x02", true},
		{"xcauth", []string{"-t", "saslauthd"}, harness.Fields("joe", "secret", "smtp", "dom.example"), "\x00\x0aOK", false},
		{"xcauth", []string{"-t", "postfix"}, "get joe@dom.example\n", "200 ", false},
	} {
		p := harness.StartProgram(t, harness.CalledAs(t, c.name), nil, append([]string{"-c", w.Conf}, c.flags...)...)
		p.Send(c.in)
		rest, code := p.Finish()
		if !strings.HasPrefix(rest, c.want) || c.whole && rest != c.want || code != 0 {
			t.Errorf("%s %v: %q, status %d, want %q\n%s", c.name, c.flags, rest, code, c.want, p.Log.String())
		}
	}
	harness.FileSays(t, filepath.Join(w.Dir, "log", "xcauth.log"), "verdict=allow source=cache domain=")
}

// TestDropInTests: the one-shot tests print what xcauth prints, whatever the answer, and end with
// status 0.
func TestDropInTests(t *testing.T) {
	app := harness.NewWebApp(t, func(wr http.ResponseWriter, r *http.Request) {
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
	program := harness.CalledAs(t, "xcauth")
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
		{harness.DeadURL(t), "-A ann dom.example secret", "False\n"},
		{harness.DeadURL(t), "-I ann dom.example", "False\n"},
		{harness.DeadURL(t), "-R ann dom.example", "None\n"},
	} {
		args := append(strings.Fields(c.args), "-u", c.url, "-s", "S", "--db", filepath.Join(dir, "x.sqlite3"))
		if r := harness.RunCommand(t, "", program, args...); r.Code != 0 || r.Out != c.want {
			t.Errorf("%s: %+v", c.args, r)
		}
	}
	if r := harness.RunCommand(t, "", program, "--version"); r.Code != 0 || !strings.HasPrefix(r.Out, "postern ") {
		t.Errorf("--version: %+v", r)
	}
	if r := harness.RunCommand(t, "", program, "--help"); r.Code != 0 || !strings.Contains(r.Out, "--cache-unreachable-ttl") {
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
	w := harness.XcauthDown(t, "type=saslauthd\n")
	addresses := []string{harness.FreeAddress(t), harness.FreeAddress(t), harness.FreeAddress(t), harness.FreeAddress(t)}
	flags := []string{"-E", "GORACE", "--fdname=prosody:ejabberd:postfix:mail"}
	for _, a := range addresses {
		flags = append(flags, "-l", a)
	}
	p := &harness.Process{T: t}
	p.Cmd = exec.Command(harness.Program(t, "systemd-socket-activate"), append(flags, harness.CalledAs(t, "xcauth"), "-c", w.Conf)...)
	p.Cmd.Stdout, p.Cmd.Stderr = &p.Log, &p.Log
	p.Run()
	for _, a := range addresses {
		p.Logged("Listening on " + a)
	}
	for i, c := range []struct{ in, want string }{
		{"auth:joe:dom.example:secret\n", "1\n"},
		{harness.Frame("auth:joe:dom.example:secret"), "\x00\x02\x00\x01"},
		{"get joe@dom.example\n", "200 "},
		{harness.Fields("joe", "secret", "smtp", "dom.example"), "\x00"},
	} {
		got := harness.Exchange(t, addresses[i], c.in)
		if !strings.HasPrefix(got, c.want) || i == 3 && !strings.HasPrefix(got[2:], "OK") {
			t.Errorf("socket %d: %q, want %q", i, got, c.want)
		}
	}
	p.Signal(syscall.SIGTERM)
	if code := p.Exit(); code != 0 {
		t.Errorf("status %d", code)
	}
}

// TestDropInHidesTheSecret: what stands in a configuration file is in no process's arguments and
// in no file that others can read.
func TestDropInHidesTheSecret(t *testing.T) {
	w := harness.XcauthDown(t, "type=ejabberd\n")
	t.Cleanup(func() { w.OwnerEnds(t) })
	p := harness.StartProgram(t, harness.CalledAs(t, "xcauth"), nil, "-c", w.Conf)
	p.Send(harness.Frame("auth:joe:dom.example:secret"))
	p.Expect("\x00\x02\x00\x01")
	lists, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	seen := 0
	for _, list := range lists {
		line := harness.ReadText(list)
		if strings.Contains(line, w.Dir) {
			seen++
		}
		if strings.Contains(line, "cAnArY-of-the-server") {
			t.Errorf("the secret stands in the arguments %q", line)
		}
	}
	if seen < 2 {
		t.Errorf("%d processes were looked at, want the copy and its broker", seen)
	}
	files, _ := filepath.Glob(filepath.Join(w.Dir, "postern-*", "*"))
	found := false
	for _, file := range files {
		if strings.Contains(harness.ReadText(file), "cAnArY-of-the-server") {
			found = true
			if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("%s holds the secret: %v, %v", file, info.Mode(), err)
			}
		}
	}
	if !found {
		t.Error("the broker's configuration was not found")
	}
	if log := harness.ReadText(filepath.Join(w.Dir, "log", "xcauth.log")); strings.Contains(log, "cAnArY") || log == "" {
		t.Errorf("the log: %s", log)
	}
	p.Finish()
}

// TestDropInWaitsForSettings: broken settings do not end a copy that a server has started, and
// it works when they are corrected.
func TestDropInWaitsForSettings(t *testing.T) {
	w := harness.XcauthDown(t, "")
	t.Cleanup(func() { w.OwnerEnds(t) })
	good := harness.ReadText(w.Conf)
	if err := os.WriteFile(w.Conf, []byte("url=https://x/\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := harness.StartProgram(t, harness.CalledAs(t, "xcauth"), nil, "-c", w.Conf, "-t", "ejabberd")
	p.Send(harness.Frame("auth:joe:dom.example:secret"))
	p.Expect("\x00\x02\x00\x02")
	p.Logged("required: --secret/-s")
	if err := os.WriteFile(w.Conf, []byte(good), 0o600); err != nil {
		t.Fatal(err)
	}
	var answer [4]byte
	harness.WaitFor(t, "an answer from the cache", func() bool {
		p.Send(harness.Frame("auth:joe:dom.example:secret"))
		_ = p.Out.SetReadDeadline(time.Now().Add(harness.Timeout))
		if _, err := p.Out.Read(answer[:]); err != nil {
			t.Fatal(err)
		}
		time.Sleep(50 * time.Millisecond) // between two questions, or the copy never rests
		return answer[3] == 1
	})
	p.Finish()
}

// TestDropInUnderACopiedName: the broker is started by the program's own file, which is called
// xcauth, too, where it was copied.
func TestDropInUnderACopiedName(t *testing.T) {
	w := harness.XcauthDown(t, "type=prosody\n")
	t.Cleanup(func() { w.OwnerEnds(t) })
	data, err := os.ReadFile(harness.Binary)
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(t.TempDir(), "xcauth")
	if err := os.WriteFile(program, data, 0o700); err != nil {
		t.Fatal(err)
	}
	p := harness.StartProgram(t, program, nil, "-c", w.Conf)
	p.Send("auth:joe:dom.example:secret\n")
	p.Expect("1\n")
	p.Finish()
}

// TestDropInNeedsItsDomains: passwords of a domain with a server of its own go nowhere else when
// the table of domains cannot be read.
func TestDropInNeedsItsDomains(t *testing.T) {
	app := harness.NewWebApp(t, harness.Always(http.StatusOK, `{"result":"success","data":{"uid":"joe"}}`))
	program := harness.CalledAs(t, "xcauth")
	for name, prepare := range map[string]func(w harness.Xcauth) error{
		"a damaged database": func(w harness.Xcauth) error { return os.WriteFile(w.DB, []byte(strings.Repeat("x", 5000)), 0o600) },
		"an older database": func(w harness.Xcauth) error {
			old := filepath.Join(w.Dir, "domains.db")
			conf := harness.ReadText(w.Conf) + "domain-db=" + old + "\n"
			for file, text := range map[string]string{old: "Berkeley", w.Conf: conf} {
				if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
					return err
				}
			}
			return os.Remove(w.DB)
		},
		"a file of domains": func(w harness.Xcauth) error {
			list := filepath.Join(w.Dir, "domains.conf")
			conf := harness.ReadText(w.Conf) + "per-domain-config=" + list + "\n"
			for file, text := range map[string]string{list: "own.example https://own.example/ secret", w.Conf: conf} {
				if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
					return err
				}
			}
			return os.Remove(w.DB)
		},
	} {
		w := harness.NewXcauth(t, app.URL, "S", "")
		if err := prepare(w); err != nil {
			t.Fatal(err)
		}
		p := harness.StartProgram(t, program, nil, "-c", w.Conf, "-t", "ejabberd")
		p.Send(harness.Frame("auth:joe:dom.example:secret"))
		p.Expect("\x00\x02\x00\x02")
		if _, code := p.Finish(); code != 0 || app.Asked.Load() != 0 {
			t.Errorf("%s: status %d, the server was asked %d times", name, code, app.Asked.Load())
		}
	}
	// Its own server is asked about a domain of the table.
	own := harness.NewWebApp(t, harness.Always(http.StatusOK, `{"result":"success","data":{"uid":"joe"}}`))
	w := harness.NewXcauth(t, app.URL, "S", "")
	w.SQL(t, "INSERT INTO domains (xmppdomain, authsecret, authurl) VALUES ('own.example', 'T', '"+own.URL+"');")
	for _, domain := range []string{"own.example", "dom.example"} {
		if r := harness.RunCommand(t, "", program, "-c", w.Conf, "-A", "joe", domain, "secret"); r.Out != "True\n" {
			t.Errorf("%s: %+v", domain, r)
		}
	}
	if own.Asked.Load() != 1 || app.Asked.Load() != 1 {
		t.Errorf("asked %d and %d times", own.Asked.Load(), app.Asked.Load())
	}
}

// TestEjabberdAuth: kongo2002's auth.py under its name.
func TestEjabberdAuth(t *testing.T) {
	app := harness.NewWebApp(t, harness.JSONSecret)
	log := t.TempDir()
	homes := func() (list []string) { // root's copies only; others use a directory of their own
		list, _ = filepath.Glob("/var/lib/ejabberd-auth/postern-*")
		return list
	}
	before := homes()
	t.Cleanup(func() {
		for _, home := range homes() {
			if !slices.Contains(before, home) {
				owner := harness.OwnerOf(t, home)
				harness.WaitFor(t, "the end of the owner", func() bool { return !harness.Alive(owner) })
				_ = os.RemoveAll(home)
				_ = os.Remove(filepath.Dir(home))
			}
		}
	})
	p := harness.StartProgram(t, harness.CalledAs(t, "ejabberd-auth"), nil, app.URL, "-l", log, "-d")
	p.Send(harness.Frame("auth:joe:dom.example:secret"))
	p.Expect("\x00\x02\x00\x01")
	p.Send(harness.Frame("auth:joe:dom.example:wrong") + harness.Frame("isuser:joe:dom.example"))
	p.Expect("\x00\x02\x00\x00\x00\x02\x00\x01")
	harness.FileSays(t, filepath.Join(log, "extauth.log"), "verdict=allow source=backend domain=")
	p.Finish()
	r := harness.RunCommand(t, "", harness.CalledAs(t, "ejabberd-auth"), "--help")
	if r.Code != 0 || !strings.Contains(r.Out, "[URL]") {
		t.Errorf("--help: %+v", r)
	}
}

// jsxcYes is the answer of xcauth's server to a login that is right.
const jsxcYes = `{"result":"success","data":{"uid":"joe"}}`

// TestDropInTellsTheBroker: settings of xcauth that have changed since the broker was started take
// effect at the start of the next copy: no password of a new domain goes to the server of the
// others.
func TestDropInTellsTheBroker(t *testing.T) {
	others, own := harness.NewWebApp(t, harness.Always(http.StatusOK, jsxcYes)), harness.NewWebApp(t, harness.Always(http.StatusOK, jsxcYes))
	w := harness.NewXcauth(t, others.URL, "S", "type=generic\n")
	t.Cleanup(func() { w.OwnerEnds(t) })
	program := harness.CalledAs(t, "xcauth")
	login := func(p *harness.Process, domain, password string, atOthers, atOwn int64) {
		t.Helper()
		p.Send("auth:joe:" + domain + ":" + password + "\n")
		p.Expect("1\n")
		if n, m := others.Asked.Load(), own.Asked.Load(); n != atOthers || m != atOwn {
			t.Errorf("the servers were asked %d and %d times, want %d and %d", n, m, atOthers, atOwn)
		}
	}
	a := harness.StartProgram(t, program, nil, "-c", w.Conf)
	login(a, "dom.example", "one", 1, 0)
	owner := harness.OwnerOf(t, w.Home(t))
	w.SQL(t, "INSERT INTO domains (xmppdomain, authsecret, authurl) VALUES ('own.example', 'T', '"+own.URL+"');")
	b := harness.StartProgram(t, program, nil, "-c", w.Conf)
	login(b, "own.example", "two", 1, 1)
	login(a, "own.example", "three", 1, 2)
	login(b, "dom.example", "four", 2, 2)
	if now := harness.OwnerOf(t, w.Home(t)); now != owner {
		t.Error("another broker was started")
	}
	// A test by hand has a log of its own, which the broker does not get.
	file := filepath.Join(w.Home(t), "xcauth.hcl")
	text := harness.ReadText(file)
	if r := harness.RunCommand(t, "", program, "-c", w.Conf, "-A", "joe", "own.example", "five"); r.Out != "True\n" || own.Asked.Load() != 3 {
		t.Errorf("%+v, asked %d times", r, own.Asked.Load())
	}
	if text == "" || harness.ReadText(file) != text {
		t.Error("the broker's configuration was rewritten by a test")
	}
	w.SQL(t, "UPDATE domains SET authurl = '"+others.URL+"';") // a test by hand has it reloaded, too
	if r := harness.RunCommand(t, "", program, "-c", w.Conf, "-A", "joe", "own.example", "six"); r.Out != "True\n" || own.Asked.Load() != 3 {
		t.Errorf("%+v, asked %d times", r, own.Asked.Load())
	}
	for _, p := range []*harness.Process{a, b} {
		if rest, code := p.Finish(); rest != "" || code != 0 {
			t.Errorf("ended with %q, status %d", rest, code)
		}
	}
}

// TestDropInAsksOn: xcauth's clients of the saslauthd protocol ask one question after the other.
func TestDropInAsksOn(t *testing.T) {
	w := harness.XcauthDown(t, "")
	t.Cleanup(func() { w.OwnerEnds(t) })
	p := harness.StartProgram(t, harness.CalledAs(t, "xcauth"), nil, "-c", w.Conf, "-t", "saslauthd")
	for range 3 {
		p.Send(harness.Fields("joe", "secret", "smtp", "dom.example"))
		p.Expect("\x00\x0aOK success")
		p.Send(harness.Fields("joe", "wrong", "smtp", "dom.example"))
		p.Expect("\x00\x00")
	}
	if rest, code := p.Finish(); rest != "" || code != 0 {
		t.Errorf("%q, status %d", rest, code)
	}
}

// TestDropInSignals: SIGUSR1 writes into xcauth.err, also after SIGHUP when that was rotated, and no
// signal ends the program.
func TestDropInSignals(t *testing.T) {
	w := harness.XcauthDown(t, "")
	t.Cleanup(func() { w.OwnerEnds(t) })
	p := harness.StartProgram(t, harness.CalledAs(t, "xcauth"), nil, "-c", w.Conf, "-t", "generic")
	p.Send("auth:joe:dom.example:secret\n")
	p.Expect("1\n")
	file := filepath.Join(w.Dir, "log", "xcauth.err")
	p.Signal(syscall.SIGUSR1)
	harness.FileSays(t, file, "MainThread")
	if err := os.Rename(file, file+".1"); err != nil {
		t.Fatal(err)
	}
	p.Signal(syscall.SIGHUP)
	p.Signal(syscall.SIGUSR1)
	harness.FileSays(t, file, "MainThread")
	p.Send("auth:joe:dom.example:secret\n")
	p.Expect("1\n")
	if rest, code := p.Finish(); rest != "" || code != 0 {
		t.Errorf("%q, status %d", rest, code)
	}
}

package main

import (
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"postern/internal/config"
)

// jsxcYes is the answer of xcauth's server to a login that is right.
const jsxcYes = `{"result":"success","data":{"uid":"joe"}}`

// TestDropInTellsTheBroker: what xcauth's settings say since the broker was started counts from the
// start of the next copy on: no password of a new domain goes to the server of the others.
func TestDropInTellsTheBroker(t *testing.T) {
	others, own := newWebApp(t, always(http.StatusOK, jsxcYes)), newWebApp(t, always(http.StatusOK, jsxcYes))
	w := newXcauthWorld(t, others.URL, "S", "type=generic\n")
	t.Cleanup(func() { w.ownerEnds(t) })
	program := called(t, "xcauth")
	login := func(p *process, domain, password string, atOthers, atOwn int64) {
		t.Helper()
		p.send("auth:joe:" + domain + ":" + password + "\n")
		p.expect("1\n")
		if n, m := others.asked.Load(), own.asked.Load(); n != atOthers || m != atOwn {
			t.Errorf("the servers were asked %d and %d times, want %d and %d", n, m, atOthers, atOwn)
		}
	}
	a := startProgram(t, program, nil, "-c", w.conf)
	login(a, "dom.example", "one", 1, 0)
	owner := ownerOf(t, w.home(t))
	w.sql(t, "INSERT INTO domains (xmppdomain, authsecret, authurl) VALUES ('own.example', 'T', '"+own.URL+"');")
	b := startProgram(t, program, nil, "-c", w.conf)
	login(b, "own.example", "two", 1, 1)
	login(a, "own.example", "three", 1, 2)
	login(b, "dom.example", "four", 2, 2)
	if now := ownerOf(t, w.home(t)); now != owner {
		t.Error("another broker was started")
	}
	// A test by hand has a log of its own, which the broker does not get.
	file := filepath.Join(w.home(t), "xcauth.hcl")
	text := readText(file)
	if r := runCommand(t, "", program, "-c", w.conf, "-A", "joe", "own.example", "five"); r.out != "True\n" || own.asked.Load() != 3 {
		t.Errorf("%+v, asked %d times", r, own.asked.Load())
	}
	if text == "" || readText(file) != text {
		t.Error("the broker's configuration was rewritten by a test")
	}
	w.sql(t, "UPDATE domains SET authurl = '"+others.URL+"';") // a test tells, too
	if r := runCommand(t, "", program, "-c", w.conf, "-A", "joe", "own.example", "six"); r.out != "True\n" || own.asked.Load() != 3 {
		t.Errorf("%+v, asked %d times", r, own.asked.Load())
	}
	for _, p := range []*process{a, b} {
		if rest, code := p.finish(); rest != "" || code != 0 {
			t.Errorf("ended with %q, status %d", rest, code)
		}
	}
}

// files are standard streams for what runs in this process.
func files(t *testing.T) stdio {
	t.Helper()
	var list [3]*os.File
	for i := range list {
		f, err := os.CreateTemp(t.TempDir(), "")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = f.Close() })
		list[i] = f
	}
	return stdio{list[0], list[1], list[2]}
}

// A broker that starts is waited for, since it may have read what was there before; one that does
// not answer is not waited for long.
func TestTellWaits(t *testing.T) {
	dir := t.TempDir()
	d := &disguise{app: &app{stdio: files(t)}}
	lock, err := os.Create(filepath.Join(dir, ownerLock))
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	begun := time.Now()
	d.tell(dir)
	if took := time.Since(begun); took > tellWait/2 {
		t.Errorf("waited %v for nobody", took)
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	told := make(chan struct{})
	go func() {
		d.tell(dir)
		close(told)
	}()
	waitFor(t, "it looks for the socket", func() bool {
		select {
		case <-told:
			t.Fatal("a broker that starts was not waited for")
		default:
		}
		return time.Since(begun) > tellPause
	})
	l, err := net.Listen("unix", filepath.Join(dir, controlSocket))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_ = l.(*net.UnixListener).SetDeadline(time.Now().Add(patience))
	conn, err := l.Accept()
	if err != nil {
		t.Fatalf("a broker that starts was not told: %v", err)
	}
	defer conn.Close()
	select {
	case <-told:
	case <-time.After(patience):
		t.Error("a broker that does not answer was waited for")
	}
}

// What another copy has written over is written again, and told once.
func TestReadyWritesLast(t *testing.T) {
	for name, c := range map[string]struct{ over, calls int }{"unchanged": {0, 1}, "alone": {1, 2}, "two at once": {2, 3}, "without end": {99, tellTries}} {
		d := &disguise{app: &app{stdio: files(t), configFile: filepath.Join(t.TempDir(), "x.hcl")}}
		calls := 0
		d.prepare = func() (*config.Config, error) {
			calls++
			d.rewritten = calls <= c.over
			return new(config.Config), nil
		}
		if cfg, err := d.ready(); cfg == nil || err != nil || calls != c.calls {
			t.Errorf("%s: prepared %d times, want %d; %v", name, calls, c.calls, err)
		}
	}
}

// A reload goes on when who asked for it does not wait for its end.
func TestReloadWithoutWhoAsked(t *testing.T) {
	arrived, release := make(chan struct{}, 8), make(chan struct{})
	web := newWebApp(t, func(w http.ResponseWriter, _ *http.Request) {
		arrived <- struct{}{}
		<-release
		_, _ = io.WriteString(w, jsonYes)
	})
	base := oneList + usersBase + "backend \"json\" \"app\" { url = \"" + web.URL + "\" }\n"
	domain := func(name string) string { return "domain \"" + name + "\" { backends = [backend.json.app] }\n" }
	s := reloadServer(t, base+domain("slow.example"))
	c := connect(t, s.address("generic"))
	if _, err := io.WriteString(c, "auth:joe:slow.example:secret\n"); err != nil {
		t.Fatal(err)
	}
	<-arrived
	s.write(base)
	ok(t, "", "reload", "--config", s.file)
	s.write(base + domain("new.example"))
	control := connect(t, filepath.Join(s.dir, controlFile))
	say(t, control, "POST /v1/reload HTTP/1.1\r\nHost: postern\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}", "")
	// It waits for what slow.example has begun.
	_ = control.SetReadDeadline(time.Now().Add(500 * time.Millisecond))
	if n, err := control.Read(make([]byte, 1)); n > 0 || !os.IsTimeout(err) {
		t.Errorf("it was answered: %d bytes, %v", n, err)
	}
	_ = control.Close()
	close(release)
	s.eventually("the second reload", func() bool { return strings.Count(s.log.String(), "configuration reloaded") == 2 })
}

package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// reloadable is a daemon whose configuration a test writes anew.
type reloadable struct {
	*server
	dir, file string
}

// reloadServer starts a daemon with the account joe, password secret.
func reloadServer(t *testing.T, text string) *reloadable {
	t.Helper()
	dir := t.TempDir()
	r := &reloadable{dir: dir, file: configFile(t, dir, text)}
	ok(t, "secret\n", "user", "add", "joe@dom.example", "--config", r.file)
	r.server = serve(t, "--config", r.file)
	return r
}

func (r *reloadable) write(text string) {
	r.t.Helper()
	text = fmt.Sprintf("data_dir = %q\n", r.dir) + text
	if err := os.WriteFile(r.file+"~", []byte(text), 0o600); err != nil {
		r.t.Fatal(err)
	}
	if err := os.Rename(r.file+"~", r.file); err != nil {
		r.t.Fatal(err)
	}
}

// hup sends SIGHUP and waits for what the log says then.
func (r *reloadable) hup(says string) {
	r.t.Helper()
	before := strings.Count(r.log.String(), says)
	r.signal(syscall.SIGHUP)
	r.eventually(says, func() bool { return strings.Count(r.log.String(), says) > before })
}

const (
	usersBackend = `backend "users" "local" { bcrypt_cost = 4 }` + "\n"
	usersDomain  = `domain "dom.example" {
  backends = [backend.users.local]
  cache {
    bcrypt_cost = 4
  }
}
`
	usersBase = usersBackend + usersDomain
	oneList   = `listen "generic" { address = "127.0.0.1:0" }` + "\n"

	joeLine = "auth:joe:dom.example:secret\n"
)

// TestReloadCommand: `postern reload` changes what has changed, tells it, and leaves the rest,
// with its connections, alone.
func TestReloadCommand(t *testing.T) {
	tail := "listen \"gone\" {\n protocol = \"generic\"\n address = \"unix:gone\"\n}\n"
	s := reloadServer(t, oneList+tail+usersBase)
	address := s.address("generic")
	stays, ends := connect(t, address), connect(t, filepath.Join(s.dir, "gone"))
	say(t, stays, joeLine, "1\n")
	say(t, ends, joeLine, "1\n")
	s.write(oneList + "listen \"fresh\" {\n protocol = \"generic\"\n address = \"unix:fresh\"\n}\n" +
		strings.Replace(usersBase, "cache {", "cache {\n query_ttl = \"5m\"\n", 1) + `domain "*" { backends = [backend.users.local] }`)
	out := ok(t, "", "reload", "--config", s.file)
	want := "configuration reloaded\nlistener fresh added\nlistener gone removed\ndomain * added\ndomain dom.example changed\n"
	if out != want {
		t.Errorf("printed %q, want %q", out, want)
	}
	closedBy(t, ends)
	say(t, stays, joeLine, "1\n")
	if got := exchange(t, filepath.Join(s.dir, "fresh"), joeLine); got != "1\n" {
		t.Errorf("the new listener answered %q", got)
	}
	if _, err := os.Lstat(filepath.Join(s.dir, "gone")); err == nil {
		t.Error("the socket of the removed listener is still there")
	}
	for _, line := range []string{"msg=listening listener=fresh", `msg="no longer listening" listener=gone`, `msg="configuration reloaded" listeners="+1 -1 ~0"`} {
		if !strings.Contains(s.log.String(), line) {
			t.Errorf("the log does not say %s", line)
		}
	}
	if out := ok(t, "", "reload", "--config", s.file); out != "configuration reloaded: nothing has changed\n" {
		t.Errorf("printed %q", out)
	}
}

// TestReloadInvalidConfig: whatever is wrong, the old configuration stays in force as a whole,
// and exit status and log say so.
func TestReloadInvalidConfig(t *testing.T) {
	s := reloadServer(t, oneList+usersBase)
	stays := connect(t, s.address("generic"))
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	const canary = "cAnArY-of-the-reload"
	for name, c := range map[string]struct{ text, says string }{
		"syntax":      {oneList + "domain {", "config.hcl:"},
		"meaning":     {oneList + usersBackend + `domain "dom.example" { backends = [backend.users.nobody] }`, "there is no backend.users.nobody"},
		"secret":      {oneList + usersBase + "backend \"jsxc\" \"c\" {\n secret = \"" + canary + "\"\n}", "has no url"},
		"address":     {strings.Replace(oneList, `"generic"`, `"ejabberd"`, 1) + "listen \"tcp_table\" { address = \"" + taken.Addr().String() + "\" }\n" + usersBase, "address already in use"},
		"log file":    {oneList + usersBase + `log { file = "/nowhere/at/all.log" }`, "log file"},
		"socket mode": {"listen \"generic\" {\n address = \"unix:x\"\n owner = \"nobody-of-that-name\"\n}\n" + usersBase, "owner"},
	} {
		t.Run(name, func(t *testing.T) {
			s.write(c.text)
			r := command(t, "", "reload", "--config", s.file)
			if r.code != 1 || !strings.Contains(r.err, c.says) || !strings.Contains(r.err, "the old configuration stays in force") {
				t.Errorf("exit status %d, %q%q", r.code, r.out, r.err)
			}
			s.hup("the old one stays in force")
			if all := r.err + s.log.String(); strings.Contains(all, canary) {
				t.Error("the secret stands in the log or the error")
			}
			say(t, stays, joeLine, "1\n")
			if got := exchange(t, s.address("generic"), joeLine); got != "1\n" {
				t.Errorf("answered %q", got)
			}
		})
	}
	if err := os.WriteFile(s.file, []byte("data_dir = \"/somewhere/else\"\n"+oneList+usersBase), 0o600); err != nil {
		t.Fatal(err)
	}
	s.hup("data_dir is another")
	if r := command(t, "", "reload", "--config", s.file); r.code != 1 || !strings.Contains(r.err, "no daemon is running") {
		t.Errorf("exit status %d, %q", r.code, r.err)
	}
	say(t, stays, joeLine, "1\n")
	s.write(oneList + usersBase)
	s.hup(`msg="configuration reloaded"`) // and what is valid again is taken
}

// TestReloadMeetsAFIFO: a reload waits for nobody who may write into what should be a file, and so
// keeps neither the next reload nor the end waiting.
func TestReloadMeetsAFIFO(t *testing.T) {
	for _, name := range []string{"secret", "config.hcl", "log"} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			secret := filepath.Join(dir, "secret")
			write(t, secret, "api-secret\n")
			r := reloadServer(t, oneList+usersBase+`
backend "jsxc" "cloud" {
  url    = "`+deadURL(t)+`"
  secret = file("`+secret+`")
}
domain "cloud.example" { backends = [backend.jsxc.cloud] }
`)
			path, says := secret, "it is not a regular file"
			switch name {
			case "config.hcl":
				path = r.file
			case "log":
				path, says = filepath.Join(dir, "log"), "a FIFO that nobody reads"
				write(t, path, "")
				r.write(oneList + usersBase + "log { file = \"" + path + "\" }\n")
			}
			remove(t, path)
			if err := syscall.Mkfifo(path, 0o600); err != nil {
				t.Fatal(err)
			}
			r.hup(says)
			if got := exchange(t, r.address("generic"), joeLine); got != "1\n" {
				t.Errorf("answered %q", got)
			}
			if code := r.stop(syscall.SIGTERM); code != 0 {
				t.Errorf("ended with status %d", code)
			}
		})
	}
}

// A configuration may come through a pipe, to a daemon, too.
func TestServeReadsAPipe(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"/dev/stdin", "/dev/fd/3", "/proc/self/fd/3"} {
		text := fmt.Sprintf("data_dir = %q\n", t.TempDir()) + oneList + usersBase
		config, w := pipe(t)
		p := startWith(t, []*os.File{config}, "serve", "--config", path)
		into := w
		if path == "/dev/stdin" {
			into = p.in
		}
		_, _ = config.Close(), into.SetWriteDeadline(time.Now().Add(patience))
		if _, err := io.WriteString(into, text); err != nil {
			t.Fatal(err)
		}
		_ = into.Close()
		p.logged("msg=ready")
		p.signal(syscall.SIGHUP)
		p.logged("the old one stays in force")
		p.signal(syscall.SIGTERM)
		if code := p.exit(); code != 0 {
			t.Errorf("%s: exit status %d", path, code)
		}
	}
}

// TestReloadLog: level, format and file of the log follow the configuration.
func TestReloadLog(t *testing.T) {
	s := reloadServer(t, oneList+usersBase)
	file := filepath.Join(s.dir, "new.log")
	s.write(oneList + usersBase + "log {\n level = \"debug\"\n format = \"json\"\n file = \"new.log\"\n}\ndrain_timeout = \"3s\"\n")
	if out := ok(t, "", "reload", "--config", s.file); !strings.Contains(out, "log changed") || !strings.Contains(out, "drain_timeout changed") {
		t.Errorf("printed %q", out)
	}
	fileSays(t, file, `"msg":"configuration reloaded"`)
	exchange(t, s.address("generic"), joeLine)
	fileSays(t, file, `"verdict":"allow"`)
	if err := os.Rename(file, file+".1"); err != nil {
		t.Fatal(err)
	}
	ok(t, "", "reload", "--config", s.file)
	fileSays(t, file, "log file reopened")
	if strings.Contains(s.log.String(), "verdict=allow") {
		t.Error("the decision went to standard error")
	}
	s.write(oneList + usersBase + "log { level = \"error\" }\n")
	ok(t, "", "reload", "--config", s.file)
	exchange(t, s.address("generic"), joeLine)
	s.write(oneList + usersBase)
	s.hup(`msg="configuration reloaded"`)
	if strings.Contains(s.log.String(), "verdict=allow") {
		t.Error("a decision was logged at level error")
	}
}

// TestReloadKeepsRefusedSocketMode: of a socket's new mode and group, the second of which the daemon
// may not give, the first is taken back, too.
func TestReloadKeepsRefusedSocketMode(t *testing.T) {
	dir := t.TempDir()
	block := "listen \"generic\" {\n address = \"unix:mux\"\n mode = \"%s\"\n group = \"%d\"\n}\n" + usersBase
	foreign(t, dir)
	r := &reloadable{dir: dir, file: configFile(t, dir, "")}
	cmd := asOwner(t, dir, r.file)
	own := os.Getgid()
	if cmd.SysProcAttr != nil {
		own = int(cmd.SysProcAttr.Credential.Gid)
	}
	r.server = &server{t: t}
	r.write(fmt.Sprintf(block, "0660", own))
	if err := os.Chmod(r.file, 0o644); err != nil {
		t.Fatal(err)
	}
	r.server = serveCommand(t, cmd)
	r.write(fmt.Sprintf(block, "0606", 4713))
	if err := os.Chmod(r.file, 0o644); err != nil {
		t.Fatal(err)
	}
	r.hup("set owner of socket")
	info, err := os.Stat(filepath.Join(dir, "mux"))
	if err != nil {
		t.Fatal(err)
	}
	if mode := info.Mode().Perm(); mode != 0o660 {
		t.Errorf("the socket's mode is %04o, want 0660", mode)
	}
}

// TestReloadSocketMode: the file of a socket that stays gets its new mode.
func TestReloadSocketMode(t *testing.T) {
	block := "listen \"generic\" {\n address = \"unix:mux\"\n mode = \"%s\"\n}\n"
	s := reloadServer(t, fmt.Sprintf(block, "0600")+usersBase)
	socket := filepath.Join(s.dir, "mux")
	stays := connect(t, socket)
	s.write(fmt.Sprintf(block, "0666") + usersBase)
	if out := ok(t, "", "reload", "--config", s.file); !strings.Contains(out, "listener generic changed") {
		t.Errorf("printed %q", out)
	}
	if info, err := os.Stat(socket); err != nil || info.Mode().Perm() != 0o666 {
		t.Errorf("%v, %v", info, err)
	}
	say(t, stays, joeLine, "1\n")
}

// TestReloadOpensDisk: a store that no domain wanted at the start is there when one does.
func TestReloadOpensDisk(t *testing.T) {
	memory := strings.Replace(usersBase, "cache {", "cache {\n storage = \"memory\"\n", 1)
	s := reloadServer(t, oneList+memory)
	exchange(t, s.address("generic"), joeLine)
	s.write(oneList + usersBase)
	ok(t, "", "reload", "--config", s.file)
	ok(t, "secret\n", "user", "add", "ann@dom.example", "--config", s.file)
	exchange(t, s.address("generic"), "auth:ann:dom.example:secret\n")
	s.eventually("ann on disk", func() bool {
		return strings.Contains(ok(t, "", "cache", "stats", "--config", s.file), `"dom.example": 1`)
	})
	if code := s.stop(syscall.SIGTERM); code != 0 {
		t.Errorf("exit status %d", code)
	}
}

// TestReloadKeepsRelays: programs that relay to the daemon notice nothing.
func TestReloadKeepsRelays(t *testing.T) {
	s := reloadServer(t, oneList+usersBase)
	p := start(t, "pipe", "--protocol", "ejabberd", "--config", s.file)
	p.send(frame("auth:joe:dom.example:secret"))
	p.expect("\x00\x02\x00\x01")
	s.write(oneList + usersBackend + strings.Replace(usersDomain, "dom.example", "*", 1))
	ok(t, "", "reload", "--config", s.file)
	p.send(frame("auth:joe:dom.example:secret"))
	p.expect("\x00\x02\x00\x01")
	if rest, code := p.finish(); rest != "" || code != 0 {
		t.Errorf("%q, exit status %d", rest, code)
	}
}

// TestReloadEmbedded says that there is nothing to reload.
func TestReloadEmbedded(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "run")
	s := serve(t, "--embedded", "--data-dir", dir)
	const says = "the built-in configuration has nothing to reload"
	if out := ok(t, "", "reload", "--embedded", "--data-dir", dir); out != says+"\n" {
		t.Errorf("printed %q", out)
	}
	n := strings.Count(s.log.String(), says)
	s.signal(syscall.SIGHUP)
	s.eventually(says, func() bool { return strings.Count(s.log.String(), says) > n })
}

// TestHangupStorm: two hundred SIGHUPs during load, with a configuration that changes all the
// time, and every request has the right answer.
func TestHangupStorm(t *testing.T) {
	list := `listen "ejabberd" { address = "127.0.0.1:0" }` + "\n"
	texts := []string{
		list + usersBase,
		list + oneList + usersBackend + strings.Replace(usersDomain, "dom.example", "*", 1),
		list + strings.Replace(usersBase, `backend "users" "local" {`, `backend "users" "local" {`+"\n queue = 1000\n", 1),
		list + "domain {",
	}
	texts[2] = strings.Replace(texts[2], "bcrypt_cost = 4 }", "bcrypt_cost = 4\n}", 1)
	s := reloadServer(t, texts[0])
	address := s.address("ejabberd")
	var over atomic.Bool
	var answers atomic.Int64
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			askUntil(t, address, i, &over, &answers)
		}()
	}
	for i := range 200 {
		if i%5 == 0 {
			s.write(texts[i/5%len(texts)])
		}
		was := answers.Load()
		s.signal(syscall.SIGHUP)
		if i%5 == 4 {
			s.eventually("some answers", func() bool { return answers.Load() > was+8 || t.Failed() })
		}
	}
	s.write(texts[0])
	s.hup(`msg="configuration reloaded"`)
	over.Store(true)
	wg.Wait()
	for _, says := range []string{`listeners="+1 -0 ~0"`, "configuration is invalid"} {
		if !strings.Contains(s.log.String(), says) {
			t.Errorf("the log does not say %s", says)
		}
	}
	if code := s.stop(syscall.SIGTERM); code != 0 {
		t.Errorf("exit status %d", code)
	}
	t.Logf("%d answers, %d reloads", answers.Load(), strings.Count(s.log.String(), `msg="configuration reloaded"`))
}

// askUntil asks on one connection, right and wrong passwords in turn, until it is over.
func askUntil(t *testing.T, address string, i int, over *atomic.Bool, answers *atomic.Int64) {
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Error(err)
		return
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(3 * patience))
	in := bufio.NewReader(c)
	for n := 0; !over.Load(); n++ {
		password, want := "secret", "\x00\x02\x00\x01"
		if n%4 == 3 {
			password, want = fmt.Sprint("wrong", i), "\x00\x02\x00\x00"
		}
		if _, err := io.WriteString(c, frame("auth:joe:dom.example:"+password)); err != nil {
			t.Error(err)
			return
		}
		got := make([]byte, 4)
		if _, err := io.ReadFull(in, got); err != nil || string(got) != want {
			t.Errorf("connection %d, request %d: %x, %v; want %x", i, n, got, err, want)
			return
		}
		answers.Add(1)
	}
}

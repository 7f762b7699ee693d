package daemon

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"postern/cmd/e2e/harness"
)

// reloadable is a daemon with a configuration that the test rewrites.
type reloadable struct {
	*harness.Server
	dir, file string
}

// reloadServer starts a daemon with the account joe, password secret.
func reloadServer(t *testing.T, text string) *reloadable {
	t.Helper()
	dir := t.TempDir()
	r := &reloadable{dir: dir, file: harness.ConfigFile(t, dir, text)}
	harness.OK(t, "secret\n", "user", "add", "joe@dom.example", "--config", r.file)
	r.Server = harness.Serve(t, "--config", r.file)
	return r
}

func (r *reloadable) write(text string) {
	r.T.Helper()
	text = fmt.Sprintf("data_dir = %q\n", r.dir) + text
	if err := os.WriteFile(r.file+"~", []byte(text), 0o600); err != nil {
		r.T.Fatal(err)
	}
	if err := os.Rename(r.file+"~", r.file); err != nil {
		r.T.Fatal(err)
	}
}

// hup sends SIGHUP and waits for what the log says then.
func (r *reloadable) hup(says string) {
	r.T.Helper()
	before := strings.Count(r.Log.String(), says)
	r.Signal(syscall.SIGHUP)
	r.Eventually(says, func() bool { return strings.Count(r.Log.String(), says) > before })
}

// TestReloadCommand: `postern reload` applies what has changed and prints it. The rest keeps
// running, with its connections.
func TestReloadCommand(t *testing.T) {
	tail := "listen \"gone\" {\n protocol = \"generic\"\n address = \"unix:gone\"\n}\n"
	s := reloadServer(t, harness.OneList+tail+harness.UsersBase)
	address := s.Address("generic")
	stays, ends := harness.Connect(t, address), harness.Connect(t, filepath.Join(s.dir, "gone"))
	harness.Say(t, stays, harness.JoeLine, "1\n")
	harness.Say(t, ends, harness.JoeLine, "1\n")
	s.write(harness.OneList + "listen \"fresh\" {\n protocol = \"generic\"\n address = \"unix:fresh\"\n}\n" +
		strings.Replace(harness.UsersBase, "cache {", "cache {\n query_ttl = \"5m\"\n", 1) + `domain "*" { backends = [backend.users.local] }`)
	out := harness.OK(t, "", "reload", "--config", s.file)
	want := "configuration reloaded\nlistener fresh added\nlistener gone removed\ndomain * added\ndomain dom.example changed\n"
	if out != want {
		t.Errorf("printed %q, want %q", out, want)
	}
	harness.ClosedBy(t, ends)
	harness.Say(t, stays, harness.JoeLine, "1\n")
	if got := harness.Exchange(t, filepath.Join(s.dir, "fresh"), harness.JoeLine); got != "1\n" {
		t.Errorf("the new listener answered %q", got)
	}
	if _, err := os.Lstat(filepath.Join(s.dir, "gone")); err == nil {
		t.Error("the socket of the removed listener is still there")
	}
	for _, line := range []string{"msg=listening listener=fresh", `msg="no longer listening" listener=gone`, `msg="configuration reloaded" listeners="+1 -1 ~0"`} {
		s.Eventually("the log says "+line, func() bool { return strings.Contains(s.Log.String(), line) })
	}
	if out := harness.OK(t, "", "reload", "--config", s.file); out != "configuration reloaded: nothing has changed\n" {
		t.Errorf("printed %q", out)
	}
}

// TestReloadInvalidConfig: whatever is wrong, the old configuration stays in force as a whole,
// and exit status and log say so.
func TestReloadInvalidConfig(t *testing.T) {
	s := reloadServer(t, harness.OneList+harness.UsersBase)
	stays := harness.Connect(t, s.Address("generic"))
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	const canary = "cAnArY-of-the-reload"
	for name, c := range map[string]struct{ text, says string }{
		"syntax":      {harness.OneList + "domain {", "config.hcl:"},
		"meaning":     {harness.OneList + harness.UsersBackend + `domain "dom.example" { backends = [backend.users.nobody] }`, "there is no backend.users.nobody"},
		"secret":      {harness.OneList + harness.UsersBase + "backend \"jsxc\" \"c\" {\n secret = \"" + canary + "\"\n}", "has no url"},
		"address":     {strings.Replace(harness.OneList, `"generic"`, `"ejabberd"`, 1) + "listen \"tcp_table\" { address = \"" + taken.Addr().String() + "\" }\n" + harness.UsersBase, "address already in use"},
		"log file":    {harness.OneList + harness.UsersBase + `log { file = "/nowhere/at/all.log" }`, "log file"},
		"socket mode": {"listen \"generic\" {\n address = \"unix:x\"\n owner = \"nobody-of-that-name\"\n}\n" + harness.UsersBase, "owner"},
	} {
		t.Run(name, func(t *testing.T) {
			s.write(c.text)
			r := harness.Command(t, "", "reload", "--config", s.file)
			if r.Code != 1 || !strings.Contains(r.Err, c.says) || !strings.Contains(r.Err, "the old configuration stays in force") {
				t.Errorf("exit status %d, %q%q", r.Code, r.Out, r.Err)
			}
			s.hup("the old one stays in force")
			if all := r.Err + s.Log.String(); strings.Contains(all, canary) {
				t.Error("the secret stands in the log or the error")
			}
			harness.Say(t, stays, harness.JoeLine, "1\n")
			if got := harness.Exchange(t, s.Address("generic"), harness.JoeLine); got != "1\n" {
				t.Errorf("answered %q", got)
			}
		})
	}
	if err := os.WriteFile(s.file, []byte("data_dir = \"/somewhere/else\"\n"+harness.OneList+harness.UsersBase), 0o600); err != nil {
		t.Fatal(err)
	}
	s.hup("data_dir is another")
	if r := harness.Command(t, "", "reload", "--config", s.file); r.Code != 1 || !strings.Contains(r.Err, "no daemon is running") {
		t.Errorf("exit status %d, %q", r.Code, r.Err)
	}
	harness.Say(t, stays, harness.JoeLine, "1\n")
	s.write(harness.OneList + harness.UsersBase)
	s.hup(`msg="configuration reloaded"`) // and what is valid again is taken
}

// A reload goes on when its caller does not wait for its end.
func TestReloadWithoutWhoAsked(t *testing.T) {
	arrived, release := make(chan struct{}, 8), make(chan struct{})
	web := harness.NewWebApp(t, func(w http.ResponseWriter, _ *http.Request) {
		arrived <- struct{}{}
		<-release
		_, _ = io.WriteString(w, harness.JSONYes)
	})
	base := harness.OneList + harness.UsersBase + "backend \"json\" \"app\" { url = \"" + web.URL + "\" }\n"
	domain := func(name string) string { return "domain \"" + name + "\" { backends = [backend.json.app] }\n" }
	s := reloadServer(t, base+domain("slow.example"))
	c := harness.Connect(t, s.Address("generic"))
	if _, err := io.WriteString(c, "auth:joe:slow.example:secret\n"); err != nil {
		t.Fatal(err)
	}
	<-arrived
	s.write(base)
	harness.OK(t, "", "reload", "--config", s.file)
	s.write(base + domain("new.example"))
	control := harness.Connect(t, filepath.Join(s.dir, harness.ControlSocket))
	harness.Say(t, control, "POST /v1/reload HTTP/1.1\r\nHost: postern\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}", "")
	_ = control.Close()
	// It does not wait for what slow.example has begun either.
	s.Eventually("the second reload", func() bool { return strings.Count(s.Log.String(), "configuration reloaded") == 2 })
	close(release)
}

// TestReloadMeetsAFIFO: a reload does not wait for the writer of a FIFO in the place of a file, so
// it delays neither the next reload nor the stop.
func TestReloadMeetsAFIFO(t *testing.T) {
	for _, name := range []string{"secret", "config.hcl", "log"} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			secret := filepath.Join(dir, "secret")
			harness.WriteFile(t, secret, "api-secret\n")
			r := reloadServer(t, harness.OneList+harness.UsersBase+`
backend "jsxc" "cloud" {
  url    = "`+harness.DeadURL(t)+`"
  secret = file("`+secret+`")
}
domain "cloud.example" { backends = [backend.jsxc.cloud] }
`)
			path, says := secret, "it is not a regular file"
			switch name {
			case "config.hcl":
				path = r.file
			case "log":
				path, says = filepath.Join(dir, "log"), "a FIFO without a reader"
				harness.WriteFile(t, path, "")
				r.write(harness.OneList + harness.UsersBase + "log { file = \"" + path + "\" }\n")
			}
			harness.Remove(t, path)
			if err := syscall.Mkfifo(path, 0o600); err != nil {
				t.Fatal(err)
			}
			r.hup(says)
			if got := harness.Exchange(t, r.Address("generic"), harness.JoeLine); got != "1\n" {
				t.Errorf("answered %q", got)
			}
			if code := r.Stop(syscall.SIGTERM); code != 0 {
				t.Errorf("ended with status %d", code)
			}
		})
	}
}

// A configuration may come through a pipe, to a daemon, too.
func TestServeReadsAPipe(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"/dev/stdin", "/dev/fd/3", "/proc/self/fd/3"} {
		text := fmt.Sprintf("data_dir = %q\n", t.TempDir()) + harness.OneList + harness.UsersBase
		config, w := harness.Pipe(t)
		p := harness.StartWith(t, []*os.File{config}, "serve", "--config", path)
		into := w
		if path == "/dev/stdin" {
			into = p.In
		}
		_, _ = config.Close(), into.SetWriteDeadline(time.Now().Add(harness.Timeout))
		if _, err := io.WriteString(into, text); err != nil {
			t.Fatal(err)
		}
		_ = into.Close()
		p.Logged("msg=ready")
		p.Signal(syscall.SIGHUP)
		p.Logged("the old one stays in force")
		p.Signal(syscall.SIGTERM)
		if code := p.Exit(); code != 0 {
			t.Errorf("%s: exit status %d", path, code)
		}
	}
}

// TestReloadLog: level, format and file of the log follow the configuration.
func TestReloadLog(t *testing.T) {
	s := reloadServer(t, harness.OneList+harness.UsersBase)
	file := filepath.Join(s.dir, "new.log")
	s.write(harness.OneList + harness.UsersBase + "log {\n level = \"debug\"\n format = \"json\"\n file = \"new.log\"\n}\ndrain_timeout = \"3s\"\n")
	if out := harness.OK(t, "", "reload", "--config", s.file); !strings.Contains(out, "log changed") || !strings.Contains(out, "drain_timeout changed") {
		t.Errorf("printed %q", out)
	}
	harness.FileSays(t, file, `"msg":"configuration reloaded"`)
	harness.Exchange(t, s.Address("generic"), harness.JoeLine)
	harness.FileSays(t, file, `"verdict":"allow"`)
	if err := os.Rename(file, file+".1"); err != nil {
		t.Fatal(err)
	}
	harness.OK(t, "", "reload", "--config", s.file)
	harness.FileSays(t, file, "log file reopened")
	if strings.Contains(s.Log.String(), "verdict=allow") {
		t.Error("the decision went to standard error")
	}
	s.write(harness.OneList + harness.UsersBase + "log { level = \"error\" }\n")
	harness.OK(t, "", "reload", "--config", s.file)
	harness.Exchange(t, s.Address("generic"), harness.JoeLine)
	s.write(harness.OneList + harness.UsersBase)
	s.hup(`msg="configuration reloaded"`)
	if strings.Contains(s.Log.String(), "verdict=allow") {
		t.Error("a decision was logged at level error")
	}
}

// TestReloadKeepsRefusedSocketMode: if the daemon may not set a socket's new group, it restores the
// old mode as well.
func TestReloadKeepsRefusedSocketMode(t *testing.T) {
	dir := t.TempDir()
	block := "listen \"generic\" {\n address = \"unix:mux\"\n mode = \"%s\"\n group = \"%d\"\n}\n" + harness.UsersBase
	harness.ChownAway(t, dir)
	r := &reloadable{dir: dir, file: harness.ConfigFile(t, dir, "")}
	cmd := asOwner(t, dir, r.file)
	own := os.Getgid()
	if cmd.SysProcAttr != nil {
		own = int(cmd.SysProcAttr.Credential.Gid)
	}
	r.Server = &harness.Server{T: t}
	r.write(fmt.Sprintf(block, "0660", own))
	if err := os.Chmod(r.file, 0o644); err != nil {
		t.Fatal(err)
	}
	r.Server = harness.ServeCommand(t, cmd)
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
	s := reloadServer(t, fmt.Sprintf(block, "0600")+harness.UsersBase)
	socket := filepath.Join(s.dir, "mux")
	stays := harness.Connect(t, socket)
	s.write(fmt.Sprintf(block, "0666") + harness.UsersBase)
	if out := harness.OK(t, "", "reload", "--config", s.file); !strings.Contains(out, "listener generic changed") {
		t.Errorf("printed %q", out)
	}
	if info, err := os.Stat(socket); err != nil || info.Mode().Perm() != 0o666 {
		t.Errorf("%v, %v", info, err)
	}
	harness.Say(t, stays, harness.JoeLine, "1\n")
}

// TestReloadOpensDisk: a store that no domain wanted at the start is there when one does.
func TestReloadOpensDisk(t *testing.T) {
	memory := strings.Replace(harness.UsersBase, "cache {", "cache {\n storage = \"memory\"\n", 1)
	s := reloadServer(t, harness.OneList+memory)
	harness.Exchange(t, s.Address("generic"), harness.JoeLine)
	s.write(harness.OneList + harness.UsersBase)
	harness.OK(t, "", "reload", "--config", s.file)
	harness.OK(t, "secret\n", "user", "add", "ann@dom.example", "--config", s.file)
	harness.Exchange(t, s.Address("generic"), "auth:ann:dom.example:secret\n")
	s.Eventually("ann on disk", func() bool {
		return strings.Contains(harness.OK(t, "", "cache", "stats", "--config", s.file), `"dom.example": 1`)
	})
	if code := s.Stop(syscall.SIGTERM); code != 0 {
		t.Errorf("exit status %d", code)
	}
}

// TestReloadKeepsRelays: programs that relay to the daemon notice nothing.
func TestReloadKeepsRelays(t *testing.T) {
	s := reloadServer(t, harness.OneList+harness.UsersBase)
	p := harness.Start(t, "pipe", "--protocol", "ejabberd", "--config", s.file)
	p.Send(harness.Frame("auth:joe:dom.example:secret"))
	p.Expect("\x00\x02\x00\x01")
	s.write(harness.OneList + harness.UsersBackend + strings.Replace(harness.UsersDomain, "dom.example", "*", 1))
	harness.OK(t, "", "reload", "--config", s.file)
	p.Send(harness.Frame("auth:joe:dom.example:secret"))
	p.Expect("\x00\x02\x00\x01")
	if rest, code := p.Finish(); rest != "" || code != 0 {
		t.Errorf("%q, exit status %d", rest, code)
	}
}

// TestReloadEmbedded says that there is nothing to reload.
func TestReloadEmbedded(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "run")
	s := harness.Serve(t, "--embedded", "--data-dir", dir)
	const says = "the built-in configuration has nothing to reload"
	if out := harness.OK(t, "", "reload", "--embedded", "--data-dir", dir); out != says+"\n" {
		t.Errorf("printed %q", out)
	}
	n := strings.Count(s.Log.String(), says)
	s.Signal(syscall.SIGHUP)
	s.Eventually(says, func() bool { return strings.Count(s.Log.String(), says) > n })
}

// TestHangupStorm: two hundred SIGHUPs during load, with a configuration that changes all the
// time, and every request has the right answer.
func TestHangupStorm(t *testing.T) {
	list := `listen "ejabberd" { address = "127.0.0.1:0" }` + "\n"
	texts := []string{
		list + harness.UsersBase,
		list + harness.OneList + harness.UsersBackend + strings.Replace(harness.UsersDomain, "dom.example", "*", 1),
		list + strings.Replace(harness.UsersBase, `backend "users" "local" {`, `backend "users" "local" {`+"\n queue = 1000\n", 1),
		list + "domain {",
	}
	texts[2] = strings.Replace(texts[2], "bcrypt_cost = 4 }", "bcrypt_cost = 4\n}", 1)
	s := reloadServer(t, texts[0])
	address := s.Address("ejabberd")
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
		s.Signal(syscall.SIGHUP)
		if i%5 == 4 {
			s.Eventually("some answers", func() bool { return answers.Load() > was+8 || t.Failed() })
		}
	}
	s.write(texts[0])
	s.hup(`msg="configuration reloaded"`)
	over.Store(true)
	wg.Wait()
	for _, says := range []string{`listeners="+1 -0 ~0"`, "configuration is invalid"} {
		if !strings.Contains(s.Log.String(), says) {
			t.Errorf("the log does not say %s", says)
		}
	}
	if code := s.Stop(syscall.SIGTERM); code != 0 {
		t.Errorf("exit status %d", code)
	}
	t.Logf("%d answers, %d reloads", answers.Load(), strings.Count(s.Log.String(), `msg="configuration reloaded"`))
}

// askUntil asks on one connection, right and wrong passwords in turn, until it is over.
func askUntil(t *testing.T, address string, i int, over *atomic.Bool, answers *atomic.Int64) {
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Error(err)
		return
	}
	defer c.Close()
	in := bufio.NewReader(c)
	for n := 0; !over.Load(); n++ {
		password, want := "secret", "\x00\x02\x00\x01"
		if n%4 == 3 {
			password, want = fmt.Sprint("wrong", i), "\x00\x02\x00\x00"
		}
		_ = c.SetDeadline(time.Now().Add(harness.Timeout))
		if _, err := io.WriteString(c, harness.Frame("auth:joe:dom.example:"+password)); err != nil {
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

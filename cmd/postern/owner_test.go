package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// ownerOf is the process that owns a data directory.
func ownerOf(t *testing.T, dir string) int {
	t.Helper()
	pid, err := strconv.Atoi(strings.TrimSpace(readText(filepath.Join(dir, ownerLock))))
	if err != nil {
		t.Fatalf("no process is named in the lock: %v", err)
	}
	return pid
}

// alive reports whether a process runs; one that nobody has waited for yet does not.
func alive(pid int) bool {
	_, rest, found := strings.Cut(readText(fmt.Sprintf("/proc/%d/stat", pid)), ") ")
	return found && rest[0] != 'Z'
}

func kill(t *testing.T, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the end of the owner", func() bool { return !alive(pid) })
}

// startPipes starts n copies at once.
func startPipes(t *testing.T, n int, protocol, config string) []*process {
	t.Helper()
	list := make([]*process, n)
	for i := range list {
		list[i] = start(t, "pipe", "--protocol", protocol, "--config", config)
	}
	return list
}

// Without a daemon, copies that start at the same time find one broker for all of them, which
// ends after the last.
func TestPipesShareAnOwner(t *testing.T) {
	app := newWebApp(t, always(http.StatusOK, jsonYes))
	config := relayConfig(t, app.URL)
	pipes := startPipes(t, 8, "ejabberd", config)
	for _, p := range pipes {
		p.send(frame("auth:joe:dom.example:secret"))
	}
	for _, p := range pipes {
		p.expect("\x00\x02\x00\x01")
	}
	if n := app.asked.Load(); n != 1 {
		t.Errorf("the backend was asked %d times, want once", n)
	}
	owner := ownerOf(t, dataDirOf(config))
	if show := ok(t, "", "cache", "show", "joe@dom.example", "--config", config); !strings.Contains(show, "joe") {
		t.Errorf("the owner does not take commands: %s", show)
	}
	for i, p := range pipes {
		if !alive(owner) {
			t.Errorf("the owner ended before copy %d", i)
		}
		if rest, code := p.finish(); rest != "" || code != 0 {
			t.Errorf("ended with %q, status %d", rest, code)
		}
	}
	waitFor(t, "the end of the owner", func() bool { return !alive(owner) })
}

// When the owner is killed another one takes over. What it was asked is asked again, once; a
// change whose fate nobody knows is not made twice.
func TestOwnerIsReplaced(t *testing.T) {
	arrived, release := make(chan string, 8), make(chan struct{})
	app := newWebApp(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		arrived <- string(body)
		<-release
		_, _ = io.WriteString(w, jsonYes)
	})
	config := relayConfig(t, app.URL)
	pipes := startPipes(t, 2, "ejabberd", config)
	pipes[0].send(frame("auth:joe:dom.example:secret"))
	pipes[1].send(frame("auth:ann:dom.example:secret"))
	<-arrived
	<-arrived
	first := ownerOf(t, dataDirOf(config))
	kill(t, first)
	begun := time.Now()
	<-arrived
	<-arrived
	t.Logf("both questions were put again %v after the owner was killed", time.Since(begun).Round(time.Millisecond))
	close(release)
	for _, p := range pipes {
		p.expect("\x00\x02\x00\x01")
	}
	if second := ownerOf(t, dataDirOf(config)); second == first {
		t.Error("the owner was not replaced")
	}
	if n := app.asked.Load(); n != 4 {
		t.Errorf("the backend was asked %d times, want 4", n)
	}
}

// The owner dies between a change and its answer, which then is "cannot tell".
func TestOwnerLostDuringAChange(t *testing.T) {
	config, data := pipeUsers(t, "")
	p := start(t, "pipe", "--protocol", "ejabberd", "--config", config)
	p.send(frame("isuser:joe:dom.example"))
	p.expect("\x00\x02\x00\x01")
	// The change waits for the lock of the users file.
	lock, err := os.OpenFile(filepath.Join(data, "users.lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	owner := ownerOf(t, data)
	p.send(frame("setpass:joe:dom.example:changed"))
	waitFor(t, "the owner waits for the lock", func() bool { return hasOpen(owner, "/users.lock") })
	kill(t, owner)
	p.expect("\x00\x02\x00\x02")
	_ = lock.Close()
	p.send(frame("auth:joe:dom.example:secret") + frame("auth:joe:dom.example:changed"))
	p.expect("\x00\x02\x00\x01\x00\x02\x00\x00")
}

// hasOpen reports whether a process has a file open whose path ends so.
func hasOpen(pid int, end string) bool {
	files, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	for _, f := range files {
		if to, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%s", pid, f.Name())); err == nil && strings.HasSuffix(to, end) {
			return true
		}
	}
	return false
}

// A daemon that starts takes the place of the owner, under a stream of logins that are all
// answered yes, and again when it is stopped.
func TestDaemonAndOwnerTakeTurns(t *testing.T) {
	config := relayConfig(t, newWebApp(t, always(http.StatusOK, jsonYes)).URL)
	pipes := startPipes(t, 4, "ejabberd", config)
	var done atomic.Bool
	var answered atomic.Int64
	ended := make(chan error, len(pipes))
	for i, p := range pipes {
		go func() { ended <- stream(p, i, &done, &answered) }()
	}
	progress := func() {
		t.Helper()
		from := answered.Load()
		waitFor(t, "a hundred logins", func() bool { return answered.Load() >= from+100 })
	}
	progress()
	owner := ownerOf(t, dataDirOf(config))
	s := serve(t, "--config", config)
	if alive(owner) && ownerOf(t, dataDirOf(config)) == owner {
		t.Error("the daemon is ready, but the owner did not yield")
	}
	progress()
	if code := s.stop(syscall.SIGTERM); code != 0 {
		t.Errorf("the daemon ended with status %d", code)
	}
	progress()
	s = serve(t, "--config", config)
	progress()
	r := command(t, "", "serve", "--config", config)
	if r.code == 0 || !strings.Contains(r.err, fmt.Sprintf("process %d", s.cmd.Process.Pid)) {
		t.Errorf("a second daemon: status %d, %s", r.code, r.err)
	}
	done.Store(true)
	for range pipes {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

// stream asks one login after the other, each of another user, until done.
func stream(p *process, number int, done *atomic.Bool, answered *atomic.Int64) error {
	reply := make([]byte, 4)
	for i := 0; !done.Load(); i++ {
		if _, err := io.WriteString(p.in, frame(fmt.Sprintf("auth:u%d-%d:dom.example:secret", number, i))); err != nil {
			return err
		}
		_ = p.out.SetReadDeadline(time.Now().Add(patience))
		if _, err := io.ReadFull(p.out, reply); err != nil {
			return err
		}
		if string(reply) != "\x00\x02\x00\x01" {
			return fmt.Errorf("login %d of copy %d was answered %q", i, number, reply)
		}
		answered.Add(1)
	}
	return nil
}

// A broken configuration is mended: the same process, which has answered "cannot tell", answers.
func TestPipeRecovers(t *testing.T) {
	for protocol, d := range map[string]dialect{"ejabberd": dialects()["ejabberd"], "generic": dialects()["generic"]} {
		t.Run(protocol, func(t *testing.T) {
			config, _ := pipeUsers(t, "")
			sound := readText(config)
			write := func(text string) {
				t.Helper()
				if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			write(sound + "domain {\n")
			p := start(t, "pipe", "--protocol", protocol, "--config", config)
			p.send(d.yes)
			p.expect(d.isCannot)
			p.logged("config check")
			p.send(d.yes[:5]) // half a request is in the process when the time comes
			write(sound)
			p.send(d.yes[5:])
			p.expect(d.isCannot)
			waitFor(t, "a yes", func() bool {
				p.send(d.yes)
				_ = p.out.SetReadDeadline(time.Now().Add(patience))
				got := make([]byte, len(d.isYes))
				if _, err := io.ReadFull(p.out, got); err != nil {
					t.Fatal(err)
				}
				if string(got) != d.isYes {
					time.Sleep(mendEvery / 4) // the stand-in looks when nobody asks
				}
				return string(got) == d.isYes
			})
			if rest, code := p.finish(); rest != "" || code != 0 {
				t.Errorf("ended with %q, status %d", rest, code)
			}
		})
	}
}

// What breaks while pipes run is met in the same way: the next owner does not start, and starts
// when the configuration is mended.
func TestOwnerRecovers(t *testing.T) {
	config, data := pipeUsers(t, "")
	sound := readText(config)
	p := start(t, "pipe", "--protocol", "ejabberd", "--config", config)
	p.send(frame("auth:joe:dom.example:secret"))
	p.expect("\x00\x02\x00\x01")
	if err := os.WriteFile(config, []byte(sound+"domain {\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	kill(t, ownerOf(t, data))
	p.send(frame("auth:joe:dom.example:secret"))
	p.expect("\x00\x02\x00\x02")
	p.logged("config check")
	if err := os.WriteFile(config, []byte(sound), 0o600); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "a yes", func() bool {
		p.send(frame("auth:joe:dom.example:secret"))
		_ = p.out.SetReadDeadline(time.Now().Add(patience))
		got := make([]byte, 4)
		if _, err := io.ReadFull(p.out, got); err != nil {
			t.Fatal(err)
		}
		return string(got) == "\x00\x02\x00\x01"
	})
}

// Faults of the command line do not end a pipe either; a protocol that is not known is told by
// what the peer says.
func TestPipeMisspelt(t *testing.T) {
	framed, lines := dialects()["ejabberd"], dialects()["generic"]
	config, _ := pipeUsers(t, "")
	for name, c := range map[string]struct {
		args  []string
		peers []dialect
	}{
		"protocol": {[]string{"--protocol", "ejaberd", "--config", config}, []dialect{framed, lines}},
		"none":     {[]string{"--config", config}, []dialect{framed, lines}},
		"flag":     {[]string{"--protocol", "ejabberd", "--confg", config}, []dialect{framed}},
		"word":     {[]string{"generic", "--protocol", "generic"}, []dialect{lines}},
		"data-dir": {[]string{"--protocol", "ejabberd", "--data-dir", "x"}, []dialect{framed}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, d := range c.peers {
				p := start(t, append([]string{"pipe"}, c.args...)...)
				p.send(d.yes)
				p.expect(d.isCannot)
				p.logged("level=ERROR")
				if rest, code := p.finish(); rest != "" || code != 0 {
					t.Errorf("ended with %q, status %d", rest, code)
				}
			}
		})
	}
}

// A person who types a faulty command line is told, and gets the prompt back.
func TestPipeMisspeltByHand(t *testing.T) {
	for _, args := range [][]string{{"--protocol", "smtp"}, {"--protocl", "generic"}, {"--protocol", "generic", "word"}, {}} {
		master, slave := terminal(t)
		setEcho(t, slave, true)
		p := &process{t: t, cmd: exec.Command(binary, append([]string{"pipe"}, args...)...), in: master, out: master, ended: make(chan struct{})}
		p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = slave, slave, slave
		p.run()
		if code := p.exit(); code != 1 {
			t.Errorf("pipe %v: exit status %d", args, code)
		}
		_ = slave.Close()
		said := make([]byte, 1000)
		n, err := p.out.Read(said)
		if !strings.HasPrefix(string(said[:n]), "postern: ") {
			t.Errorf("pipe %v says %q, %v", args, said[:n], err)
		}
	}
}

// Prosody's children inherit its sockets (PROTOCOLS 3.2). The broker for all copies outlives the
// one that started it, and must not keep a port of Prosody busy.
func TestOwnerDropsInheritedSockets(t *testing.T) {
	config, data := pipeUsers(t, "")
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	inherited, err := listener.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	first := startWith(t, []*os.File{inherited}, "pipe", "--protocol", "generic", "--config", config)
	_, _ = inherited.Close(), listener.Close()
	first.send("auth:joe:dom.example:secret\n")
	first.expect("1\n")
	owner := ownerOf(t, data)
	second := start(t, "pipe", "--protocol", "generic", "--config", config)
	second.send("auth:joe:dom.example:secret\n")
	second.expect("1\n")
	if rest, code := first.finish(); rest != "" || code != 0 {
		t.Errorf("ended with %q, status %d", rest, code)
	}
	again, err := net.Listen("tcp", listener.Addr().String())
	if err != nil {
		t.Errorf("somebody keeps the port: %v", err)
	} else {
		_ = again.Close()
	}
	if !alive(owner) || ownerOf(t, data) != owner {
		t.Error("the owner did not outlive its starter")
	}
}

// A data directory that cannot be used has a private one stand in for it, where copies meet.
func TestPipesMeetWithoutDataDirectory(t *testing.T) {
	file := filepath.Join(t.TempDir(), "regular")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("TMPDIR", t.TempDir())
	app := newWebApp(t, always(http.StatusOK, jsonYes))
	config := configFile(t, filepath.Join(file, "data"), "backend \"json\" \"app\" { url = \""+app.URL+"\" }\n"+
		"domain \"dom.example\" { backends = [backend.json.app] }\n")
	for _, p := range startPipes(t, 3, "ejabberd", config) {
		p.send(frame("auth:joe:dom.example:secret"))
		p.expect("\x00\x02\x00\x01")
	}
	if n := app.asked.Load(); n != 1 {
		t.Errorf("the backend was asked %d times, want once", n)
	}
	// What stands in must be ours alone: its name can be guessed.
	dirs, err := filepath.Glob(filepath.Join(os.TempDir(), "postern-*"))
	if err != nil || len(dirs) != 1 {
		t.Fatalf("%v, %v", dirs, err)
	}
	if err := os.Chmod(dirs[0], 0o777); err != nil {
		t.Fatal(err)
	}
	p := start(t, "pipe", "--protocol", "ejabberd", "--config", config)
	p.send(frame("auth:joe:dom.example:secret"))
	p.expect("\x00\x02\x00\x02")
	p.logged("belongs to somebody else")
}

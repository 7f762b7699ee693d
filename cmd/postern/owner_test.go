package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
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
	pid, err := strconv.Atoi(strings.TrimSpace(readText(filepath.Join(dir, lockFile))))
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

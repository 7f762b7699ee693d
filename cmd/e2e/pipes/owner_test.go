package pipes

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"postern/cmd/e2e/harness"
)

// startPipes starts n copies at once.
func startPipes(t *testing.T, n int, protocol, config string) []*harness.Process {
	t.Helper()
	list := make([]*harness.Process, n)
	for i := range list {
		list[i] = harness.Start(t, "pipe", "--protocol", protocol, "--config", config)
	}
	return list
}

// Without a daemon, copies that start at the same time find one broker for all of them, which
// ends after the last.
func TestPipesShareAnOwner(t *testing.T) {
	app := harness.NewWebApp(t, harness.Always(http.StatusOK, harness.JSONYes))
	config := relayConfig(t, app.URL)
	pipes := startPipes(t, 8, "ejabberd", config)
	for _, p := range pipes {
		p.Send(harness.Frame("auth:joe:dom.example:secret"))
	}
	for _, p := range pipes {
		p.Expect("\x00\x02\x00\x01")
	}
	if n := app.Asked.Load(); n != 1 {
		t.Errorf("the backend was asked %d times, want once", n)
	}
	owner := harness.OwnerOf(t, harness.DataDirOf(config))
	if show := harness.OK(t, "", "cache", "show", "joe@dom.example", "--config", config); !strings.Contains(show, "joe") {
		t.Errorf("the owner does not take commands: %s", show)
	}
	for i, p := range pipes {
		if !harness.Alive(owner) {
			t.Errorf("the owner ended before copy %d", i)
		}
		if rest, code := p.Finish(); rest != "" || code != 0 {
			t.Errorf("ended with %q, status %d", rest, code)
		}
	}
	harness.WaitFor(t, "the end of the owner", func() bool { return !harness.Alive(owner) })
}

// When the owner is killed another one takes over. Its unanswered questions are asked again, once;
// a change with an unknown outcome is not made twice.
func TestOwnerIsReplaced(t *testing.T) {
	arrived, release := make(chan string, 8), make(chan struct{})
	app := harness.NewWebApp(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		arrived <- string(body)
		<-release
		_, _ = io.WriteString(w, harness.JSONYes)
	})
	config := relayConfig(t, app.URL)
	pipes := startPipes(t, 2, "ejabberd", config)
	pipes[0].Send(harness.Frame("auth:joe:dom.example:secret"))
	pipes[1].Send(harness.Frame("auth:ann:dom.example:secret"))
	<-arrived
	<-arrived
	first := harness.OwnerOf(t, harness.DataDirOf(config))
	harness.Kill(t, first)
	begun := time.Now()
	<-arrived
	<-arrived
	t.Logf("both questions were put again %v after the owner was killed", time.Since(begun).Round(time.Millisecond))
	close(release)
	for _, p := range pipes {
		p.Expect("\x00\x02\x00\x01")
	}
	if second := harness.OwnerOf(t, harness.DataDirOf(config)); second == first {
		t.Error("the owner was not replaced")
	}
	if n := app.Asked.Load(); n != 4 {
		t.Errorf("the backend was asked %d times, want 4", n)
	}
}

// The owner dies between a change and its answer, which then is "cannot tell".
func TestOwnerLostDuringAChange(t *testing.T) {
	config, data := harness.PipeUsers(t, "")
	p := harness.Start(t, "pipe", "--protocol", "ejabberd", "--config", config)
	p.Send(harness.Frame("isuser:joe:dom.example"))
	p.Expect("\x00\x02\x00\x01")
	// The change waits for the lock of the users file.
	lock, err := os.OpenFile(filepath.Join(data, "users.lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	owner := harness.OwnerOf(t, data)
	p.Send(harness.Frame("setpass:joe:dom.example:changed"))
	harness.WaitFor(t, "the owner waits for the lock", func() bool { return hasOpen(owner, "/users.lock") })
	harness.Kill(t, owner)
	p.Expect("\x00\x02\x00\x02")
	_ = lock.Close()
	p.Send(harness.Frame("auth:joe:dom.example:secret") + harness.Frame("auth:joe:dom.example:changed"))
	p.Expect("\x00\x02\x00\x01\x00\x02\x00\x00")
}

// hasOpen reports whether a process has an open file with a path that ends in end.
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
	config := relayConfig(t, harness.NewWebApp(t, harness.Always(http.StatusOK, harness.JSONYes)).URL)
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
		harness.WaitFor(t, "a hundred logins", func() bool { return answered.Load() >= from+100 })
	}
	progress()
	owner := harness.OwnerOf(t, harness.DataDirOf(config))
	s := harness.Serve(t, "--config", config)
	if harness.Alive(owner) && harness.OwnerOf(t, harness.DataDirOf(config)) == owner {
		t.Error("the daemon is ready, but the owner did not yield")
	}
	progress()
	if code := s.Stop(syscall.SIGTERM); code != 0 {
		t.Errorf("the daemon ended with status %d", code)
	}
	progress()
	s = harness.Serve(t, "--config", config)
	progress()
	r := harness.Command(t, "", "serve", "--config", config)
	if r.Code == 0 || !strings.Contains(r.Err, fmt.Sprintf("process %d", s.Cmd.Process.Pid)) {
		t.Errorf("a second daemon: status %d, %s", r.Code, r.Err)
	}
	done.Store(true)
	for range pipes {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

// stream asks one login after the other, each of another user, until done.
func stream(p *harness.Process, number int, done *atomic.Bool, answered *atomic.Int64) error {
	reply := make([]byte, 4)
	for i := 0; !done.Load(); i++ {
		if _, err := io.WriteString(p.In, harness.Frame(fmt.Sprintf("auth:u%d-%d:dom.example:secret", number, i))); err != nil {
			return err
		}
		_ = p.Out.SetReadDeadline(time.Now().Add(harness.Timeout))
		if _, err := io.ReadFull(p.Out, reply); err != nil {
			return err
		}
		if string(reply) != "\x00\x02\x00\x01" {
			return fmt.Errorf("login %d of copy %d was answered %q", i, number, reply)
		}
		answered.Add(1)
	}
	return nil
}

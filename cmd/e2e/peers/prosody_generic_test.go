package peers

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"postern/cmd/e2e/harness"
)

// Modules that speak the line protocol work unchanged: a real Prosody with a module that blocks and
// makes a connection per question.
func TestRealProsodySocketMode(t *testing.T) { harness.EachRelease(t, prosodySocketMode) }

func prosodySocketMode(t *testing.T, r harness.Release) {
	config := harness.ConfigFile(t, t.TempDir(), harness.UsersConfig)
	harness.OK(t, "a:b::c\n", "user", "add", "joe@dom.example", "--config", config)
	s := harness.Serve(t, "--config", config)
	_, port, err := net.SplitHostPort(s.Address("generic"))
	if err != nil {
		t.Fatal(err)
	}
	p := startProsody(t, r, "authentication = \"blocking\"\nblocking_port = "+port+"\n")
	p.wantLogin("joe", "a:b::c", "success")
	p.wantLogin("joe", "a:b", "not-authorized")
	p.wantLogin("nobody", "a:b::c", "not-authorized")
	client := xmppClient(t, p.port, "joe", "dom.example", "a:b::c")
	if got, err := client.register("joe", "next"); err != nil || got != "result" {
		t.Errorf("change of the password: %s, %v", got, err)
	}
	p.wantLogin("joe", "next", "success")
	p.wantLogin("joe", "a:b::c", "not-authorized")
	_ = s.Cmd.Process.Kill()
	<-s.Ended
	p.wantLogin("joe", "next", "not-authorized") // the line protocol has no third answer
}

// lptyProgram is a program as mod_auth_external's external_auth_command starts it: without
// arguments.
func lptyProgram(t *testing.T, config string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "postern-prosody")
	text := fmt.Sprintf("#!/bin/sh\nexec %s pipe --protocol generic --config %s\n", harness.Binary, config)
	if err := os.WriteFile(file, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
	return file
}

// The community's mod_auth_external talks through lpty, which Debian has for Lua 5.2 only, while
// its Prosody runs on 5.4: the library itself is the peer here.
func TestRealLpty(t *testing.T) {
	opened := make(chan struct{})
	app := harness.NewWebApp(t, func(w http.ResponseWriter, _ *http.Request) {
		<-opened
		_, _ = w.Write([]byte(harness.JSONYes))
	})
	defer close(opened)
	config, data := harness.Noisy(t, "backend \"json\" \"slow\" { url = \""+app.URL+"\" }\n"+
		"domain \"slow.example\" { backends = [backend.json.slow] }\nlog { level = \"debug\" }\n")
	p := startLpty(t, config)
	for tries := 0; p.ask("isuser:joe:dom.example") != "1+"; tries++ { // the first comes before the program listens
		if tries == 20 {
			t.Fatalf("no answer\n%s", p.errs.String())
		}
	}
	for _, q := range [][2]string{
		{"auth:joe:dom.example:secret", "1+"}, // LF alone
		{"auth:joe:dom.example:wrong", "0+"},
		{"auth:joe:away.example:secret", "0+"},
		{"auth:joe:slow.example:secret", "0+"}, // within lpty's 5 s, while the backend says nothing
		{"auth:joe:dom.example:wrong", "0+"},   // so that no answer is one question late
		{"isuser:joe:dom.example", "1+"},
		{"running", "running"},
	} {
		if got := p.ask(q[0]); got != q[1] {
			t.Fatalf("%s: %q, want %q\n%s", q[0], got, q[1], p.errs.String())
		}
	}
	// Prosody is killed, and its terminal goes with it: the program leaves at once.
	harness.FileSays(t, filepath.Join(data, "pipe.log"), "msg=decision")
	if !runsWith(config) {
		t.Error("the program is not found among the processes")
	}
	_ = p.cmd.Process.Kill()
	harness.WaitFor(t, "the program has left", func() bool { return !runsWith(config) })
}

// lptyPeer is a server's end of a terminal.
type lptyPeer struct {
	t         *testing.T
	cmd       *exec.Cmd
	questions *os.File
	answers   *bufio.Reader
	errs      harness.OutBuffer
}

func startLpty(t *testing.T, config string) *lptyPeer {
	t.Helper()
	p := &lptyPeer{t: t, cmd: exec.Command(harness.Program(t, "lua5.2"), "testdata/prosody/lpty.lua", lptyProgram(t, config))}
	in, questions := harness.Pipe(t)
	answers, out := harness.Pipe(t)
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = in, out, &p.errs
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		_ = p.cmd.Wait()
		close(ended)
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		<-ended
	})
	_, _ = in.Close(), out.Close()
	_ = answers.SetReadDeadline(time.Now().Add(harness.Timeout))
	p.questions, p.answers = questions, bufio.NewReader(answers)
	return p
}

// ask returns what the server takes for the answer.
func (p *lptyPeer) ask(question string) string {
	fmt.Fprintln(p.questions, question)
	line, err := p.answers.ReadString('\n')
	if err != nil {
		return err.Error()
	}
	return strings.TrimSuffix(line, "\n")
}

// TestRealLptyStarts: however often the program is started, no answer is taken for that to another
// question, though the echo of the first may be: that one login fails.
func TestRealLptyStarts(t *testing.T) {
	config := harness.ConfigFile(t, t.TempDir(), harness.UsersConfig)
	harness.OK(t, "secret\n", "user", "add", "joe@dom.example", "--config", config)
	harness.Serve(t, "--config", config)
	var group sync.WaitGroup
	for range 50 {
		p := startLpty(t, config)
		group.Go(func() {
			var got []string // the answers to a right password and a wrong one, in turn
			for right := 0; right < 3 && len(got) < 1000; {
				got = append(got, p.ask("auth:joe:dom.example:secret"), p.ask("auth:joe:dom.example:wrong"))
				wrong := got[len(got)-1]
				if strings.HasPrefix(wrong, "1") || right > 0 && wrong != "0+" {
					t.Errorf("a wrong password is answered as another: %q", got)
				}
				if got[len(got)-2] == "1+" {
					right++
				} else if right > 0 {
					t.Errorf("a right password is answered as another: %q", got)
				} else {
					time.Sleep(10 * time.Millisecond) // the program is starting
				}
			}
		})
	}
	group.Wait()
}

// A server's sockets that its terminal program inherits are let go, or its ports would stay taken
// after it; a file that may have been meant for the program stays.
func TestPipeOnATerminalLeavesSockets(t *testing.T) {
	config, _ := harness.PipeUsers(t, "")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	socket, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	meant, theirs := harness.Pipe(t)
	master, slave := harness.Terminal(t)
	p := &harness.Process{T: t, Cmd: exec.Command(harness.Binary, "pipe", "--protocol", "generic", "--config", config),
		In: master, Out: master}
	p.Cmd.Stdin, p.Cmd.Stdout, p.Cmd.Stderr = slave, slave, slave
	p.Cmd.ExtraFiles = []*os.File{socket, theirs}
	p.Run()
	_, _, _, _ = l.Close(), socket.Close(), theirs.Close(), slave.Close()
	p.AwaitTerminal()
	p.Send("auth:joe:dom.example:secret\n")
	p.Expect("1\n")
	if c, err := net.Dial("tcp", l.Addr().String()); err == nil {
		_ = c.Close()
		t.Error("the port is still taken")
	}
	_ = meant.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
	if _, err := meant.Read(make([]byte, 1)); !os.IsTimeout(err) {
		t.Errorf("the file was closed: %v", err)
	}
}

// runsWith reports whether a process has an argument.
func runsWith(arg string) bool {
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, file := range files {
		if strings.Contains(harness.ReadText(file), "\x00"+arg+"\x00") {
			return true
		}
	}
	return false
}

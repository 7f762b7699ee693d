package pipes

import (
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"postern/cmd/e2e/harness"
)

// tooLate is when Prosody no longer waits for an answer on a pseudo-terminal, but takes it for that
// to its next question.
const tooLate = 5 * time.Second

// stopFor stops a process, does something, and lets it go on when that is too late.
func stopFor(p *harness.Process, meanwhile func()) {
	p.T.Helper()
	p.Signal(syscall.SIGSTOP)
	harness.WaitFor(p.T, "the process stops", func() bool {
		_, rest, _ := strings.Cut(harness.ReadText(fmt.Sprintf("/proc/%d/stat", p.Cmd.Process.Pid)), ") ")
		return strings.HasPrefix(rest, "T")
	})
	meanwhile()
	time.Sleep(tooLate)
	p.Signal(syscall.SIGCONT)
}

// On a pseudo-terminal no answer is given too late, whatever held the pipe up: it ends, with the
// status with which Prosody starts it again.
func TestPipeOnATerminalIsNeverLate(t *testing.T) {
	const question = "auth:joe:dom.example:secret\n"
	for name, run := range map[string]func(t *testing.T, config string, asked <-chan struct{}, answer chan<- struct{}) *harness.Process{
		"stopped when asked": func(t *testing.T, config string, asked <-chan struct{}, answer chan<- struct{}) *harness.Process {
			p := harness.StartOnTerminal(t, "pipe", "--protocol", "generic", "--config", config)
			p.Send(question)
			<-asked
			stopFor(p, func() { answer <- struct{}{} })
			return p
		},
		"asked while stopped": func(t *testing.T, config string, _ <-chan struct{}, answer chan<- struct{}) *harness.Process {
			answer <- struct{}{}
			p := harness.StartOnTerminal(t, "pipe", "--protocol", "generic", "--config", config)
			p.Send(question)
			p.Expect("1\n")
			stopFor(p, func() { p.Send(question) })
			return p
		},
		"unable, asked while stopped": func(t *testing.T, config string, _ <-chan struct{}, _ chan<- struct{}) *harness.Process {
			p := harness.StartOnTerminal(t, "pipe", "--protocol", "generic", "--config", filepath.Join(filepath.Dir(config), "none.hcl"))
			p.Send(question)
			p.Expect("0\n")
			stopFor(p, func() { p.Send(question) })
			return p
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			asked, answer := make(chan struct{}, 8), make(chan struct{}, 8)
			app := harness.NewWebApp(t, func(w http.ResponseWriter, _ *http.Request) {
				asked <- struct{}{}
				<-answer
				_, _ = io.WriteString(w, harness.JSONYes)
			})
			config := relayConfig(t, app.URL) // its deadline is too long for a terminal
			t.Cleanup(func() {                // the broker that it started outlives the pipe
				harness.WaitFor(t, "the end of the broker", func() bool { return !harness.HasOwner(harness.DataDirOf(config)) })
			})
			t.Cleanup(func() { close(answer) })
			p := run(t, config, asked, answer)
			if code := p.Exit(); code != 0 {
				t.Errorf("exit status %d", code)
			}
			_ = p.Out.SetReadDeadline(time.Now().Add(harness.Timeout))
			if rest, err := io.ReadAll(p.Out); len(rest) > 0 {
				t.Errorf("on the terminal: %q, %v", rest, err)
			}
		})
	}
}

// A question that was on the terminal before the pipe started is not answered, since its echo may have
// been taken for the answer. It is one login that fails: every later answer belongs to its question.
func TestPipeOnATerminalDropsWhatWasThere(t *testing.T) {
	config, _ := harness.PipeUsers(t, "")
	const right, wrong = "auth:joe:dom.example:secret\n", "auth:joe:dom.example:wrong\n"
	missing := filepath.Join(t.TempDir(), "none.hcl")
	for name, c := range map[string]struct {
		echoed, echoes bool // the question, and the terminal of the pipe
		config, yes    string
	}{
		"echo off": {false, false, config, "1\n"}, "echo switched off late": {true, false, config, "1\n"},
		"echo on": {true, true, config, "1\n"}, "without a configuration": {true, false, missing, "0\n"},
	} {
		t.Run(name, func(t *testing.T) {
			master, slave := harness.Terminal(t)
			harness.SetEcho(t, slave, c.echoed)
			if _, err := io.WriteString(master, right); err != nil {
				t.Fatal(err)
			}
			if c.echoed {
				_ = master.SetReadDeadline(time.Now().Add(harness.Timeout))
				echo := make([]byte, len(right)+1)
				if _, err := io.ReadFull(master, echo); err != nil || string(echo) != strings.Replace(right, "\n", "\r\n", 1) {
					t.Fatalf("echoed %q, %v", echo, err)
				}
			}
			harness.SetEcho(t, slave, c.echoes)
			p := harness.OnTerminal(t, exec.Command(harness.Binary, "pipe", "--protocol", "generic", "--config", c.config), master, slave)
			for range 3 {
				p.Send(wrong)
				p.Expect("0\n")
				p.Send(right)
				p.Expect(c.yes)
			}
		})
	}
}

// An answer comes in one piece: a reader of half of it would take the rest for the answer to its
// next question.
func TestPipeOnATerminalAnswersWhole(t *testing.T) {
	config, _ := harness.PipeUsers(t, "")
	p := harness.StartOnTerminal(t, "pipe", "--protocol", "generic", "--config", config)
	answer := make([]byte, 100)
	for i := range 4000 {
		p.Send("isuser:joe:dom.example\n")
		_ = p.Out.SetReadDeadline(time.Now().Add(harness.Timeout))
		if n, err := p.Out.Read(answer); err != nil || string(answer[:n]) != "1\n" {
			t.Fatalf("question %d: read %q, %v", i, answer[:n], err)
		}
	}
	mode, err := unix.IoctlGetTermios(int(p.Out.Fd()), unix.TCGETS)
	if err != nil || mode.Oflag&unix.ONLCR != 0 {
		t.Errorf("the terminal makes two characters of LF, %v", err)
	}
}

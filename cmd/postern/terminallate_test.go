package main

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
)

// tooLate is when Prosody no longer waits for an answer on a pseudo-terminal, but takes it for that
// to its next question.
const tooLate = 5 * time.Second

// stopFor stops a process, does something, and lets it go on when that is too late.
func stopFor(p *process, meanwhile func()) {
	p.t.Helper()
	p.signal(syscall.SIGSTOP)
	waitFor(p.t, "the process stops", func() bool {
		_, rest, _ := strings.Cut(readText(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid)), ") ")
		return strings.HasPrefix(rest, "T")
	})
	meanwhile()
	time.Sleep(tooLate)
	p.signal(syscall.SIGCONT)
}

// On a pseudo-terminal no answer is given too late, whatever held the pipe up: it ends, with the
// status with which Prosody starts it again.
func TestPipeOnATerminalIsNeverLate(t *testing.T) {
	const question = "auth:joe:dom.example:secret\n"
	for name, run := range map[string]func(t *testing.T, config string, asked <-chan struct{}, answer chan<- struct{}) *process{
		"stopped when asked": func(t *testing.T, config string, asked <-chan struct{}, answer chan<- struct{}) *process {
			p := startOnTerminal(t, "pipe", "--protocol", "generic", "--config", config)
			p.send(question)
			<-asked
			stopFor(p, func() { answer <- struct{}{} })
			return p
		},
		"asked while stopped": func(t *testing.T, config string, _ <-chan struct{}, answer chan<- struct{}) *process {
			answer <- struct{}{}
			p := startOnTerminal(t, "pipe", "--protocol", "generic", "--config", config)
			p.send(question)
			p.expect("1\n")
			stopFor(p, func() { p.send(question) })
			return p
		},
		"asked before a slow start": func(t *testing.T, config string, _ <-chan struct{}, answer chan<- struct{}) *process {
			answer <- struct{}{}
			slow := fmt.Sprintf(`sleep %v; exec "$@"`, tooLate.Seconds())
			return onTerminal(t, exec.Command("sh", "-c", slow, "sh", binary, "pipe", "--protocol", "generic", "--config", config), question)
		},
		"unable, asked while stopped": func(t *testing.T, config string, _ <-chan struct{}, _ chan<- struct{}) *process {
			p := startOnTerminal(t, "pipe", "--protocol", "generic", "--config", filepath.Join(filepath.Dir(config), "none.hcl"))
			p.send(question)
			p.expect("0\n")
			stopFor(p, func() { p.send(question) })
			return p
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			asked, answer := make(chan struct{}, 8), make(chan struct{}, 8)
			app := newWebApp(t, func(w http.ResponseWriter, _ *http.Request) {
				asked <- struct{}{}
				<-answer
				_, _ = io.WriteString(w, jsonYes)
			})
			// What a configuration allows is too much for a terminal.
			patient := strings.Replace(readText(relayConfig(t, app.URL)), `deadline = "1s"`, `deadline = "20s"`, 1)
			config := filepath.Join(t.TempDir(), "config.hcl")
			write(t, config, patient)
			t.Cleanup(func() { // the pipe is not waited for by the broker that it started
				waitFor(t, "the end of the broker", func() bool { return !hasOwner(dataDirOf(config)) })
			})
			t.Cleanup(func() { close(answer) })
			p := run(t, config, asked, answer)
			if code := p.exit(); code != 0 {
				t.Errorf("exit status %d", code)
			}
			_ = p.out.SetReadDeadline(time.Now().Add(patience))
			if rest, err := io.ReadAll(p.out); len(rest) > 0 {
				t.Errorf("on the terminal: %q, %v", rest, err)
			}
		})
	}
}

// An answer comes in one piece: who reads half of it would take the rest for the answer to its next
// question.
func TestPipeOnATerminalAnswersWhole(t *testing.T) {
	config, _ := pipeUsers(t, "")
	p := startOnTerminal(t, "pipe", "--protocol", "generic", "--config", config)
	answer := make([]byte, 100)
	for i := range 4000 {
		p.send("isuser:joe:dom.example\n")
		_ = p.out.SetReadDeadline(time.Now().Add(patience))
		if n, err := p.out.Read(answer); err != nil || string(answer[:n]) != "1\n" {
			t.Fatalf("question %d: read %q, %v", i, answer[:n], err)
		}
	}
	mode, err := unix.IoctlGetTermios(int(p.out.Fd()), unix.TCGETS)
	if err != nil || mode.Oflag&unix.ONLCR != 0 {
		t.Errorf("the terminal makes two characters of LF, %v", err)
	}
}

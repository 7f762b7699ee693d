// Package harness builds the postern binary and runs it for the end-to-end tests in the packages
// beside it: commands to their end, daemons and pipes in the background, on the configurations and
// against the web applications that several of those packages need. Its waits end with an event (a
// line of a log, a file, the end of a process) and are bounded by Timeout.
package harness

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Binary is the path of the program under test, once Main has built it.
var Binary string

// Main builds the program under test, with the race detector if the tests have it, runs the tests of
// a package and exits. It is all that a TestMain does.
func Main(m *testing.M) { runIn(build(), m) }

// BareMain is Main for tests that do not run the program under test.
func BareMain(m *testing.M) { runIn(folder(), m) }

// folder makes a folder for temporary files, in which the program under test is to be built, and
// returns it. It exits if that fails.
func folder() (dir string) {
	dir, err := os.MkdirTemp("", "pt") // short, for the sockets below it
	if err != nil {
		panic(err)
	}
	if err := os.Chmod(dir, 0o711); err != nil { // mail servers have users of their own
		panic(err)
	}
	_ = os.Setenv("TMPDIR", dir) // where pipes make directories of their own
	// A program under the race detector sleeps a second at its end by default.
	_ = os.Setenv("GORACE", strings.TrimSpace(os.Getenv("GORACE")+" atexit_sleep_ms=0"))
	Binary = filepath.Join(dir, "postern")
	return dir
}

// build builds the program under test, and returns its folder. It exits if that fails.
func build() (dir string) {
	dir = folder()
	args := []string{"build", "-o", Binary}
	if raceEnabled {
		args = append(args, "-race", "-gcflags=golang.org/x/crypto/blowfish=-race=false") // see RACE in the Makefile
	}
	build := exec.Command("go", append(args, "postern/cmd/postern")...)
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		_ = os.RemoveAll(dir)
		os.Exit(1)
	}
	return dir
}

// runIn runs the tests of a package, removes the folder that build made, and exits. A process of
// the program that the tests have left is a failure.
func runIn(dir string, m *testing.M) {
	code := m.Run()
	end := time.Now().Add(Timeout)
	left := leftIn(dir)
	for ; len(left) > 0 && time.Now().Before(end) && code == 0; left = leftIn(dir) {
		time.Sleep(20 * time.Millisecond)
	}
	for pid, args := range left {
		fmt.Fprintf(os.Stderr, "the tests have left process %d: %s\n", pid, args)
		_ = syscall.Kill(pid, syscall.SIGKILL)
		code = max(code, 1)
	}
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// leftIn lists the processes that run a program of a folder, with their arguments.
func leftIn(dir string) map[int]string {
	left := make(map[int]string)
	links, _ := filepath.Glob("/proc/[0-9]*/exe")
	for _, link := range links {
		if target, err := os.Readlink(link); err != nil || !strings.HasPrefix(target, dir+"/") {
			continue
		}
		process := filepath.Dir(link)
		if pid, err := strconv.Atoi(filepath.Base(process)); err == nil {
			args, _ := os.ReadFile(filepath.Join(process, "cmdline"))
			left[pid] = string(bytes.ReplaceAll(args, []byte{0}, []byte{' '}))
		}
	}
	return left
}

// Program looks for a program that setup.sh installs on the machine.
func Program(t *testing.T, name string) string {
	t.Helper()
	return Machine().Program(t, name)
}

// Result is the exit status and the output of a command.
type Result struct {
	Code     int
	Out, Err string
}

// Command runs the program under test to its end. Only what serves requests runs under the race
// detector: it makes the start of a program five times as expensive, and most commands ask one
// question and end.
func Command(t *testing.T, stdin string, args ...string) Result {
	t.Helper()
	name := Binary
	if len(args) == 0 || args[0] != "serve" && args[0] != "pipe" {
		var err error
		if name, err = Released(); err != nil {
			t.Fatal(err)
		}
	}
	return RunCommand(t, stdin, name, args...)
}

// RunCommand is Command with another program.
func RunCommand(t *testing.T, stdin, name string, args ...string) Result {
	t.Helper()
	return runToEnd(t, stdin, exec.Command(name, args...))
}

// runToEnd runs a command that has not been started yet.
func runToEnd(t *testing.T, stdin string, cmd *exec.Cmd) Result {
	t.Helper()
	noteSources()
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &errs
	cmd.WaitDelay = Timeout // then Wait fails, if a process that it has left keeps its output open
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	timer := time.AfterFunc(Timeout, func() { _ = cmd.Process.Kill() })
	err := cmd.Wait()
	if !timer.Stop() {
		t.Errorf("%v did not end", cmd.Args)
	}
	if _, ok := err.(*exec.ExitError); err != nil && !ok {
		t.Fatal(err)
	}
	return Result{cmd.ProcessState.ExitCode(), out.String(), errs.String()}
}

// OK runs a command that must succeed, and returns its output.
func OK(t *testing.T, stdin string, args ...string) string {
	t.Helper()
	r := Command(t, stdin, args...)
	if r.Code != 0 {
		t.Fatalf("postern %s: exit status %d\n%s%s", strings.Join(args, " "), r.Code, r.Out, r.Err)
	}
	return r.Out
}

// Released builds postern and postern-relay as they are installed, once, and returns postern's
// path.
var Released = sync.OnceValues(func() (string, error) {
	dir := filepath.Join(filepath.Dir(Binary), "released")
	if _, err := os.Stat(filepath.Join(dir, "postern")); err == nil { // see isolate
		return filepath.Join(dir, "postern"), nil
	}
	build := exec.Command("go", "build", "-o", dir+"/", "postern/cmd/postern", "postern/cmd/postern-relay")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return filepath.Join(dir, "postern"), nil
})

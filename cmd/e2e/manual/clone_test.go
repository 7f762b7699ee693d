package manual

import (
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	"postern/cmd/e2e/harness"
	"postern/internal/manual"
)

// compileLimit bounds the start of a server that is compiled first, on a machine that is busy with other work.
const compileLimit = time.Hour

// cloned is the folder of a clone of the last commit, as readers of the README have it.
func (r *reader) cloned() string {
	r.T.Helper()
	if r.clone == "" {
		dir := filepath.Join(r.T.TempDir(), "postern")
		r.outside("git", "clone", "--quiet", repository, dir)
		r.clone = dir
	}
	return r.clone
}

// inClone is a command of the test's own machine, in the clone.
func (r *reader) inClone(script string) (*exec.Cmd, *harness.OutBuffer) {
	r.T.Helper()
	out := new(harness.OutBuffer)
	cmd := exec.Command("bash", "-euo", "pipefail", "-c", script)
	cmd.Dir, cmd.Stdout, cmd.Stderr = r.cloned(), out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return cmd, out
}

// build carries out a block where Go is. What it packs is copied to the machine, below the folder where
// commands run.
func (r *reader) build(b manual.Block, text string) {
	r.T.Helper()
	r.ran++
	r.typed += strings.Count(text, "\n")
	cmd, out := r.inClone(text)
	if r.demo {
		r.tryDemo(b, cmd, out)
		return
	}
	if err := cmd.Run(); err != nil {
		r.T.Fatalf("%s: %v\n%s%s", r.at(b), err, text, out.String())
	}
	r.T.Logf("%s:\n%s%s", r.at(b), text, out.String())
	packages, err := filepath.Glob(filepath.Join(r.clone, "bin/*.deb"))
	if err != nil || len(packages) == 0 {
		r.T.Fatalf("%s: packages %q, %v", r.at(b), packages, err)
	}
	for _, file := range packages {
		r.Copy(file, filepath.Join("/root/bin", filepath.Base(file)), 0o644)
	}
}

// toPaste are the commands that the demonstration prints.
var toPaste = regexp.MustCompile(`(?m)^  ((?:\./bin/postern|bash) .*)\n`)

// tryDemo starts the demonstration in the network of the machine, carries out the two commands that it prints,
// and stops it.
func (r *reader) tryDemo(b manual.Block, server *exec.Cmd, log *harness.OutBuffer) {
	r.T.Helper()
	if err := r.In(server.Start); err != nil {
		r.T.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { defer close(ended); _ = server.Wait() }()
	defer func() {
		_ = syscall.Kill(-server.Process.Pid, syscall.SIGTERM)
		select {
		case <-ended:
		case <-time.After(harness.Timeout):
			_ = syscall.Kill(-server.Process.Pid, syscall.SIGKILL)
			r.T.Errorf("%s: it does not stop:\n%s", r.at(b), log.String())
		}
	}()
	var printed [][]string
	for end := time.Now().Add(compileLimit); len(printed) < 2; time.Sleep(50 * time.Millisecond) {
		printed = toPaste.FindAllStringSubmatch(log.String(), -1)
		select {
		case <-ended:
			r.T.Fatalf("%s: it has ended:\n%s", r.at(b), log.String())
		default:
		}
		if time.Now().After(end) {
			r.T.Fatalf("%s: it prints no commands that log in:\n%s", r.at(b), log.String())
		}
	}
	for i, want := range []string{"yes: allow", "1\n"} {
		var out *harness.OutBuffer
		harness.WaitFor(r.T, printed[i][1]+" prints "+want, func() bool { // a busy machine may compute a hash for too long
			var cmd *exec.Cmd
			cmd, out = r.inClone(printed[i][1])
			return r.In(cmd.Run) == nil && strings.Contains(out.String(), want)
		})
		r.T.Logf("%s: %s\n%s", r.at(b), printed[i][1], out.String())
	}
}

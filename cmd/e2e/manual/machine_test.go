package manual

import (
	"crypto/rand"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"postern/cmd/e2e/harness"
)

// machine is a Debian with systemd, in namespaces of its own. All that happens in it is in memory.
type machine struct {
	t    *testing.T
	pid  string // of systemd, as the test sees it
	base string // the folder that it is an overlay of
}

// boot starts a machine that has the files of the folder base, and stops it with the test.
func boot(t *testing.T, base string) *machine {
	t.Helper()
	dir := t.TempDir()
	script := harness.ReadText("testdata/boot.sh")
	group := controlGroup(t)
	const start = `mkdir "$0"; echo $$ >"$0/cgroup.procs"
exec unshare --mount --net --pid --uts --ipc --cgroup --fork --kill-child sh -c "$@"`
	cmd := exec.Command("sh", "-euc", start, group, script, "boot.sh", base, dir)
	var log harness.OutBuffer
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(ended)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-ended
		if t.Failed() {
			t.Logf("systemd:\n%s", log.String())
		}
	})
	m := &machine{t: t, base: base}
	harness.WaitFor(t, "systemd starts", func() bool {
		children := fmt.Sprintf("/proc/%d/task/%[1]d/children", cmd.Process.Pid)
		m.pid = strings.TrimSpace(harness.ReadText(children))
		select {
		case <-ended:
			t.Fatalf("systemd did not start:\n%s", log.String())
		default:
		}
		return m.pid != "" && harness.ReadText("/proc/"+m.pid+"/comm") == "systemd\n"
	})
	m.in(func() error { return harness.LoopbackUp() })
	harness.WaitFor(t, "systemd is up", func() bool {
		out, _ := m.command("systemctl is-active basic.target").CombinedOutput()
		return strings.TrimSpace(string(out)) == "active"
	})
	return m
}

// controlGroup is the path of a control group for a machine's processes. It is removed with the test.
func controlGroup(t *testing.T) string {
	t.Helper()
	for line := range strings.Lines(harness.ReadText("/proc/self/mounts")) {
		if f := strings.Fields(line); len(f) > 2 && f[2] == "cgroup2" {
			group := filepath.Join(f[1], "postern-manual-"+rand.Text())
			t.Cleanup(func() { // those within first
				_ = exec.Command("find", group, "-depth", "-type", "d", "-exec", "rmdir", "{}", ";").Run()
			})
			return group
		}
	}
	t.Fatal("no control groups of version 2 are mounted")
	return ""
}

// in calls a function in the network of the machine. Sockets that it opens stay there.
func (m *machine) in(do func() error) {
	m.t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		fd, err := unix.Open("/proc/"+m.pid+"/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err == nil {
			err = unix.Setns(fd, unix.CLONE_NEWNET)
			_ = unix.Close(fd)
		}
		if err == nil {
			err = do()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		m.t.Fatal(err)
	}
}

// listen listens on a TCP address of the machine until the test ends.
func (m *machine) listen(address string) (l net.Listener) {
	m.t.Helper()
	m.in(func() (err error) {
		l, err = net.Listen("tcp", address)
		return err
	})
	m.t.Cleanup(func() { _ = l.Close() })
	return l
}

// command is a script of bash in the machine, as root in root's home.
func (m *machine) command(script string) *exec.Cmd {
	return exec.Command("nsenter", "--target="+m.pid, "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--root", "--wd",
		"env", "-i", "HOME=/root", "USER=root", "TERM=dumb", "LC_ALL=C.UTF-8", "DEBIAN_FRONTEND=noninteractive",
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"bash", "-euo", "pipefail", "-c", "cd /root\n"+script)
}

// run carries out a script, and returns its output and exit status.
func (m *machine) run(stdin, script string) (output string, status int) {
	m.t.Helper()
	cmd := m.command(script)
	cmd.Stdin = strings.NewReader(stdin)
	var out harness.OutBuffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	timer := time.AfterFunc(limit, func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	err := cmd.Wait()
	if _, ok := err.(*exec.ExitError); err != nil && !ok {
		m.t.Fatal(err)
	}
	return out.String(), cmd.ProcessState.ExitCode()
}

// must carries out a script that must succeed.
func (m *machine) must(script string) string {
	m.t.Helper()
	out, status := m.run("", script)
	if status != 0 {
		m.t.Fatalf("%s\nexit status %d:\n%s", script, status, out)
	}
	return out
}

// path is where the test finds a file of the machine.
func (m *machine) path(file string) string { return filepath.Join("/proc", m.pid, "root", file) }

// write writes a file of the machine, and its folder.
func (m *machine) write(file, text string, mode os.FileMode) {
	m.t.Helper()
	path := m.path(file)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		m.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		m.t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		m.t.Fatal(err)
	}
}

// add adds lines to a file of the machine.
func (m *machine) add(file, text string) {
	m.t.Helper()
	f, err := os.OpenFile(m.path(file), os.O_APPEND|os.O_WRONLY|os.O_CREATE, 0o644)
	if err != nil {
		m.t.Fatal(err)
	}
	if _, err := f.WriteString(text); err != nil {
		m.t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		m.t.Fatal(err)
	}
}

// client runs a program of the test's own machine, or of another root, in the network of this one.
func (m *machine) client(root string, args ...string) harness.Result {
	m.t.Helper()
	args = append([]string{"--net=/proc/" + m.pid + "/ns/net", "--root=" + root, "--wd=/"}, args...)
	return harness.RunCommand(m.t, "", "nsenter", args...)
}

// copy copies a file of the test to the machine.
func (m *machine) copy(from, to string, mode os.FileMode) {
	m.t.Helper()
	text, err := os.ReadFile(from)
	if err != nil {
		m.t.Fatal(err)
	}
	m.write(to, string(text), mode)
}

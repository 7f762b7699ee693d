package harness

import (
	"crypto/rand"
	_ "embed"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Guest is a Debian with systemd as its first process, in namespaces of its own. All that happens in
// it is in memory.
type Guest struct {
	T   *testing.T
	pid string // of systemd, as the test sees it
}

//go:embed boot.sh
var bootScript string

// Boot starts a guest that has the files of the folder base, and stops it with the test. The folder is
// one of setup.sh's fresh roots, or "/" for what the machine itself has.
func Boot(t *testing.T, base string) *Guest {
	t.Helper()
	noteSources()
	dir := t.TempDir()
	group := controlGroup(t)
	const start = `mkdir "$0"; echo $$ >"$0/cgroup.procs"
exec unshare --mount --net --pid --uts --ipc --cgroup --fork --kill-child sh -c "$@"`
	cmd := exec.Command("sh", "-euc", start, group, bootScript, "boot.sh", base, dir)
	var log OutBuffer
	cmd.Stdout, cmd.Stderr = &log, &log
	ended, err := startChild(cmd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-ended
		if t.Failed() {
			t.Logf("systemd:\n%s", log.String())
		}
	})
	g := &Guest{T: t}
	WaitFor(t, "systemd starts", func() bool {
		children := fmt.Sprintf("/proc/%d/task/%[1]d/children", cmd.Process.Pid)
		g.pid = strings.TrimSpace(ReadText(children))
		select {
		case <-ended:
			t.Fatalf("systemd did not start:\n%s", log.String())
		default:
		}
		return g.pid != "" && ReadText("/proc/"+g.pid+"/comm") == "systemd\n"
	})
	if err := g.In(LoopbackUp); err != nil {
		t.Fatal(err)
	}
	WaitFor(t, "systemd is up", func() bool {
		out, _ := g.Command("systemctl is-active basic.target").CombinedOutput()
		return strings.TrimSpace(string(out)) == "active"
	})
	return g
}

// startChild starts a command that ends with this program, also if that is killed, and returns what closes at its end.
func startChild(cmd *exec.Cmd) (ended <-chan struct{}, err error) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started, closes := make(chan error), make(chan struct{})
	go func() {
		// The signal comes when the thread that has started the command ends, so that thread waits for it.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait()
			close(closes)
		}
	}()
	return closes, <-started
}

// controlGroup is the path of a control group for a guest's processes. It is removed with the test.
func controlGroup(t *testing.T) string {
	t.Helper()
	for line := range strings.Lines(ReadText("/proc/self/mounts")) {
		if f := strings.Fields(line); len(f) > 2 && f[2] == "cgroup2" {
			group := filepath.Join(f[1], "postern-guest-"+rand.Text())
			t.Cleanup(func() { // those within first
				_ = exec.Command("find", group, "-depth", "-type", "d", "-exec", "rmdir", "{}", ";").Run()
			})
			return group
		}
	}
	t.Fatal("no control groups of version 2 are mounted")
	return ""
}

// In calls a function in the network of the guest, and returns its error. Sockets that it opens stay there.
func (g *Guest) In(do func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		fd, err := unix.Open("/proc/"+g.pid+"/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err == nil {
			err = unix.Setns(fd, unix.CLONE_NEWNET)
			_ = unix.Close(fd)
		}
		if err == nil {
			err = do()
		}
		done <- err
	}()
	return <-done
}

// Listen listens on a TCP address of the guest until the test ends.
func (g *Guest) Listen(address string) (l net.Listener) {
	g.T.Helper()
	err := g.In(func() (err error) {
		l, err = net.Listen("tcp", address)
		return err
	})
	if err != nil {
		g.T.Fatal(err)
	}
	g.T.Cleanup(func() { _ = l.Close() })
	return l
}

// Command is a script of bash in the guest, as root in root's home.
func (g *Guest) Command(script string) *exec.Cmd {
	cmd := exec.Command("nsenter", "--target="+g.pid, "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--root", "--wd",
		"env", "-i", "HOME=/root", "USER=root", "TERM=dumb", "LC_ALL=C.UTF-8", "DEBIAN_FRONTEND=noninteractive",
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"bash", "-euo", "pipefail", "-c", "cd /root\n"+script)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // without a terminal passwords are read from standard input
	return cmd
}

// scriptLimit bounds each script: apt may download much, on a machine that is busy with other work.
const scriptLimit = 30 * time.Minute

// Run carries out a script, and returns its output and exit status.
func (g *Guest) Run(stdin, script string) (output string, status int) {
	g.T.Helper()
	cmd := g.Command(script)
	cmd.Stdin = strings.NewReader(stdin)
	var out OutBuffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.WaitDelay = Timeout // for what the script has left behind, with its output
	if err := cmd.Start(); err != nil {
		g.T.Fatal(err)
	}
	timer := time.AfterFunc(scriptLimit, func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	err := cmd.Wait()
	if _, ok := err.(*exec.ExitError); err != nil && !ok {
		g.T.Fatal(err)
	}
	return out.String(), cmd.ProcessState.ExitCode()
}

// Must carries out a script that must succeed.
func (g *Guest) Must(script string) string {
	g.T.Helper()
	out, status := g.Run("", script)
	if status != 0 {
		g.T.Fatalf("%s\nexit status %d:\n%s", script, status, out)
	}
	return out
}

// Path is where the test finds a file of the guest.
func (g *Guest) Path(file string) string { return filepath.Join("/proc", g.pid, "root", file) }

// Write writes a file of the guest, and its folder.
func (g *Guest) Write(file, text string, mode os.FileMode) {
	g.T.Helper()
	path := g.Path(file)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		g.T.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		g.T.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		g.T.Fatal(err)
	}
}

// Add adds lines to a file of the guest.
func (g *Guest) Add(file, text string) {
	g.T.Helper()
	f, err := os.OpenFile(g.Path(file), os.O_APPEND|os.O_WRONLY|os.O_CREATE, 0o644)
	if err != nil {
		g.T.Fatal(err)
	}
	if _, err := f.WriteString(text); err != nil {
		g.T.Fatal(err)
	}
	if err := f.Close(); err != nil {
		g.T.Fatal(err)
	}
}

// Client runs a program of the test's own machine, or of another root, in the network of this one.
func (g *Guest) Client(root string, args ...string) Result {
	g.T.Helper()
	args = append([]string{"--net=/proc/" + g.pid + "/ns/net", "--root=" + root, "--wd=/"}, args...)
	return RunCommand(g.T, "", "nsenter", args...)
}

// Copy copies a file of the test to the guest.
func (g *Guest) Copy(from, to string, mode os.FileMode) {
	g.T.Helper()
	text, err := os.ReadFile(from)
	if err != nil {
		g.T.Fatal(err)
	}
	g.Write(to, string(text), mode)
}

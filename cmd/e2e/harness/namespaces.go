package harness

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// inside is the environment variable by which a test program knows that it has namespaces of its
// own. Its value is the folder of the program under test.
const inside = "POSTERN_E2E_INSIDE"

// ServersMain is Main for tests that start the servers of several releases. It gives the test
// program a network of its own, so that ports are free, mounts of its own, among them Debian 13's
// folder, and process numbers of its own, so that nothing of this is left however the tests end.
// That takes root or sudo; without them the tests of Debian 13's servers fail.
func ServersMain(m *testing.M) {
	dir := os.Getenv(inside)
	if dir == "" {
		dir = build()
		errTrixie = isolate(dir)
	} else {
		_ = os.Unsetenv(inside)
		Binary = filepath.Join(dir, "postern")
		errTrixie = furnish(Cached(trixie))
	}
	runIn(dir, m)
}

// GuestsMain is Main for tests that boot guests or change roots, and need no program under test. Before the
// tests, prepare makes what they need in a folder, as the user. Then the test program has a network, mounts and
// process numbers of its own, as with ServersMain, for which it is root.
func GuestsMain(m *testing.M, prepare func(dir string) error) {
	dir := os.Getenv(inside)
	var err error
	if dir == "" {
		dir = folder()
		if err = prepare(dir); err == nil {
			err = isolate(dir)
		}
	} else {
		_ = os.Unsetenv(inside)
		Binary = filepath.Join(dir, "postern")
		err = LoopbackUp()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		_ = os.RemoveAll(dir)
		os.Exit(1)
	}
	runIn(dir, m)
}

// isolate replaces the test program by itself in namespaces of its own. It returns why it cannot.
func isolate(dir string) error {
	var command []string
	if os.Geteuid() != 0 {
		if out, err := exec.Command("sudo", "-n", "true").CombinedOutput(); err != nil {
			return fmt.Errorf("the tests need root, or sudo without a password: %w: %s", err, out)
		}
		if _, err := Released(); err != nil { // as the user, who owns Go's cache
			return err
		}
		command = append([]string{"sudo", "-n", "env"}, os.Environ()...)
		command = append(command, inside+"="+dir)
	}
	command = append(command, "unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc")
	if out, err := exec.Command(command[0], append(command[1:], "true")...).CombinedOutput(); err != nil {
		return fmt.Errorf("the tests need namespaces of their own: %w: %s", err, out)
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	program, err := exec.LookPath(command[0])
	if err != nil {
		return err
	}
	command = append(append(command, self), os.Args[1:]...)
	return fmt.Errorf("%s: %w", program, syscall.Exec(program, command, append(os.Environ(), inside+"="+dir)))
}

// furnish starts the loopback network and mounts what the servers in the folder root need: the
// machine's devices, the tests' folders and the repository. All else there is read-only.
func furnish(root string) error {
	if err := LoopbackUp(); err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(root, "complete")); err != nil {
		return fmt.Errorf("%w: run scripts/setup.sh", err)
	}
	repository, err := filepath.Abs("../../..")
	if err != nil {
		return err
	}
	temporary := filepath.Dir(os.TempDir())
	for _, dir := range []string{temporary, repository} {
		if err := os.MkdirAll(root+dir, 0o755); err != nil {
			return err
		}
	}
	for _, mount := range []struct {
		from, to, kind string
		flags          uintptr
	}{
		{root, "", "", unix.MS_BIND},
		{"", "", "", unix.MS_BIND | unix.MS_REMOUNT | unix.MS_RDONLY},
		{"proc", "/proc", "proc", 0},
		{"/dev", "/dev", "", unix.MS_BIND | unix.MS_REC},
		{"tmpfs", "/run", "tmpfs", 0},
		{temporary, temporary, "", unix.MS_BIND},
		{repository, repository, "", unix.MS_BIND},
	} {
		if err := unix.Mount(mount.from, root+mount.to, mount.kind, mount.flags, ""); err != nil {
			return fmt.Errorf("mount %s: %w", root+mount.to, err)
		}
	}
	return nil
}

// LoopbackUp starts the loopback interface of a new network namespace.
func LoopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	lo.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCSIFFLAGS, uintptr(unsafe.Pointer(lo))); errno != 0 {
		return fmt.Errorf("start the loopback network: %w", errno)
	}
	return nil
}

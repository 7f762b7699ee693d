package chaos

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"postern/cmd/e2e/harness"
)

// image is a file system of some MiB in a file, that can fail as a disk does: an error makes the
// kernel refuse all writes from then on, those to open files, too.
type image struct {
	t         *testing.T
	file, dir string
}

func newImage(t *testing.T, mib int64) *image {
	t.Helper()
	i := &image{t: t, file: filepath.Join(t.TempDir(), "image"), dir: t.TempDir()}
	if err := os.WriteFile(i.file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(i.file, mib<<20); err != nil {
		t.Fatal(err)
	}
	i.run("mkfs.ext4", "-q", i.file)
	i.mount()
	t.Cleanup(func() { _ = syscall.Unmount(i.dir, syscall.MNT_DETACH) })
	return i
}

func (i *image) run(name string, args ...string) {
	i.t.Helper()
	if out, err := exec.Command(harness.Program(i.t, name), args...).CombinedOutput(); err != nil {
		i.t.Fatalf("%s %v, for which the tests must be root: %v\n%s", name, args, err, out)
	}
}

func (i *image) mount() {
	i.t.Helper()
	i.run("mount", "-o", "loop,errors=remount-ro", i.file, i.dir)
}

// fails makes the kernel find an error in the file system.
func (i *image) fails() {
	i.t.Helper()
	device := ""
	for line := range strings.Lines(harness.ReadText("/proc/mounts")) {
		if words := strings.Fields(line); words[1] == i.dir {
			device = filepath.Base(words[0])
		}
	}
	trigger := filepath.Join("/sys/fs/ext4", device, "trigger_fs_error")
	if err := os.WriteFile(trigger, []byte("a test"), 0o200); err != nil {
		i.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(i.dir, "probe"), nil, 0o600); err == nil {
		i.t.Fatal("the file system can still be written")
	}
}

// mends repairs the file system as an administrator would. It must not be in use.
func (i *image) mends() {
	i.t.Helper()
	if err := syscall.Unmount(i.dir, 0); err != nil {
		i.t.Fatal(err)
	}
	if out, err := exec.Command(harness.Program(i.t, "e2fsck"), "-p", "-f", i.file).CombinedOutput(); err != nil {
		if exit, ok := err.(*exec.ExitError); !ok || exit.ExitCode() > 1 { // 1: errors were corrected
			i.t.Fatalf("e2fsck: %v\n%s", err, out)
		}
	}
	i.mount()
}

// The disk becomes read-only under the running daemon, as the kernel does it after an error: logins
// go on, and all is well after a repair.
func TestChaosDiskTurnsReadOnly(t *testing.T) {
	t.Parallel()
	disk := newImage(t, 24)
	f := newDiskFault(t, disk.dir)
	f.right(20)
	disk.fails()
	harness.WaitFor(t, "the store fails", func() bool {
		f.right(10)
		return f.store() != ""
	})
	f.right(20)
	f.logins()
	f.saysLoudly("store has failed", "check disk space and the disk itself", "restart")
	if n := strings.Count(f.s.Log.String(), "\n"); n > 20 {
		t.Errorf("%d lines in the log", n)
	}
	f.diagnosed("store", "writable", "read-only", "read-only disk")
	f.diagnosed("store", "open", "works from memory", "repair the disk, then restart postern")
	f.s.Signal(syscall.SIGHUP) // which must not make it worse
	f.right(5)
	if code := f.s.Stop(syscall.SIGTERM); code != 0 {
		t.Errorf("the daemon ended with status %d", code)
	}
	disk.mends()
	f.s = serveChaos(t, f.config)
	f.right(5)
	f.logins()
	if why := f.store(); why != "" {
		t.Errorf("the disk is mended, but cache stats says %q", why)
	}
}

// The disk cannot be written when the daemon starts.
func TestChaosDiskReadOnly(t *testing.T) {
	t.Parallel()
	dir := harness.SmallDisk(t, 24)
	f := newDiskFault(t, dir)
	f.right(10)
	if code := f.s.Stop(syscall.SIGTERM); code != 0 {
		t.Errorf("the daemon ended with status %d", code)
	}
	if err := syscall.Mount("", dir, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	f.s = serveChaos(t, f.config)
	f.right(10)
	f.logins()
	f.saysLoudly("data directory cannot be written", "check the disk")
	f.saysLoudly("cache works from memory only", "check disk space and the disk itself")
	if f.store() == "" {
		t.Error("cache stats does not show that there is no store")
	}
	f.diagnosed("store", "writable", "read-only file system", "read-only disk")
	f.diagnosed("store", "open", "works from memory", "correct that, then restart postern")
	p := harness.Start(t, "pipe", "--protocol", "ejabberd", "--config", f.config)
	p.Send(harness.Frame("auth:d1:app.example:" + chaosPassword("d1@app.example", 0)))
	p.Expect("\x00\x02\x00\x01")
	if code := f.s.Stop(syscall.SIGTERM); code != 0 {
		t.Errorf("the daemon ended with status %d", code)
	}
}

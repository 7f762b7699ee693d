package backend

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestUsersFileWriters lets several open files add users at the same time: none is lost.
func TestUsersFileWriters(t *testing.T) {
	path := filepath.Join(t.TempDir(), "users")
	hash := hashed(t, "x")
	const writers, each = 6, 8
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			f, err := OpenUsersFile(path, false)
			for n := range each {
				if err == nil {
					err = f.Add(context.Background(), id(fmt.Sprintf("u%d-%d", w, n)), hash, nil)
				}
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	f := openUsers(t, path)
	list, err := f.List()
	if err != nil || len(list) != writers*each {
		t.Errorf("%d users, %v; want %d", len(list), err, writers*each)
	}
	if m, err := f.lookup(id("unknown")); m.known || err != nil {
		t.Errorf("broken: %+v, %v", m, err)
	}
}

// TestUsersFileLocked waits for another process that holds the lock, until ctx ends.
// The other process is this test binary.
func TestUsersFileLocked(t *testing.T) {
	if path := os.Getenv("POSTERN_TEST_LOCK"); path != "" {
		file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil || unix.Flock(int(file.Fd()), unix.LOCK_EX) != nil {
			os.Exit(1)
		}
		fmt.Println("locked")
		_, _ = os.Stdin.Read(make([]byte, 1)) // until the parent lets go
		os.Exit(0)
	}
	path := filepath.Join(t.TempDir(), "users")
	child := exec.Command(os.Args[0], "-test.run=^TestUsersFileLocked$")
	child.Env = append(os.Environ(), "POSTERN_TEST_LOCK="+path+".lock")
	release, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	word := make([]byte, 6)
	if _, err := out.Read(word); err != nil || !bytes.Equal(word, []byte("locked")) {
		t.Fatalf("child said %q, %v", word, err)
	}
	f := openUsers(t, path)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	if err := f.Add(ctx, id("joe"), hashed(t, "x"), nil); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "locked") {
		t.Errorf("under another's lock: %v", err)
	}
	release.Close()
	if err := child.Wait(); err != nil {
		t.Fatal(err)
	}
	if err := f.Add(t.Context(), id("joe"), hashed(t, "x"), nil); err != nil {
		t.Errorf("after the lock: %v", err)
	}
}

// TestUsersFileOwner: a file that root changes keeps its owner.
func TestUsersFileOwner(t *testing.T) {
	// Only root can change owners. For other users both owners are the same, which the file must
	// keep as well.
	first, second := [2]int{4711, 4712}, [2]int{4713, 4714}
	if os.Getuid() != 0 {
		first = [2]int{os.Getuid(), os.Getgid()}
		second = first
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "users")
	if err := os.Chown(dir, first[0], first[1]); err != nil {
		t.Fatal(err)
	}
	f := openUsers(t, path)
	owners := func() [4]int {
		var out [4]int
		for i, name := range []string{path, path + ".lock"} {
			info, err := os.Stat(name)
			if err != nil {
				t.Fatal(err)
			}
			stat := info.Sys().(*syscall.Stat_t)
			out[2*i], out[2*i+1] = int(stat.Uid), int(stat.Gid)
		}
		return out
	}
	if err := f.Add(t.Context(), id("joe"), hashed(t, "x"), nil); err != nil {
		t.Fatal(err)
	}
	if got := owners(); got != [4]int{first[0], first[1], first[0], first[1]} {
		t.Errorf("a new file in another's directory belongs to %v", got)
	}
	if err := os.Chown(path, second[0], second[1]); err != nil {
		t.Fatal(err)
	}
	if err := f.Add(t.Context(), id("ann"), hashed(t, "x"), nil); err != nil {
		t.Fatal(err)
	}
	if got := owners(); got[0] != second[0] || got[1] != second[1] {
		t.Errorf("a changed file belongs to %v", got)
	}
}

// TestUsersFileMode: a change keeps the mode. Only postern can read a new file.
func TestUsersFileMode(t *testing.T) {
	for _, mode := range []os.FileMode{0, 0o600, 0o640, 0o660, 0o644, 0o400} {
		path := filepath.Join(t.TempDir(), "users")
		want := mode
		if mode == 0 {
			want = 0o600
		} else {
			write(t, path, "")
			if err := os.Chmod(path, mode); err != nil {
				t.Fatal(err)
			}
		}
		if err := openUsers(t, path).Add(t.Context(), id("joe"), hashed(t, "x"), nil); err != nil {
			t.Fatal(err)
		}
		if got := mustStat(t, path).Mode(); got != want {
			t.Errorf("%v became %v, want %v", mode, got, want)
		}
	}
	// If the group cannot be kept, the new group does not get its rights.
	path := filepath.Join(t.TempDir(), "users")
	write(t, path, "")
	old := mustStat(t, path)
	stat := *old.Sys().(*syscall.Stat_t)
	stat.Gid++
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if got := modeFor(file, fileInfo{old, 0o644, &stat}); got != 0o604 {
		t.Errorf("with another group: %v", got)
	}
}

// fileInfo is a FileInfo with another mode and owner.
type fileInfo struct {
	os.FileInfo
	mode os.FileMode
	stat *syscall.Stat_t
}

func (f fileInfo) Mode() os.FileMode { return f.mode }
func (f fileInfo) Sys() any          { return f.stat }

// TestUsersFileLink: a symbolic link to the file stays one.
func TestUsersFileLink(t *testing.T) {
	dir := t.TempDir()
	target, link := filepath.Join(dir, "target"), filepath.Join(dir, "users")
	write(t, target, "")
	if err := os.Symlink("target", link); err != nil {
		t.Fatal(err)
	}
	if err := openUsers(t, link).Add(t.Context(), id("joe"), hashed(t, "x"), nil); err != nil {
		t.Fatal(err)
	}
	if got := names(t, openUsers(t, target)); got != "joe@dom.example" {
		t.Errorf("the target holds %q", got)
	}
	if info, err := os.Lstat(link); err != nil || info.Mode()&os.ModeSymlink == 0 {
		t.Errorf("the link became %v, %v", info.Mode(), err)
	}
}

// TestUsersFileWriteFails leaves the old file as it was.
func TestUsersFileWriteFails(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "users")
	write(t, path, "joe@dom.example:"+hashed(t, "x")+"\n")
	old, _ := os.ReadFile(path)
	f := openUsers(t, path)
	if err := os.Mkdir(path+".lock", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := f.Remove(t.Context(), id("joe")); err == nil {
		t.Error("changed without a lock")
	}
	if now, _ := os.ReadFile(path); !bytes.Equal(now, old) {
		t.Error("the file changed")
	}
	if err := replaceFile(dir, old, mustStat(t, dir)); err == nil {
		t.Error("a directory was replaced")
	}
	entries, _ := os.ReadDir(filepath.Dir(dir))
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".tmp") {
			t.Errorf("left behind: %s", e.Name())
		}
	}
}

func mustStat(t *testing.T, path string) os.FileInfo {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info
}

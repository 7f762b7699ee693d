package logfile

import (
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// timeout bounds every wait of these tests.
const timeout = 3 * time.Minute

// waitFor waits until a condition is met, within timeout.
func waitFor(t *testing.T, what string, met func() bool) {
	t.Helper()
	for end := time.Now().Add(timeout); !met(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("did not happen: %s", what)
		}
	}
}

// readText is the text of a file, empty without one.
func readText(file string) string {
	data, _ := os.ReadFile(file)
	return string(data)
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func mkdir(t *testing.T, path string) {
	t.Helper()
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
}

// foreign gives a directory to another user, if this process is root. The function that it returns
// lists the files below that belong to a different user.
func foreign(t *testing.T, dir string) (strangers func() []string) {
	t.Helper()
	uid, gid := 4711, 4712
	if os.Getuid() != 0 {
		uid, gid = os.Getuid(), os.Getgid()
	}
	if err := os.Chown(dir, uid, gid); err != nil {
		t.Fatal(err)
	}
	return func() (found []string) {
		t.Helper()
		err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := entry.Info()
			if err != nil {
				return err
			}
			if stat := info.Sys().(*syscall.Stat_t); int(stat.Uid) != uid || int(stat.Gid) != gid {
				found = append(found, path)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
}

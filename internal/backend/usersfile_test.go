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

	"postern/internal/auth"
)

func openUsers(t testing.TB, path string) *UsersFile {
	t.Helper()
	f, err := OpenUsersFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func names(t testing.TB, f *UsersFile) string {
	t.Helper()
	list, err := f.List()
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, id := range list {
		out = append(out, id.String())
	}
	return strings.Join(out, " ")
}

func id(user string) auth.Identity { return auth.Identity{User: user, Domain: "dom.example"} }

func TestUsersFileChanges(t *testing.T) {
	ctx := t.Context()
	path := filepath.Join(t.TempDir(), "users")
	one, two := hashed(t, "one"), hashed(t, "two")
	f, other := openUsers(t, path), openUsers(t, path)
	if got := names(t, f); got != "" {
		t.Errorf("a file that is not there holds %q", got)
	}
	for _, step := range []struct {
		name string
		err  error
		want error
	}{
		{"set before add", f.Set(ctx, id("joe"), one), ErrUnknownUser},
		{"remove before add", f.Remove(ctx, id("joe")), ErrUnknownUser},
		{"add", f.Add(ctx, id("joe"), one), nil},
		{"add again", other.Add(ctx, id("joe"), two), ErrExists},
		{"add another", other.Add(ctx, id("a:b"), one), nil},
		{"set", f.Set(ctx, id("joe"), two), nil},
		{"bad hash", f.Set(ctx, id("joe"), "secret"), nil},
		{"comment", f.Add(ctx, id("#joe"), one), ErrName},
		{"space", f.Add(ctx, id(" joe"), one), ErrName},
		{"colon", f.Add(ctx, auth.Identity{User: "joe", Domain: "::1"}, one), ErrName},
	} {
		if step.name == "bad hash" {
			if step.err == nil {
				t.Error("a text that is no hash was written")
			}
		} else if !errors.Is(step.err, step.want) {
			t.Errorf("%s: %v, want %v", step.name, step.err, step.want)
		}
	}
	for _, file := range []*UsersFile{f, other, openUsers(t, path)} {
		if got := names(t, file); got != "a:b@dom.example joe@dom.example" {
			t.Errorf("holds %q", got)
		}
	}
	if entry, known, err := f.lookup(id("joe")); err != nil || !known || entry.hash != two {
		t.Errorf("joe: %v, %v", known, err)
	}
	if err := f.Remove(ctx, id("joe")); err != nil {
		t.Error(err)
	}
	if got := names(t, other); got != "a:b@dom.example" {
		t.Errorf("after removal: %q", got)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	entries, _ := os.ReadDir(filepath.Dir(path))
	if len(entries) != 2 { // the file and its lock
		t.Errorf("left behind: %v", entries)
	}
}

// TestUsersFileKeepsLines: comments, blank and broken lines, other users' spelling and
// CRs survive a change; only the user's own line changes.
func TestUsersFileKeepsLines(t *testing.T) {
	path := filepath.Join(t.TempDir(), "users")
	one := hashed(t, "one")
	write(t, path, "# staff\r\n\njoe@DOM.example.:"+one+"\r\nann@Dom.Example:"+one+"\r\n???\nlast@dom.example:"+one)
	f := openUsers(t, path)
	if err := f.Set(t.Context(), id("joe"), one); err != nil {
		t.Fatal(err)
	}
	want := "# staff\r\n\nann@Dom.Example:" + one + "\r\n???\nlast@dom.example:" + one + "\njoe@dom.example:" + one + "\n"
	if got, _ := os.ReadFile(path); string(got) != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	broken, err := f.Broken()
	if err != nil || len(broken) != 1 || !errors.Is(broken[0], ErrBrokenFile) || !strings.Contains(broken[0].Error(), "line 4") {
		t.Errorf("broken lines: %v, %v", broken, err)
	}
}

func TestParseUser(t *testing.T) {
	good := hashed(t, "x")
	for line, want := range map[string]string{
		"joe@dom.example:" + good:          "joe@dom.example",
		"a:b@dom.example:" + good + "\r\n": "a:b@dom.example",
		"a b@DOM.example.:" + good:         "a b@dom.example",
		"":                                 "@", "   ": "@", "# joe@dom.example:x": "@", "#": "@",
		"joe":                                "no '@'",
		"joe:" + good:                        "no '@'",
		"joe@dom.example":                    "no ':'",
		"@dom.example:" + good:               "empty user",
		"joe@:" + good:                       "empty domain",
		" joe@dom.example:" + good:           "white space",
		"joe @dom.example:" + good:           "white space",
		"joe@dom.example: " + good:           "not a usable",
		"joe@dom.example:" + good + " ":      "not a usable",
		"joe@dom.example:":                   "not a usable",
		"joe@dom.example:" + canary:          "not a usable",
		"joe@a@b:" + good:                    "'@' in domain",
		"joe@dom.example:$2b$31$" + good[7:]: "cost 31",
	} {
		got, hash, err := parseUser(line)
		switch {
		case err != nil:
			if !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), canary) || hash != "" {
				t.Errorf("%q: %v, want %q", line, err, want)
			}
		case got.String() != want || (hash == good) != (got.User != ""):
			t.Errorf("%q: %s, want %s", line, got, want)
		}
	}
}

// TestUsersFileNoticesChanges changes the file under a reader in every way: renamed over,
// rewritten in place with the same length, removed, made again.
func TestUsersFileNoticesChanges(t *testing.T) {
	path := filepath.Join(t.TempDir(), "users")
	line := func(user string) string { return user + "@dom.example:" + hashed(t, user) + "\n" }
	f := openUsers(t, path)
	past := time.Now().Add(-time.Hour)
	expect := func(how, want string) {
		t.Helper()
		for range 2 {
			if got := names(t, f); got != want {
				t.Errorf("%s: %q, want %q", how, got, want)
			}
		}
	}
	write(t, path, line("joe"))
	expect("created", "joe@dom.example")
	// A time stamp that is not past may stand for several changes.
	soon := time.Now().Add(time.Hour)
	touch(t, path, soon)
	expect("touched", "joe@dom.example")
	write(t, path, line("ann"))
	touch(t, path, soon)
	expect("same length, same time stamp", "ann@dom.example")
	touch(t, path, past)
	expect("older", "ann@dom.example")
	write(t, path+".new", line("bob"))
	touch(t, path+".new", past)
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
	expect("another file of the same length and time", "bob@dom.example")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	expect("removed", "")
	write(t, path, line("joe")+line("ann"))
	expect("made again", "ann@dom.example joe@dom.example")
}

func touch(t *testing.T, path string, at time.Time) {
	t.Helper()
	if err := os.Chtimes(path, at, at); err != nil {
		t.Fatal(err)
	}
}

// TestUsersFileIsNotReread: a file that has not changed costs a stat, no reading.
func TestUsersFileIsNotReread(t *testing.T) {
	path := filepath.Join(t.TempDir(), "users")
	write(t, path, "joe@dom.example:"+hashed(t, "x")+"\n")
	touch(t, path, time.Now().Add(-time.Hour))
	f := openUsers(t, path)
	first, err := f.table()
	if err != nil {
		t.Fatal(err)
	}
	if again, err := f.table(); err != nil || again != first {
		t.Errorf("read again without a change: %v", err)
	}
}

// TestUsersFileWriters lets several open files add users at the same time: none is lost.
func TestUsersFileWriters(t *testing.T) {
	path := filepath.Join(t.TempDir(), "users")
	hash := hashed(t, "x")
	const writers, each = 6, 8
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			f, err := OpenUsersFile(path)
			for n := range each {
				if err == nil {
					err = f.Add(context.Background(), id(fmt.Sprintf("u%d-%d", w, n)), hash)
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
	if broken, err := f.Broken(); err != nil || len(broken) != 0 {
		t.Errorf("broken: %v, %v", broken, err)
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
	if err := f.Add(ctx, id("joe"), hashed(t, "x")); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "locked") {
		t.Errorf("under another's lock: %v", err)
	}
	release.Close()
	if err := child.Wait(); err != nil {
		t.Fatal(err)
	}
	if err := f.Add(t.Context(), id("joe"), hashed(t, "x")); err != nil {
		t.Errorf("after the lock: %v", err)
	}
}

// TestUsersFileOwner: what root changes stays the property of the daemon's user.
func TestUsersFileOwner(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root, to give files away")
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "users")
	if err := os.Chown(dir, 4711, 4712); err != nil {
		t.Fatal(err)
	}
	f := openUsers(t, path)
	owners := func() [4]uint32 {
		var out [4]uint32
		for i, name := range []string{path, path + ".lock"} {
			info, err := os.Stat(name)
			if err != nil {
				t.Fatal(err)
			}
			stat := info.Sys().(*syscall.Stat_t)
			out[2*i], out[2*i+1] = stat.Uid, stat.Gid
		}
		return out
	}
	if err := f.Add(t.Context(), id("joe"), hashed(t, "x")); err != nil {
		t.Fatal(err)
	}
	if got := owners(); got != [4]uint32{4711, 4712, 4711, 4712} {
		t.Errorf("a new file in another's directory belongs to %v", got)
	}
	if err := os.Chown(path, 4713, 4714); err != nil {
		t.Fatal(err)
	}
	if err := f.Add(t.Context(), id("ann"), hashed(t, "x")); err != nil {
		t.Fatal(err)
	}
	if got := owners(); got[0] != 4713 || got[1] != 4714 {
		t.Errorf("a changed file belongs to %v", got)
	}
}

// TestUsersFileLink: a symbolic link to the file stays one.
func TestUsersFileLink(t *testing.T) {
	dir := t.TempDir()
	target, link := filepath.Join(dir, "target"), filepath.Join(dir, "users")
	write(t, target, "")
	if err := os.Symlink("target", link); err != nil {
		t.Fatal(err)
	}
	if err := openUsers(t, link).Add(t.Context(), id("joe"), hashed(t, "x")); err != nil {
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

// FuzzUsersFile: no content panics, every user listed can be found, errors quote
// nothing, and adding a user keeps everybody else.
func FuzzUsersFile(f *testing.F) {
	good := hashed(f, "x")
	f.Add([]byte("joe@dom.example:" + good + "\n# x\n\n"))
	f.Add([]byte("a:b@c:" + good + "\r\na:b@C.:" + good))
	f.Add([]byte("joe@dom.example:" + canary + "\n" + canary))
	f.Add([]byte("\xff@\x00:\n@:\n:@"))
	f.Fuzz(func(t *testing.T, data []byte) {
		before := parseUsers(data)
		for _, err := range before.broken {
			if !errors.Is(err, ErrBrokenFile) || strings.Contains(err.Error(), canary) {
				t.Fatalf("%v", err)
			}
		}
		added := id("fuzz")
		rest, had := withoutUser(data, added)
		if _, known := before.users[added]; known != (had > 0) {
			t.Fatalf("known %v, lines %d", known, had)
		}
		after := parseUsers(append(rest, added.String()+":"+good+"\n"...))
		if after.users[added] != (usersEntry{hash: good}) {
			t.Fatal("the added user is not there")
		}
		delete(before.users, added)
		delete(after.users, added)
		if len(before.users) != len(after.users) || (before.whose == nil) != (after.whose == nil) {
			t.Fatalf("others changed: %d and %d users", len(before.users), len(after.users))
		}
		for who, entry := range before.users {
			if other := after.users[who]; other.hash != entry.hash || (other.err == nil) != (entry.err == nil) {
				t.Fatal("another user changed")
			}
			if who == (auth.Identity{}) {
				t.Fatal("a user without a name")
			}
		}
	})
}

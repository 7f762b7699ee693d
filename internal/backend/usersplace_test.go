package backend

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"postern/internal/auth"
	"postern/internal/auth/passhash"
)

// TestUsersFileAsRoot: root writes where links of its own lead, and nowhere else; a file that root alone
// may read is neither read nor replaced through a link of the service's user.
func TestUsersFileAsRoot(t *testing.T) {
	if os.Geteuid() != 0 {
		if out, err := exec.Command("sudo", "-n", os.Args[0], "-test.run=^"+t.Name()+"$").CombinedOutput(); err != nil {
			t.Fatalf("this needs root, or sudo without a password: %v\n%s", err, out)
		}
		return
	}
	const service = 12345
	hash, err := passhash.New("secret", passhash.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	cases := map[string]struct {
		link  func(dir string) (link, to string)
		owner int
		ok    bool
	}{
		"the file is a link of the service":          {func(dir string) (string, string) { return dir + "/data/users", dir + "/shadow" }, service, false},
		"a relative link of the service":             {func(dir string) (string, string) { return dir + "/data/users", "../shadow" }, service, false},
		"the directory is a link of the service":     {func(dir string) (string, string) { return dir + "/data/sub", dir + "/private" }, service, false},
		"the file is a link of root":                 {func(dir string) (string, string) { return dir + "/data/users", dir + "/shadow" }, 0, true},
		"a relative link of root":                    {func(dir string) (string, string) { return dir + "/data/users", "../shadow" }, 0, true},
		"the directory is a link of root":            {func(dir string) (string, string) { return dir + "/data/sub", "../private" }, 0, true},
		"a link of the service to what is not there": {func(dir string) (string, string) { return dir + "/data/users", dir + "/new" }, service, false},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for _, sub := range []string{"data", "private"} {
				if err := os.Mkdir(filepath.Join(dir, sub), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.Chown(filepath.Join(dir, "data"), service, service); err != nil {
				t.Fatal(err)
			}
			const content = "root@dom.example:" // no valid line, and kept
			for _, file := range []string{"shadow", "private/users"} {
				if err := os.WriteFile(filepath.Join(dir, file), []byte("# "+content+"\n"), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			link, to := c.link(dir)
			if err := os.Symlink(to, link); err != nil {
				t.Fatal(err)
			}
			if err := os.Lchown(link, c.owner, c.owner); err != nil {
				t.Fatal(err)
			}
			path, target := link, filepath.Join(dir, "shadow")
			if filepath.Base(link) == "sub" {
				path, target = link+"/users", filepath.Join(dir, "private/users")
			}
			f := &UsersFile{path: path}
			err := f.Add(context.Background(), auth.Identity{User: "joe", Domain: "dom.example"}, hash, nil)
			text, _ := os.ReadFile(target)
			if written := strings.Contains(string(text), "joe@"); written != c.ok || (err == nil) != c.ok {
				t.Errorf("written %t, %v; want %t", written, err, c.ok)
			}
			if !c.ok && !errors.Is(err, errLink) {
				t.Errorf("the error is %v", err)
			}
			if info, err := os.Lstat(link); err != nil || info.Mode()&os.ModeSymlink == 0 {
				t.Errorf("the link was replaced: %v", err)
			}
			if _, err := os.Stat(filepath.Join(dir, "new")); err == nil {
				t.Error("a file was made where the link leads")
			}
		})
	}
}

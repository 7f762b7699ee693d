package packages

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"postern/cmd/e2e/harness"
)

// imageConfig is how an image is to be run.
type imageConfig struct {
	User, WorkingDir string
	Entrypoint, Cmd  []string
}

// unpack unpacks the image: its layer is a folder, into which its processes cannot see beyond.
func unpack(t *testing.T) (root string, c imageConfig) {
	t.Helper()
	oci := t.TempDir()
	root = filepath.Join(oci, "root")
	harness.Mkdir(t, root)
	if err := os.Chmod(root, 0o755); err != nil {
		t.Fatal(err)
	}
	tar := func(args ...string) {
		t.Helper()
		if r := harness.RunCommand(t, "", "tar", args...); r.Code != 0 {
			t.Fatalf("tar %q: %s", args, r.Err)
		}
	}
	tar("-xf", made(t, "*.oci.tar"), "-C", oci)
	manifest := harness.Decode[[]struct {
		Config string
		Layers []string
	}](t, harness.ReadText(oci+"/manifest.json"))
	for _, layer := range manifest[0].Layers {
		tar("-xzpf", filepath.Join(oci, layer), "--same-owner", "-C", root)
	}
	var file struct{ Config imageConfig }
	if err := json.Unmarshal([]byte(harness.ReadText(filepath.Join(oci, manifest[0].Config))), &file); err != nil {
		t.Fatal(err)
	}
	return root, file.Config
}

// The image has all that its program needs: as its user, with nothing but its files, it serves.
func TestImage(t *testing.T) {
	root, c := unpack(t)
	user, err := strconv.ParseUint(c.User, 10, 32)
	if err != nil || user == 0 {
		t.Fatalf("it runs as user %q", c.User)
	}
	command := func(args ...string) *exec.Cmd {
		args = append(c.Entrypoint[1:], args...)
		return &exec.Cmd{Path: c.Entrypoint[0], Args: append(c.Entrypoint[:1:1], args...), Dir: c.WorkingDir, Env: []string{},
			SysProcAttr: &syscall.SysProcAttr{Chroot: root, Credential: &syscall.Credential{Uid: uint32(user), Gid: uint32(user)}}}
	}
	if err := os.WriteFile(root+"/etc/postern/config.hcl", []byte(ownUsers), 0o644); err != nil {
		t.Fatal(err)
	}
	version := command("--version")
	if out, err := version.CombinedOutput(); err != nil || !strings.HasPrefix(string(out), "postern ") {
		t.Errorf("--version: %v, %s", err, out)
	}
	add := command("user", "add", "joe@dom.example")
	add.Stdin = strings.NewReader("secret\n")
	if out, err := add.CombinedOutput(); err != nil {
		t.Fatalf("user add: %v, %s", err, out)
	}
	p := &harness.Process{T: t, Cmd: command(c.Cmd...)}
	p.Cmd.Stderr = &p.Log
	p.Run()
	p.Logged("msg=ready")
	if got := harness.Exchange(t, address, harness.JoeLine+"auth:joe:dom.example:wrong\n"); got != "1\n0\n" {
		t.Errorf("two logins are answered %q", got)
	}
	p.Signal(syscall.SIGTERM)
	if code := p.Exit(); code != 0 {
		t.Errorf("it ends with status %d", code)
	}
}

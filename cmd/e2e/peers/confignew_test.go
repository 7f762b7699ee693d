package peers

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"postern/cmd/e2e/harness"
)

// What `config new` writes and prints is all that Prosody needs.
func TestConfigNewForProsody(t *testing.T) {
	dir := shortDir(t)
	file := filepath.Join(dir, "config.hcl")
	printed := harness.OK(t, "", "config", "new", file, "--logins", "users", "--server", "prosody", "--domain", "dom.example", "--data-dir", filepath.Join(dir, "data"))
	harness.OK(t, "", "config", "check", file)
	if err := os.Mkdir(filepath.Join(dir, "data"), 0o700); err != nil {
		t.Fatal(err)
	}
	harness.OK(t, "secret\n", "user", "add", "joe@dom.example", "--config", file)
	harness.Serve(t, "--config", file)
	_, lines, _ := strings.Cut(printed, "dom.example.cfg.lua\n\n")
	lines, _, found := strings.Cut(lines, "\nThen:\n")
	if !found {
		t.Fatalf("%s", printed)
	}
	p := startProsody(t, harness.Machine(), lines)
	p.eventually("secret")
	p.wantLogin("joe", "wrong", "not-authorized")
}

// Package packages tests what `make deb` and `make install` make.
package packages

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// repository is the root of the source tree.
const repository = "../../.."

// packageDir is where the package is built.
var packageDir string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "pt")
	if err == nil {
		packageDir, err = dir, build(dir)
	}
	code := 1
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	} else {
		code = m.Run()
	}
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// build makes the package in a folder.
func build(dir string) error {
	if out, err := exec.Command("make", "-C", repository, "deb", "ARCH=amd64", "OUT="+dir).CombinedOutput(); err != nil {
		return fmt.Errorf("make deb: %w: %s", err, out)
	}
	return nil
}

// deb is the path of the package.
func deb(t *testing.T) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(packageDir, "postern_*_amd64.deb"))
	if err != nil || len(found) != 1 {
		t.Fatalf("packages: %q, %v", found, err)
	}
	return found[0]
}

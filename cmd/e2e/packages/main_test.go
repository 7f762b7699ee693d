// Package packages tests what `make deb`, `make image` and `make install` make, in the end by
// installing it.
//
// `make package-test` does so in fresh installations of Debian 12 and 13, with the packages of both
// architectures, and with the image and the archives as they are shipped. `make test` uses a copy of the machine's
// own root, and an image with programs that the C compiler links, which are compiled already.
package packages

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"

	"postern/cmd/e2e/harness"
)

// repository is the root of the source tree.
const repository = "../../.."

// full reports whether everything is tested as it is shipped.
func full() bool { return os.Getenv("POSTERN_PACKAGES") == "full" }

func TestMain(m *testing.M) { harness.GuestsMain(m, build) }

// build makes the package twice, in different surroundings, and the image.
func build(dir string) error {
	const program = "./cmd/postern ./cmd/postern-relay"
	image := `go build -ldflags '-linkmode external -extldflags -static' -o "$0/static/" ` + program + `
SOURCE_DATE_EPOCH=1 go run ./scripts/package/image -version 1 -programs "$0/static" -out "$0/image.oci.tar"`
	if full() {
		image = `make image ARCH="$1" OUT="$0"; make tarball OUT="$0"`
	}
	architectures := runtime.GOARCH
	if full() {
		architectures = "amd64 arm64"
	}
	for _, script := range []string{
		`make deb ARCH="$2" OUT="$0"`,
		`umask 077; export TZ=Asia/Kolkata LC_ALL=C.UTF-8; unset SOURCE_DATE_EPOCH; make deb ARCH="$1" OUT="$0/again"`,
		image,
	} {
		cmd := exec.Command("sh", "-euc", script, dir, runtime.GOARCH, architectures)
		cmd.Dir = repository
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", script, err, out)
		}
	}
	return nil
}

// made is the path of a file that build has made.
func made(t *testing.T, pattern string) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(filepath.Dir(harness.Binary), pattern))
	if err != nil || len(found) != 1 {
		t.Fatalf("%s: %q, %v", pattern, found, err)
	}
	return found[0]
}

// deb is the path of the package.
func deb(t *testing.T) string {
	t.Helper()
	return made(t, "postern_*_"+runtime.GOARCH+".deb")
}

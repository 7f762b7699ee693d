package packages

import (
	"testing"

	"postern/cmd/e2e/harness"
)

// The same programs yield the same package, whatever the time zone, the language and the mode of new
// files. `make reproducible` compiles the programs twice, too.
func TestReproducible(t *testing.T) {
	if r := harness.RunCommand(t, "", "cmp", deb(t), made(t, "again/postern_*.deb")); r.Code != 0 {
		t.Errorf("the packages differ: %s%s", r.Out, r.Err)
	}
}

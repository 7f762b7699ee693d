package packages

import (
	"testing"

	"postern/cmd/e2e/harness"
)

// lintian finds neither errors nor warnings.
func TestLintian(t *testing.T) {
	r := harness.RunCommand(t, "", harness.Program(t, "lintian"), "--allow-root", "--fail-on", "error,warning", deb(t))
	if r.Code != 0 || r.Out+r.Err != "" {
		t.Errorf("exit status %d\n%s%s", r.Code, r.Out, r.Err)
	}
}

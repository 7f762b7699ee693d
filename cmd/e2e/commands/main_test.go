// Package commands tests what the commands print and do, one file a command, with a daemon running and
// without one.
package commands

import (
	"testing"

	"postern/cmd/e2e/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }

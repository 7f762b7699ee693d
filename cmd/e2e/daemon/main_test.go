// Package daemon tests `postern serve` as a process: its sockets, signals, reloads, limits, logs and
// metrics, and that no secret leaves it.
package daemon

import (
	"testing"

	"postern/cmd/e2e/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }

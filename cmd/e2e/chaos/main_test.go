// Package chaos puts real processes through faults, while clients on every front send right and
// wrong questions with answers that the checker knows. `make chaos` runs it for long: POSTERN_CHAOS
// is the duration, and POSTERN_CHAOS_SEED repeats a run's questions.
package chaos

import (
	"testing"

	"postern/cmd/e2e/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }

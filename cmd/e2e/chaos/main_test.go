// Package chaos puts real processes through faults while clients on every front put right and wrong
// questions of which the checker knows the answer. `make chaos` runs it for long: POSTERN_CHAOS is for
// how long, and POSTERN_CHAOS_SEED repeats a run's questions.
package chaos

import (
	"testing"

	"postern/cmd/e2e/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }

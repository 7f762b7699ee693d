//go:build !race

package harness

import ()

// raceEnabled has the program under test built as the tests are.
const raceEnabled = false

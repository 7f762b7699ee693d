//go:build !race

package harness

// raceEnabled has the program under test built as the tests are.
const raceEnabled = false

//go:build race

package token

// raceEnabled: under the race detector sync.Pool drops entries at random, so that
// allocations cannot be counted.
const raceEnabled = true

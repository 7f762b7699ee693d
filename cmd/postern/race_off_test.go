//go:build !race

package main

// raceEnabled has the program under test built as the tests are.
const raceEnabled = false

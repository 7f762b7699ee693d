// Package unixtime holds moments as they are stored and compared: Unix milliseconds of the wall
// clock, since records outlive the process and its monotonic clock. The wall clock can be set
// back, and a moment that then lies in the future would prolong every lifetime that starts with
// it. So Within does not accept moments from the future, but for a small tolerance.
package unixtime

import "time"

// Time is a moment in Unix milliseconds, the resolution of everything stored.
type Time int64

// skew is how far into the future a moment may lie: small steps of a clock that is being
// corrected.
const skew = 5 * time.Minute

// At converts a moment of the wall clock.
func At(t time.Time) Time { return Time(t.UnixMilli()) }

// Go returns the moment as a time.Time.
func (t Time) Go() time.Time { return time.UnixMilli(int64(t)) }

// Add returns the moment d after t.
func (t Time) Add(d time.Duration) Time { return t + Time(d/time.Millisecond) }

// Sub returns the duration from u to t.
func (t Time) Sub(u Time) time.Duration { return time.Duration(t-u) * time.Millisecond }

// Within reports whether now is less than ttl after t, and t not too far in the future. The end
// of a lifetime does not belong to it.
func (t Time) Within(ttl time.Duration, now Time) bool {
	age := now.Sub(t)
	return age < ttl && age > -skew
}

package status

import (
	"fmt"
	"strconv"
	"time"
)

// number writes a number with commas between its thousands.
func number(n uint64) string {
	digits := strconv.FormatUint(n, 10)
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}

// took writes a time that something took, with three digits at most.
func took(d time.Duration) (value, unit string) {
	switch {
	case d <= 0:
		return "–", ""
	case d < time.Millisecond:
		return strconv.FormatInt(max(d.Microseconds(), 1), 10), "µs"
	case d < 10*time.Millisecond:
		return strconv.FormatFloat(float64(d.Microseconds())/1000, 'f', 1, 64), "ms"
	case d < time.Second:
		return strconv.FormatInt(d.Milliseconds(), 10), "ms"
	}
	return strconv.FormatFloat(d.Seconds(), 'f', 1, 64), "s"
}

func tookText(d Duration) string {
	value, unit := took(time.Duration(d))
	if unit == "" {
		return value
	}
	return value + " " + unit
}

// stamp writes a moment: the time alone if it is of the same day. The page says that it is UTC.
func stamp(at, now time.Time) string {
	at, now = at.UTC(), now.UTC()
	if at.Format(time.DateOnly) == now.Format(time.DateOnly) {
		return at.Format(time.TimeOnly)
	}
	return at.Format("2006-01-02 15:04:05")
}

// ago writes how long something is.
func ago(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%d s", int(max(d, 0).Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h %d min", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%d days", int(d.Hours()/24))
}

// size writes a number of bytes.
func size(n uint64) string {
	value, unit := float64(n), 0
	for value >= 1000 && unit < 4 {
		value, unit = value/1000, unit+1
	}
	if unit == 0 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %s", value, []string{"B", "kB", "MB", "GB", "TB"}[unit])
}

package config

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// ErrDuration is wrapped by every error of ParseDuration.
var ErrDuration = errors.New("not a duration")

// MaxDuration is the longest duration of a configuration: ten years, so that sums of durations
// and times do not overflow.
const MaxDuration = 3650 * day

const (
	day  = 24 * time.Hour
	week = 7 * day
)

// units are the units of a duration, longest first.
var units = [...]struct {
	name string
	unit time.Duration
}{
	{"w", week}, {"d", day}, {"h", time.Hour}, {"m", time.Minute}, {"s", time.Second},
	{"ms", time.Millisecond},
}

// durationPart is a number with its unit.
var durationPart = regexp.MustCompile(`^([0-9]+)([a-z]+)`)

// ParseDuration parses a duration such as "90s", "1h30m", "1d12h" or "1w": whole numbers with the
// units w, d, h, m, s and ms, each at most once, the longest first. A number without a unit is
// refused: some programs take it for seconds, others for minutes. Errors wrap ErrDuration and
// say what to write.
func ParseDuration(text string) (time.Duration, error) {
	if text == "" {
		return 0, fmt.Errorf(`%w: empty text; write "30s", "1h30m" or "1d"`, ErrDuration)
	}
	var total time.Duration
	next := 0 // the longest unit that may follow
	for rest := text; rest != ""; {
		part := durationPart.FindStringSubmatch(rest)
		if part == nil {
			return 0, shapeError(text, rest)
		}
		i := next
		for i < len(units) && units[i].name != part[2] {
			i++
		}
		if i == len(units) {
			return 0, fmt.Errorf(
				"%w: %q: unit %q is unknown or out of order; use w, d, h, m, s, ms, the longest first, each once",
				ErrDuration, clip(text), clip(part[2]))
		}
		n, err := strconv.ParseInt(part[1], 10, 64)
		if err != nil || n > int64((MaxDuration-total)/units[i].unit) {
			return 0, fmt.Errorf("%w: %q is over ten years; write less", ErrDuration, clip(text))
		}
		total += time.Duration(n) * units[i].unit
		next, rest = i+1, rest[len(part[0]):]
	}
	return total, nil
}

// shapeError is the error for rest, which does not begin with a number and a unit.
func shapeError(text, rest string) error {
	if strings.Trim(rest, "0123456789") == "" {
		return fmt.Errorf(`%w: %q has no unit; write "%ss" for seconds (units: ms, s, m, h, d, w)`,
			ErrDuration, clip(text), clip(rest))
	}
	return fmt.Errorf(`%w: %q; write whole numbers with units, as in "30s", "1h30m" or "1d"`,
		ErrDuration, clip(text))
}

// clip shortens a text for a message.
func clip(text string) string {
	const most = 60
	if len(text) <= most {
		return text
	}
	return text[:most] + "..."
}

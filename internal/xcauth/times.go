package xcauth

import (
	"errors"
	"strconv"
	"strings"
	"time"
)

var errTime = errors.New("it is no time")

// The forms in which SQLite and Python write a moment of UTC. A fraction of the second may
// follow the seconds in each.
const (
	sqliteTime   = "2006-01-02 15:04:05"
	isoTime      = "2006-01-02T15:04:05"
	withZone     = "Z07:00"
	latestMoment = 1 << 33 // in Unix seconds: the year 2242
)

// ParseTime reads a moment: UTC text with a space or a T, with or without a fraction and a zone,
// or Unix seconds. Empty text is the zero time.
func ParseTime(text string) (time.Time, error) {
	text = strings.TrimSpace(text)
	if text == "" || text == "None" {
		return time.Time{}, nil
	}
	if n, err := strconv.ParseFloat(text, 64); err == nil {
		if !(n >= 0 && n < latestMoment) {
			return time.Time{}, errTime
		}
		return time.UnixMilli(int64(n * 1000)).UTC(), nil
	}
	for _, form := range [...]string{sqliteTime, isoTime, sqliteTime + withZone, isoTime + withZone} {
		if t, err := time.Parse(form, text); err == nil && t.Year() >= 1970 && t.Unix() < latestMoment {
			return t.UTC(), nil
		}
	}
	return time.Time{}, errTime
}

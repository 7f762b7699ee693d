package xcauth

import (
	"errors"
	"strconv"
	"strings"
	"time"
)

var errTime = errors.New("it is not a time")

// maxTime is the latest time that is accepted, in Unix seconds: in the year 2242.
const maxTime = 1 << 33

// ParseTime reads a time as SQLite and Python write it: UTC text with a space or a T, with or
// without a fraction and a zone, or Unix seconds. Empty text is the zero time.
func ParseTime(text string) (time.Time, error) {
	text = strings.TrimSpace(text)
	if text == "" || text == "None" {
		return time.Time{}, nil
	}
	if n, err := strconv.ParseFloat(text, 64); err == nil {
		if !(n >= 0 && n < maxTime) {
			return time.Time{}, errTime
		}
		return time.UnixMilli(int64(n * 1000)).UTC(), nil
	}
	for _, form := range [...]string{time.DateTime, "2006-01-02T15:04:05", time.DateTime + "Z07:00", time.RFC3339} {
		if t, err := time.Parse(form, text); err == nil && t.Year() >= 1970 && t.Unix() < maxTime {
			return t.UTC(), nil
		}
	}
	return time.Time{}, errTime
}

package unixtime

import (
	"testing"
	"time"
)

func TestWithin(t *testing.T) {
	start := At(time.Unix(1_800_000_000, 0))
	for _, c := range []struct {
		age  time.Duration
		want bool
	}{
		{0, true},
		{time.Hour - time.Millisecond, true},
		{time.Hour, false},
		{-skew + time.Millisecond, true},
		{-skew, false},
		{-24 * time.Hour, false},
	} {
		if got := start.Within(time.Hour, start.Add(c.age)); got != c.want {
			t.Errorf("%v after the start: %t", c.age, got)
		}
	}
	if at := start.Add(time.Minute); at.Sub(start) != time.Minute || !at.Go().Equal(time.Unix(1_800_000_060, 0)) {
		t.Errorf("a minute later is %v", at.Go())
	}
}

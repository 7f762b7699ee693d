package config

import (
	"errors"
	"strings"
	"testing"
	"time"
)

func TestParseDuration(t *testing.T) {
	good := map[string]time.Duration{
		"90s": 90 * time.Second, "1h": time.Hour, "7d": 168 * time.Hour, "1w": 168 * time.Hour,
		"1h30m": 90 * time.Minute, "1d12h": 36 * time.Hour, "0s": 0, "250ms": 250 * time.Millisecond,
		"1w1d1h1m1s1ms": 169*time.Hour + 24*time.Hour + time.Minute + time.Second + time.Millisecond,
		"3650d":         MaxDuration, "007s": 7 * time.Second,
	}
	for text, want := range good {
		if got, err := ParseDuration(text); err != nil || got != want {
			t.Errorf("ParseDuration(%q) = %v, %v; want %v", text, got, err, want)
		}
	}
	bad := map[string]string{
		"": "empty", "30": `write "30s"`, "1h30": `write "30s"`, "s": "whole numbers", "-1s": "whole numbers",
		"1.5h": "whole numbers", "1 h": "whole numbers", "1h ": "whole numbers", "1y": `unit "y"`, "1H": "whole numbers",
		"1m1h": "out of order", "1h1h": "out of order", "3651d": "ten years", "99999999999999999999s": "ten years",
		"3650d1ms": "ten years", "9223372036854775807s": "ten years", "١s": "whole numbers",
	}
	for text, want := range bad {
		if got, err := ParseDuration(text); !errors.Is(err, ErrDuration) || !strings.Contains(err.Error(), want) || got != 0 {
			t.Errorf("ParseDuration(%q) = %v, %v; want an error with %q", text, got, err, want)
		}
	}
}

// FuzzParseDuration compares with package time where both know the units.
func FuzzParseDuration(f *testing.F) {
	for _, seed := range []string{"90s", "1h30m", "1d12h", "1w", "30", "", "1ms", "-5s", "1.5h", "99999999999w"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, err := ParseDuration(text)
		if err != nil {
			if got != 0 || !errors.Is(err, ErrDuration) || len(err.Error()) > 400 {
				t.Fatalf("ParseDuration(%q) = %v, %v", text, got, err)
			}
			return
		}
		if got < 0 || got > MaxDuration {
			t.Fatalf("ParseDuration(%q) = %v", text, got)
		}
		if want, err := time.ParseDuration(text); err == nil && want != got {
			t.Fatalf("ParseDuration(%q) = %v, package time says %v", text, got, want)
		}
	})
}

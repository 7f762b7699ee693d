package childenv

import (
	"slices"
	"testing"
)

func TestFrom(t *testing.T) {
	got := from([]string{"PATH=/bin", "HOME=/root", "OTP_SEED=secret", "LD_PRELOAD=/x.so", "NOTIFY_SOCKET=/run/n", "LC_ALL=C.UTF-8",
		"LANG=", "ERL_FLAGS=-eval x", "BASH_ENV=/x", "PATHX=1"})
	if want := []string{"PATH=/bin", "HOME=/root", "LC_ALL=C.UTF-8"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := from(nil); !slices.Equal(got, []string{"PATH=" + defaultPath}) {
		t.Errorf("of nothing: %q", got)
	}
}

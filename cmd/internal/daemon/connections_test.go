package daemon

import "testing"

// TestConnectionShare: all listeners together, and the pipes, leave descriptors for the rest.
func TestConnectionShare(t *testing.T) {
	for _, c := range []struct {
		limit   uint64
		n, want int
	}{
		{131072, 7, 18651}, {65536, 7, 9289}, {1024, 7, 73}, {1 << 30, 2, 1 << 20}, {64, 100, 1},
	} {
		got := connectionShare(c.limit, c.n)
		if got != c.want || c.limit > 1024 && uint64(got*c.n)+otherFiles > c.limit {
			t.Errorf("%d files, %d listeners: %d each, want %d", c.limit, c.n, got, c.want)
		}
	}
}

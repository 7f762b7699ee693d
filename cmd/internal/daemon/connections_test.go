package daemon

import "testing"

// TestConnectionsWithin: the connections of a listener leave descriptors for the rest.
func TestConnectionsWithin(t *testing.T) {
	for limit, want := range map[uint64]int{131072: 130560, 20000: 19488, 1025: 513, 1024: 512, 150: 75, 1: 1, 1 << 30: 1 << 20} {
		if got := connectionsWithin(limit); got != want {
			t.Errorf("%d files: %d connections, want %d", limit, got, want)
		}
	}
}

//go:build !race

package backend

import "testing"

// TestAllocations: a question over a kept connection makes at most 16 allocations, most of them by
// package net/http's parser. (The race detector makes more.)
func TestAllocations(t *testing.T) {
	ask := ours(t)
	got := testing.AllocsPerRun(500, func() {
		if err := ask(); err != nil {
			t.Fatal(err)
		}
	})
	if t.Logf("%.1f allocations", got); got > 16 {
		t.Errorf("a question makes %.1f allocations, want at most 16", got)
	}
}

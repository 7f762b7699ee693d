//go:build !race

package token

import "testing"

// Under the race detector sync.Pool drops entries at random, so that allocations cannot be
// counted: `make test` runs this file without it.
func TestVerifyAllocations(t *testing.T) {
	for _, v := range verifiers(t) {
		n := testing.AllocsPerRun(200, func() {
			if got := v.verify(); got != v.want {
				t.Fatalf("%s: %v", v.name, got)
			}
		})
		if n != 0 {
			t.Errorf("%s: %v allocations", v.name, n)
		}
	}
}

//go:build !race

package front

import (
	"bufio"
	"io"
	"testing"
)

// TestAllocations: a login over loopback that memory answers makes at most 6 allocations, client and
// log included. (The race detector makes more.)
func TestAllocations(t *testing.T) {
	r := newRig(t)
	c := r.dial(r.listen(listenerBlock("generic")))
	in := bufio.NewReader(c)
	line := yes.frame("generic")
	got := testing.AllocsPerRun(2000, func() {
		if _, err := io.WriteString(c, line); err != nil {
			t.Fatal(err)
		}
		if answer, err := in.ReadSlice('\n'); err != nil || string(answer) != "1\n" {
			t.Fatalf("answered %q: %v", answer, err)
		}
	})
	if t.Logf("%.1f allocations", got); got > 6 {
		t.Errorf("a login makes %.1f allocations, want at most 6", got)
	}
}

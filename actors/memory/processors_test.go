package memory

import (
	"context"
	"runtime"
	"testing"
)

// TestProcessorsForHashes: while hashes are computed there are as many processors as before for everything
// else, and they are given back.
func TestProcessorsForHashes(t *testing.T) {
	own := runtime.GOMAXPROCS(0)
	is := func(when string, want int) {
		t.Helper()
		if n := runtime.GOMAXPROCS(0); n != want || Processors() != own {
			t.Errorf("%s: %d processors, %d without those of hashes; want %d and %d", when, n, Processors(), want, own)
		}
	}
	p, _ := newTestPool(t, 2, 10)
	other, _ := newTestPool(t, 3, 10)
	is("before", own)
	h := occupied(t, p)
	is("with a job", own+2)
	p.giveBack()
	is("still with a job", own+2)
	more := occupied(t, other)
	is("with a job of another pool", own+5)
	h.free()
	p.Close(context.Background())
	is("after one", own+3)
	more.free()
	other.Close(context.Background())
	is("after both", own)
}

// TestProcessorsAreGivenBack: that does not wait for the end of the pool.
func TestProcessorsAreGivenBack(t *testing.T) {
	own := runtime.GOMAXPROCS(0)
	p, _ := newTestPool(t, 2, 10)
	defer p.Close(context.Background())
	occupied(t, p).free()
	eventually(t, "the processors", func() bool { return runtime.GOMAXPROCS(0) == own })
}

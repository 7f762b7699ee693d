package limit

import (
	"fmt"
	"runtime"
	"testing"
)

// TestFlood: a million invented names do not fill the memory, nor do they lift a pause.
func TestFlood(t *testing.T) {
	g := newGuesser(t)
	for range 10 {
		g.guess("joe")
	}
	for range 9 {
		g.now = g.table.State("joe", g.now).Until
		g.guess("joe")
	}
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for i := range 1_000_000 {
		g.guess(fmt.Sprint("invented", i))
	}
	for i := range 3000 { // a few of them with all their refusals
		for range 12 {
			g.guess(fmt.Sprint("target", i))
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if d := g.guess("joe"); d != Blocked {
		t.Errorf("a flood of names lifts the pause: %v", d)
	}
	watched, limited := g.table.Len()
	if watched > maxWatched || limited > maxLimited || limited < 3001 {
		t.Errorf("%d watched, %d limited", watched, limited)
	}
	held := int64(after.HeapAlloc) - int64(before.HeapAlloc)
	t.Logf("%d watched, %d limited: %d KB", watched, limited, held>>10)
	if held > 24<<20 {
		t.Errorf("%d bytes are held", held)
	}
	runtime.KeepAlive(g)
}

// TestLimitedBound: not even names with all their refusals grow without a bound.
func TestLimitedBound(t *testing.T) {
	g := newGuesser(t)
	g.table = newTable[string](16, 8)
	for i := range 100 {
		for range 10 {
			g.guess(fmt.Sprint("target", i))
		}
	}
	if watched, limited := g.table.Len(); watched > 16 || limited != 8 {
		t.Errorf("%d watched, %d limited", watched, limited)
	}
	list := g.table.Limited(3, g.now)
	if len(list) != 3 || list[0].Name != "target99" || list[2].Name != "target97" {
		t.Errorf("%+v", list)
	}
	if !g.table.Forget("target99") || g.table.Forget("target99") || g.guess("target99") != Pass {
		t.Error("target99 is not forgotten")
	}
}

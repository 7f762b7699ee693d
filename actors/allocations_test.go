//go:build !race

package actors

import (
	"bufio"
	"fmt"
	"io"
	"runtime"
	"testing"
	"time"
)

// TestAllocations: a login over loopback by token or from memory makes at most 12
// allocations, client and log included. (The race detector makes more.)
func TestAllocations(t *testing.T) {
	r := newRig(t, withTokens)
	r.auth("joe", "good")
	c := r.dial(r.listen(listenerBlock("generic")))
	in := bufio.NewReader(c)
	for name, password := range map[string]string{"hot": "good", "token": r.jsxcToken("joe", time.Hour)} {
		line := fmt.Sprintf("auth:joe:dom.example:%s\n", password)
		got := testing.AllocsPerRun(2000, func() {
			if _, err := io.WriteString(c, line); err != nil {
				t.Fatal(err)
			}
			if answer, err := in.ReadSlice('\n'); err != nil || string(answer) != "1\n" {
				t.Fatalf("answered %q: %v", answer, err)
			}
		})
		if t.Logf("%s: %.1f allocations", name, got); got > 12 {
			t.Errorf("%s: a login makes %.1f allocations, want at most 12", name, got)
		}
	}
}

// TestAllocationsOfAnIdleConnection: a connection that waits for its next request has a stack of 4 KiB,
// although that of its last one needed more.
func TestAllocationsOfAnIdleConnection(t *testing.T) {
	const connections, most = 300, 6 << 10
	r := newRig(t, func(*setup) {})
	r.auth("joe", "good")
	address := r.listen(listenerBlock("generic"))
	stacks := func() (inUse uint64) {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.StackInuse
	}
	line, answer := "auth:joe:dom.example:good\n", make([]byte, 2)
	before := stacks()
	for range connections {
		c := r.dial(address)
		if _, err := io.WriteString(c, line); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, answer); err != nil || string(answer) != "1\n" {
			t.Fatalf("answered %q: %v", answer, err)
		}
	}
	eventually(t, "small stacks", func() bool { return stacks() < before+connections*most })
}

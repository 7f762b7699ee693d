package memory

import (
	"syscall"
	"testing"
)

// TestHashesYield: the threads that compute hashes are nicer than the others, and only these.
func TestHashesYield(t *testing.T) {
	nice := func() int {
		have, err := syscall.Getpriority(syscall.PRIO_PROCESS, 0)
		if err != nil {
			t.Error(err)
		}
		return 20 - have
	}
	own, its := nice(), make(chan int)
	p, _ := newTestPool(t, 1, 10)
	p.submit(hashJob{run: func() { its <- nice() }}, true)
	if got, want := <-its, min(own+niceness, 19); got != want {
		t.Errorf("niceness %d, want %d", got, want)
	}
	p.Close()
	if got := nice(); got != own {
		t.Errorf("niceness %d after it, %d before", got, own)
	}
}

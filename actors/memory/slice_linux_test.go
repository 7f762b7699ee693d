package memory

import (
	"testing"

	"golang.org/x/sys/unix"
)

// TestHashesHaveLongSlices: the threads that hash have longer slices of time than others, and the same priority.
func TestHashesHaveLongSlices(t *testing.T) {
	usual, err := unix.SchedGetAttr(0, 0)
	if err != nil || usual.Policy != unix.SCHED_NORMAL || usual.Runtime == 0 {
		t.Skip("this Linux has no slices of different lengths: ", err)
	}
	p, _ := newTestPool(t, 2, 10)
	var of unix.SchedAttr
	ran := make(chan struct{})
	p.submit(hashJob{id: joe, failed: func() {}, run: func() {
		if attr, err := unix.SchedGetAttr(0, 0); err == nil {
			of = *attr
		}
		close(ran)
	}}, true)
	<-ran
	p.Close()
	if of.Runtime != hashSlice || of.Nice != usual.Nice || of.Policy != usual.Policy {
		t.Errorf("%+v, and of others %+v", of, *usual)
	}
	if now, err := unix.SchedGetAttr(0, 0); err != nil || now.Runtime != usual.Runtime {
		t.Errorf("other threads have %+v now, %v", now, err)
	}
}

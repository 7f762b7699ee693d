package memory

import "golang.org/x/sys/unix"

// hashSlice is the longest slice of time that Linux grants, in nanoseconds. The usual one is 3 ms.
const hashSlice = 100e6

// longSlice asks for long slices of time for the thread of the calling goroutine, which must be locked to it:
// see processors. Where that is not possible, all stays as it is. Before version 6.12 Linux has no such slices.
func longSlice() {
	attr, err := unix.SchedGetAttr(0, 0)
	if err != nil || attr.Policy != unix.SCHED_NORMAL {
		return
	}
	attr.Runtime = hashSlice
	_ = unix.SchedSetAttr(0, attr, 0)
}

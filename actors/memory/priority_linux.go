package memory

import "syscall"

// niceness is by how much the threads that compute hashes are nicer than the others.
const niceness = 10

// yieldToOthers lowers the priority of the calling thread. Where that is not allowed it goes on with the one it has.
func yieldToOthers() {
	if have, err := syscall.Getpriority(syscall.PRIO_PROCESS, 0); err == nil {
		nice := 20 - have // so the kernel encodes it
		_ = syscall.Setpriority(syscall.PRIO_PROCESS, 0, min(nice+niceness, 19))
	}
}

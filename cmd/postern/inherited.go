package main

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// leaveInherited closes what a server left open by mistake when it started us on a
// pseudo-terminal. lpty leaves its end of the terminal, which would then never hang up, and all
// of Prosody's sockets, whose ports would stay taken after it (PROTOCOLS 3.2). Pipes and files
// may have been meant for us; our own descriptors do not outlive an exec, by which they are told
// apart.
func leaveInherited(in *os.File) {
	if info, err := in.Stat(); err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return
	}
	links, _ := filepath.Glob("/proc/self/fd/*")
	for _, link := range links {
		fd, err := strconv.Atoi(filepath.Base(link))
		if err != nil || fd < 3 {
			continue
		}
		target, err := os.Readlink(link)
		if err != nil || !strings.HasPrefix(target, "socket:") && filepath.Base(target) != "ptmx" {
			continue
		}
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil && flags&unix.FD_CLOEXEC == 0 {
			_ = unix.Close(fd)
		}
	}
}

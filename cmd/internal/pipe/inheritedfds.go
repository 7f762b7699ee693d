package pipe

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// CloseInheritedFDs closes descriptors that a server left open by mistake when it started this
// process on a pseudo-terminal. Prosody's lpty leaves its end of the terminal, which would then
// never hang up, and all of Prosody's sockets, with ports that would stay in use after Prosody
// ends. Pipes and files may have been passed on purpose, and stay. Descriptors of this process
// itself are recognised by close-on-exec.
func CloseInheritedFDs(in *os.File) {
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

// Package systemd is the service's side of two protocols of service managers: sockets that are passed
// at the start (sd_listen_fds(3)) and notifications about the state of the service (sd_notify(3)).
//
// github.com/coreos/go-systemd (v22.7.0) has both, but cannot replace this package. Its activation.Files
// ignores an invalid LISTEN_FDS, does not bound a huge one, and wraps every descriptor in an os.File,
// which closes those that are not sockets once it is collected. Its daemon.SdNotify needs NOTIFY_SOCKET
// to stay in the environment, where child processes inherit it, and blocks without a limit while the
// manager's queue is full.
package systemd

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	firstFD    = 3    // SD_LISTEN_FDS_START
	maxFDs     = 4096 // more than any service has sockets
	namelessFD = "unknown"
)

// Socket is a listening stream socket that the service manager has passed. It stays open until the
// process ends, so that it can be served again after a reload.
type Socket struct {
	Name    string // FileDescriptorName= of its unit
	Network string // "tcp" or "unix"
	Address string // host:port, or a path
	file    *os.File
}

// Listen returns a listener on a duplicate of the socket. Closing it affects neither the socket, nor
// its file, nor the connections in its backlog.
func (s *Socket) Listen() (net.Listener, error) {
	l, err := net.FileListener(s.file)
	if err != nil {
		return nil, fmt.Errorf("socket %q from systemd: %w", s.Name, err)
	}
	return l, nil
}

// Sockets returns the sockets that were passed to this process, the descriptors that a former process of
// the service had kept (see Notifier.Keep), with their names, and an error for each descriptor that was
// passed but cannot be served. It may be called once: it unsets the LISTEN_ variables and marks the
// descriptors close-on-exec, so that child processes inherit neither.
func Sockets() (sockets []*Socket, kept []*os.File, problems []error) { return socketsFrom(firstFD) }

// socketsFrom is Sockets for descriptors that are numbered from first.
func socketsFrom(first int) (sockets []*Socket, kept []*os.File, problems []error) {
	pid, count := takeEnv("LISTEN_PID"), takeEnv("LISTEN_FDS")
	names, named := os.LookupEnv("LISTEN_FDNAMES")
	_ = os.Unsetenv("LISTEN_FDNAMES")
	if count == "" || pid != strconv.Itoa(os.Getpid()) {
		return nil, nil, nil // passed to a parent process, or not at all
	}
	n, err := strconv.Atoi(count)
	if err != nil || n < 0 || n > maxFDs {
		return nil, nil, []error{fmt.Errorf("LISTEN_FDS=%q is not a valid number of sockets", count)}
	}
	list := strings.Split(names, ":")
	for i := range n {
		name := namelessFD
		if named && i < len(list) {
			name = list[i]
		}
		if IsKept(name) {
			unix.CloseOnExec(first + i)
			kept = append(kept, os.NewFile(uintptr(first+i), name))
			continue
		}
		s, err := newSocket(first+i, name)
		if err != nil {
			problems = append(problems, fmt.Errorf("descriptor %d (%q) from systemd %w", first+i, name, err))
			continue
		}
		sockets = append(sockets, s)
	}
	return sockets, kept, problems
}

// takeEnv returns an environment variable and unsets it.
func takeEnv(name string) string {
	value := os.Getenv(name)
	_ = os.Unsetenv(name)
	return value
}

// newSocket returns the Socket of a descriptor. A descriptor that is not a socket stays open: it may
// have a purpose that is unknown here. The error continues a sentence about the descriptor.
func newSocket(fd int, name string) (*Socket, error) {
	unix.CloseOnExec(fd)
	if err := Listening(fd); err != nil {
		return nil, err
	}
	file := os.NewFile(uintptr(fd), name)
	l, err := net.FileListener(file)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("cannot be served: %w", err), file.Close())
	}
	defer l.Close()
	return &Socket{Name: name, Network: l.Addr().Network(), Address: l.Addr().String(), file: file}, nil
}

// Listening returns nil if fd is a listening stream socket. The error continues a sentence about the
// descriptor.
func Listening(fd int) error {
	kind, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
	if err != nil {
		return fmt.Errorf("is not a socket: %w", err)
	}
	if kind != unix.SOCK_STREAM {
		return errors.New("is not a stream socket: use ListenStream= in its unit")
	}
	listens, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
	if err != nil {
		return fmt.Errorf("cannot be examined: %w", err)
	}
	if listens == 0 {
		return errors.New("does not listen: use Accept=no in its unit, or `postern pipe` with StandardInput=socket")
	}
	return nil
}

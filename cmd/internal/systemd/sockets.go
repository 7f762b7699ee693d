// Package systemd speaks the two protocols between a service manager and its service: the
// sockets that it passes (sd_listen_fds(3)) and what it is told (sd_notify(3)).
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
	mostFDs    = 4096 // more than any service has sockets
	namelessFD = "unknown"
)

// Socket is a listening stream socket that the service manager holds and has passed. It stays
// open until the process ends, so that it can be served again after a reload.
type Socket struct {
	Name    string // FileDescriptorName= of its unit
	Network string // "tcp" or "unix"
	Address string // host:port, or a path
	file    *os.File
}

// Listen returns a listener on the socket. Its Close leaves the socket, its file and those who
// wait in its queue alone.
func (s *Socket) Listen() (net.Listener, error) {
	l, err := net.FileListener(s.file)
	if err != nil {
		return nil, fmt.Errorf("socket %q from systemd: %w", s.Name, err)
	}
	return l, nil
}

// Sockets takes over the sockets that were passed to this process. What was passed but cannot
// be served is told in problems. It is called once: the variables that tell of the sockets are
// removed, and no child inherits either.
func Sockets() (sockets []*Socket, problems []error) { return inherit(firstFD) }

func inherit(first int) (sockets []*Socket, problems []error) {
	pid, count := take("LISTEN_PID"), take("LISTEN_FDS")
	names, named := os.LookupEnv("LISTEN_FDNAMES")
	_ = os.Unsetenv("LISTEN_FDNAMES")
	if count == "" || pid != strconv.Itoa(os.Getpid()) {
		return nil, nil // not for us, but for the program that started us
	}
	n, err := strconv.Atoi(count)
	if err != nil || n < 0 || n > mostFDs {
		return nil, []error{fmt.Errorf("LISTEN_FDS=%q is no number of sockets", count)}
	}
	list := strings.Split(names, ":")
	for i := range n {
		name := namelessFD
		if named && i < len(list) {
			name = list[i]
		}
		s, err := adopt(first+i, name)
		if err != nil {
			problems = append(problems, fmt.Errorf("descriptor %d (%q) from systemd %w", first+i, name, err))
			continue
		}
		sockets = append(sockets, s)
	}
	return sockets, problems
}

// take reads a variable and hides it from children.
func take(name string) string {
	value := os.Getenv(name)
	_ = os.Unsetenv(name)
	return value
}

// adopt makes a Socket of a descriptor. One that is none of a socket is left alone: nobody
// knows what it is for.
func adopt(fd int, name string) (*Socket, error) {
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

// Listening returns nil for the descriptor of a stream socket that listens. The error continues
// a sentence about the descriptor.
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
		return fmt.Errorf("tells nothing of itself: %w", err)
	}
	if listens == 0 {
		return errors.New("does not listen: use Accept=no in its unit, or `postern pipe` with StandardInput=socket")
	}
	return nil
}

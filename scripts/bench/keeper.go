package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// keeper is the service manager's side of a service, as systemd has it: it waits for READY=1, keeps
// the descriptors that the service stores (FDSTORE=1), and passes them to the next start.
type keeper struct {
	socket *net.UnixConn
	path   string
	ready  chan struct{}

	mu   sync.Mutex
	kept []kept
}

// kept is a descriptor in the store, and its FDNAME.
type kept struct {
	name string
	file *os.File
}

// newKeeper opens the socket that services are given as NOTIFY_SOCKET.
func newKeeper(path string) (*keeper, error) {
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return nil, err
	}
	k := &keeper{socket: socket, path: path, ready: make(chan struct{}, 1)}
	go k.receive()
	return k, nil
}

// close forgets what is kept.
func (k *keeper) close() {
	_ = k.socket.Close()
	_ = os.Remove(k.path) // the next start of the same configuration has it
	k.remove(func(kept) bool { return true })
}

func (k *keeper) receive() {
	buf, oob := make([]byte, 4096), make([]byte, 4096)
	for {
		n, rights, _, _, err := k.socket.ReadMsgUnix(buf, oob)
		if err != nil {
			return
		}
		k.message(strings.Split(string(buf[:n]), "\n"), descriptors(oob[:rights]))
	}
}

// descriptors are the files that came with a message.
func descriptors(oob []byte) (files []*os.File) {
	messages, _ := syscall.ParseSocketControlMessage(oob)
	for i := range messages {
		fds, _ := syscall.ParseUnixRights(&messages[i])
		for _, fd := range fds {
			syscall.CloseOnExec(fd)
			files = append(files, os.NewFile(uintptr(fd), "kept"))
		}
	}
	return files
}

// message takes one notification. Descriptors that are not to be stored are closed: this is the
// answer to BARRIER=1.
func (k *keeper) message(lines []string, files []*os.File) {
	name := "stored"
	for _, l := range lines {
		if value, ok := strings.CutPrefix(l, "FDNAME="); ok {
			name = value
		}
	}
	if slices.Contains(lines, "FDSTOREREMOVE=1") {
		k.remove(func(e kept) bool { return e.name == name })
	}
	for _, f := range files {
		if !slices.Contains(lines, "FDSTORE=1") || !k.keep(kept{name, f}) {
			_ = f.Close()
		}
	}
	if slices.Contains(lines, "READY=1") {
		select {
		case k.ready <- struct{}{}:
		default:
		}
	}
}

// keep is false if the file is there already.
func (k *keeper) keep(e kept) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	mine, err := e.file.Stat()
	if err != nil || slices.ContainsFunc(k.kept, func(other kept) bool {
		its, err := other.file.Stat()
		return err == nil && os.SameFile(mine, its)
	}) {
		return false
	}
	k.kept = append(k.kept, e)
	return true
}

func (k *keeper) remove(gone func(kept) bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.kept = slices.DeleteFunc(k.kept, func(e kept) bool {
		if gone(e) {
			_ = e.file.Close()
			return true
		}
		return false
	})
}

// names lists what is kept.
func (k *keeper) names() (list []string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, e := range k.kept {
		list = append(list, e.name)
	}
	return list
}

// start starts a service with what is kept, and waits until it is ready. LISTEN_PID is the process ID of
// the service, which only the process itself knows before its start: hence the shell, which becomes it.
func (k *keeper) start(c *child) error {
	command := append([]string{"-c", `LISTEN_PID=$$ exec "$0" "$@"`}, c.cmd.Args...)
	stderr := c.cmd.Stderr
	c.cmd = exec.Command("/bin/sh", command...)
	c.cmd.Stderr = stderr
	c.cmd.Env = append(os.Environ(), "NOTIFY_SOCKET="+k.path)
	select {
	case <-k.ready: // of a start before
	default:
	}
	if err := k.pass(c); err != nil {
		return err
	}
	select {
	case <-k.ready:
		return nil
	case <-time.After(startTimeout):
	}
	c.stop()
	said, _ := os.ReadFile(c.log)
	return errors.Join(fmt.Errorf("%v did not become ready: %s", c.cmd.Args[2:], said))
}

// pass starts the process with what is kept. The service may remove some of it as soon as it runs.
func (k *keeper) pass(c *child) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	var names []string
	for _, e := range k.kept {
		names = append(names, e.name)
		c.cmd.ExtraFiles = append(c.cmd.ExtraFiles, e.file)
	}
	if len(names) > 0 {
		c.cmd.Env = append(c.cmd.Env, fmt.Sprint("LISTEN_FDS=", len(names)), "LISTEN_FDNAMES="+strings.Join(names, ":"))
	}
	return c.start()
}

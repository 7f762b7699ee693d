// Package handover moves what a process hands to its successor: bytes in a sealed memory file, which no
// disk has, and descriptors over a Unix socket.
package handover

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"postern/internal/peercred"
)

// atOnce is how many descriptors one message has; Linux takes up to 253.
const atOnce = 64

// maxMessage bounds a message in bytes.
const maxMessage = 64 << 10

// message goes with descriptors, in the order of their names. Error ends the handover.
type message struct {
	Names []string `json:"names,omitempty"`
	More  bool     `json:"more,omitempty"` // another message follows
	Error string   `json:"error,omitempty"`
}

// ErrForeign means that the process at the other end of a socket belongs to another user.
var ErrForeign = errors.New("the other process belongs to another user")

// ErrAnswer means that the other process does not know what a handover is.
var ErrAnswer = errors.New("the other process does not answer as expected")

// CheckPeer returns ErrForeign unless the process at the other end belongs to this process's user or to
// root.
func CheckPeer(c *net.UnixConn) error {
	var cred peercred.Peer
	err := control(c, func(fd uintptr) (err error) {
		cred, err = peercred.Of(fd)
		return err
	})
	if err != nil {
		return fmt.Errorf("user of the other process: %w", err)
	}
	return checkUser(cred.UID, os.Geteuid())
}

func checkUser(uid, own int) error {
	if uid != 0 && uid != own {
		return fmt.Errorf("%w (%d)", ErrForeign, uid)
	}
	return nil
}

// Refuse answers that nothing is handed over.
func Refuse(c *net.UnixConn, why error) error { return send(c, message{Error: why.Error()}, nil) }

// Send sends files with their names (os.File.Name).
func Send(c *net.UnixConn, files []*os.File) error {
	for first := true; first || len(files) > 0; first = false {
		part := files[:min(len(files), atOnce)]
		files = files[len(part):]
		m := message{More: len(files) > 0}
		for _, f := range part {
			m.Names = append(m.Names, f.Name())
		}
		if err := send(c, m, part); err != nil {
			return err
		}
	}
	return nil
}

func send(c *net.UnixConn, m message, files []*os.File) error {
	text, err := json.Marshal(m)
	if err != nil {
		return err
	}
	return withFDs(files, nil, func(fds []int) error {
		_, _, err := c.WriteMsgUnix(append(text, '\n'), unix.UnixRights(fds...), nil)
		return err
	})
}

// withFDs calls do with the descriptors of files, which stay open meanwhile.
func withFDs(files []*os.File, fds []int, do func([]int) error) error {
	if len(files) == 0 {
		return do(fds)
	}
	return control(files[0], func(fd uintptr) error { return withFDs(files[1:], append(fds, int(fd)), do) })
}

// Receive returns the files that Send has sent, which are closed on exec.
func Receive(c *net.UnixConn) (files []*os.File, err error) {
	defer func() {
		if err != nil {
			Close(files)
			files = nil
		}
	}()
	for {
		m, part, err := receive(c)
		files = append(files, part...)
		switch {
		case err != nil:
			return files, err
		case m.Error != "":
			return files, errors.New(m.Error)
		case !m.More:
			return files, nil
		}
	}
}

// receive reads one message. A read from a stream socket ends behind the bytes that came with descriptors.
func receive(c *net.UnixConn) (m message, files []*os.File, err error) {
	text := make([]byte, maxMessage)
	oob := make([]byte, unix.CmsgSpace(4*atOnce))
	var fds []int
	defer func() {
		for i, fd := range fds {
			if unix.CloseOnExec(fd); err == nil {
				files = append(files, os.NewFile(uintptr(fd), m.Names[i]))
			} else {
				_ = unix.Close(fd)
			}
		}
	}()
	filled := 0
	for !bytes.HasSuffix(text[:filled], []byte("\n")) {
		n, oobn, _, _, err := c.ReadMsgUnix(text[filled:], oob)
		some, failed := rights(oob[:oobn])
		fds = append(fds, some...)
		filled += n
		if err = errors.Join(err, failed); err == nil && n == 0 || errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return m, nil, err
		}
	}
	if err := json.Unmarshal(text[:filled], &m); err != nil || len(m.Names) != len(fds) {
		return m, nil, errors.Join(ErrAnswer, err)
	}
	return m, nil, nil
}

// rights returns the descriptors of control messages.
func rights(oob []byte) (fds []int, err error) {
	list, err := unix.ParseSocketControlMessage(oob)
	for _, m := range list {
		if m.Header.Level == unix.SOL_SOCKET && m.Header.Type == unix.SCM_RIGHTS {
			some, err := unix.ParseUnixRights(&m)
			if err != nil {
				return fds, err
			}
			fds = append(fds, some...)
		}
	}
	return fds, err
}

// Duplicate returns a descriptor of its own for an open socket or file.
func Duplicate(of syscall.Conn, name string) (*os.File, error) {
	fd := -1
	err := control(of, func(old uintptr) (err error) {
		fd, err = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 0)
		return err
	})
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

// Detach returns the descriptor of a file for another owner, and closes the file.
func Detach(f *os.File) (fd int, err error) {
	defer f.Close()
	err = control(f, func(old uintptr) (err error) {
		fd, err = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 3)
		return err
	})
	return fd, err
}

// Close closes files.
func Close(files []*os.File) {
	for _, f := range files {
		_ = f.Close()
	}
}

// control calls do with the descriptor of a file or a socket. File.Fd would make it block.
func control(of syscall.Conn, do func(fd uintptr) error) error {
	raw, err := of.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) { failed = do(fd) })
	return errors.Join(err, failed)
}

package logfile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// Open opens a log file for appending, and makes it if it is missing; without a path it returns
// nil. A file that root makes goes to the owner of its directory: a daemon that runs as that user
// must be able to write to it.
func Open(path string) (io.WriteCloser, error) {
	if path == "" {
		return nil, nil
	}
	// Without O_NONBLOCK, opening a FIFO would wait for its reader.
	const flags = os.O_WRONLY | os.O_CREATE | os.O_APPEND | syscall.O_NONBLOCK
	f, err := os.OpenFile(path, flags|os.O_EXCL, 0o640)
	if err == nil && os.Geteuid() == 0 {
		giveToDirectoryOwner(f)
	}
	if errors.Is(err, fs.ErrExist) {
		f, err = os.OpenFile(path, flags, 0o640)
	}
	if errors.Is(err, syscall.ENXIO) {
		return nil, fmt.Errorf("log file: %s is a socket, or a FIFO without a reader: start the reader first, or remove file from its block", path)
	}
	if err != nil {
		return nil, fmt.Errorf("log file: %w: correct its path in the configuration, or make it writable", err)
	}
	return f, nil
}

// giveToDirectoryOwner gives a new file to the owner of its directory, unless that is root.
func giveToDirectoryOwner(f *os.File) {
	info, err := os.Stat(filepath.Dir(f.Name()))
	if err != nil {
		return
	}
	if own, ok := info.Sys().(*syscall.Stat_t); ok && own.Uid != 0 {
		_ = f.Chown(int(own.Uid), int(own.Gid))
	}
}

// followEvery is how often the open file is compared with the one at its path.
const followEvery = time.Second

// follow opens the log file again if it was moved away, so that rotation needs no signal: the
// logrotate rules made for xcauth send none. The caller holds mu.
func (s *Sink) follow(now time.Time) {
	own, ok := s.file.(*os.File)
	if !ok || now.Sub(s.checked) < followEvery {
		return
	}
	s.checked = now
	mine, err := own.Stat()
	there, missing := os.Stat(s.path)
	if err != nil || missing == nil && os.SameFile(mine, there) {
		return
	}
	if f, err := Open(s.path); err == nil {
		_ = own.Close()
		s.file = f
	}
}

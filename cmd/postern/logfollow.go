package main

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

// openLog opens a log file; it is nil without a path. A file that root makes goes to the owner of
// its directory, or the daemon that runs as that user could not write to it.
func openLog(path string) (io.WriteCloser, error) {
	if path == "" {
		return nil, nil
	}
	// Without O_NONBLOCK a FIFO that nobody reads would be waited for.
	const flags = os.O_WRONLY | os.O_CREATE | os.O_APPEND | syscall.O_NONBLOCK
	f, err := os.OpenFile(path, flags|os.O_EXCL, 0o640)
	if err == nil && os.Geteuid() == 0 {
		bequeath(f)
	}
	if errors.Is(err, fs.ErrExist) {
		f, err = os.OpenFile(path, flags, 0o640)
	}
	if errors.Is(err, syscall.ENXIO) {
		return nil, fmt.Errorf("log file: %s is a FIFO that nobody reads, or a socket: start its reader first, or leave file out to have the log on standard error", path)
	}
	if err != nil {
		return nil, fmt.Errorf("log file: %w: correct its path in the log block, or make it writable", err)
	}
	return f, nil
}

// bequeath gives a new file to the owner of its directory, if that is not root.
func bequeath(f *os.File) {
	info, err := os.Stat(filepath.Dir(f.Name()))
	if err != nil {
		return
	}
	if own, ok := info.Sys().(*syscall.Stat_t); ok && own.Uid != 0 {
		_ = f.Chown(int(own.Uid), int(own.Gid))
	}
}

// followEvery is how often it is looked whether the log file still stands at its path.
const followEvery = time.Second

// follow opens the log file anew when it was moved away, so that it can be rotated without a
// signal, as xcauth's is (PROTOCOLS 6.7). The caller holds the lock.
func (s *logSink) follow(now time.Time) {
	own, ok := s.file.(*os.File)
	if !ok || now.Sub(s.seen) < followEvery {
		return
	}
	s.seen = now
	mine, err := own.Stat()
	there, missing := os.Stat(s.path)
	if err != nil || missing == nil && os.SameFile(mine, there) {
		return
	}
	if f, err := openLog(s.path); err == nil {
		_ = own.Close()
		s.file = f
	}
}

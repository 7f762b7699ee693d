package main

import (
	"os"
	"time"
)

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

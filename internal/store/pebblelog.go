package store

import (
	"fmt"
	"runtime"
	"strings"
)

// pebbleLog routes pebble's log. Its Fatalf must not end the process: authentication goes
// on without a store.
type pebbleLog struct{ p *Pebble }

func (l pebbleLog) Infof(format string, args ...any) {
	l.p.log.Debug("pebble", "text", fmt.Sprintf(format, args...))
}

func (l pebbleLog) Errorf(format string, args ...any) {
	l.p.log.Error("pebble", "text", fmt.Sprintf(format, args...))
}

// Fatalf must not return. In a call of this package it unwinds to recovered; in a goroutine of
// pebble's own it ends that goroutine, and the store is not used again.
func (l pebbleLog) Fatalf(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	l.p.fail(text)
	if inOurCall() {
		panic(text)
	}
	runtime.Goexit()
}

// inOurCall reports whether a method of Pebble is on the stack.
func inOurCall() bool {
	pcs := make([]uintptr, 128)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(3, pcs)])
	for {
		f, more := frames.Next()
		if strings.Contains(f.Function, "internal/store.") && !strings.Contains(f.Function, "pebbleLog") {
			return true
		}
		if !more {
			return false
		}
	}
}

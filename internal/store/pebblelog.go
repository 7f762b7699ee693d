package store

import (
	"fmt"
	"runtime"
	"strings"

	"github.com/cockroachdb/pebble/v2"
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

// Fatalf must not return. In a call of ours it unwinds to recovered; in a goroutine of
// pebble's own it ends that goroutine, and the store is not touched again.
func (l pebbleLog) Fatalf(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	l.p.fail(text)
	if inOurCall() {
		panic(fatal{text})
	}
	runtime.Goexit()
}

// listener hears of what pebble does not tell its caller. What fails in the background it would
// try again at once, for ever, and a damaged file would end the process.
func (p *Pebble) listener() *pebble.EventListener {
	return &pebble.EventListener{
		BackgroundError: func(err error) {
			p.fail(err.Error())
			runtime.Goexit() // its work stays marked as under way, so that it is not begun again
		},
		DataCorruption: func(info pebble.DataCorruptionInfo) { p.fail(info.Details.Error()) },
	}
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

// Package audit is the audit log: a line of JSON for each event that matters to security, in a file of its
// own or for syslog.
//
// Events wait in a queue of bounded size for a goroutine that writes them, so that no login waits for a
// disk. If the queue is full they are lost, and a line says how many. No event has a secret.
package audit

import (
	"errors"
	"fmt"
	"io"
	"log/syslog"
	"sync"
	"sync/atomic"
	"time"

	"postern/internal/logfile"
)

// queueSize is how many events may wait.
const queueSize = 4096

// closeTimeout is how long the end waits for what is in the queue: a disk may hang.
const closeTimeout = 2 * time.Second

// tag is the name of the program in syslog.
const tag = "postern-audit"

// Config says where lines go: to the file, to the socket of syslog, both as absolute paths, or to both. Without
// either there is no log.
type Config struct{ File, Syslog string }

// Target is where lines go.
type Target interface {
	io.Writer
	// Flush has what was written reach the file.
	Flush()
	// Reopen opens the file again, after it was moved away.
	Reopen() error
	Close()
}

// Open opens what a configuration names; nil: there is no log.
func Open(c Config) (Target, error) {
	var all targets
	if c.File != "" {
		sink, err := logfile.NewSink(c.File)
		if err != nil {
			sink.Close()
			return nil, fmt.Errorf("audit: %w", err)
		}
		all = append(all, sink)
	}
	if c.Syslog != "" {
		w, err := syslog.Dial("unixgram", c.Syslog, syslog.LOG_AUTHPRIV|syslog.LOG_NOTICE, tag)
		if err != nil {
			all.Close()
			return nil, fmt.Errorf("audit: %w: correct the path in syslog, or write file in its place", err)
		}
		all = append(all, toSyslog{w})
	}
	if all == nil {
		return nil, nil
	}
	return all, nil
}

// targets get the same lines.
type targets []Target

// Write implements io.Writer. What one of them cannot take, the others get.
func (all targets) Write(line []byte) (int, error) {
	for _, t := range all {
		_, _ = t.Write(line)
	}
	return len(line), nil
}

// Flush implements Target.
func (all targets) Flush() {
	for _, t := range all {
		t.Flush()
	}
}

// Reopen implements Target.
func (all targets) Reopen() (err error) {
	for _, t := range all {
		err = errors.Join(err, t.Reopen())
	}
	return err
}

// Close implements Target.
func (all targets) Close() {
	for _, t := range all {
		t.Close()
	}
}

// toSyslog is a Target that needs no flushing: each line is a datagram.
type toSyslog struct{ *syslog.Writer }

func (toSyslog) Flush()        {}
func (toSyslog) Reopen() error { return nil }
func (t toSyslog) Close()      { _ = t.Writer.Close() }

// Log is an audit log. It is safe for concurrent use, also a nil one, which has no lines.
type Log struct {
	queue chan Event
	lost  atomic.Uint64
	on    atomic.Bool   // there is a target
	stop  chan struct{} // closed by Close
	done  chan struct{} // closed when what was in the queue is written
	once  sync.Once

	mu     sync.Mutex // held while a line is written
	target Target
}

// New returns a log that writes to a target, which it closes; nil stands for none.
func New(t Target) *Log {
	l := &Log{queue: make(chan Event, queueSize), stop: make(chan struct{}), done: make(chan struct{}), target: t}
	l.on.Store(t != nil)
	go l.run()
	return l
}

// Note writes an event. It never waits.
func (l *Log) Note(e Event) {
	if l == nil || !l.on.Load() {
		return
	}
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	select {
	case l.queue <- e:
	default:
		l.lost.Add(1)
	}
}

// On reports whether events are written.
func (l *Log) On() bool { return l != nil && l.on.Load() }

// SetTarget has further lines go elsewhere. The former target is closed.
func (l *Log) SetTarget(t Target) {
	l.mu.Lock()
	former := l.target
	l.target = t
	l.mu.Unlock()
	l.on.Store(t != nil)
	if former != nil {
		former.Close()
	}
}

// Reopen opens the file again, after it was moved away. On failure the old one stays in use.
func (l *Log) Reopen() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.target == nil {
		return nil
	}
	return l.target.Reopen()
}

// Close writes what is in the queue, unless that takes too long, and ends the log.
func (l *Log) Close() {
	if l == nil {
		return
	}
	l.once.Do(func() {
		l.on.Store(false)
		close(l.stop)
		select {
		case <-l.done:
			l.SetTarget(nil)
		case <-time.After(closeTimeout):
		}
	})
}

// run writes the events of the queue.
func (l *Log) run() {
	defer close(l.done)
	var buf []byte
	for {
		select {
		case e := <-l.queue:
			buf = l.next(buf, &e)
			continue
		case <-l.stop:
		}
		for len(l.queue) > 0 {
			e := <-l.queue
			buf = l.next(buf, &e)
		}
		return
	}
}

// next writes an event, after how many are missing before it, and has them reach the file if no other waits.
func (l *Log) next(buf []byte, e *Event) []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.target == nil {
		return buf
	}
	if n := l.lost.Swap(0); n > 0 {
		buf = l.write(buf, &Event{Time: time.Now(), Kind: lost, Count: n})
	}
	buf = l.write(buf, e)
	if len(l.queue) == 0 {
		l.target.Flush()
	}
	return buf
}

// write writes a line. mu is held.
func (l *Log) write(buf []byte, e *Event) []byte {
	buf = appendLine(buf[:0], e)
	_, _ = l.target.Write(buf)
	return buf
}

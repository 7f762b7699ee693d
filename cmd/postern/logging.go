package main

import (
	"context"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"postern/internal/config"
)

// flushLogEvery is how long an unremarkable line may wait in memory. Errors are written at
// once, with all that came before them, and so is a warning but in a storm: of an overload's
// refusals each is a warning, and a system call for each would feed it.
const flushLogEvery = 100 * time.Millisecond

// logBuffer is how much is gathered for one write.
const logBuffer = 64 << 10

// logSink gathers log lines, so that a decision does not cost a system call. It is safe for
// concurrent use.
type logSink struct {
	out     io.Writer // not ours to open or close
	handler atomic.Pointer[slog.Handler]

	mu   sync.Mutex
	path string         // empty: out is used
	file io.WriteCloser // nil without path, and until it could be opened: out is used
	buf  []byte
	torn bool      // the last write ended within a line
	left time.Time // when the last write was
	seen time.Time // when the file was last found to stand at path
	stop chan struct{}
	done chan struct{}
}

// newLogSink writes to path, or to out if path is empty. With an error it is of use, too: it
// writes to out until Reopen can open path.
func newLogSink(path string, out io.Writer) (*logSink, error) {
	s := &logSink{path: path, out: out, stop: make(chan struct{}), done: make(chan struct{})}
	err := s.Reopen()
	go s.flusher()
	return s, err
}

// Write implements io.Writer. It takes one line, and never fails: what cannot be written is
// lost, but what comes after it is not.
func (s *logSink) Write(line []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.buf)+len(line) > logBuffer {
		s.flush() // whole lines only: several processes may share the file
	}
	s.buf = append(s.buf, line...)
	return len(line), nil
}

// Flush writes what is in memory.
func (s *logSink) Flush() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.flush()
}

// flushUnlessJust writes what is in memory, but leaves it to the flusher when something was
// written within its time.
func (s *logSink) flushUnlessJust() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if time.Since(s.left) >= flushLogEvery {
		s.flush()
	}
}

func (s *logSink) flush() {
	if len(s.buf) == 0 {
		return
	}
	s.left = time.Now()
	s.follow(s.left)
	lines := s.buf
	if s.buf = s.buf[:0]; cap(s.buf) > 2*logBuffer {
		s.buf = nil
	}
	if s.torn { // by a full disk, which has room again now, or not
		if _, err := s.target().Write([]byte{'\n'}); err != nil {
			return
		}
	}
	n, err := s.target().Write(lines)
	s.torn = err != nil && n > 0 && lines[n-1] != '\n'
}

func (s *logSink) target() io.Writer {
	if s.file != nil {
		return s.file
	}
	return s.out
}

// Reopen opens the log file anew, after it was rotated. Without a file it does nothing; on
// failure the old file stays in use.
func (s *logSink) Reopen() error {
	s.mu.Lock()
	path := s.path
	s.mu.Unlock()
	f, err := openLog(path)
	if err == nil && f != nil {
		s.move(path, f)
	}
	return err
}

// move writes to another file from here on; nil stands for out.
func (s *logSink) move(path string, file io.WriteCloser) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.flush()
	if s.file != nil {
		_ = s.file.Close()
	}
	s.seen = time.Now()
	s.path, s.file, s.torn = path, file, s.torn && s.file == nil && file == nil
}

// Close writes what is left and closes the file.
func (s *logSink) Close() {
	close(s.stop)
	<-s.done
	s.Flush()
	if s.file != nil {
		_ = s.file.Close()
	}
}

func (s *logSink) flusher() {
	defer close(s.done)
	tick := time.NewTicker(flushLogEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			s.Flush()
		case <-s.stop:
			return
		}
	}
}

// liveHandler writes as its sink is configured at that moment, and sees that warnings and errors
// do not wait in it.
type liveHandler struct {
	sink   *logSink
	derive func(slog.Handler) slog.Handler // nil, or what WithAttrs and WithGroup add
	last   *atomic.Pointer[derived]        // nil without derive
}

// derived is what became of a sink's handler.
type derived struct{ from, to *slog.Handler }

func (h liveHandler) current() slog.Handler {
	now := h.sink.handler.Load()
	if h.derive == nil {
		return *now
	}
	if last := h.last.Load(); last != nil && last.from == now {
		return *last.to
	}
	to := h.derive(*now)
	h.last.Store(&derived{now, &to})
	return to
}

func (h liveHandler) with(more func(slog.Handler) slog.Handler) slog.Handler {
	derive := more
	if before := h.derive; before != nil {
		derive = func(now slog.Handler) slog.Handler { return more(before(now)) }
	}
	return liveHandler{h.sink, derive, new(atomic.Pointer[derived])}
}

// Enabled implements slog.Handler.
func (h liveHandler) Enabled(ctx context.Context, l slog.Level) bool {
	return (*h.sink.handler.Load()).Enabled(ctx, l)
}

// Handle implements slog.Handler.
func (h liveHandler) Handle(ctx context.Context, r slog.Record) error {
	err := h.current().Handle(ctx, r)
	switch {
	case r.Level >= slog.LevelError:
		h.sink.Flush()
	case r.Level >= slog.LevelWarn:
		h.sink.flushUnlessJust()
	}
	return err
}

// WithAttrs implements slog.Handler.
func (h liveHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return h.with(func(now slog.Handler) slog.Handler { return now.WithAttrs(attrs) })
}

// WithGroup implements slog.Handler.
func (h liveHandler) WithGroup(name string) slog.Handler {
	return h.with(func(now slog.Handler) slog.Handler { return now.WithGroup(name) })
}

// newLogger makes the process's log as the configuration says; out is used when it names no
// file. An error is about that file, see newLogSink.
func newLogger(cfg config.Log, out io.Writer) (*slog.Logger, *logSink, error) {
	sink, err := newLogSink(cfg.File, out)
	sink.configure(cfg)
	return slog.New(liveHandler{sink: sink}), sink, err
}

// configure sets level and format.
func (s *logSink) configure(cfg config.Log) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(cfg.Level)); err != nil {
		level = slog.LevelInfo
	}
	opts := &slog.HandlerOptions{Level: level}
	var h slog.Handler = slog.NewTextHandler(s, opts)
	if cfg.Format == "json" {
		h = slog.NewJSONHandler(s, opts)
	}
	s.handler.Store(&h)
}

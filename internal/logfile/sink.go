// Package logfile is the program's log: slog records, as text or JSON, to a file or to standard
// error.
//
// Lines for systemd's journal begin with their priority and have no time, which the journal adds.
//
// A busy broker logs each decision, so lines are gathered in memory and written together, at
// most 100 ms later. Errors are written at once, with all that came before them. The log never
// fails and never blocks on a FIFO without a reader: what a full disk cannot take is lost, and
// the lines after it are whole again. Level, format and file can change while loggers that were
// derived with With or WithGroup are in use, and a file that is moved away is noticed, so that
// rotation needs no signal.
package logfile

import (
	"context"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// flushEvery is how long an unremarkable line may wait in memory. A warning is written at once
// unless something was written within this time: in an overload each refusal is a warning, and a
// system call for each would make it worse.
const flushEvery = 100 * time.Millisecond

// bufferSize is how many bytes are gathered for one write.
const bufferSize = 64 << 10

// Config is the log block of the configuration.
type Config struct {
	Level  string // debug, info, warn or error; anything else is info
	Format string // text or json
	File   string // absolute path; empty: the writer given to New
}

// Sink gathers log lines and writes them to the log's file. It is safe for concurrent use.
type Sink struct {
	out          io.Writer // used without a file; the Sink neither opens nor closes it
	outIsJournal bool      // lines for out go to the journal
	level        slog.LevelVar
	json         atomic.Bool // the format is JSON
	journal      atomic.Bool // lines go to the journal

	mu        sync.Mutex
	path      string         // empty: out is used
	file      io.WriteCloser // nil without path and until path could be opened: out is used
	buf       []byte
	start     lineStart
	torn      bool      // the last write ended within a line
	lastWrite time.Time // when the last write was
	checked   time.Time // when the file was last compared with path
	stop      chan struct{}
	done      chan struct{}
}

// New makes the log that cfg describes; it writes to out if cfg names no file. An error is about
// that file. The logger works in spite of it: it writes to out until Reopen can open the file.
// The caller closes the Sink.
func New(cfg Config, out io.Writer) (*slog.Logger, *Sink, error) {
	s, err := newSink(cfg.File, out)
	s.Configure(cfg)
	text := &slog.HandlerOptions{Level: &s.level}
	json := &slog.HandlerOptions{Level: &s.level, ReplaceAttr: withUnit}
	return slog.New(&handler{sink: s, text: slog.NewTextHandler(s, text), json: slog.NewJSONHandler(s, json)}), s, err
}

// withUnit writes a duration as the text format does, such as "1.2ms". By itself JSON has a number of
// nanoseconds.
func withUnit(_ []string, a slog.Attr) slog.Attr {
	if a.Value.Kind() == slog.KindDuration {
		a.Value = slog.StringValue(a.Value.Duration().String())
	}
	return a
}

// NewSink makes a Sink for lines that others make. What cannot be written to its file is lost. An error is about
// that file, and the Sink works all the same, as that of New does. The caller closes it.
func NewSink(path string) (*Sink, error) { return newSink(path, io.Discard) }

func newSink(path string, out io.Writer) (*Sink, error) {
	s := &Sink{path: path, out: out, outIsJournal: toJournal(out), stop: make(chan struct{}), done: make(chan struct{})}
	s.journal.Store(s.outIsJournal)
	err := s.Reopen()
	go s.flushInBackground()
	return s, err
}

// Configure sets level and format. The file stays: see SetFile.
func (s *Sink) Configure(cfg Config) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(cfg.Level)); err != nil {
		level = slog.LevelInfo
	}
	s.level.Set(level)
	s.json.Store(cfg.Format == "json")
}

// Write implements io.Writer. It takes one line and never fails.
func (s *Sink) Write(line []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.buf)+len(line) > bufferSize {
		s.flush() // whole lines only: several processes may share the file
	}
	if s.journal.Load() {
		s.buf = append(s.buf, priorityOf(line)...)
	}
	s.buf = append(s.buf, line...)
	return len(line), nil
}

// line takes a record that c appends.
func (s *Sink) line(c *common, r *slog.Record) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before, start := len(s.buf), &s.start
	if s.journal.Load() {
		s.buf, start = append(s.buf, priority(r.Level)...), nil
	}
	if s.json.Load() {
		s.buf = c.appendJSONLine(s.buf, start, r)
	} else {
		s.buf = c.appendTextLine(s.buf, start, r)
	}
	if len(s.buf) > bufferSize && before > 0 {
		line := s.buf[before:]
		s.buf = s.buf[:before]
		s.flush()
		s.buf = append(s.buf, line...)
	}
}

// Flush writes what is in memory.
func (s *Sink) Flush() { s.flushAfter(0) }

// flushAfter writes what is in memory if the last write was at least pause ago.
func (s *Sink) flushAfter(pause time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if time.Since(s.lastWrite) >= pause {
		s.flush()
	}
}

// flush writes what is in memory. The caller holds mu.
func (s *Sink) flush() {
	if len(s.buf) == 0 {
		return
	}
	s.lastWrite = time.Now()
	s.follow(s.lastWrite)
	lines := s.buf
	if s.buf = s.buf[:0]; cap(s.buf) > 2*bufferSize {
		s.buf = nil
	}
	if s.torn { // by a full disk, which may have room again
		if _, err := s.target().Write([]byte{'\n'}); err != nil {
			return
		}
	}
	n, err := s.target().Write(lines)
	s.torn = err != nil && n > 0 && lines[n-1] != '\n'
}

func (s *Sink) target() io.Writer {
	if s.file != nil {
		return s.file
	}
	return s.out
}

// Reopen opens the log file again, after it was rotated. Without a file it does nothing; on
// failure the old file stays in use.
func (s *Sink) Reopen() error {
	s.mu.Lock()
	path := s.path
	s.mu.Unlock()
	f, err := Open(path)
	if err == nil && f != nil {
		s.SetFile(path, f)
	}
	return err
}

// SetFile writes to another file from here on, which the Sink closes; nil stands for the writer
// given to New.
func (s *Sink) SetFile(path string, file io.WriteCloser) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.flush()
	if s.file != nil {
		_ = s.file.Close()
	}
	s.checked = time.Now()
	s.path, s.file, s.torn = path, file, s.torn && s.file == nil && file == nil
	s.journal.Store(s.outIsJournal && file == nil)
}

// Close writes what is in memory and closes the file.
func (s *Sink) Close() {
	close(s.stop)
	<-s.done
	s.Flush()
	if s.file != nil {
		_ = s.file.Close()
	}
}

func (s *Sink) flushInBackground() {
	defer close(s.done)
	tick := time.NewTicker(flushEvery)
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

// handler is a slog.Handler that follows the configuration of its sink, and flushes warnings
// and errors. Both formats are derived by With and WithGroup; one is used for each record.
type handler struct {
	sink       *Sink
	common     common
	text, json slog.Handler // for what common does not append
}

// Enabled implements slog.Handler.
func (h *handler) Enabled(_ context.Context, l slog.Level) bool { return l >= h.sink.level.Level() }

// Handle implements slog.Handler.
func (h *handler) Handle(ctx context.Context, r slog.Record) (err error) {
	appends := h.common.appends(&r)
	if !appends && h.sink.journal.Load() {
		r.Time = time.Time{} // slog then leaves it out
	}
	switch {
	case appends:
		h.sink.line(&h.common, &r)
	case h.sink.json.Load():
		err = h.json.Handle(ctx, r)
	default:
		err = h.text.Handle(ctx, r)
	}
	switch {
	case r.Level >= slog.LevelError:
		h.sink.Flush()
	case r.Level >= slog.LevelWarn:
		h.sink.flushAfter(flushEvery)
	}
	return err
}

// WithAttrs implements slog.Handler.
func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &handler{h.sink, h.common.with(attrs), h.text.WithAttrs(attrs), h.json.WithAttrs(attrs)}
}

// WithGroup implements slog.Handler.
func (h *handler) WithGroup(name string) slog.Handler {
	return &handler{h.sink, common{other: true}, h.text.WithGroup(name), h.json.WithGroup(name)}
}

package logfile

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// disk is the destination of a log. It may be full, and records each write.
type disk struct {
	mu     sync.Mutex
	text   bytes.Buffer
	writes []string
	room   int // bytes until it is full; negative: no limit
}

var errFull = errors.New("no space left on device")

func (d *disk) Write(p []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	n, err := len(p), error(nil)
	if d.room >= 0 && n > d.room {
		n, err = d.room, errFull
	}
	if d.room >= 0 {
		d.room -= n
	}
	d.text.Write(p[:n])
	d.writes = append(d.writes, string(p[:n]))
	return n, err
}

func (d *disk) has(room int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.room = room
}

func (d *disk) String() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.text.String()
}

func openSink(t *testing.T, path string, d *disk) *Sink {
	t.Helper()
	s, err := newSink(path, d)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func put(t *testing.T, s *Sink, line string) {
	t.Helper()
	if n, err := s.Write([]byte(line)); n != len(line) || err != nil {
		t.Errorf("Write: %d, %v", n, err)
	}
}

// A line that is not urgent is written after a moment, or when the sink is closed.
func TestLogSinkFlushes(t *testing.T) {
	d := &disk{room: -1}
	s := openSink(t, "", d)
	put(t, s, "one\n")
	waitFor(t, "flush", func() bool { return d.String() == "one\n" })
	put(t, s, "two\n")
	s.Close()
	if got := d.String(); got != "one\ntwo\n" {
		t.Errorf("in the end there is %q", got)
	}
}

// Each write has whole lines only, since several processes may write to one file; also if a line
// is longer than the buffer.
func TestLogSinkWritesWholeLines(t *testing.T) {
	d := &disk{room: -1}
	s := openSink(t, "", d)
	var writers sync.WaitGroup
	const each, writerCount = 200, 8
	for w := range writerCount {
		writers.Add(1)
		go func() {
			defer writers.Done()
			for i := range each {
				put(t, s, fmt.Sprintf("writer %d line %d %s\n", w, i, strings.Repeat("x", i*10)))
			}
			put(t, s, fmt.Sprintf("writer %d line %d %s\n", w, each, strings.Repeat("x", 2*bufferSize)))
		}()
	}
	writers.Wait()
	s.Close()
	for _, w := range d.writes {
		if !strings.HasPrefix(w, "writer ") || !strings.HasSuffix(w, "x\n") && !strings.HasSuffix(w, " \n") {
			t.Fatalf("a write of %d bytes begins %.20q and ends %q", len(w), w, w[max(0, len(w)-20):])
		}
	}
	if len(d.writes) < 2 {
		t.Error("nothing was written before the end")
	}
	lines := strings.SplitAfter(d.String(), "\n")
	slices.Sort(lines)
	if lines = slices.Compact(lines); len(lines) != writerCount*(each+1)+1 { // and "" after the last
		t.Errorf("%d different lines", len(lines))
	}
}

// A full disk loses lines while it is full; later lines are complete.
func TestLogSinkSurvivesWriteErrors(t *testing.T) {
	for name, room := range map[string]int{"no room": 0, "room for half a line": 2, "room for a line": 5, "room for one and a half": 7} {
		d := &disk{room: -1}
		s := openSink(t, "", d)
		put(t, s, "line one\n")
		s.Flush()
		d.has(room)
		put(t, s, "half\nlost\n")
		s.Flush()
		put(t, s, "lost too\n")
		s.Flush()
		d.has(-1)
		put(t, s, "line two\n")
		s.Flush()
		put(t, s, "line three\n")
		s.Close()
		got := strings.Split(d.String(), "\n")
		for _, want := range []string{"line one", "line two", "line three"} {
			if !slices.Contains(got, want) {
				t.Errorf("%s: no line %q in %q", name, want, d.String())
			}
		}
		if slices.Contains(got, "lost too") {
			t.Errorf("%s: the disk was not full: %q", name, got)
		}
	}
}

// After a rotation the new lines are in the new file, and the old file has all earlier ones. If a
// file cannot be opened, the old one stays in use.
func TestLogSinkReopens(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "log")
	mkdir(t, dir)
	path := filepath.Join(dir, "postern.log")
	s := openSink(t, path, nil)
	put(t, s, "one\n")
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	put(t, s, "two\n")
	if err := s.Reopen(); err != nil {
		t.Fatal(err)
	}
	put(t, s, "three\n")
	s.Flush()
	if old, now := readText(path+".1"), readText(path); old != "one\ntwo\n" || now != "three\n" {
		t.Errorf("the old file has %q, the new one %q", old, now)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm()&0o027 != 0 {
		t.Errorf("the new file: %v, %v", info, err)
	}
	if err := os.Rename(dir, dir+".away"); err != nil {
		t.Fatal(err)
	}
	if err := s.Reopen(); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("Reopen without a directory: %v", err)
	}
	put(t, s, "four\n")
	s.Close()
	if now := readText(filepath.Join(dir+".away", "postern.log")); now != "three\nfour\n" {
		t.Errorf("the file that was in use has %q", now)
	}
	if _, err := newSink(path, nil); err == nil {
		t.Error("a log file without a directory was opened")
	}
	none := openSink(t, "", &disk{room: -1})
	defer none.Close()
	if err := none.Reopen(); err != nil {
		t.Errorf("Reopen without a file: %v", err)
	}
}

// Warnings and errors are written at once, with all that came before them; of many warnings in
// a moment the first.
func TestLogWritesWarningsAtOnce(t *testing.T) {
	for name, derive := range map[string]func(*slog.Logger) *slog.Logger{
		"logger":     func(l *slog.Logger) *slog.Logger { return l },
		"with attrs": func(l *slog.Logger) *slog.Logger { return l.With("a", 1) },
		"with group": func(l *slog.Logger) *slog.Logger { return l.WithGroup("g") },
	} {
		d := &disk{room: -1}
		log, sink, err := New(Config{Level: "info", Format: "text"}, d)
		if err != nil {
			t.Fatal(err)
		}
		log = derive(log)
		log.Info("first")
		log.Warn("second")
		if got := d.String(); !strings.Contains(got, "msg=first") || !strings.Contains(got, "msg=second") {
			t.Errorf("%s: after a warning there is %q", name, got)
		}
		const storm = 1000
		for range storm {
			log.Warn("third")
		}
		log.Error("fourth")
		if got := d.String(); !strings.Contains(got, "msg=fourth") {
			t.Errorf("%s: after an error there is %q", name, got)
		}
		sink.Close()
		if n := len(d.writes); n > storm/2 {
			t.Errorf("%s: %d warnings took %d writes", name, storm, n)
		}
	}
}

// TestLogDurations: a duration has its unit in both formats.
func TestLogDurations(t *testing.T) {
	for format, want := range map[string]string{"text": "took=1.5ms", "json": `"took":"1.5ms"`} {
		d := &disk{room: -1}
		log, sink, err := New(Config{Format: format}, d)
		if err != nil {
			t.Fatal(err)
		}
		log.Info("done", "took", 1500*time.Microsecond)
		sink.Close()
		if !strings.Contains(d.String(), want) {
			t.Errorf("%s: %q lacks %s", format, d.String(), want)
		}
	}
}

func TestLogLevelsAndFormats(t *testing.T) {
	for _, c := range []struct {
		level, format string
		want          int // lines of debug, info, warn, error
	}{{"debug", "text", 4}, {"info", "text", 3}, {"warn", "json", 2}, {"error", "json", 1}, {"nonsense", "text", 3}} {
		d := &disk{room: -1}
		log, sink, err := New(Config{Level: c.level, Format: c.format}, d)
		if err != nil {
			t.Fatal(err)
		}
		log.Debug("a line")
		log.Info("a line")
		log.Warn("a line")
		log.Error("a line", "took", time.Second)
		sink.Close()
		lines := strings.Split(strings.TrimSuffix(d.String(), "\n"), "\n")
		if len(lines) != c.want {
			t.Errorf("%s: %q", c.level, lines)
		}
		if isJSON := json.Valid([]byte(lines[0])); isJSON != (c.format == "json") {
			t.Errorf("%s is written as %q", c.format, lines[0])
		}
	}
}

// Derived loggers follow the configuration, too.
func TestLogDerivedIsReconfigured(t *testing.T) {
	d := &disk{room: -1}
	log, sink, err := New(Config{Level: "info", Format: "text"}, d)
	if err != nil {
		t.Fatal(err)
	}
	derived := log.With("a", 1).WithGroup("g")
	derived.Info("first", "b", 2)
	sink.Configure(Config{Level: "warn", Format: "json"})
	derived.Info("second", "b", 2)
	derived.Warn("third", "b", 2)
	sink.Close()
	got := d.String()
	if !strings.Contains(got, "msg=first a=1 g.b=2\n") || strings.Contains(got, "second") ||
		!strings.Contains(got, `"msg":"third","a":1,"g":{"b":2}}`) {
		t.Errorf("written: %s", got)
	}
}

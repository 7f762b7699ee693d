package logfile

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// asJournal makes a file that the environment says is the journal.
func asJournal(t *testing.T) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "journal"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	stat := info.Sys().(*syscall.Stat_t)
	t.Setenv("JOURNAL_STREAM", fmt.Sprintf("%d:%d", stat.Dev, stat.Ino))
	return f
}

// logAll logs a line of each level, one of them with a value that slog's handlers format.
func logAll(log *slog.Logger) {
	log.Debug("fine")
	log.Info("a thing", "n", 1)
	log.Warn("odd", "err", errors.New("two\nlines"))
	log.Log(context.Background(), slog.LevelInfo+1, "between")
	log.Error("bad")
}

// TestJournal: lines for the journal have a priority and no time, and a log file has both as ever.
func TestJournal(t *testing.T) {
	for format, want := range map[string]string{
		"text": "<7>level=DEBUG msg=fine\n<6>level=INFO msg=\"a thing\" n=1\n<4>level=WARN msg=odd err=\"two\\nlines\"\n<6>level=INFO+1 msg=between\n<3>level=ERROR msg=bad\n",
		"json": "<7>{\"level\":\"DEBUG\",\"msg\":\"fine\"}\n<6>{\"level\":\"INFO\",\"msg\":\"a thing\",\"n\":1}\n<4>{\"level\":\"WARN\",\"msg\":\"odd\",\"err\":\"two\\nlines\"}\n" +
			"<6>{\"level\":\"INFO+1\",\"msg\":\"between\"}\n<3>{\"level\":\"ERROR\",\"msg\":\"bad\"}\n",
	} {
		f := asJournal(t)
		log, sink, err := New(Config{Level: "debug", Format: format}, f)
		if err != nil {
			t.Fatal(err)
		}
		logAll(log)
		file := filepath.Join(t.TempDir(), "x.log")
		other, err := Open(file)
		if err != nil {
			t.Fatal(err)
		}
		sink.SetFile(file, other)
		log.Info("elsewhere")
		sink.SetFile("", nil)
		log.Info("back")
		sink.Close()
		back := map[string]string{"text": "<6>level=INFO msg=back\n", "json": "<6>{\"level\":\"INFO\",\"msg\":\"back\"}\n"}[format]
		if got := readText(f.Name()); got != want+back {
			t.Errorf("%s: the journal got\n%swant\n%s", format, got, want+back)
		}
		if got := readText(file); !strings.Contains(got, "time") || strings.HasPrefix(got, "<") {
			t.Errorf("%s: the file got %q", format, got)
		}
	}
}

// TestNotTheJournal: a variable that another process was given is not taken for this one's.
func TestNotTheJournal(t *testing.T) {
	f := asJournal(t)
	for _, value := range []string{"", "x", "1", "1:2", os.Getenv("JOURNAL_STREAM") + "1"} {
		t.Setenv("JOURNAL_STREAM", value)
		if ToJournal(f) {
			t.Errorf("JOURNAL_STREAM=%q", value)
		}
	}
	if ToJournal(nil) {
		t.Error("no file")
	}
}

// TestHandlers: the log of a small program, and the error that ends one.
func TestHandlers(t *testing.T) {
	f := asJournal(t)
	slog.New(NewHandler(f, slog.LevelInfo)).With("a", "b").Warn("odd")
	PrintError(f, "two\nlines\n")
	if got, want := readText(f.Name()), "<4>level=WARN msg=odd a=b\n<3>two\n<3>lines\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	t.Setenv("JOURNAL_STREAM", "")
	if err := f.Truncate(0); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Seek(0, 0); err != nil {
		t.Fatal(err)
	}
	slog.New(NewHandler(f, slog.LevelInfo)).Warn("odd")
	PrintError(f, "two\nlines")
	if got := readText(f.Name()); !strings.HasPrefix(got, "time=") || !strings.HasSuffix(got, " level=WARN msg=odd\ntwo\nlines\n") {
		t.Errorf("elsewhere: %q", got)
	}
}

package logfile

import (
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestLogFollowsItsPath: after a log was moved away without a signal, lines are written to a new
// file under its name, and none is lost.
func TestLogFollowsItsPath(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.log")
	sink, err := newSink(path, os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	defer sink.Close()
	line := func(text string) {
		_, _ = sink.Write([]byte(text + "\n"))
		sink.mu.Lock()
		sink.checked = time.Time{} // as if a second had gone by
		sink.mu.Unlock()
		sink.Flush()
	}
	line("one")
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	line("two")
	line("three")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	line("four")
	if old, now := readText(path+".1"), readText(path); old != "one\n" || now != "four\n" {
		t.Errorf("old %q, now %q", old, now)
	}
	// If no file can be opened, the old one stays in use.
	if err := os.Rename(path, path+".2"); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	line("five")
	if old := readText(path + ".2"); old != "four\nfive\n" {
		t.Errorf("%q", old)
	}
}

// TestLogOfRoot: a log file that root makes belongs to the owner of its directory, but the owner of
// an existing file does not change.
func TestLogOfRoot(t *testing.T) {
	dir := t.TempDir()
	made, there := filepath.Join(dir, "made.log"), filepath.Join(dir, "there.log")
	write(t, there, "")
	strangers := foreign(t, dir)
	for _, path := range []string{made, there} {
		f, err := Open(path)
		if err != nil {
			t.Fatal(err)
		}
		_ = f.Close()
	}
	if found := strangers(); slices.Contains(found, made) || os.Getuid() == 0 && !slices.Contains(found, there) {
		t.Errorf("not the owner's: %v", found)
	}
}

// TestLogIsAFIFO: opening a FIFO without a reader fails and does not wait.
func TestLogIsAFIFO(t *testing.T) {
	path := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path); err == nil || !strings.Contains(err.Error(), "without a reader") {
		t.Errorf("without a reader: %v", err)
	}
	reader, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	sink, err := newSink(path, os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	put(t, sink, "a line\n")
	sink.Close()
	_ = reader.SetReadDeadline(time.Now().Add(timeout))
	if said, err := io.ReadAll(reader); string(said) != "a line\n" || err != nil {
		t.Errorf("the reader got %q, %v", said, err)
	}
}

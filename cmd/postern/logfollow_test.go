package main

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

// TestLogFollowsItsPath: a log that is moved away without a word goes on under its own name, and
// nothing is lost.
func TestLogFollowsItsPath(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.log")
	sink, err := newLogSink(path, os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	defer sink.Close()
	line := func(text string) {
		_, _ = sink.Write([]byte(text + "\n"))
		sink.mu.Lock()
		sink.seen = time.Time{} // as if a second had gone by
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
	// Where none can be opened, the old one stays in use.
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

// TestLogOfRoot: a log file that root makes can be written to by the owner of its directory, but
// one that was there stays whose it is.
func TestLogOfRoot(t *testing.T) {
	dir := t.TempDir()
	made, there := filepath.Join(dir, "made.log"), filepath.Join(dir, "there.log")
	write(t, there, "")
	strangers := foreign(t, dir)
	for _, path := range []string{made, there} {
		f, err := openLog(path)
		if err != nil {
			t.Fatal(err)
		}
		_ = f.Close()
	}
	if found := strangers(); slices.Contains(found, made) || os.Getuid() == 0 && !slices.Contains(found, there) {
		t.Errorf("not the owner's: %v", found)
	}
}

// TestLogIsAFIFO: one that nobody reads is refused, not waited for.
func TestLogIsAFIFO(t *testing.T) {
	path := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := openLog(path); err == nil || !strings.Contains(err.Error(), "nobody reads") {
		t.Errorf("without a reader: %v", err)
	}
	reader, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	sink, err := newLogSink(path, os.Stderr)
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

package main

import (
	"os"
	"path/filepath"
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

package store

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// listing is the names and sizes of a directory's files.
func listing(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		b.WriteString(e.Name() + " " + string(data) + "\n")
	}
	return b.String()
}

// A check finds what would keep a store from being opened, and changes nothing.
func TestCheckPebble(t *testing.T) {
	leaks(t)
	dir := t.TempDir()
	p := open(t, dir)
	if err := p.Apply([]Op{put("cred/a", "1")}, true); err != nil {
		t.Fatal(err)
	}
	if err := CheckPebble(dir); !errors.Is(err, ErrLocked) {
		t.Errorf("a store in use: %v", err)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	before := listing(t, dir)
	if err := CheckPebble(dir); err != nil {
		t.Errorf("a good store: %v", err)
	}
	if after := listing(t, dir); after != before {
		t.Error("the check has changed the store")
	}
	p = open(t, dir)
	if err := p.Apply([]Op{put(Meta+"format", "\x63")}, true); err != nil {
		t.Fatal(err)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if err := CheckPebble(dir); err == nil || !strings.Contains(err.Error(), "format [99] is not known") {
		t.Errorf("a store of the future: %v", err)
	}
	if err := CheckPebble(filepath.Join(dir, "none")); err == nil {
		t.Error("a store that is not there is good")
	}
	manifests, _ := filepath.Glob(filepath.Join(dir, "MANIFEST-*"))
	for _, m := range manifests {
		if err := os.WriteFile(m, []byte("damaged by the test"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := CheckPebble(dir); err == nil {
		t.Error("a damaged store is good")
	}
}

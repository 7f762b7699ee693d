package atomicfile_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"postern/internal/atomicfile"
)

// TestWrite creates a file of mode 0600, and replaces it by one of another mode.
func TestWrite(t *testing.T) {
	path := filepath.Join(t.TempDir(), ".file")
	for _, c := range []struct {
		text    string
		mode    os.FileMode
		prepare func(*os.File) error
	}{
		{"first", 0o600, nil},
		{"second", 0o644, func(f *os.File) error { return f.Chmod(0o644) }},
		{"third", 0o600, nil},
	} {
		if err := atomicfile.Write(path, []byte(c.text), c.prepare); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(path); err != nil || string(got) != c.text || info.Mode() != c.mode {
			t.Errorf("%q with mode %v, %v; want %q with %v", got, info.Mode(), err, c.text, c.mode)
		}
	}
}

// TestWriteFails leaves the old content and no temporary file.
func TestWriteFails(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	if err := os.WriteFile(path, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	refused := errors.New("refused")
	if err := atomicfile.Write(path, []byte("new"), func(*os.File) error { return refused }); !errors.Is(err, refused) {
		t.Errorf("error %v, want that of prepare", err)
	}
	if err := os.Mkdir(filepath.Join(dir, "directory"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := atomicfile.Write(filepath.Join(dir, "directory"), []byte("new"), nil); err == nil {
		t.Error("a directory was replaced")
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != "old" {
		t.Errorf("the file holds %q, %v", got, err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 2 {
		t.Errorf("the directory holds %v, %v", entries, err)
	}
}

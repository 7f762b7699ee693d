package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestLoad reads real files: the configuration, a secret beside it, the environment.
func TestLoad(t *testing.T) {
	t.Setenv("POSTERN_TEST_SECRET", canary)
	dir := t.TempDir()
	path := filepath.Join(dir, "config.hcl")
	write := func(name, text string, mode os.FileMode) {
		t.Helper()
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(name, mode); err != nil {
			t.Fatal(err)
		}
	}
	src := "backend \"jsxc\" \"c\" {\n" + okURL + "secret = \"${file(\"s\")}${env(\"POSTERN_TEST_SECRET\")}\"\n}\n" +
		"domain \"*\" {\nbackends = [backend.jsxc.c]\ntoken \"jsxc\" {\nsecrets = [\"" + canary + "\"]\n}\n}\n"
	write(filepath.Join(dir, "s"), "one\n", 0o600)
	write(path, src, 0o600)
	cfg, problems := Load(path)
	if cfg == nil || len(problems) != 0 || cfg.Backends[0].Secret.Reveal() != "one"+canary {
		t.Fatalf("Load: %s", render(problems))
	}
	write(path, src, 0o604)
	write(filepath.Join(dir, "s"), "one\n", 0o604)
	if cfg, problems = Load(path); cfg == nil || problems.Count(Warning) != 2 {
		t.Errorf("world-readable secrets: %s", render(problems))
	}
}

// A running daemon reads regular files only: opening a FIFO could block for ever. A pipe may be
// the configuration itself at the start.
func TestLoadIrregular(t *testing.T) {
	dir := t.TempDir()
	fifo, path := filepath.Join(dir, "fifo"), filepath.Join(dir, "config.hcl")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{fifo, "/dev/zero"} {
		if cfg, problems := Reload(file); cfg != nil || len(problems) != 1 || !strings.Contains(problems[0].Message, "not a regular file") {
			t.Errorf("%s, read again: %+v", file, problems)
		}
		src := "backend \"jsxc\" \"c\" {\n" + okURL + "secret = file(\"" + file + "\")\nca_file = \"" + file + "\"\n}\n" +
			"domain \"*\" { backends = [backend.jsxc.c] }\n"
		if err := os.WriteFile(path, []byte(src), 0o600); err != nil {
			t.Fatal(err)
		}
		cfg, problems := Load(path)
		if cfg != nil || problems.Count(Error) != 2 || !strings.Contains(problems[0].Message, "not a regular file") ||
			!strings.Contains(problems[1].Message, "not a regular file") {
			t.Errorf("%s, in file() and ca_file: %s", file, render(problems))
		}
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	_, err = w.WriteString("backend \"users\" \"u\" {}\ndomain \"*\" { backends = [backend.users.u] }\n")
	if err := errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	if cfg, problems := Load(fmt.Sprintf("/dev/fd/%d", r.Fd())); cfg == nil {
		t.Errorf("a pipe: %s", render(problems))
	}
}

func TestLoadFails(t *testing.T) {
	dir := t.TempDir()
	large := filepath.Join(dir, "large")
	if err := os.WriteFile(large, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(large, maxSource+1); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, path, message, cure string }{
		{"missing", filepath.Join(dir, "none"), "no such file", "postern config new"},
		{"directory", dir, "is a directory", "check the path"},
		{"large", large, "too large", "check the path"},
	} {
		cfg, problems := Load(c.path)
		if cfg != nil || len(problems) != 1 || !strings.Contains(problems[0].Message, c.message) ||
			!strings.Contains(problems[0].Cure, c.cure) || problems[0].File != c.path {
			t.Errorf("%s: %+v", c.name, problems)
		}
	}
	if cfg, problems := Parse("large", make([]byte, maxSource+1), Env{}); cfg != nil || !problems.Failed() {
		t.Error("Parse takes a source of any size")
	}
	if _, err := readFile(large, maxInclude, false); err != errTooLarge {
		t.Errorf("a file named in file() may have any size: %v", err)
	}
}

// A panic in Parse does not end a daemon that reloads, and shows no part of the configuration.
func TestParseNeverPanics(t *testing.T) {
	env := testEnv(t)
	for _, reason := range []any{errors.New(canary), canary} {
		env.ReadFile = func(string) ([]byte, error) { panic(reason) }
		cfg, problems := Parse("/etc/postern/test.hcl", []byte("data_dir = file(\"x\")\n"+base), env)
		if out := render(problems); cfg != nil || !problems.Failed() || !strings.Contains(out, "please report") || strings.Contains(out, canary) {
			t.Errorf("%v, %s", cfg, out)
		}
	}
}

package config

import (
	"os"
	"path/filepath"
	"strings"
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
		{"missing", filepath.Join(dir, "none"), "no such file", "config.hcl.example"},
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
	if _, err := readBounded(large, maxInclude); err != errTooLarge {
		t.Errorf("a file named in file() may have any size: %v", err)
	}
}

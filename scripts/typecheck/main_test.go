package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A package that lacks something on one system is reported for that system alone, with the place.
func TestCheck(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"go.mod":          "module example\n\ngo 1.26\n",
		"a.go":            "package main\n\nimport \"fmt\"\n\nfunc main() { fmt.Println(limit) }\n",
		"limit_linux.go":  "package main\n\nimport \"syscall\"\n\nvar limit = syscall.Stat_t{}.Mtim.Sec\n",
		"limit_darwin.go": "package main\n\nimport \"syscall\"\n\nvar limit = syscall.Stat_t{}.Mtim.Sec\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for system, want := range map[string]string{
		"linux/arm64":   "",
		"darwin/arm64":  "limit_darwin.go:5:30: syscall.Stat_t{}.Mtim undefined",
		"freebsd/amd64": "a.go:5:27: undefined: limit",
	} {
		err := check(dir, system, []string{"."})
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v; want %q", system, err, want)
		}
	}
}

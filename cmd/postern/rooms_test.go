package main

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// rooms is the import table of the house: which rooms of the project each room may use. A room
// is a folder with everything below it. Arrows point down only.
var rooms = map[string][]string{
	"internal/auth":     nil,
	"wire":              {"internal/auth"},
	"internal/config":   {"internal/auth"},
	"internal/token":    {"internal/auth"},
	"internal/store":    {"internal/auth"},
	"internal/cache":    {"internal/auth", "internal/store"},
	"internal/backend":  {"internal/auth"},
	"internal/roster":   {"internal/auth", "internal/store"},
	"internal/registry": {"internal/auth", "internal/store"},
	"internal/limit":    {"internal/auth"},
	"internal/xcauth":   {"internal/auth"},
	"internal/doctor":   {"internal/auth", "internal/config", "internal/backend"},
	"actors": {"internal/auth", "wire", "internal/config", "internal/token", "internal/cache", "internal/store",
		"internal/backend", "internal/roster", "internal/registry", "internal/limit"},
	"cmd": {"internal/auth", "wire", "internal/config", "internal/token", "internal/cache", "internal/store",
		"internal/backend", "internal/roster", "internal/registry", "internal/limit", "internal/xcauth", "internal/doctor", "actors"},
	"e2e": {"internal/auth", "internal/backend", "internal/config", "internal/doctor", "internal/roster", "internal/store"},
}

// roomOf returns the room of a package path of this module.
func roomOf(t *testing.T, path string) string {
	rest := strings.TrimPrefix(path, "postern/")
	for room := range rooms {
		if rest == room || strings.HasPrefix(rest, room+"/") {
			return room
		}
	}
	t.Errorf("%s stands in no room of the house", path)
	return ""
}

func TestRooms(t *testing.T) {
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports,TestImports,XTestImports", "postern/...").Output()
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p struct {
			ImportPath                         string
			Imports, TestImports, XTestImports []string
		}
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		room := roomOf(t, p.ImportPath)
		seen[room] = true
		for _, imported := range slices.Concat(p.Imports, p.TestImports, p.XTestImports) {
			if !strings.HasPrefix(imported, "postern/") {
				continue
			}
			if other := roomOf(t, imported); other != room && !slices.Contains(rooms[room], other) {
				t.Errorf("%s imports %s: %s may not use %s", p.ImportPath, imported, room, other)
			}
		}
	}
	for room := range rooms {
		if !seen[room] {
			t.Errorf("the room %s is empty", room)
		}
	}
}

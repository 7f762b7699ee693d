package main

import (
	"strings"
	"testing"
)

// TestUsage: started by hand, the program says what it is for.
func TestUsage(t *testing.T) {
	var version strings.Builder
	if status := run([]string{"--version"}, &version, &version); status != 0 || !strings.HasPrefix(version.String(), "postern-relay version ") {
		t.Errorf("--version: %d, %q", status, version.String())
	}
	for args, want := range map[string]int{"--help": 0, "-h": 0, "": 2} {
		var out, failed strings.Builder
		status := run(strings.Fields(args), &out, &failed)
		text := out.String() + failed.String()
		if status != want || !strings.Contains(text, "the small part of `postern pipe`") || (want == 0) != (failed.Len() == 0) {
			t.Errorf("%q: %d, %q, %q", args, status, out.String(), failed.String())
		}
		for line := range strings.Lines(text) {
			if len(line) > 101 {
				t.Errorf("a long line: %q", line)
			}
		}
	}
}

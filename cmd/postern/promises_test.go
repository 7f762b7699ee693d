package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Each promise of the manual links the tests that show it, which exist.
func TestPromisesAreLinked(t *testing.T) {
	pages := filepath.Join("..", "..", "internal", "manual", "pages")
	text, err := os.ReadFile(filepath.Join(pages, "promises.md"))
	if err != nil {
		t.Fatal(err)
	}
	promises := regexp.MustCompile(`(?m)^\d+\. `).Split(string(text), -1)[1:]
	if len(promises) != 9 {
		t.Errorf("%d promises, want 9", len(promises))
	}
	link := regexp.MustCompile(`\[(Test\w+)\]\(([^)]+)\)`)
	for i, promise := range promises {
		links := link.FindAllStringSubmatch(promise, -1)
		if len(links) == 0 {
			t.Errorf("promise %d has no test: %s", i+1, promise)
		}
		for _, l := range links {
			if source, _ := os.ReadFile(filepath.Join(pages, l[2])); !strings.Contains(string(source), "\nfunc "+l[1]+"(t *testing.T)") {
				t.Errorf("promise %d: there is no %s in %s", i+1, l[1], l[2])
			}
		}
	}
}

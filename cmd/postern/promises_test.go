package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Each promise of the README links the tests that show it, which exist.
func TestPromisesAreLinked(t *testing.T) {
	root := filepath.Join("..", "..")
	readme, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ := strings.Cut(string(readme), "\n## Promises\n")
	text, _, _ = strings.Cut(text, "\n## ")
	promises := regexp.MustCompile(`(?m)^\d+\. `).Split(text, -1)[1:]
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
			if source, _ := os.ReadFile(filepath.Join(root, l[2])); !strings.Contains(string(source), "\nfunc "+l[1]+"(t *testing.T)") {
				t.Errorf("promise %d: there is no %s in %s", i+1, l[1], l[2])
			}
		}
	}
}

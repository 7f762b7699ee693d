package harness

import (
	"strings"
	"testing"

	"postern/internal/manual"
)

// PageBlocks are the blocks of a page of the manual that a test carries out, by the comment "test: elsewhere TEST" before
// each. Old and new texts in turn are replaced in them, such as an address.
func PageBlocks(t *testing.T, topic, test string, replace ...string) (blocks []string) {
	t.Helper()
	page, err := manual.Find(topic)
	if err != nil {
		t.Fatal(err)
	}
	ours := false
	for _, b := range page.Blocks {
		switch b.Kind {
		case manual.Comment:
			ours = ours || b.Text == "test: elsewhere "+test
		case manual.Code:
			if ours {
				text := strings.Join(b.Lines, "\n") + "\n"
				for i := 0; i < len(replace); i += 2 {
					text = strings.ReplaceAll(text, replace[i], replace[i+1])
				}
				blocks = append(blocks, text)
			}
			ours = false
		}
	}
	if len(blocks) == 0 {
		t.Fatalf("the page %s has no blocks of %s", topic, test)
	}
	return blocks
}

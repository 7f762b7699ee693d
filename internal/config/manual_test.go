package config

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// rest are blocks that parts of a configuration in the manual leave out, by what refers to them.
var rest = []struct{ mention, header, text string }{
	{"backend.jsxc.cloud", `backend "jsxc" "cloud"`, `{
  url    = "https://cloud.example.org/"
  secret = file("/etc/postern/cloud.secret")
}
`},
	{"backend.nextcloud.cloud", `backend "nextcloud" "cloud"`, ` { url = "https://cloud.example.org" }
`},
	{"", `domain "`, `*" { backends = [backend.users.other] }
backend "users" "other" {}
`},
}

// The configurations in the README and in the manual are valid, each with what it refers to.
func TestManualBlocksParse(t *testing.T) {
	pages, err := filepath.Glob("../manual/pages/*.md")
	if err != nil || len(pages) < 20 {
		t.Fatalf("%d pages, %v", len(pages), err)
	}
	total := 0
	for _, page := range append(pages, "../../README.md") {
		source, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range regexp.MustCompile("(?ms)^```hcl[^\n]*\n(.*?)^```$").FindAllStringSubmatch(string(source), -1) {
			total++
			text := b[1]
			for _, r := range rest {
				if strings.Contains(text, r.mention) && !strings.Contains(text, r.header) && !strings.Contains(text, "registry {") {
					text += r.header + r.text
				}
			}
			cfg, problems := Parse("/etc/postern/config.hcl", []byte(text), testEnv(t))
			if cfg == nil || len(problems) > 0 {
				t.Errorf("%s:\n%s\n%s", filepath.Base(page), b[1], render(problems))
			} else if notes := cfg.Notes(); len(notes) > 0 && filepath.Base(page) == "README.md" {
				t.Errorf("README: `config check` says more than that it is well: %q", notes)
			}
		}
	}
	if total < 20 {
		t.Errorf("found only %d configurations", total)
	}
}

package config

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// The configuration blocks of the README are valid, each with what it refers to.
func TestReadmeBlocksParse(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```hcl\n(.*?)```").FindAllStringSubmatch(string(readme), -1)
	if len(blocks) < 10 {
		t.Fatalf("%d blocks", len(blocks))
	}
	for _, b := range blocks {
		text := b[1]
		if strings.HasPrefix(text, "cache ") {
			text = "domain \"example.org\" {\n  backends = [backend.jsxc.cloud]\n  " + text + "}\n"
		}
		if strings.Contains(text, "backend.jsxc.cloud") && !strings.Contains(text, `backend "jsxc"`) {
			text += "backend \"jsxc\" \"cloud\" {\n  url = \"https://cloud.example.org/\"\n  secret = file(\"/etc/postern/cloud.secret\")\n}\n"
		}
		if !strings.Contains(text, "domain \"") {
			text += "backend \"users\" \"other\" {}\ndomain \"*\" {\n  backends = [backend.users.other]\n  local = []\n}\n"
		}
		cfg, problems := Parse("/etc/postern/config.hcl", []byte(text), testEnv(t))
		if cfg == nil || len(problems) > 0 {
			t.Errorf("%s\n%s", b[1], render(problems))
		}
	}
}

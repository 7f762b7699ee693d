package commands

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"postern/cmd/e2e/harness"
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
	{"", `listen "`, `dovecot" { address = "127.0.0.1:23668" }
`},
}

// `config check` has nothing to say of the configurations in the README and in the manual, each with what it refers
// to. Those of README and of whole files have no notes either.
func TestManualConfigurations(t *testing.T) {
	pages, err := filepath.Glob("../../../internal/manual/pages/*.md")
	if err != nil || len(pages) < 20 {
		t.Fatalf("%d pages, %v", len(pages), err)
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "config.hcl")
	total := 0
	for _, page := range append(pages, "../../../README.md") {
		for _, b := range regexp.MustCompile("(?ms)^```hcl([^\n]*)\n(.*?)^```$").FindAllStringSubmatch(harness.ReadText(page), -1) {
			total++
			text := b[2]
			for _, r := range rest {
				if strings.Contains(text, r.mention) && !strings.Contains(text, r.header) && !strings.Contains(text, "registry {") {
					text += r.header + r.text
				}
			}
			for _, m := range regexp.MustCompile(`file\("(?:/etc/postern/)?([^"]+)"\)`).FindAllStringSubmatch(text, -1) {
				secret := "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ" // also a seed
				if strings.HasSuffix(m[1], ".key") {
					secret = strings.Repeat("0123456789abcdef", 4)
				}
				harness.WriteFile(t, filepath.Join(dir, m[1]), secret+"\n")
			}
			text = strings.NewReplacer("/etc/postern/", dir+"/", `"vmail"`, `"daemon"`).Replace(text) // which every machine has
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			r := harness.Command(t, "", "config", "check", file)
			note := strings.Contains(r.Out, ": note: ") && (b[1] != "" || filepath.Base(page) == "README.md")
			if r.Code != 0 || note || !strings.Contains(r.Out, ": ok: ") || strings.Contains(r.Out, "warning") {
				t.Errorf("%s:\n%s\nexit status %d\n%s%s", filepath.Base(page), b[2], r.Code, r.Out, r.Err)
			}
		}
	}
	if total < 20 {
		t.Errorf("found only %d configurations", total)
	}
}

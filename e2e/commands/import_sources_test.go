package commands

import (
	"strings"
	"testing"

	"postern/e2e/harness"
)

// Domains are not said to be registered where no daemon would look for them, as `domain add` does
// not: the configuration keeps nothing on disk.
func TestImportRegistersNothingUnseen(t *testing.T) {
	w := harness.NewXcauth(t, harness.DeadURL(t), "default", "")
	w.SQL(t, "INSERT INTO domains VALUES ('other.example', 'own', '"+harness.DeadURL(t)+"', NULL, NULL, NULL, NULL);")
	for _, c := range []struct {
		more   string
		unseen bool
	}{
		{"", true}, {"registry {}\n", false},
		{"domain \"disk.example\" {\n  backends = [backend.users.local]\n  cache { storage = \"disk\" }\n}\n", false},
	} {
		cfg := harness.ConfigFile(t, t.TempDir(), harness.PipeConfig+c.more)
		for _, flags := range [][]string{{"--dry-run"}, nil, {"--dry-run"}, nil} {
			r := harness.Command(t, "", append([]string{"import", "xcauth", "--conf", w.Conf, "--config", cfg}, flags...)...)
			if refused := r.Code == 1 && strings.Contains(r.Err, "add a registry {} block") && r.Out == ""; refused != c.unseen || !refused && r.Code != 0 {
				t.Errorf("with %q, %v: %+v", c.more, flags, r)
			}
		}
	}
}

package main

import (
	"strings"
	"testing"
)

// Domains are not said to be registered where no daemon would look for them, as `domain add` does
// not: the configuration keeps nothing on disk.
func TestImportRegistersNothingUnseen(t *testing.T) {
	w := newXcauthWorld(t, deadURL(t), "default", "")
	w.sql(t, "INSERT INTO domains VALUES ('other.example', 'own', '"+deadURL(t)+"', NULL, NULL, NULL, NULL);")
	for _, c := range []struct {
		more   string
		unseen bool
	}{
		{"", true}, {"registry {}\n", false},
		{"domain \"disk.example\" {\n  backends = [backend.users.local]\n  cache { storage = \"disk\" }\n}\n", false},
	} {
		cfg := configFile(t, t.TempDir(), pipeConfig+c.more)
		for _, flags := range [][]string{{"--dry-run"}, nil, {"--dry-run"}, nil} {
			r := command(t, "", append([]string{"import", "xcauth", "--conf", w.conf, "--config", cfg}, flags...)...)
			if refused := r.code == 1 && strings.Contains(r.err, "add a registry {} block") && r.out == ""; refused != c.unseen || !refused && r.code != 0 {
				t.Errorf("with %q, %v: %+v", c.more, flags, r)
			}
		}
	}
}

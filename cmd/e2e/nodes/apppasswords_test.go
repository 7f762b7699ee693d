package nodes

import (
	"net/http"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"postern/cmd/e2e/harness"
	"postern/internal/store/valkeystore/valkeytest"
)

var appSecret = regexp.MustCompile(`[a-z]{4}( [a-z]{4}){6}|[a-z]{4}(-[a-z]{4}){6}`)

// addPassword makes an app password by a node.
func (s *site) addPassword(n int, name string) string {
	s.t.Helper()
	out := harness.OK(s.t, "", "password", "add", "joe@dom.example", "--name", name, "--config", s.nodes[n].config)
	secret := appSecret.FindString(out)
	if secret == "" {
		s.t.Fatalf("no secret in %q", out)
	}
	return secret
}

// App passwords that one node makes are good at all, and one that a node has revoked is good at none: whatever the others have
// written of its use, and also if the node is not running. While the store is away, what a node knew holds.
func TestAppPasswords(t *testing.T) {
	t.Parallel()
	key := filepath.Join(t.TempDir(), "key")
	harness.WriteFile(t, key, strings.Repeat("4f", 32)+"\n")
	s := newSiteOf(t, valkeytest.Start(t, "--appendonly", "yes", "--appendfsync", "always"), func(config string) string {
		config = strings.Replace(config, "backends = [", "backends = [backend.app_passwords.devices, ", 1)
		return config + "backend \"app_passwords\" \"devices\" { key = file(\"" + key + "\") }\n"
	}, cheap, cheap)
	phone, tablet := s.addPassword(0, "phone"), s.addPassword(1, "tablet")
	laptop := s.addPassword(0, "laptop")
	for n := range s.nodes {
		for _, secret := range []string{phone, tablet, laptop} {
			s.want(n, "joe", secret, yes)
		}
	}
	revoke := func(n int, name string) {
		t.Helper()
		harness.OK(t, "", "password", "revoke", "joe@dom.example", name, "--config", s.nodes[n].config)
	}
	s.backend(http.StatusOK, harness.JSONNo)
	revoke(0, "phone")
	s.want(0, "joe", phone, no)
	s.stops(1, "joe", phone, connected)
	revoke(1, "tablet")
	s.stops(0, "joe", tablet, connected)

	s.nodes[0].Stop(syscall.SIGTERM)
	s.nodes[0].Server = harness.Serve(t, "--config", s.nodes[0].config)
	for n := range s.nodes {
		s.want(n, "joe", phone, no)
		s.want(n, "joe", tablet, no)
		s.want(n, "joe", laptop, yes)
	}

	s.store.Kill()
	time.Sleep(10 * time.Millisecond)
	s.want(1, "joe", laptop, yes)
	s.want(1, "joe", phone, no)
	s.store.Start()
	harness.WaitFor(t, "both nodes are back", func() bool {
		return strings.Contains(harness.OK(t, "", "password", "list", "joe@dom.example", "--config", s.nodes[0].config), "laptop") && s.ask(0, "joe", laptop) == yes
	})
	s.nodes[1].Stop(syscall.SIGTERM)
	revoke(1, "laptop") // without its daemon
	s.stops(0, "joe", laptop, connected)
	s.want(0, "joe", phone, no)
}

package web

import (
	"fmt"
	"testing"

	"postern/cmd/e2e/harness"
)

// caddyfile takes the port, and the block of the manual.
const caddyfile = `
{
  admin off
  auto_https off
}
http://127.0.0.1:%[1]d {
%[2]s  header X-Account {http.request.header.Remote-User}
  respond "the page of [{http.request.header.Remote-Groups}]"
}
`

// Caddy asks for its visitors by forward_auth, and passes a temporary failure on.
func TestWebCaddy(t *testing.T) {
	t.Parallel()
	s, port := newSite(t, 1, 1), harness.FreePort(t)
	page := harness.PageBlocks(t, "http", "TestWebCaddy", "127.0.0.1:23670", s.http, "the secret", secret)
	conf := s.write(t, "Caddyfile", fmt.Sprintf(caddyfile, port, page[0]))
	s.start(t, harness.Machine(), port, "", "caddy", "run", "--config", conf, "--adapter", "caddyfile")
	s.scene(t, func(user, password string) string { return visit(t, port, user, password) }, "200 account=", `401 account="" challenge="Basic realm=`, "503")
	groups(t, port, "of [%s]")
}

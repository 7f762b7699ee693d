package pages

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"

	"postern/cmd/e2e/harness"
)

// host is the name in the url of the pages.
const host = "status.example"

// token is that of /status.json.
const token = "the-token-of-the-programs"

// listener asks in the line protocol.
const listener = `listen "generic" { address = "127.0.0.1:0" }` + "\n"

// statusBlock has the status page for root@dom.example; more are lines of the web block.
func statusBlock(more string) string {
	return `web {
  url = "https://` + host + `"
` + more + `
  status {
    address        = "127.0.0.1:0"
    default_domain = "dom.example"
    accounts       = ["root"]
    token          = "` + token + `"
  }
}
`
}

// site is a daemon with pages, and a configuration that the test rewrites.
type site struct {
	*harness.Server
	t         *testing.T
	dir, file string
}

// newSite starts a daemon with the accounts joe and root, password secret.
func newSite(t *testing.T, text string) *site {
	t.Helper()
	s := &site{t: t, dir: t.TempDir()}
	s.file = harness.ConfigFile(t, s.dir, text)
	for _, user := range []string{"joe", "root"} {
		harness.OK(t, "secret\n", "user", "add", user+"@dom.example", "--config", s.file)
	}
	s.Server = harness.Serve(t, "--config", s.file)
	return s
}

// write gives the site another configuration.
func (s *site) write(text string) {
	s.t.Helper()
	if err := os.WriteFile(s.file, fmt.Appendf(nil, "data_dir = %q\n%s", s.dir, text), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// page is the address at which the daemon said last that it serves a page.
func (s *site) page(name string) (address string) {
	s.t.Helper()
	for line := range strings.Lines(s.Log.String()) {
		if _, rest, found := strings.Cut(strings.TrimSpace(line), `msg="serving a page" page=`+name+" address="); found {
			address, _, _ = strings.Cut(rest, " ")
		}
	}
	if address == "" {
		s.t.Fatalf("the page %s is not served", name)
	}
	return address
}

// request asks a page, as a reverse proxy passes a request on.
func (s *site) request(method, path string, shape func(*http.Request)) (*http.Response, string) {
	s.t.Helper()
	r, err := http.NewRequest(method, "http://"+s.page("status")+path, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	r.Host = host
	if shape != nil {
		shape(r)
	}
	client := http.Client{Timeout: harness.Timeout, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	defer client.CloseIdleConnections()
	answer, err := client.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return answer, string(body)
}

// withToken gives a request the token of the programs.
func withToken(r *http.Request) { r.Header.Set("Authorization", "Bearer "+token) }

// shown is a part of /status.json.
type shown struct {
	Health    string
	Notes     []struct{ Text string }
	Hour      struct{ Allow, Deny int }
	Fronts    []struct{ Name string }
	Backends  []struct{ Name string }
	Decisions []struct{ User, Domain, Verdict, Reason, Front, Source string }
	Config    struct{ Refused string }
}

// status reads /status.json.
func (s *site) status(query url.Values) shown {
	s.t.Helper()
	answer, body := s.request(http.MethodGet, "/status.json?"+query.Encode(), withToken)
	if answer.StatusCode != http.StatusOK {
		s.t.Fatalf("%s: %s", answer.Status, body)
	}
	return harness.Decode[shown](s.t, body)
}

// Package web tests the listener of HTTP under the real servers that ask it: nginx, Caddy and Dovecot,
// those of the machine and, where they differ, those of Debian 13. scripts/setup.sh installs them.
package web

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"postern/cmd/e2e/harness"
)

func TestMain(m *testing.M) { harness.ServersMain(m) }

const secret = "the-secret-of-the-listener"

// config takes the application's address, a folder and the upstreams' ports. dom.example has a users file,
// and the users of shop.example are an application's.
const config = `
listen "http" {
  address        = "127.0.0.1:0"
  secret         = "` + secret + `"
  default_domain = "dom.example"
  userdb {
    uid  = "nobody"
    gid  = 65534
    home = "%[2]s/mail/%%{domain}/%%{user}"
  }
  nginx_mail {
    imap = "127.0.0.1:%[3]d"
    smtp = "127.0.0.1:%[4]d"
  }
}
backend "users" "local" { bcrypt_cost = 4 }
backend "json" "app" {
  url              = "%[1]s"
  breaker_failures = 1000
}
domain "dom.example" {
  backends = [backend.users.local]
  cache { bcrypt_cost = 4 }
  allow {
    groups   = ["staff", "board"]
    services = ["sieve"]
  }
}
domain "shop.example" {
  backends = [backend.json.app]
  cache {
    storage     = "memory"
    bcrypt_cost = 4
    query_ttl   = "1ms"
  }
}
`

// site is postern for servers that ask by HTTP.
type site struct {
	*harness.Server
	app  *harness.WebApp // shop.example
	seen int             // scenes
	odd  string          // a user with a name that has to be coded
	dir  string          // that the servers' users can reach
	http string          // the listener's address
}

func newSite(t *testing.T, imap, smtp int) *site {
	t.Helper()
	dir, err := os.MkdirTemp("", "web") // t.TempDir is for its owner only, and its path is long
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	s := &site{app: harness.NewWebApp(t, harness.AppUp), dir: dir, odd: "jo é+%"}
	file := harness.ConfigFile(t, t.TempDir(), fmt.Sprintf(config, s.app.URL, dir, imap, smtp))
	for _, user := range []string{"joe", "jo é+%", "jo é+"} {
		harness.OK(t, "se:cret %41+\n", "user", "add", user+"@dom.example", "--config", file)
	}
	harness.OK(t, "", "user", "groups", "joe@dom.example", "staff", "players", "--config", file)
	s.Server = harness.Serve(t, "--config", file)
	s.http = s.Address("http")
	return s
}

// password is that of the users of dom.example: each dialect codes some of its bytes.
const password = "se:cret %41+"

// scene tries every kind of answer: login returns what the user at the other end of a server sees. down
// is what that is while the answer is not known.
func (s *site) scene(t *testing.T, login func(user, password string) string, yes, no, down string) {
	t.Helper()
	want := func(user, password, want string) {
		t.Helper()
		if got := login(user, password); !strings.Contains(got, want) {
			t.Errorf("%s with %q: %s; want %s", user, password, got, want)
		}
	}
	s.seen++
	bob := fmt.Sprintf("bob%d@shop.example", s.seen) // nothing is known of
	want("joe@dom.example", password, yes)
	want("joe@DOM.example", password, yes)
	want("joe@dom.example", "wrong", no)
	want(s.odd+"@dom.example", password, yes)
	want("nobody@dom.example", password, no)
	want("ann@shop.example", "secret", yes)
	want("ann@shop.example", "wrong", no)
	s.app.Becomes(harness.AppDown)
	want("ann@shop.example", "secret", yes) // known during the outage
	want(bob, "secret", down)
	want("joe@dom.example", "wrong", no)
	s.app.Becomes(harness.AppUp)
	want(bob, "secret", yes)
}

// start starts a server, waits until it accepts connections, and ends it with the test.
func (s *site) start(t *testing.T, r harness.Release, port int, logs string, program string, args ...string) {
	t.Helper()
	cmd := r.Command(r.Program(t, program), args...)
	cmd.Env = append(os.Environ(), "HOME="+s.dir, "XDG_CONFIG_HOME="+s.dir, "XDG_DATA_HOME="+s.dir)
	out, err := os.Create(filepath.Join(t.TempDir(), "out")) // no pipe: what the server leaves behind may hold it
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(ended)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-ended
		if t.Failed() {
			t.Logf("%s:\n%s\n%s", program, harness.ReadText(out.Name()), harness.ReadText(logs))
		}
	})
	harness.WaitFor(t, program+" accepts connections", func() bool {
		select {
		case <-ended:
			t.Fatalf("%s ended:\n%s", program, harness.ReadText(out.Name()))
		default:
		}
		c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
}

func (s *site) write(t *testing.T, name, text string) (path string) {
	t.Helper()
	path = filepath.Join(s.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// groups checks that a visitor's groups reach the application, which shows them in a form: those that an allow block
// names, and not those that the visitor says.
func groups(t *testing.T, port int, form string) {
	t.Helper()
	for user, list := range map[string]string{"joe@dom.example": "staff", "jo é+@dom.example": ""} {
		want := fmt.Sprintf(form, list)
		if got := visit(t, port, user, password); !strings.HasPrefix(got, "200 ") || !strings.Contains(got, want) {
			t.Errorf("%s: %s; want %s", user, got, want)
		}
	}
}

// visit is a browser's request to a server: its answer in a line.
func visit(t *testing.T, port int, user, password string) string {
	t.Helper()
	r, err := http.NewRequest(http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d/page", port), nil)
	if err != nil {
		t.Fatal(err)
	}
	if user != "" {
		r.SetBasicAuth(user, password)
	}
	r.Header.Set("Remote-Groups", "board")       // as if it were the proxy's
	r.Header.Set("Sec-Fetch-Site", "cross-site") // a link of another site leads here
	client := http.Client{Timeout: harness.Timeout, Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%d account=%q challenge=%q groups=%q %s", answer.StatusCode, answer.Header.Get("X-Account"), answer.Header.Get("WWW-Authenticate"), answer.Header.Get("X-Groups"), body)
}

// dialogue speaks a protocol of lines: it sends each line when the answer to the one before has come, and
// returns the last line that begins with an answer.
func dialogue(t *testing.T, port int, answers []string, lines ...string) (last string) {
	t.Helper()
	c := harness.Connect(t, fmt.Sprintf("127.0.0.1:%d", port))
	defer c.Close()
	in := bufio.NewReader(c)
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return last + "(closed)"
		}
		is := false
		for _, a := range answers {
			is = is || strings.HasPrefix(line, a)
		}
		if !is {
			continue
		}
		if last = strings.TrimSpace(line); len(lines) == 0 {
			return last
		}
		if _, err := io.WriteString(c, lines[0]+"\r\n"); err != nil {
			return last + "(closed)"
		}
		lines = lines[1:]
	}
}

// imap logs in.
func imap(t *testing.T, port int, user, password string) string {
	t.Helper()
	return dialogue(t, port, []string{"* OK", "+ ", "a "}, fmt.Sprintf("a LOGIN {%d}", len(user)), fmt.Sprintf("%s {%d}", user, len(password)), password)
}

// upstream is a mail server behind nginx: after greeting it answers each line by the first of the answers
// that fits the beginning of the line.
func upstream(t *testing.T, greeting string, answers [][2]string) (port int) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = io.WriteString(c, greeting)
				for in := bufio.NewScanner(c); in.Scan(); {
					for _, a := range answers {
						if strings.Contains(in.Text(), a[0]) {
							_, _ = io.WriteString(c, a[1])
							break
						}
					}
				}
			}()
		}
	}()
	return l.Addr().(*net.TCPAddr).Port
}

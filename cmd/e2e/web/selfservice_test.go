package web

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"postern/cmd/e2e/harness"
	"postern/internal/backend/nextcloudtest"
)

// ownConfig takes the page's port and the backend of dom.example.
const ownConfig = `
listen "generic" { address = "127.0.0.1:0" }
web {
  url = "https://own.example"
  self_service {
    address        = "127.0.0.1:%d"
    default_domain = "dom.example"
    imap           = "mail.dom.example"
  }
}
audit { file = "%s" }
backend "app_passwords" "devices" { key = file("%s") }
%s
`

// visitor is a browser without its window.
type visitor struct {
	t      *testing.T
	at     string
	cookie string
	token  string
}

// do sends a request; form is nil for GET.
func (v *visitor) do(path string, form url.Values) (status int, text string) {
	v.t.Helper()
	method, body := http.MethodGet, io.Reader(http.NoBody)
	if form != nil {
		form.Set("token", v.token)
		method, body = http.MethodPost, strings.NewReader(form.Encode())
	}
	r, err := http.NewRequestWithContext(v.t.Context(), method, v.at+path, body)
	if err != nil {
		v.t.Fatal(err)
	}
	r.Host = "own.example"
	if form != nil {
		r.Header.Set("Origin", "https://own.example")
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	if v.cookie != "" {
		r.Header.Set("Cookie", v.cookie)
	}
	answer, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		v.t.Fatal(err)
	}
	defer answer.Body.Close()
	page, err := io.ReadAll(answer.Body)
	if err != nil {
		v.t.Fatal(err)
	}
	for _, c := range answer.Cookies() {
		v.cookie = c.Name + "=" + c.Value
	}
	if m := tokenField.FindStringSubmatch(string(page)); m != nil {
		v.token = m[1]
	}
	return answer.StatusCode, string(page)
}

// cloudToken is an app password of Nextcloud's own.
const cloudToken = "aB3dE-fG4hJ-kL5mN-pQ6rS-tU7vW"

var (
	tokenField  = regexp.MustCompile(`name="token" value="([^"]+)"`)
	secretField = regexp.MustCompile(`id="secret"[^>]*>([a-z-]+)<`)
	idField     = regexp.MustCompile(`name="id" value="([^"]+)"`)
)

func (v *visitor) signIn(password string) int {
	v.t.Helper()
	status, _ := v.do("/sign-in", url.Values{"name": {"joe"}, "password": {password}})
	if status == http.StatusSeeOther {
		v.do("/", nil)
	}
	return status
}

// TestSelfService: a user makes an app password, logs in by it, takes it back, and changes the account's password, over a
// users file and over a Nextcloud without a service account.
func TestSelfService(t *testing.T) {
	for name, backend := range map[string]func(t *testing.T) string{
		"users": func(*testing.T) string {
			return "backend \"users\" \"local\" { bcrypt_cost = 4 }\ndomain \"dom.example\" {\n  backends = [backend.app_passwords.devices, backend.users.local]\n}\n"
		},
		"nextcloud": func(t *testing.T) string {
			cloud, stop := nextcloudtest.Start(&nextcloudtest.User{
				ID: "joe", Password: "secret", AppPasswords: []nextcloudtest.AppPassword{{Secret: cloudToken, Login: "joe"}},
			})
			t.Cleanup(stop)
			return fmt.Sprintf("backend \"nextcloud\" \"cloud\" { url = %q }\ndomain \"dom.example\" {\n  backends = [backend.app_passwords.devices, backend.nextcloud.cloud]\n}\n",
				cloud.URL)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, port := t.TempDir(), harness.FreePort(t) // not the data directory, in which no key may be
			harness.WriteFile(t, dir+"/key", strings.Repeat("k", 32))
			file := harness.ConfigFile(t, t.TempDir(), fmt.Sprintf(ownConfig, port, dir+"/audit.log", dir+"/key", backend(t)))
			if name == "users" {
				harness.OK(t, "secret\n", "user", "add", "joe@dom.example", "--config", file)
			}
			s := harness.Serve(t, "--config", file)
			ask := func(password, want string) {
				t.Helper()
				if got := harness.Exchange(t, s.Address("generic"), "auth:joe:dom.example:"+password+"\n"); got != want+"\n" {
					t.Errorf("login with %q: %q, want %s", password, got, want)
				}
			}
			programs := &visitor{t: t, at: fmt.Sprintf("http://127.0.0.1:%d", port)}
			if _, settings := programs.do("/mail/config-v1.1.xml?emailaddress=joe@dom.example", nil); !strings.Contains(settings, "<hostname>mail.dom.example</hostname>") {
				t.Errorf("settings of programs: %s", settings)
			}
			v := &visitor{t: t, at: fmt.Sprintf("http://127.0.0.1:%d", port)}
			for wrong, want := range map[string]int{"wrong": 403, "": 403} {
				if got := v.signIn(wrong); got != want {
					t.Errorf("sign-in with %q: %d", wrong, got)
				}
			}
			if got := v.signIn("secret"); got != http.StatusSeeOther {
				t.Fatalf("sign-in: %d", got)
			}
			_, page := v.do("/app-password", url.Values{"name": {"Phone"}, "use": {"all"}, "ends": {"never"}})
			m := secretField.FindStringSubmatch(page)
			if m == nil {
				t.Fatal(page)
			}
			ask(m[1], "1")
			if got := (&visitor{t: t, at: v.at}).signIn(m[1]); got != http.StatusForbidden {
				t.Errorf("sign-in by the app password: %d", got)
			}
			_, page = v.do("/", nil)
			if status, _ := v.do("/app-password/revoke", url.Values{"id": {idField.FindStringSubmatch(page)[1]}}); status != http.StatusSeeOther {
				t.Errorf("taken back: %d", status)
			}
			ask(m[1], "0")
			change := func(old string) int {
				status, _ := v.do("/password", url.Values{"old": {old}, "new": {"another secret"}, "again": {"another secret"}})
				return status
			}
			ask("secret", "1")
			if got := change("wrong, too"); got != http.StatusForbidden {
				t.Errorf("changed with a wrong password: %d", got)
			}
			if got := change("secret"); got != http.StatusSeeOther {
				t.Errorf("changed: %d", got)
			}
			ask("another secret", "1")
			ask("secret", "0")
			if name == "nextcloud" {
				ask(cloudToken, "1")
				if got := (&visitor{t: t, at: v.at}).signIn(cloudToken); got != http.StatusForbidden {
					t.Errorf("sign-in by an app password of Nextcloud: %d", got)
				}
			}
			log := func() string { return harness.ReadText(dir + "/audit.log") }
			harness.WaitFor(t, "the audit log has the changes", func() bool {
				return strings.Contains(log(), `"password revoke"`) && strings.Contains(log(), `"setpass"`) && strings.Contains(log(), `"signin"`)
			})
			for _, secret := range []string{m[1], "another secret"} {
				if strings.Contains(log()+s.Log.String(), secret) {
					t.Errorf("a log has %q", secret)
				}
			}
		})
	}
}

package daemon

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"postern/cmd/e2e/harness"
	"postern/internal/auth/passhash"
)

// slowly is the application of harness.AppUp, which takes a time for each answer.
func slowly(d time.Duration) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(d)
		harness.AppUp(w, r)
	}
}

// stormConfig has one web application, and deadlines that a busy machine keeps.
func stormConfig(t *testing.T, dir string, app *harness.WebApp, cache string) string {
	return harness.ConfigFile(t, dir, fmt.Sprintf(`
listen "ejabberd" {
  address  = "127.0.0.1:0"
  deadline = "1m"
}
listen "generic" {
  address  = "127.0.0.1:0"
  deadline = "1m"
}
backend "json" "app" {
  url     = %q
  timeout = "1m"
}
domain "dom.example" {
  backends = [backend.json.app]
  %s
}
`, app.URL, cache))
}

// crowd logs the users from low to high in at once, over 20 connections of a protocol. All must get in.
func crowd(t *testing.T, s *harness.Server, front string, low, high int) {
	t.Helper()
	const connections = 20
	d := harness.Dialects()[front]
	var wg sync.WaitGroup
	for i := range connections {
		var input strings.Builder
		n := 0
		for user := low + i; user < high; user += connections {
			input.WriteString(asUser(d.Yes, front, user))
			n++
		}
		wg.Go(func() {
			c := harness.Connect(t, s.Address(front))
			harness.Say(t, c, input.String(), strings.Repeat(d.IsYes, n))
		})
	}
	wg.Wait()
}

// asUser is a login of another user than joe.
func asUser(login, front string, n int) string {
	login = strings.Replace(login, "joe", fmt.Sprint("user", n), 1)
	if front == "ejabberd" {
		return harness.Frame(login[2:])
	}
	return login
}

// A thousand users log in for the first time, at once, and the application can serve them in time: it is
// asked about each, and each gets in.
func TestStormOfFirstLogins(t *testing.T) {
	app := harness.NewWebApp(t, slowly(20*time.Millisecond))
	s := harness.Serve(t, "--config", stormConfig(t, t.TempDir(), app, `cache { storage = "none" }`))
	for i, front := range []string{"generic", "ejabberd"} {
		crowd(t, s, front, i*1000, (i+1)*1000)
	}
	if n := app.Asked.Load(); n != 2000 {
		t.Errorf("the application was asked %d times about 2000 users", n)
	}
}

// Users whose passwords are known on disk come back at once after a reboot: they get in, and a healthy
// application is asked in place of hashes that would have to wait.
func TestStormAfterReboot(t *testing.T) {
	const users = 200
	app, dir := harness.NewWebApp(t, slowly(time.Millisecond)), t.TempDir()
	harness.Remember(t, dir, "dom.example", users, passhash.DefaultCost)
	cmd := exec.Command(harness.Binary, "serve", "--config", stormConfig(t, dir, app, ""))
	cmd.Env = append(os.Environ(), "GOMAXPROCS=2") // so many are compared at once
	crowd(t, harness.ServeCommand(t, cmd), "ejabberd", 0, users)
	if n := app.Asked.Load(); n < users/2 {
		t.Errorf("a healthy application was asked about %d of %d users: the others waited for hashes", n, users)
	}
}

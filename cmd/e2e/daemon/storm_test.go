package daemon

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"postern/cmd/e2e/harness"
)

// slowly is the application of harness.AppUp, which takes a time for each answer.
func slowly(d time.Duration) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(d)
		harness.AppUp(w, r)
	}
}

// stormConfig has one web application, and deadlines that a busy machine keeps.
func stormConfig(t *testing.T, app *harness.WebApp, cache string) string {
	return harness.ConfigFile(t, t.TempDir(), fmt.Sprintf(`
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
	s := harness.Serve(t, "--config", stormConfig(t, app, `cache { storage = "none" }`))
	for i, front := range []string{"generic", "ejabberd"} {
		crowd(t, s, front, i*1000, (i+1)*1000)
	}
	if n := app.Asked.Load(); n != 2000 {
		t.Errorf("the application was asked %d times about 2000 users", n)
	}
}

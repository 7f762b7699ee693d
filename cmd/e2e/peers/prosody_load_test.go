package peers

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"postern/cmd/e2e/harness"
)

// The measurement of TestRealProsodyIsNotBlocked.
const (
	waitingLogins = 500
	slowBackend   = 3 * time.Second
)

// roundTrips pings until end returns true, and returns how long each ping took.
func roundTrips(t *testing.T, x *xmpp, end func() bool) (took []time.Duration) {
	t.Helper()
	for !end() {
		begun := time.Now()
		if err := x.ping(); err != nil {
			t.Fatal(err)
		}
		took = append(took, time.Since(begun))
	}
	return took
}

func spread(took []time.Duration) string {
	slices.Sort(took)
	at := func(p int) time.Duration { return took[(len(took)-1)*p/100].Round(time.Microsecond) }
	return fmt.Sprintf("p50 %v, p99 %v, max %v of %d", at(50), at(99), at(100), len(took))
}

// gate is a backend that answers nothing before it is opened; half of the passwords are right.
type gate struct {
	arrived atomic.Int64
	opened  chan struct{}
}

func (g *gate) serve(w http.ResponseWriter, r *http.Request) {
	var login struct{ Password string }
	_ = json.NewDecoder(r.Body).Decode(&login)
	g.arrived.Add(1)
	<-g.opened
	answer := harness.JSONNo
	if strings.HasPrefix(login.Password, "right") {
		answer = harness.JSONYes
	}
	_, _ = w.Write([]byte(answer))
}

// While 500 logins wait for a backend that takes 3 s, another client's stanzas go back and forth as
// they do without them, and users of another host log in. Every one of the 500 then gets its own
// answer.
func TestRealProsodyIsNotBlocked(t *testing.T) { harness.EachRelease(t, prosodyIsNotBlocked) }

func prosodyIsNotBlocked(t *testing.T, r harness.Release) {
	g := &gate{opened: make(chan struct{})}
	app := harness.NewWebApp(t, g.serve)
	open := sync.OnceFunc(func() { close(g.opened) })
	t.Cleanup(open)
	config := harness.ConfigFile(t, t.TempDir(), harness.EjabberdWith(harness.UsersConfig, "address = \"127.0.0.1:0\"\n  deadline = \"1m\"")+`
backend "json" "app" {
  url     = "`+app.URL+`"
  timeout = "1m"
  slots   = 512
}
domain "slow.example" {
  backends = [backend.json.app]
  cache { storage = "none" }
}
`)
	harness.OK(t, "secret\n", "user", "add", "joe@dom.example", "--config", config)
	p := startProsody(t, r, posternAt(harness.Serve(t, "--config", config).Address("ejabberd"), "postern_timeout = 60"))
	client := xmppClient(t, p.port, "joe", "dom.example", "secret")
	roundTrips(t, client, counter(100)) // warm
	idle := roundTrips(t, client, counter(1000))

	var logins sync.WaitGroup
	for i := range waitingLogins {
		password, want := "right", "success"
		if i%2 == 1 {
			password, want = "wrong", "not-authorized"
		}
		logins.Go(func() {
			got, err := xmppLogin(p.port, fmt.Sprintf("user%d", i), "slow.example", password)
			if err != nil || got != want {
				t.Errorf("login %d: %s, %v; want %s", i, got, err, want)
			}
		})
	}
	end := time.Now().Add(harness.Timeout)
	arriving := roundTrips(t, client, func() bool { return g.arrived.Load() == waitingLogins || time.Now().After(end) })
	if n := g.arrived.Load(); n != waitingLogins {
		t.Fatalf("%d logins wait at the backend", n)
	}
	waited := time.Now().Add(slowBackend)
	waiting := roundTrips(t, client, func() bool { return time.Now().After(waited) })
	begun := time.Now()
	p.wantLogin("joe", "secret", "success")
	t.Logf("a login beside them: %v", time.Since(begun).Round(time.Microsecond))
	open()
	logins.Wait()
	t.Logf("round trips with nobody else:      %s", spread(idle))
	t.Logf("while %d logins arrive:            %s", waitingLogins, spread(arriving))
	t.Logf("while they wait at a slow backend: %s", spread(waiting))
	// All of these came back before the first of the logins was answered.
	if len(waiting) < 50 {
		t.Errorf("%d round trips in %v", len(waiting), slowBackend)
	}
}

func counter(n int) func() bool {
	return func() bool { n--; return n < 0 }
}

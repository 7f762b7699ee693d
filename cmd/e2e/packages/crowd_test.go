package packages

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"postern/cmd/e2e/harness"
	"postern/internal/auth/passhash"
)

// crowdAddress is where the daemon answers ejabberd, and appAddress the application behind it.
const (
	crowdAddress = "127.0.0.1:23664"
	appAddress   = "127.0.0.1:23665"
)

// comeBack checks that users who were logged in get in again while the service is restarted: none of them gets a
// temporary failure, with the application and without it.
func comeBack(t *testing.T, g *harness.Guest) {
	t.Helper()
	users, length := 100, 2*time.Second
	if full() {
		users, length = 10_000, time.Minute
	}
	app := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(20 * time.Millisecond) // what such an application takes
		harness.AppUp(w, r)
	})}
	socket := g.Listen(appAddress)
	go func() { _ = app.Serve(socket) }()
	g.Must("systemctl stop postern")
	harness.Remember(t, g.Path("/var/lib/postern"), "crowd.example", users, passhash.DefaultCost)
	g.Write("/etc/postern/config.hcl", ownUsers+`listen "ejabberd" { address = "`+crowdAddress+`" }
backend "json" "app" { url = "http://`+appAddress+`" }
domain "crowd.example" { backends = [backend.json.app] }
`, 0o644)
	g.Must("chown -R postern: /var/lib/postern; systemctl start postern")
	before := crowd(g, users, min(length, 20*time.Second))
	before.check(t, "before")
	harness.WaitFor(t, "no more hashes", func() bool {
		used := cpuOf(g)
		time.Sleep(500 * time.Millisecond)
		return cpuOf(g)-used < 20*time.Millisecond
	})
	for _, what := range []string{"with the application", "without it"} {
		if what == "without it" {
			_ = app.Close()
		}
		first := mainPID(g)
		restarted := make(chan struct{})
		time.AfterFunc(length/4, func() { defer close(restarted); g.Must("systemctl restart postern") })
		c := crowd(g, users, length)
		<-restarted
		if mainPID(g) == first {
			t.Error("the service was not restarted")
		}
		c.check(t, what)
		if p99 := c.p99(); full() && p99 > 250*time.Millisecond {
			t.Errorf("%s: p99 of %d logins was %v", what, users, p99)
		}
	}
	g.Write("/etc/postern/config.hcl", ownUsers, 0o644)
	g.Must("systemctl reset-failed postern; systemctl restart postern") // not too often in a row
}

// cpuOf is the processor time that the service has used.
func cpuOf(g *harness.Guest) time.Duration {
	_, value, _ := strings.Cut(strings.TrimSpace(g.Must("systemctl show --property=CPUUsageNSec postern")), "=")
	ns, err := strconv.ParseInt(value, 10, 64)
	if err != nil {
		g.T.Fatal(err)
	}
	return time.Duration(ns)
}

// crowdOf is what became of the logins of a crowd.
type crowdOf struct {
	mu    sync.Mutex
	odd   []string        // those that were no yes
	taken []time.Duration // from when each was due to its yes
	again int             // sent once more since the connection had ended
}

// crowd logs users in, each once, evenly over a time.
func crowd(g *harness.Guest, users int, length time.Duration) *crowdOf {
	c := new(crowdOf)
	begun := time.Now()
	const connections = 50
	var wg sync.WaitGroup
	for i := range connections {
		wg.Go(func() {
			_ = g.In(func() error { // the connection is made there
				var conn net.Conn
				for user := i; user < users; user += connections {
					due := begun.Add(length * time.Duration(user) / time.Duration(users))
					time.Sleep(time.Until(due))
					conn = c.login(conn, user, due)
				}
				if conn != nil {
					_ = conn.Close()
				}
				return nil
			})
		})
	}
	wg.Wait()
	return c
}

// login logs a user in, on another connection if the one that there is ends, and returns the connection.
func (c *crowdOf) login(conn net.Conn, user int, due time.Time) net.Conn {
	const yes = "\x00\x02\x00\x01"
	question, answer := harness.Frame(fmt.Sprintf("auth:user%d:crowd.example:secret", user)), make([]byte, len(yes))
	var err error
	for again := 0; time.Since(due) < harness.Timeout; again++ {
		if conn == nil {
			if conn, err = net.Dial("tcp", crowdAddress); err != nil {
				break
			}
		}
		_ = conn.SetDeadline(time.Now().Add(harness.Timeout))
		if _, err = io.WriteString(conn, question); err == nil {
			_, err = io.ReadFull(conn, answer)
		}
		if err == nil {
			c.note(user, string(answer) == yes, fmt.Sprintf("%x", answer), due, again)
			return conn
		}
		_ = conn.Close()
		conn = nil
	}
	c.note(user, false, fmt.Sprint(err), due, 0)
	return nil
}

func (c *crowdOf) note(user int, yes bool, answer string, due time.Time, again int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.again += again
	if !yes {
		c.odd = append(c.odd, fmt.Sprintf("user%d: %s", user, answer))
		return
	}
	c.taken = append(c.taken, time.Since(due))
}

func (c *crowdOf) p99() time.Duration {
	slices.Sort(c.taken)
	return c.taken[len(c.taken)*99/100]
}

// check demands that each login was a yes.
func (c *crowdOf) check(t *testing.T, what string) {
	t.Helper()
	if len(c.odd) > 0 || len(c.taken) == 0 {
		t.Fatalf("%s: of %d logins %d were no yes: %q", what, len(c.odd)+len(c.taken), len(c.odd), c.odd[:min(len(c.odd), 10)])
	}
	t.Logf("%s: %d logins, %d sent again, p99 %v, longest %v", what, len(c.taken), c.again, c.p99().Round(time.Millisecond), c.taken[len(c.taken)-1].Round(time.Millisecond))
}

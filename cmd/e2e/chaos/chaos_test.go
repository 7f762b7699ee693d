package chaos

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"postern/cmd/e2e/harness"
)

// chaosLong is how long the long form takes; 0 is the short form, a part of `make test`.
func chaosLong(t *testing.T) time.Duration {
	t.Helper()
	text := os.Getenv("POSTERN_CHAOS")
	if text == "" {
		return 0
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatalf("POSTERN_CHAOS: %v", err)
	}
	return d
}

// chaosTimes chooses how often something is done.
func chaosTimes(t *testing.T, short, long int) int {
	t.Helper()
	if chaosLong(t) > 0 {
		return long
	}
	return short
}

// chaosSeed is the seed of a test's random choices; it is printed.
func chaosSeed(t *testing.T) uint64 {
	t.Helper()
	seed := rand.Uint64()
	if text := os.Getenv("POSTERN_CHAOS_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("POSTERN_CHAOS_SEED: %v", err)
		}
	}
	t.Logf("POSTERN_CHAOS_SEED=%d", seed)
	return seed
}

// Times of the chaos tests.
const (
	chaosDeadline     = 6 * time.Second        // of every listener: in calm it is never reached, on a busy machine neither
	chaosLongDeadline = 20 * time.Second       // of every listener where nothing waits for it
	chaosLate         = 30 * time.Second       // an answer after it is late, however busy the machine is
	chaosVerify       = 2 * time.Second        // verify_ttl
	chaosQuery        = 200 * time.Millisecond // query_ttl
	chaosUsers        = 6                      // of each client in each domain
	chaosPace         = 4 * time.Millisecond   // between the bursts of a client
)

// chaosConfig has all fronts, a backend with the faults that the test injects, and one without
// faults.
func chaosConfig(url, more, query, verify string) string {
	var b strings.Builder
	for _, front := range []string{"ejabberd", "generic", "tcp_table", "socketmap", "dovecot"} {
		changes := ""
		if front == "ejabberd" || front == "generic" {
			changes = "  changes  = true\n"
		}
		fmt.Fprintf(&b, "listen %q {\n  address  = \"127.0.0.1:0\"\n  deadline = %q\n%s}\n", front, chaosDeadline, changes)
	}
	fmt.Fprintf(&b, "listen \"saslauthd\" {\n  address  = \"unix:mux\"\n  deadline = %q\n}\n", chaosDeadline)
	fmt.Fprintf(&b, `
backend "json" "app" {
  url              = %q
  slots            = 8
  min_slots        = 1
  breaker_cooldown = "50ms"
  %s
}
backend "users" "local" { bcrypt_cost = 4 }
domain "app.example" {
  backends = [backend.json.app]
  cache {
    bcrypt_cost = 4
    query_ttl   = %q
    verify_ttl  = %q
    outage_ttl  = "1h"
    exists_ttl  = "200ms"
    absent_ttl  = "100ms"
  }
}
domain "bare.example" {
  backends = [backend.json.app]
  cache { storage = "none" }
}
domain "still.example" {
  backends = [backend.users.local]
  cache { storage = "memory" }
}
limit { enabled = false } # wrong passwords are half of the questions
`+harness.MetricsBlock, url, more, query, verify)
	return b.String()
}

// withLongDeadlines gives the listeners of chaosConfig so much time that a busy machine is no fault.
func withLongDeadlines(text string) string {
	return strings.ReplaceAll(text, fmt.Sprintf("%q", chaosDeadline), fmt.Sprintf("%q", chaosLongDeadline))
}

// chaos is a run: what is true, and what the clients found.
type chaos struct {
	t           *testing.T
	seed        uint64
	credentials *credentials
	verify      time.Duration // in calm, for how long an outdated password may be taken from the cache
	each        int           // users of each client in each domain

	// phase is even in calm, when every answer must be exact, and odd while a fault is on, when
	// "cannot tell" is right, too.
	phase   atomic.Int64
	lossy   atomic.Bool // the process may be killed: open questions may be lost with their connection
	over    atomic.Bool
	wg      sync.WaitGroup
	clients []*chaosClient
	stopped sync.Once
}

// newChaos starts a client for each front; an address is looked up anew for each connection.
func newChaos(t *testing.T, users *credentials, verify time.Duration, fronts []*chaosFront) *chaos {
	t.Helper()
	return newCrowd(t, users, verify, fronts, chaosUsers)
}

// newCrowd is newChaos with a number of users of each client in each domain.
func newCrowd(t *testing.T, users *credentials, verify time.Duration, fronts []*chaosFront, each int) *chaos {
	t.Helper()
	c := &chaos{t: t, seed: chaosSeed(t), credentials: users, verify: verify, each: each}
	for i, f := range fronts {
		k := &chaosClient{chaos: c, front: f, number: i, random: rand.New(rand.NewPCG(c.seed, uint64(i)))}
		c.clients = append(c.clients, k)
		c.wg.Add(1)
		go func() {
			defer c.wg.Done()
			k.run()
		}()
	}
	t.Cleanup(c.stop)
	c.recovered("the beginning")
	return c
}

// stop ends the clients, and reports what they saw.
func (c *chaos) stop() {
	c.stopped.Do(func() {
		c.over.Store(true)
		c.wg.Wait()
		var exact, cannot, lost int64
		for _, k := range c.clients {
			exact, cannot, lost = exact+k.exact.Load(), cannot+k.cannot.Load(), lost+k.lost.Load()
			if k.exact.Load() == 0 {
				c.t.Errorf("%s had no answer at all", k.front.name)
			}
		}
		c.t.Logf("%d right answers, %d \"cannot tell\", %d lost with their process, 0 wrong answers", exact, cannot, lost)
	})
}

// fault begins a fault, ends it with done, and waits until every answer is right again.
func (c *chaos) fault(name string, begin func(), hold func(), done func()) {
	c.t.Helper()
	c.phase.Add(1)
	begin()
	hold()
	done()
	c.recovered(name)
	calm := c.right()
	harness.WaitFor(c.t, "answers in calm after "+name, func() bool { return c.right() >= calm+int64(10*len(c.clients)) || c.t.Failed() })
}

// recovered waits until every front has answered some bursts exactly, and declares calm once no password
// is allowed any more because it was in grace less than query_ttl ago.
func (c *chaos) recovered(after string) {
	c.t.Helper()
	begun := time.Now()
	for _, k := range c.clients {
		k.streak.Store(0)
	}
	for _, k := range c.clients {
		harness.WaitFor(c.t, k.front.name+" recovers from "+after, func() bool { return k.streak.Load() >= 5 || c.t.Failed() })
	}
	if took := time.Since(begun); took > time.Second {
		c.t.Logf("%s: %v until all fronts had recovered", after, took.Round(time.Millisecond))
	}
	time.Sleep(chaosQuery)
	c.phase.Add(c.phase.Load() & 1)
}

// right is the number of exact answers so far.
func (c *chaos) right() (n int64) {
	for _, k := range c.clients {
		n += k.exact.Load()
	}
	return n
}

// answered waits until each client has had n more answers, exact or not.
func (c *chaos) answered(n int64) {
	c.t.Helper()
	for _, k := range c.clients {
		want := k.exact.Load() + k.cannot.Load() + n
		harness.WaitFor(c.t, k.front.name+" is answered", func() bool { return k.exact.Load()+k.cannot.Load() >= want || c.t.Failed() })
	}
}

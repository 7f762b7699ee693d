package nodes

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"postern/cmd/e2e/harness"
	"postern/internal/doctor"
	"postern/internal/store/valkeystore/valkeytest"
)

// What is promised, and what a test waits for, since a machine that is busy is slower.
const (
	connected = 250 * time.Millisecond
	silent    = 3 * time.Second
	spare     = 10
)

// site is a store, a backend and nodes beside them.
type site struct {
	t     *testing.T
	store *valkeytest.Server
	app   *harness.WebApp
	nodes []*node
}

type node struct {
	*harness.Server
	config string
	http   *http.Client
}

const keys = `
  token "totp" {
    seed    = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"
    secrets = ["totp-secret"]
  }
`

// newSite starts a store, a backend that accepts every password, and nodes. Each has more for its cache
// block.
func newSite(t *testing.T, store *valkeytest.Server, caches ...string) *site {
	t.Helper()
	return newSiteOf(t, store, func(config string) string { return config }, caches...)
}

// newSiteOf is newSite with another configuration.
func newSiteOf(t *testing.T, store *valkeytest.Server, edit func(config string) string, caches ...string) *site {
	t.Helper()
	s := &site{t: t, store: store, app: harness.NewWebApp(t, harness.Always(http.StatusOK, harness.JSONYes))}
	for _, cache := range caches {
		dir, err := os.MkdirTemp("", "node") // the path of a socket must be short
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.RemoveAll(dir) })
		socket := filepath.Join(dir, "http")
		config := harness.ConfigFile(t, dir, edit(fmt.Sprintf(`
listen "http" { address = "unix:%s" }
store "valkey" { addresses = %q }
backend "json" "app" {
  url              = %q
  breaker_failures = 1000
}
domain "dom.example" {
  backends = [backend.json.app]
  cache {
    %s
  }
%s}
`, socket, store.Address, s.app.URL, strings.ReplaceAll(cache, "; ", "\n    "), keys)))
		n := &node{config: config, http: &http.Client{Transport: &http.Transport{
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, "unix", socket)
			},
		}}}
		n.Server = harness.Serve(t, "--config", config)
		t.Cleanup(n.http.CloseIdleConnections)
		s.nodes = append(s.nodes, n)
	}
	return s
}

const cheap = "bcrypt_cost = 4"

// Answers.
const (
	yes   = http.StatusOK
	no    = http.StatusUnauthorized
	later = http.StatusServiceUnavailable
)

// ask logs a user in at a node.
func (s *site) ask(n int, user, password string) int {
	s.t.Helper()
	r, err := http.NewRequest(http.MethodGet, "http://node/basic/dom.example", nil)
	if err != nil {
		s.t.Fatal(err)
	}
	r.SetBasicAuth(user, password)
	reply, err := s.nodes[n].http.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	_ = reply.Body.Close()
	return reply.StatusCode
}

func (s *site) want(n int, user, password string, want int) {
	s.t.Helper()
	if got := s.ask(n, user, password); got != want {
		s.t.Errorf("node %d answers %s with status %d, want %d", n, user, got, want)
	}
}

// hot logs a user in at a node until that answers from memory.
func (s *site) hot(n int, user, password string) {
	s.t.Helper()
	harness.WaitFor(s.t, "node "+strconv.Itoa(n)+" answers from memory", func() bool {
		asked := s.app.Asked.Load()
		s.want(n, user, password, yes)
		return s.app.Asked.Load() == asked
	})
}

// stops waits until a node does not accept a password any more, and checks how long that takes.
func (s *site) stops(n int, user, password string, promised time.Duration) {
	s.t.Helper()
	begun, last := time.Now(), time.Duration(0)
	for s.ask(n, user, password) == yes { // what comes then may wait for the store
		if last = time.Since(begun); last > spare*promised {
			s.t.Fatalf("node %d accepts the password still, after %v", n, last)
		}
		time.Sleep(time.Millisecond)
	}
	s.t.Logf("node %d has accepted it for the last time after %v (promised: %v)", n, last, promised)
}

func (s *site) backend(status int, body string) { s.app.Becomes(harness.Always(status, body)) }

// stored reports whether the store has a hash of a user's password.
func (s *site) stored(user string) bool {
	return strings.Contains(s.store.Do("GET", "postern:cred/dom.example\x00"+user), "$2")
}

// written waits until it has.
func (s *site) written(user string) {
	s.t.Helper()
	harness.WaitFor(s.t, "the password is in the store", func() bool { return s.stored(user) })
}

// A password that one node has seen refused is not accepted by another, which had it in memory: not even in an outage of
// the backend.
func TestRefusal(t *testing.T) {
	valkeytest.Each(t, func(t *testing.T, start func(*testing.T, ...string) *valkeytest.Server) {
		t.Parallel()
		s := newSite(t, start(t), cheap+`; verify_ttl = "1ms"`, cheap)
		s.want(0, "joe", "secret", yes)
		s.written("joe")
		asked := s.app.Asked.Load()
		s.want(1, "joe", "secret", yes) // by the record of the other node
		s.hot(1, "joe", "secret")
		if now := s.app.Asked.Load(); now != asked {
			t.Errorf("node 1 has asked %d times about a password that node 0 has stored", now-asked)
		}
		s.want(1, "jim", "other", yes)
		s.hot(1, "jim", "other")
		s.backend(http.StatusOK, harness.JSONNo)
		harness.WaitFor(t, "node 0 asks, and refuses", func() bool { return s.ask(0, "joe", "secret") == no })
		s.backend(http.StatusServiceUnavailable, "")
		s.stops(1, "joe", "secret", connected)
		s.want(1, "joe", "secret", later)
		s.want(1, "jim", "other", yes) // nothing of his was refused
	})
}

// A password of which no hash is stored yet is known to one node only, and another hears of its refusal all the
// same.
func TestRefusalOfWhatIsNotStored(t *testing.T) {
	t.Parallel()
	s := newSite(t, valkeytest.Start(t), cheap, "bcrypt_cost = 15")
	s.want(1, "joe", "secret", yes)
	s.backend(http.StatusOK, harness.JSONNo)
	s.want(0, "joe", "secret", no)
	s.stops(1, "joe", "secret", connected)
}

// What a command has one node forget, all forget.
func TestForget(t *testing.T) {
	t.Parallel()
	s := newSite(t, valkeytest.Start(t), cheap, cheap)
	for _, what := range []string{"joe@dom.example", "dom.example"} {
		s.backend(http.StatusOK, harness.JSONYes)
		s.want(0, "joe", "secret", yes)
		s.written("joe")
		s.hot(1, "joe", "secret")
		s.backend(http.StatusServiceUnavailable, "")
		s.want(1, "joe", "secret", yes)
		harness.OK(t, "", "forget", what, "--config", s.nodes[0].config)
		s.stops(1, "joe", "secret", time.Second)
	}
}

// A node that hears nothing of the store any more asks the backend about every password, and bridges its outages by
// what it knew before. When it hears again, it reads again.
func TestSilence(t *testing.T) {
	t.Parallel()
	s := newSite(t, valkeytest.Start(t), cheap, cheap+`; query_ttl = "1d"`)
	s.want(0, "joe", "secret", yes)
	s.written("joe")
	s.hot(1, "joe", "secret")
	if err := s.store.Process().Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	s.backend(http.StatusOK, harness.JSONNo)
	s.stops(1, "joe", "secret", silent)
	s.backend(http.StatusOK, harness.JSONYes)
	begun := time.Now()
	s.want(0, "jim", "other", yes) // his record cannot be read
	if took := time.Since(begun); took > spare*100*time.Millisecond {
		t.Errorf("a yes has waited for %v", took)
	}
	s.backend(http.StatusServiceUnavailable, "")
	s.want(0, "joe", "secret", yes) // in grace
	s.want(0, "joe", "wrong", later)
	s.want(1, "joe", "secret", later) // which was refused there; it cannot reach the others
	if err := s.store.Process().Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	s.backend(http.StatusOK, harness.JSONYes)
	s.hot(0, "jim", "other")
	s.written("jim")
	s.hot(1, "jim", "other")
}

// After the store has begun anew, or another process has its data, every password is asked about, without grace.
func TestEpoch(t *testing.T) {
	t.Parallel()
	s := newSite(t, valkeytest.Start(t, "--appendonly", "yes", "--appendfsync", "always"), cheap, cheap)
	for _, change := range []func(){
		func() { s.store.Kill(); s.store.Start() },
		func() { s.store.Do("FLUSHALL") },
	} {
		s.backend(http.StatusOK, harness.JSONYes)
		s.want(0, "joe", "secret", yes)
		s.written("joe")
		s.hot(1, "joe", "secret")
		s.backend(http.StatusServiceUnavailable, "")
		change()
		s.stops(0, "joe", "secret", silent)
		s.stops(1, "joe", "secret", silent)
		s.want(0, "joe", "secret", later)
		s.want(1, "joe", "secret", later)
	}
}

// A refusal of a known password is in the store before it is answered. A store that is away makes it wait, and a
// temporary failure; it is written when the store is back.
func TestRefusalWaitsForTheStore(t *testing.T) {
	t.Parallel()
	s := newSite(t, valkeytest.Start(t, "--appendonly", "yes", "--appendfsync", "always"), cheap+`; verify_ttl = "1ms"`, cheap)
	s.want(0, "joe", "secret", yes)
	s.written("joe")
	s.hot(1, "joe", "secret")
	s.store.Kill()
	s.backend(http.StatusOK, harness.JSONNo)
	s.want(0, "joe", "secret", later)
	s.want(0, "joe", "secret", later) // of which memory has nothing any more
	s.want(0, "jim", "guess", no)     // never accepted: it does not wait
	s.store.Start()
	harness.WaitFor(t, "the password is removed", func() bool { return !s.stored("joe") })
	s.backend(http.StatusServiceUnavailable, "")
	s.stops(1, "joe", "secret", silent)
}

// A single-use token is accepted once in all, and not at all where the store cannot say so.
func TestToken(t *testing.T) {
	t.Parallel()
	s := newSite(t, valkeytest.Start(t), cheap, cheap)
	issue := func() string {
		return strings.TrimSpace(harness.OK(t, "", "token", "issue", "joe@dom.example", "--kind", "totp", "--config", s.nodes[0].config))
	}
	s.want(0, "joe", issue(), later) // the store may have lost what was used a moment ago
	since := strconv.FormatInt(time.Now().Add(-time.Hour).UnixMilli(), 10)
	s.store.Do("EVAL", "local e = redis.call('GET', KEYS[1]); redis.call('SET', KEYS[1], string.sub(e, 1, 48) .. ARGV[1])", "1", "postern:meta/epoch", since)
	for i := range 3 {
		token := issue()
		s.want(i%2, "joe", token, yes)
		s.want(0, "joe", token, no)
		s.want(1, "joe", token, no)
	}
	answers := make(chan int)
	token := issue()
	for i := range 8 {
		go func() { answers <- s.ask(i%2, "joe", token) }()
	}
	accepted := 0
	for range 8 {
		if <-answers == yes {
			accepted++
		}
	}
	if accepted != 1 {
		t.Errorf("a token that came 8 times at once was accepted %d times", accepted)
	}
	s.store.Kill()
	s.want(0, "joe", issue(), later)
}

// A daemon starts without its store, and takes it into use when it is there.
func TestStartWithoutStore(t *testing.T) {
	t.Parallel()
	store := valkeytest.Start(t)
	store.Kill()
	s := newSite(t, store, cheap, cheap)
	s.want(0, "joe", "secret", yes)
	s.want(0, "joe", "secret", yes)
	s.nodes[0].Eventually("the log says so", func() bool { return strings.Contains(s.nodes[0].Log.String(), "the shared store is away") })
	store.Start()
	s.hot(0, "joe", "secret")
	s.written("joe")
	s.hot(1, "joe", "secret")
}

// Logins that are answered from memory do not go to the store.
func TestHotLogins(t *testing.T) {
	t.Parallel()
	s := newSite(t, valkeytest.Start(t), cheap, cheap)
	s.want(0, "joe", "secret", yes)
	s.written("joe")
	s.hot(0, "joe", "secret")
	calls := func() (n int) {
		for line := range strings.Lines(s.store.Do("INFO", "commandstats")) {
			if _, counts, ok := strings.Cut(line, "cmdstat_"); ok && !strings.HasPrefix(counts, "info") {
				_, figure, _ := strings.Cut(counts, "calls=")
				figure, _, _ = strings.Cut(figure, ",")
				c, _ := strconv.Atoi(figure)
				n += c
			}
		}
		return n
	}
	const logins = 2000
	before, begun := calls(), time.Now()
	for range logins {
		s.want(0, "joe", "secret", yes)
	}
	made, took := calls()-before, time.Since(begun)
	beats := int(took/(500*time.Millisecond)+2) * 2 * 3 // of two nodes, with what their script calls
	if most := logins/50 + beats; made > most {
		t.Errorf("%d commands for %d logins in %v, with heartbeats at most %d", made, logins, took, most)
	}
}

// Commands speak of the store as it is: doctor looks at it, with and without a daemon, and a command without a daemon
// changes it for the others.
func TestCommands(t *testing.T) {
	t.Parallel()
	s := newSite(t, valkeytest.Start(t), cheap, cheap)
	s.want(0, "joe", "secret", yes)
	s.written("joe")
	s.hot(1, "joe", "secret")
	if shown := harness.OK(t, "", "cache", "show", "joe@dom.example", "--json", "--config", s.nodes[1].config); !strings.Contains(shown, `"in_memory": true`) {
		t.Errorf("node 1 shows %s", shown)
	}
	diagnose := func() doctor.Report {
		t.Helper()
		return harness.Decode[doctor.Report](t, harness.Command(t, "", "doctor", "--json", "--config", s.nodes[0].config).Out)
	}
	r := diagnose()
	harness.WantFinding(t, r, "store", "shared", doctor.OK, "answers in")
	harness.WantFinding(t, r, "store", "shared", doctor.Warning, "append-only", "appendonly yes")
	s.store.Do("CONFIG", "SET", "maxmemory", "1", "maxmemory-policy", "volatile-lru")
	r = diagnose()
	harness.WantFinding(t, r, "store", "shared", doctor.Failure, "is full", "maxmemory")
	harness.WantFinding(t, r, "store", "shared", doctor.Warning, "volatile-lru", "noeviction")
	s.store.Do("CONFIG", "SET", "maxmemory", "0", "maxmemory-policy", "noeviction")
	s.nodes[0].Stop(syscall.SIGTERM)
	s.backend(http.StatusServiceUnavailable, "")
	harness.OK(t, "", "forget", "joe@dom.example", "--config", s.nodes[0].config)
	s.stops(1, "joe", "secret", time.Second)
	s.store.Kill()
	r = diagnose()
	harness.WantFinding(t, r, "store", "shared", doctor.Failure, "cannot be used")
}

// A machine takes what it knows along to a shared store, and back, so that no user is asked about again. What was changed
// in the store meanwhile does not come back by a copy, and nor does what is left in the directory.
func TestCopy(t *testing.T) {
	t.Parallel()
	s := newSite(t, valkeytest.Start(t), cheap, cheap)
	one := s.nodes[0]
	copyTo := func(to, want string) {
		t.Helper()
		if out := harness.OK(t, "", "store", "copy", "--to", to, "--config", one.config); !strings.Contains(out, want) {
			t.Errorf("the copy to a %s says %q, want %q", to, out, want)
		}
	}
	if r := harness.Command(t, "", "store", "copy", "--to", "valkey", "--config", one.config); r.Code == 0 {
		t.Error("what a daemon uses is copied")
	}
	one.Stop(syscall.SIGTERM)
	text, store := harness.ReadText(one.config), ""
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "store ") {
			store = line
		}
	}
	alone := one.config + ".alone"
	harness.WriteFile(t, alone, strings.Replace(text, store, "", 1))

	one.Server = harness.Serve(t, "--config", alone)
	for _, user := range []string{"joe", "jim", "ann"} {
		s.want(0, user, "secret", yes)
	}
	harness.WaitFor(t, "the directory has all", func() bool {
		return strings.Contains(harness.OK(t, "", "cache", "stats", "--json", "--config", alone), `"dom.example": 3`)
	})
	harness.OK(t, "", "forget", "ann@dom.example", "--config", alone)
	one.Stop(syscall.SIGTERM)
	copyTo("valkey", "2 users written")
	s.backend(http.StatusServiceUnavailable, "")
	asked := s.app.Asked.Load()
	s.want(1, "joe", "secret", yes)
	s.want(1, "jim", "secret", yes)
	if now := s.app.Asked.Load(); now != asked {
		t.Errorf("%d questions about what was copied", now-asked)
	}
	s.want(1, "ann", "secret", later)
	harness.OK(t, "", "forget", "jim@dom.example", "--config", s.nodes[1].config)
	copyTo("valkey", "0 users written\n1 passwords left out")
	s.want(1, "jim", "secret", later)
	s.want(1, "joe", "secret", yes)

	// The directory has jim still, until it hears of the store.
	s.backend(http.StatusOK, harness.JSONYes)
	s.want(1, "eve", "secret", yes)
	s.written("eve")
	copyTo("directory", "2 users written\n1 passwords left out")
	s.backend(http.StatusServiceUnavailable, "")
	one.Server = harness.Serve(t, "--config", alone)
	s.want(0, "joe", "secret", yes)
	s.want(0, "eve", "secret", yes)
	s.want(0, "jim", "secret", later)
	one.Stop(syscall.SIGTERM)

	// A daemon that works with the store lets what the directory knows get old.
	one.Server = harness.Serve(t, "--config", one.config)
	s.want(0, "joe", "secret", yes)
	one.Stop(syscall.SIGTERM)
	one.Server = harness.Serve(t, "--config", alone)
	s.want(0, "joe", "secret", later)
	one.Stop(syscall.SIGTERM)
	copyTo("directory", "2 users written")
	one.Server = harness.Serve(t, "--config", alone)
	s.want(0, "joe", "secret", yes)
}

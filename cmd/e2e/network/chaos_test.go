package network

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"postern/cmd/e2e/harness"
	"postern/internal/auth"
	"postern/internal/store/valkeystore/valkeytest"
	"postern/internal/token"
)

// Answers.
const (
	yes   = http.StatusOK
	no    = http.StatusUnauthorized
	later = http.StatusServiceUnavailable
)

const (
	nodes     = 3
	clients   = 3                       // of each node
	victims   = 6                       // users at a time with a password that is refused some day
	stable    = 8                       // users with a password that is always right
	pace      = 5 * time.Millisecond    // between a client's questions
	aftermath = 3500 * time.Millisecond // of a fault, until all nodes are connected again
	seed      = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"
)

// site is a store, a backend and nodes, each on its machine, and what is asked.
type site struct {
	*history
	t     *testing.T
	store *valkeytest.Server
	at    *host // the store's machine
	nodes [nodes]*node
	slack int // by which bounds are longer, on a machine that is busy

	ended    sync.Map            // the users with a password that the backend refuses
	down     atomic.Bool         // the backend does not answer
	upSince  atomic.Int64        // when it began to, since begun
	disturb  [nodes]atomic.Int64 // until when a node may not hear of refusals, since begun
	current  [victims]atomic.Int64
	next     atomic.Int64
	missing  atomic.Int64 // right passwords that were not accepted while the backend was up
	accepted atomic.Int64
	wrong    atomic.Int64 // wrong passwords that were accepted
	spent    atomic.Int64 // tokens
}

type node struct {
	host   *host
	config string
	http   *http.Client
	server atomic.Pointer[harness.Server]
}

func (s *site) since() time.Duration { return time.Since(s.begun) }

// password is the right one of a user.
func password(user string) string { return "pw-" + user }

var inQuestion = regexp.MustCompile(`"pw-([a-z]+[0-9]+)"`)

// backend accepts the right passwords of all users but those of ended.
func (s *site) backend(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(io.LimitReader(r.Body, 4096))
	user := ""
	if found := inQuestion.FindSubmatch(body); found != nil && strings.Contains(string(body), string(found[1])+"@") {
		user = string(found[1])
	}
	_, ended := s.ended.Load(user)
	switch {
	case s.down.Load():
		w.WriteHeader(http.StatusServiceUnavailable)
	case user == "" || ended:
		_, _ = io.WriteString(w, harness.JSONNo)
	default:
		_, _ = io.WriteString(w, harness.JSONYes)
	}
}

func newSite(t *testing.T, slack int) *site {
	t.Helper()
	newBridge(t)
	s := &site{history: newHistory(), t: t, at: newHost(t, 2), slack: slack}
	s.store = valkeytest.StartIn(t, s.at.enter(), "--bind", s.at.ip, "--port", "6379", "--protected-mode", "no", "--appendonly", "yes", "--appendfsync", "always")
	l, err := net.Listen("tcp", bridgeIP+":0")
	if err != nil {
		t.Fatal(err)
	}
	app := &http.Server{Handler: http.HandlerFunc(s.backend)}
	go func() { _ = app.Serve(l) }()
	t.Cleanup(func() { _ = app.Close() })
	for i := range s.nodes {
		dir, err := os.MkdirTemp("", "node") // the path of a socket must be short
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.RemoveAll(dir) })
		socket := filepath.Join(dir, "http")
		verify := ""
		if i == 0 { // which finds out what the backend refuses
			verify = `verify_ttl = "1s"`
		}
		n := &node{host: newHost(t, 11+i)}
		n.config = harness.ConfigFile(t, dir, fmt.Sprintf(`
listen "http" {
  address  = "unix:%s"
  deadline = "8s"
}
store "valkey" { addresses = "%s:6379" }
backend "json" "app" {
  url              = "http://%s"
  timeout          = "3s"
  breaker_failures = 1000
  breaker_cooldown = "50ms"
}
limit { enabled = false }
domain "dom.example" {
  backends = [backend.json.app]
  cache {
    bcrypt_cost = 4
    %s
  }
  token "totp" {
    seed    = %q
    secrets = ["totp-secret"]
  }
}
`, socket, s.at.ip, l.Addr(), verify, seed))
		n.http = &http.Client{Timeout: time.Minute, Transport: &http.Transport{
			MaxIdleConnsPerHost: clients + 1,
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, "unix", socket)
			},
		}}
		t.Cleanup(n.http.CloseIdleConnections)
		s.nodes[i] = n
		s.start(i)
	}
	return s
}

// start starts a node.
func (s *site) start(i int) {
	n := s.nodes[i]
	command := append(n.host.enter(), harness.Binary, "serve", "--config", n.config)
	n.server.Store(harness.ServeCommand(s.t, exec.Command(command[0], command[1:]...)))
}

// kill ends a node as a crash does.
func (s *site) kill(i int) {
	server := s.nodes[i].server.Load()
	_ = server.Cmd.Process.Kill()
	<-server.Ended
	s.restarted(i)
}

// ask logs a user in at a node. ok is false if the node does not answer.
func (s *site) ask(i int, user, password string) (answer int, ok bool) {
	r, err := http.NewRequest(http.MethodGet, "http://node/basic/dom.example", nil)
	if err != nil {
		panic(err)
	}
	r.SetBasicAuth(user, password)
	reply, err := s.nodes[i].http.Do(r)
	if err != nil {
		return 0, false
	}
	_, _ = io.Copy(io.Discard, reply.Body)
	_ = reply.Body.Close()
	return reply.StatusCode, true
}

// record asks, and notes the answer.
func (s *site) record(i int, user, secret string, token bool) {
	call, outage := time.Now(), s.down.Load()
	answer, ok := s.ask(i, user, secret)
	end := time.Now()
	if !ok {
		return
	}
	s.note(i, asked{secret, token}, answer, call, end, circumstances{
		isolated: int64(call.Sub(s.begun)) < s.disturb[i].Load(), outage: outage || s.down.Load(), slack: s.slack,
	})
	if token && answer == yes {
		s.spent.Add(1)
	}
}

// client asks until the end.
func (s *site) client(ctx context.Context, i int, random *rand.Rand) {
	for ctx.Err() == nil {
		switch draw := random.IntN(10); {
		case draw < 6:
			user := "v" + strconv.FormatInt(s.current[random.IntN(victims)].Load(), 10)
			s.record(i, user, password(user), false)
		case draw < 9:
			user := "s" + strconv.Itoa(random.IntN(stable))
			call := s.since()
			answer, ok := s.ask(i, user, password(user))
			switch since := time.Duration(s.upSince.Load()); {
			case !ok || s.down.Load() || since == 0 || call < since+time.Second: // the node or the backend was away
			case answer == yes:
				s.accepted.Add(1)
			default:
				s.missing.Add(1)
				s.t.Logf("node %d answers a right password with %d, asked at %v and answered at %v", i, answer, call, s.since())
			}
		default:
			user := "w" + strconv.Itoa(random.IntN(stable))
			if answer, ok := s.ask(i, user, "guess"+strconv.Itoa(random.IntN(50))); ok && answer == yes {
				s.wrong.Add(1)
			}
		}
		time.Sleep(pace)
	}
}

// ends has passwords end, one after the other, and new users come for them.
func (s *site) ends(ctx context.Context, random *rand.Rand) {
	for n := 0; ctx.Err() == nil; n++ {
		i := n % victims
		s.ended.Store("v"+strconv.FormatInt(s.current[i].Load(), 10), s.since())
		pause(ctx, time.Duration(200+random.IntN(400))*time.Millisecond)
		s.current[(i+1)%victims].Store(s.next.Add(1)) // which was refused for longest
		pause(ctx, time.Duration(200+random.IntN(400))*time.Millisecond)
	}
}

// tokens has every token presented to all nodes at once, and again.
func (s *site) tokens(ctx context.Context) {
	issuer, err := token.NewTOTP(auth.NewSecret(seed), []auth.Secret{auth.NewSecret("totp-secret")}, 32)
	if err != nil {
		panic(err)
	}
	for n := 0; ctx.Err() == nil; n++ {
		user := "t" + strconv.Itoa(n%4)
		issued, err := issuer.Issue(auth.Identity{User: user, Domain: "dom.example"}, time.Now())
		if err != nil {
			panic(err)
		}
		var all sync.WaitGroup
		for range 2 {
			for i := range s.nodes {
				all.Go(func() { s.record(i, user, issued.Reveal(), true) })
			}
		}
		all.Wait()
		pause(ctx, 100*time.Millisecond)
	}
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// outage has the backend away for a while.
func (s *site) outage(d time.Duration) {
	s.upSince.Store(0)
	s.down.Store(true)
	time.Sleep(d)
	s.down.Store(false)
	s.upSince.Store(int64(s.since()))
}

// fault is something that is away for a while.
type fault struct {
	name  string
	short bool  // it is a part of the short form
	cut   []int // the nodes that may not hear of refusals meanwhile
	do    func(s *site, d time.Duration)
}

// during waits, for a part of it without the backend.
func (s *site) during(d time.Duration) {
	time.Sleep(d / 2)
	s.outage(d / 4)
	time.Sleep(d / 4)
}

func (s *site) signal(sig syscall.Signal) {
	if err := s.store.Process().Signal(sig); err != nil {
		s.t.Error(err)
	}
}

var faults = []fault{
	{"nothing", false, nil, func(s *site, d time.Duration) { s.during(d) }},
	{"a node and the store do not hear each other", true, []int{1}, func(s *site, d time.Duration) {
		h := s.nodes[1].host
		h.cut(s.at)
		s.at.cut(h)
		s.during(d)
		h.heal(s.at)
		s.at.heal(h)
	}},
	{"a node does not hear the store", true, []int{2}, func(s *site, d time.Duration) {
		h := s.nodes[2].host
		s.at.cut(h)
		s.during(d)
		s.at.heal(h)
	}},
	{"the store does not hear a node", false, []int{1}, func(s *site, d time.Duration) {
		h := s.nodes[1].host
		h.cut(s.at)
		s.during(d)
		h.heal(s.at)
	}},
	{"the node that learns of refusals is cut off", true, []int{0}, func(s *site, d time.Duration) {
		h := s.nodes[0].host
		s.at.cut(h)
		s.during(d)
		s.at.heal(h)
	}},
	{"the store hangs for a moment", false, []int{0, 1, 2}, func(s *site, d time.Duration) {
		for range 3 {
			s.signal(syscall.SIGSTOP)
			time.Sleep(d / 6)
			s.signal(syscall.SIGCONT)
			time.Sleep(d / 6)
		}
	}},
	{"the store hangs", true, []int{0, 1, 2}, func(s *site, d time.Duration) {
		s.signal(syscall.SIGSTOP)
		s.during(d)
		s.signal(syscall.SIGCONT)
	}},
	{"packets are lost", true, []int{1}, func(s *site, d time.Duration) { s.poor(d, "loss", "30%") }},
	{"packets are late", true, []int{1}, func(s *site, d time.Duration) { s.poor(d, "delay", "500ms") }},
	{"a node ends", true, nil, func(s *site, d time.Duration) {
		s.kill(2)
		s.outage(d / 4)
		s.start(2)
		time.Sleep(d / 4)
	}},
	{"the store is emptied", true, nil, func(s *site, d time.Duration) {
		s.store.Do("FLUSHALL")
		s.during(d)
	}},
	{"the store crashes", true, []int{0, 1, 2}, func(s *site, d time.Duration) {
		s.store.Kill()
		s.during(d)
		s.store.Start()
		s.outage(d / 4)
	}},
	{"the store crashes, and nothing of it is left", true, []int{0, 1, 2}, func(s *site, d time.Duration) {
		s.store.Kill()
		s.store.Lose()
		time.Sleep(d / 4)
		s.store.Start()
		s.outage(d / 4)
	}},
	{"the store is full", true, nil, func(s *site, d time.Duration) {
		s.store.Do("CONFIG", "SET", "maxmemory", "1")
		s.during(d)
		s.store.Do("CONFIG", "SET", "maxmemory", "0")
	}},
}

// poor has a node's cable lose or delay packets, where the kernel can do that.
func (s *site) poor(d time.Duration, how ...string) {
	h := s.nodes[1].host
	if !h.bad(how...) {
		s.t.Logf("this kernel cannot do that: it has no netem")
		return
	}
	s.during(d)
	h.good()
}

// TestChaosNetwork: whatever happens to nodes, store and network, no node accepts a password for longer than promised
// after another has refused it, no token is accepted twice, and right passwords are accepted as long as the backend is
// there.
func TestChaosNetwork(t *testing.T) {
	long, text := time.Duration(0), os.Getenv("POSTERN_CHAOS")
	if text != "" {
		var err error
		if long, err = time.ParseDuration(text); err != nil {
			t.Fatalf("POSTERN_CHAOS: %v", err)
		}
	}
	number := rand.Uint64()
	if text := os.Getenv("POSTERN_CHAOS_SEED"); text != "" {
		number, _ = strconv.ParseUint(text, 10, 64)
	}
	t.Logf("POSTERN_CHAOS_SEED=%d", number)
	random := rand.New(rand.NewPCG(number, 0))
	slack := 1
	if long == 0 {
		slack = 4 // other tests run beside it
	}
	s := newSite(t, slack)
	for i := range s.current {
		s.current[i].Store(s.next.Add(1))
	}
	since := strconv.FormatInt(time.Now().Add(-time.Hour).UnixMilli(), 10) // tokens need not wait in the beginning
	s.store.Do("EVAL", "local e = redis.call('GET', KEYS[1]); redis.call('SET', KEYS[1], string.sub(e, 1, 48) .. ARGV[1])", "1", "postern:meta/epoch", since)
	s.upSince.Store(int64(s.since()))

	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	for i := range s.nodes {
		for c := range clients {
			own := rand.New(rand.NewPCG(number, uint64(10*i+c+1)))
			running.Go(func() { s.client(ctx, i, own) })
		}
	}
	own := rand.New(rand.NewPCG(number, 100))
	running.Go(func() { s.ends(ctx, own) })
	running.Go(func() { s.tokens(ctx) })

	const while = 4 * time.Second // of a fault
	calm := aftermath
	if long == 0 {
		calm = time.Second
	}
	time.Sleep(calm)
	round := func(f fault, d time.Duration) {
		t.Logf("%v: %s", s.since().Round(time.Millisecond), f.name)
		for _, i := range f.cut {
			s.disturb[i].Store(int64(s.since() + time.Hour))
		}
		f.do(s, d)
		for _, i := range f.cut {
			s.disturb[i].Store(int64(s.since() + aftermath))
		}
		time.Sleep(calm)
	}
	for _, f := range faults {
		if long > 0 || f.short {
			round(f, while)
		}
	}
	for s.since() < long {
		round(faults[random.IntN(len(faults))], time.Duration(1+random.IntN(8))*time.Second)
	}
	time.Sleep(aftermath)
	stop()
	running.Wait()

	s.check(t, func(secret string) any {
		at, _ := s.ended.Load(strings.TrimPrefix(secret, "pw-"))
		return at
	})
	if n := s.wrong.Load(); n > 0 {
		t.Errorf("%d wrong passwords were accepted", n)
	}
	// A login that was on its way when the backend went away may have its answer only after it is back.
	if n := s.missing.Load(); n > 0 {
		t.Errorf("%d of %d right passwords were not accepted though the backend was there", n, n+s.accepted.Load())
	}
	if s.spent.Load() < 10 || s.accepted.Load() < 100 || len(s.no) < victims {
		t.Errorf("only %d tokens, %d right passwords and %d refusals: the test shows nothing", s.spent.Load(), s.accepted.Load(), len(s.no))
	}
	t.Logf("%d right passwords and %d tokens accepted", s.accepted.Load(), s.spent.Load())
}

package front

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"postern/internal/auth"
	"postern/internal/config"
	"postern/wire"
)

// TestRefusedListener: a protocol without a codec is an error at once, not at the first
// connection.
func TestRefusedListener(t *testing.T) {
	r := newRig(t)
	if err := r.Listen(config.Listener{Name: "gopher", Protocol: "gopher"}, nil); err == nil {
		t.Error("Listen takes an unknown protocol")
	}
}

// TestListenAfterStop: no listener is started when the process stops, and the socket stays the
// caller's.
func TestListenAfterStop(t *testing.T) {
	r := newRig(t)
	r.stopped()
	socket := socketOf(t)
	if err := r.Listen(listenerBlock("generic"), socket); err == nil {
		t.Error("Listen starts a listener")
	}
	if err := socket.Close(); err != nil {
		t.Error(err)
	}
}

// TestStopInMidFlight: requests with the backend are answered by Stop.
func TestStopInMidFlight(t *testing.T) {
	b := newBarrier() // never opened
	r := newRig(t)
	r.router.backend = func(_ context.Context, q auth.Request) auth.Answer {
		return b.ask(context.Background(), q)
	}
	defer b.open()
	cfg := listenerBlock("ejabberd")
	cfg.Deadline = time.Minute // only Stop ends the wait
	address := r.listen(cfg)
	c, idle := r.dial(address), r.dial(address)
	if _, err := io.WriteString(c, strings.Repeat(yes.frame("ejabberd"), 10)); err != nil {
		t.Fatal(err)
	}
	b.reached(t, 10)
	r.gate.Drain()
	within(t, 10*time.Second, "Stop", func() { r.Stop(10 * time.Second) })
	ended(t, c, strings.Repeat(unavailable, 10))
	ended(t, idle, "")
}

// TestDrain: what is in flight is answered, what comes then is left to the next process, and every
// connection ends.
func TestDrain(t *testing.T) {
	b := newBarrier()
	r := newRig(t)
	r.router.backend = b.ask
	address := r.listen(listenerBlock("ejabberd"))
	unix := r.listenOn("unix", listenerBlock("generic"))
	var busy []net.Conn
	for range 12 {
		c := r.dial(address)
		busy = append(busy, c)
		if _, err := io.WriteString(c, strings.Repeat(yes.frame("ejabberd"), 2)); err != nil {
			t.Fatal(err)
		}
	}
	idle, idleUnix, pipe := r.dial(address), r.dial(unix), r.dial(r.listenOn("unix", listenerBlock("relay")))
	b.reached(t, 24)
	eventually(t, "the connections", func() bool { return r.open() == 15 })
	done := r.startDrain()
	ended(t, idle, "")
	ended(t, idleUnix, "")
	eventually(t, "the end of requests", r.gate.Draining)
	if _, err := pipe.Write(wire.AppendRelayRequest(nil, &auth.Request{Op: auth.OpAuth, User: "joe", Domain: "dom.example", Secret: auth.NewSecret("good")}, time.Minute)); err != nil {
		t.Fatal(err)
	}
	postponed := make([]byte, wire.RelayGreeting+6)
	if _, err := io.ReadFull(pipe, postponed); err != nil {
		t.Fatal(err)
	}
	if _, a, err := wire.DecodeRelayAnswer(postponed[wire.RelayGreeting:]); err != nil || a.Source != auth.SourceDraining {
		t.Errorf("a pipe is told %v (%v)", a, err)
	}
	_, _ = io.WriteString(busy[0], yes.frame("ejabberd"))
	if c, err := net.Dial("tcp", address); err == nil {
		_ = c.Close()
		t.Error("the listener still listens")
	}
	select {
	case <-done:
		t.Fatal("the drain did not wait for its requests")
	default:
	}
	b.open()
	for _, c := range busy {
		ended(t, c, strings.Repeat(yes.reply("ejabberd"), 2))
	}
	ended(t, pipe, "")
	<-done
	eventually(t, "the end of the connections", func() bool { return r.open() == 0 })
}

// lateSocket accepts connections that read nothing until the server drains, and then only that time is over.
type lateSocket struct {
	net.Listener
	server *Server
}

func (l lateSocket) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return lateConn{c.(*net.TCPConn), l.server}, nil
}

type lateConn struct {
	*net.TCPConn
	server *Server
}

func (c lateConn) Read([]byte) (int, error) {
	for !c.server.draining.Load() {
		runtime.Gosched()
	}
	return 0, os.ErrDeadlineExceeded
}

// TestDrainAnswersWhatHasCome: what a peer has sent before the drain, and postern has not read yet, is answered.
func TestDrainAnswersWhatHasCome(t *testing.T) {
	r := newRig(t)
	c := r.dial(r.listenAt(listenerBlock("ejabberd"), lateSocket{socketOf(t), r.Server}))
	eventually(t, "the connection", func() bool { return r.open() == 1 })
	if _, err := io.WriteString(c, strings.Repeat(yes.frame("ejabberd"), 100)); err != nil { // more than a buffer
		t.Fatal(err)
	}
	within(t, 10*time.Second, "the drain", func() {
		if !r.Drain(context.Background()) {
			t.Error("something was not answered")
		}
	})
	ended(t, c, strings.Repeat(yes.reply("ejabberd"), 100))
}

// TestLateConnection: a connection that was accepted before the socket was closed, but served
// after all others were told to end, ends too.
func TestLateConnection(t *testing.T) {
	r := newRig(t)
	address := r.listen(listenerBlock("generic"))
	r.closing.Store(true)
	ended(t, r.dial(address), "")
}

// TestDrainAnswersNewConnections: a client that was let in a moment before the drain is answered like any
// other, and one that says nothing does not hold it up.
func TestDrainAnswersNewConnections(t *testing.T) {
	r := newRig(t)
	address := r.listen(listenerBlock("generic"))
	young, silent := r.dial(address), r.dial(address)
	eventually(t, "the connections", func() bool { return r.open() == 2 })
	done := make(chan struct{})
	go func() { defer close(done); r.Drain(context.Background()) }()
	eventually(t, "the end of listening", func() bool {
		c, err := net.Dial("tcp", address)
		if err == nil {
			_ = c.Close()
		}
		return err != nil
	})
	roundTrip(t, young, yes.frame("generic"), "1\n")
	ended(t, young, "")
	ended(t, silent, "")
	within(t, 10*time.Second, "the drain", func() { <-done })
}

// slowListener is a socket whose connections are accepted once it was looked for them.
type slowListener struct {
	*net.TCPListener
	once   sync.Once
	looked chan struct{}
}

func (l *slowListener) Accept() (net.Conn, error) {
	<-l.looked
	return l.TCPListener.Accept()
}

func (l *slowListener) SyscallConn() (syscall.RawConn, error) {
	defer l.once.Do(func() { close(l.looked) })
	return l.TCPListener.SyscallConn()
}

// TestDrainAcceptsBacklog: a client that was let in by the kernel before the drain, and not yet by
// us, is answered like any other.
func TestDrainAcceptsBacklog(t *testing.T) {
	r := newRig(t)
	l := &slowListener{TCPListener: socketOf(t).(*net.TCPListener), looked: make(chan struct{})}
	c := r.dial(r.listenAt(listenerBlock("generic"), l))
	t.Cleanup(func() { l.once.Do(func() { close(l.looked) }) })
	if _, err := io.WriteString(c, yes.frame("generic")); err != nil {
		t.Fatal(err)
	}
	within(t, 10*time.Second, "the drain", func() { r.Drain(context.Background()) })
	ended(t, c, "1\n")
}

// reload changes the listeners from one list to another, and returns the addresses of the new ones.
func (r *rig) reload(from, to []config.Listener) map[string]string {
	r.t.Helper()
	d := config.Diff(&config.Config{Listeners: from}, &config.Config{Listeners: to}).Listeners
	sockets, addresses := make(map[string]net.Listener), make(map[string]string)
	for _, l := range d.Added {
		sockets[l.Name] = socketOf(r.t)
		addresses[l.Name] = sockets[l.Name].Addr().String()
	}
	r.Change(d, sockets)
	return addresses
}

// listening lists the listeners' actors.
func (r *rig) listening() (names []string) {
	for _, line := range r.system.Tree() {
		if name, listens := strings.CutPrefix(strings.Fields(line)[0], "listener:"); listens {
			names = append(names, name)
		}
	}
	return names
}

// TestReloadListeners: sockets and connections of what stays, stay.
func TestReloadListeners(t *testing.T) {
	held := newBarrier()
	r := newRig(t)
	r.router.backend = func(ctx context.Context, q auth.Request) auth.Answer {
		switch q.User {
		case "slow":
			return held.ask(ctx, q)
		case "down":
			return outage
		}
		return goodPassword(q)
	}
	stays, goes := listenerBlock("ejabberd"), listenerBlock("ejabberd")
	stays.Name, goes.Name = "stays", "goes"
	stays.Address, goes.Address = "127.0.0.1:1", "127.0.0.1:2" // as config sees them
	before := []config.Listener{stays, goes}
	addresses := r.reload(nil, before)
	old, idle, busy := r.dial(addresses["stays"]), r.dial(addresses["goes"]), r.dial(addresses["goes"])
	joe, is := yes.frame("ejabberd"), yes.reply("ejabberd")
	for _, c := range []net.Conn{old, idle, busy} {
		roundTrip(t, c, joe, is)
	}
	if _, err := io.WriteString(busy, question{op: "auth", user: "slow", domain: "dom.example", secret: "good"}.frame("ejabberd")); err != nil {
		t.Fatal(err)
	}
	held.reached(t, 1)
	renamed := stays
	renamed.BinaryAnswers, renamed.Name, renamed.MaxConnections = true, "renamed", 2
	r.reload(before, []config.Listener{renamed})
	ended(t, idle, "")
	if c, err := net.Dial("tcp", addresses["goes"]); err == nil {
		_ = c.Close()
		t.Error("the removed listener still listens")
	}
	down := question{op: "auth", user: "down", domain: "dom.example", secret: "good"}.frame("ejabberd")
	roundTrip(t, old, down, unavailable)                               // as it began
	roundTrip(t, r.dial(addresses["stays"]), down, "\x00\x02\x00\x00") // with the new parameters
	third := r.dial(addresses["stays"])
	if _, err := io.WriteString(third, joe); err != nil {
		t.Fatal(err)
	}
	held.open()
	ended(t, busy, is)
	_ = old.Close() // makes room for the third
	roundTrip(t, third, "", is)
	eventually(t, "the end of the removed listener's actor", func() bool { return fmt.Sprint(r.listening()) == "[stays]" })
	if r.find(config.Listener{Name: "renamed", Address: stays.Address}) == nil {
		t.Error("the renamed listener is not found")
	}
}

// TestReloadMovesListener: a listener that gets another address, time and again, is served there
// at once, although the one before it is still on its way out.
func TestReloadMovesListener(t *testing.T) {
	r := newRig(t)
	var now []config.Listener
	for i := range 100 {
		l := listenerBlock("generic")
		l.Address = fmt.Sprint("127.0.0.1:", 1+i) // as config sees it
		next := []config.Listener{l}
		addresses := r.reload(now, next)
		now = next
		roundTrip(t, r.dial(addresses["generic"]), yes.frame("generic"), yes.reply("generic"))
	}
	r.settled()
	eventually(t, "the last listener only", func() bool { return len(r.listening()) == 1 })
}

// TestIdleSaslauthdClients: connections that ask nothing keep no other from asking, as five do
// with Cyrus saslauthd.
func TestIdleSaslauthdClients(t *testing.T) {
	const n = 1000
	r := newRig(t)
	address := r.listenOn("unix", listenerBlock("saslauthd"))
	for range n {
		r.dial(address)
	}
	eventually(t, "all connections to be accepted", func() bool { return r.open() == n })
	if out := r.oneShot(address, "joe", "good"); out != "OK" {
		t.Errorf("behind %d idle connections answered %q", n, out)
	}
	if r.open() < n {
		t.Errorf("only %d connections are open", r.open())
	}
}

// TestGoroutinesPerConnection: a connection has a reader, and its actor at most one more.
func TestGoroutinesPerConnection(t *testing.T) {
	const n = 500 // the dispatcher keeps up to 256 goroutines besides
	for _, protocol := range []string{"generic", "dovecot", "ejabberd"} {
		t.Run(protocol, func(t *testing.T) {
			r := newRig(t)
			address := r.listen(listenerBlock(protocol))
			idle := runtime.NumGoroutine()
			for i := range n {
				c := r.dial(address)
				if protocol != "generic" {
					continue
				}
				if _, err := fmt.Fprintf(c, "auth:user%d:dom.example:good\n", i); err != nil {
					t.Fatal(err)
				}
				if _, err := bufio.NewReader(c).ReadString('\n'); err != nil {
					t.Fatal(err)
				}
			}
			eventually(t, "all connections to be accepted", func() bool { return r.open() == n })
			eventually(t, "at most two goroutines for each", func() bool { return runtime.NumGoroutine()-idle <= 2*n })
		})
	}
}

// TestHangingBackend: each protocol says "temporary failure" in its own way and in time.
func TestHangingBackend(t *testing.T) {
	login := question{"auth", "joe", "dom.example", "good", auth.Unavailable}
	cases := map[string]struct{ in, want string }{
		"generic":   {login.frame("generic"), "0\n"},
		"ejabberd":  {login.frame("ejabberd"), unavailable},
		"tcp_table": {"get joe@dom.example\n", "400 temporarily unavailable\n"},
		"socketmap": {"23:mailbox joe@dom.example,", "20:TEMP try again later,"},
		"saslauthd": {fields("joe", "good", "smtp", "dom.example"), "\x00\x00"},
	}
	for protocol, c := range cases {
		t.Run(protocol, func(t *testing.T) {
			r := newRig(t)
			r.router.backend = hang
			address := r.listen(short(protocol, 400*time.Millisecond))
			within(t, 10*time.Second, "the answer", func() { same(t, r.exchange(address, c.in), c.want) })
			if log := r.log.String(); !strings.Contains(log, "verdict=unavailable source=deadline") {
				t.Errorf("the log does not say why: %s", log)
			}
		})
	}
}

// TestDeafBackend: the sweeper answers for a backend that does not even mind its own deadline.
func TestDeafBackend(t *testing.T) {
	release := make(chan struct{})
	r := newRig(t)
	r.router.backend = func(_ context.Context, q auth.Request) auth.Answer { <-release; return goodPassword(q) }
	defer close(release)
	for _, protocol := range []string{"ejabberd", "dovecot"} {
		cfg := short(protocol, 400*time.Millisecond)
		if protocol == "dovecot" {
			d := r.dovecot(t, r.listen(cfg), 1)
			d.say(plainLogin(1, "joe", "good"))
			d.expect("FAIL\t1\tuser=joe\ttemp\tcode=temp_fail")
			continue
		}
		questions := []question{{"auth", "joe", "dom.example", "good", auth.Unavailable}, {"isuser", "ann", "dom.example", "", auth.Unavailable}}
		in, _ := script(protocol, questions)
		within(t, 10*time.Second, "the answer", func() { same(t, r.exchange(r.listen(cfg), in), unavailable+unavailable) })
	}
	if n := strings.Count(r.log.String(), "source=deadline"); n != 3 {
		t.Errorf("%d requests ran into their deadlines by the log, want 3", n)
	}
}

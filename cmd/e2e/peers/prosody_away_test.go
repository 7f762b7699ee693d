package peers

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"postern/cmd/e2e/harness"
)

// keepAddress has a configuration's ejabberd listener at an address, so that it comes back there.
func keepAddress(t *testing.T, config, address string) {
	t.Helper()
	text := harness.EjabberdWith(harness.ReadText(config), `address = "`+address+`"`)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// The daemon is down before Prosody starts, is started, killed, and started again: meanwhile logins
// fail as temporary, also the second on one stream, and no other user notices.
func TestRealProsodyWhilePosternIsAway(t *testing.T) {
	harness.EachRelease(t, prosodyWhilePosternIsAway)
}

func prosodyWhilePosternIsAway(t *testing.T, r harness.Release) {
	config := harness.ConfigFile(t, t.TempDir(), harness.UsersConfig)
	keepAddress(t, config, fmt.Sprintf("127.0.0.1:%d", harness.FreePort(t)))
	harness.OK(t, "secret\n", "user", "add", "joe@dom.example", "--config", config)
	_, address, _ := strings.Cut(harness.ReadText(config), "listen \"ejabberd\" {\n  changes = true\n  address = \"")
	address, _, _ = strings.Cut(address, `"`)
	p := startProsody(t, r, posternAt(address, ""))
	p.wantLogin("joe", "secret", "temporary-auth-failure")
	s := harness.Serve(t, "--config", config)
	p.eventually("secret")
	client := xmppClient(t, p.port, "joe", "dom.example", "secret")
	guest, err := xmppOpen(p.port, "dom.example")
	if err != nil {
		t.Fatal(err)
	}
	defer guest.c.Close()
	_ = s.Cmd.Process.Kill()
	<-s.Ended
	for range 3 {
		if got, err := guest.plain("\x00joe\x00secret"); err != nil || got != "temporary-auth-failure" {
			t.Errorf("on the same stream: %s, %v", got, err)
		}
	}
	if err := client.ping(); err != nil {
		t.Error(err)
	}
	if got, err := client.register("joe", "other"); err != nil || got != "internal-server-error" {
		t.Errorf("change of the password: %s, %v", got, err)
	}
	s = harness.Serve(t, "--config", config)
	p.eventually("secret")
	if got, err := guest.plain("\x00joe\x00secret"); err != nil || got != "success" {
		t.Errorf("on the same stream: %s, %v", got, err)
	}
	_ = s.Cmd.Process.Kill()
	<-s.Ended
	warnings := func() int {
		return strings.Count(harness.ReadText(p.log), "dom.example:auth_postern\twarn\tpostern is not reachable")
	}
	harness.WaitFor(t, "a third warning", func() bool { return warnings() >= 3 })
	p.stop() // while it tries to connect again
	if n := warnings(); n != 3 {
		t.Errorf("%d warnings for 3 times away", n)
	}
}

// peer is a listener of ejabberd's protocol. The test gives its answers.
type peer struct {
	t *testing.T
	l net.Listener
}

func newPeer(t *testing.T) *peer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return &peer{t, l}
}

// peerLink is a connection that the module made.
type peerLink struct {
	t *testing.T
	c net.Conn
	r *bufio.Reader
}

func (p *peer) accept() *peerLink {
	p.t.Helper()
	_ = p.l.(*net.TCPListener).SetDeadline(time.Now().Add(harness.Timeout))
	c, err := p.l.Accept()
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(harness.Timeout))
	l := &peerLink{p.t, c, bufio.NewReader(c)}
	if first := l.frame(); !strings.HasPrefix(first, "watch:") || !strings.HasSuffix(first, ":dom.example") {
		p.t.Fatalf("a connection begins with %q", first)
	}
	l.say(0) // as a version that knows no more than ejabberd's protocol
	return l
}

// frame reads a request.
func (l *peerLink) frame() string {
	l.t.Helper()
	size := make([]byte, 2)
	_, err := io.ReadFull(l.r, size)
	body := make([]byte, binary.BigEndian.Uint16(size))
	if err == nil {
		_, err = io.ReadFull(l.r, body)
	}
	if err != nil {
		l.t.Fatalf("read %q, %v", body, err)
	}
	return string(body)
}

func (l *peerLink) want(request string) {
	l.t.Helper()
	if got := l.frame(); got != request {
		l.t.Fatalf("asked %q, want %q", got, request)
	}
}

func (l *peerLink) say(values ...byte) {
	for _, v := range values {
		_, _ = l.c.Write([]byte{0, 2, 0, v})
	}
}

// later logs in and leaves the outcome in a channel.
func (p *prosody) later(host, user string) <-chan string {
	outcome := make(chan string, 1)
	go func() {
		got, err := xmppLogin(p.port, user, host, "secret")
		if err != nil {
			got = err.Error()
		}
		outcome <- got
	}()
	return outcome
}

func wantOutcome(t *testing.T, what string, outcome <-chan string, want string) {
	t.Helper()
	if got := <-outcome; got != want {
		t.Errorf("%s: %s; want %s", what, got, want)
	}
}

// Requests are pipelined and answered in order. Questions that a stuck or broken connection has not
// answered are asked again, changes never are, and late answers are dropped.
func TestProsodyModuleOnABadConnection(t *testing.T) {
	harness.EachRelease(t, prosodyModuleOnABadConnection)
}

func prosodyModuleOnABadConnection(t *testing.T, r harness.Release) {
	postern := newPeer(t)
	p := startProsody(t, r, "authentication = \"internal_hashed\"\nHost \"dom.example\"\n"+
		posternAt(postern.l.Addr().String(), "postern_connections = 1\npostern_timeout = 10"))
	dom := postern.accept()
	ask := func(user string) (<-chan string, string) {
		return p.later("dom.example", user), "auth:" + user + ":dom.example:secret"
	}
	ann, annAsks := ask("ann")
	dom.want(annAsks)
	bob, bobAsks := ask("bob")
	dom.want(bobAsks) // though ann has no answer yet
	dom.say(1, 0)
	wantOutcome(t, "ann", ann, "success")
	wantOutcome(t, "bob", bob, "not-authorized")

	// The connection breaks: both are asked again, in their order.
	ann, _ = ask("ann")
	dom.want(annAsks)
	bob, _ = ask("bob")
	dom.want(bobAsks)
	dom.say(0)
	wantOutcome(t, "ann", ann, "not-authorized")
	_ = dom.c.Close()
	dom = postern.accept()
	dom.want(bobAsks)
	dom.say(1)
	wantOutcome(t, "bob", bob, "success")

	// The connection is stuck: its first request fails in time, the younger one is asked again on
	// another, and the late answers are dropped.
	ann, _ = ask("ann")
	dom.want(annAsks)
	time.Sleep(5 * time.Second) // bob has time left when ann's is over
	bob, _ = ask("bob")
	dom.want(bobAsks)
	wantOutcome(t, "ann", ann, "temporary-auth-failure")
	dom.say(0, 0)
	dom = postern.accept()
	dom.want(bobAsks)
	dom.say(1)
	wantOutcome(t, "bob", bob, "success")

	// A change that broke off is not made again: the next request is another.
	joe := p.later("dom.example", "joe")
	dom.want("auth:joe:dom.example:secret")
	dom.say(2)
	wantOutcome(t, "joe", joe, "temporary-auth-failure")
	client := make(chan *xmpp, 1)
	go func() { client <- xmppClient(t, p.port, "joe", "dom.example", "secret") }()
	dom.want("auth:joe:dom.example:secret")
	dom.say(1)
	changed, x := make(chan string, 1), <-client
	go func() {
		got, _ := x.register("joe", "new")
		changed <- got
	}()
	dom.want("setpass:joe:dom.example:new")
	_ = dom.c.Close()
	wantOutcome(t, "change", changed, "internal-server-error")
	dom = postern.accept()
	ann, _ = ask("ann")
	dom.want(annAsks)
	dom.say(1)
	wantOutcome(t, "ann", ann, "success")

	// The server does not speak the protocol: no login is accepted, and attempts to connect become
	// rarer.
	ann, _ = ask("ann")
	dom.want(annAsks)
	_, _ = io.WriteString(dom.c, "1\n\x00\x01")
	begun := time.Now()
	for range 4 {
		dom = postern.accept()
		_ = dom.c.Close()
	}
	wantOutcome(t, "ann", ann, "temporary-auth-failure")
	if took := time.Since(begun); took < 500*time.Millisecond {
		t.Errorf("4 connections within %v", took)
	}
	harness.FileSays(t, p.log, "does not lead to a listener")
}

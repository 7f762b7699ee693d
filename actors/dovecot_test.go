package actors

import (
	"bufio"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"postern/internal/backend"
)

// dovecotClient is a client of the dovecot protocol on an open connection.
type dovecotClient struct {
	client
	t  *testing.T
	in *bufio.Reader
}

// dovecot connects, reads the greeting and greets with a minor version.
func (r *rig) dovecot(t *testing.T, address string, minor int) *dovecotClient {
	t.Helper()
	d := &dovecotClient{client: r.dial(address), t: t}
	d.in = bufio.NewReader(d.client)
	for d.line() != "DONE" {
	}
	d.say(fmt.Sprintf("VERSION\t1\t%d\nCPID\t1\n", minor))
	return d
}

func (d *dovecotClient) say(text string) {
	d.t.Helper()
	if _, err := io.WriteString(d.client, text); err != nil {
		d.t.Fatal(err)
	}
}

func (d *dovecotClient) line() string {
	d.t.Helper()
	text, err := d.in.ReadString('\n')
	if err != nil {
		d.t.Fatalf("after %q: %v", text, err)
	}
	return strings.TrimSuffix(text, "\n")
}

func (d *dovecotClient) expect(want string) {
	d.t.Helper()
	if got := d.line(); got != want {
		d.t.Fatalf("replied %q, want %q", got, want)
	}
}

// ended checks that the connection is closed without another line.
func (d *dovecotClient) ended() {
	d.t.Helper()
	if rest, err := io.ReadAll(d.in); err != nil || len(rest) > 0 {
		d.t.Fatalf("the connection was not closed: %q, %v", rest, err)
	}
}

// plainLogin asks for a login.
func plainLogin(id int, user, password string) string {
	return fmt.Sprintf("AUTH\t%d\tPLAIN\tservice=smtp\trip=192.0.2.7\tresp=%s\n", id,
		base64.StdEncoding.EncodeToString([]byte("\x00"+user+"\x00"+password)))
}

// heldAndDown holds questions about the users held*, and has an outage for the users down*.
func heldAndDown(g *barrier) func(context.Context, backend.Query) backend.Result {
	return func(ctx context.Context, q backend.Query) backend.Result {
		switch {
		case strings.HasPrefix(q.User, "held"):
			return g.ask(ctx, q)
		case strings.HasPrefix(q.User, "down"):
			return outage(ctx, q)
		}
		return goodPassword(q)
	}
}

// TestDovecotOvertakes: on one connection, a token, a refusal and the codec's own words leave
// while a login before them waits for its backend; its client's address is in the log.
func TestDovecotOvertakes(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		t.Run(network, func(t *testing.T) {
			g := newBarrier()
			r := newRig(t, func(s *setup) { withTokens(s); s.fake.ask = heldAndDown(g) })
			d := r.dovecot(t, r.listenOn(network, listenerBlock("dovecot")), 0)
			d.say(plainLogin(1, "held", "good"))
			g.reached(t, 1)
			d.say(plainLogin(2, "joe", r.jsxcToken("joe", time.Hour)))
			d.expect("OK\t2\tuser=joe@dom.example")
			d.say(plainLogin(3, "joe@dom.example", "bad"))
			d.expect("FAIL\t3\tuser=joe@dom.example")
			d.say("AUTH\t4\tLOGIN\tservice=smtp\n")
			d.expect("CONT\t4\tVXNlcm5hbWU6")
			g.open()
			d.expect("OK\t1\tuser=held@dom.example")
			d.say("CONT\t4\tam9l\n")
			d.expect("CONT\t4\tUGFzc3dvcmQ6")
			d.say("CONT\t4\tZ29vZA==\n")
			d.expect("OK\t4\tuser=joe@dom.example")
			if !strings.Contains(r.log.String(), "verdict=allow source=backend domain=dom.example user=held") || !strings.Contains(r.log.String(), "client=192.0.2.7") {
				t.Errorf("the log lacks it: %s", r.log.String())
			}
		})
	}
}

// TestDovecotCannotTell: a temporary failure, whatever its reason, is not sent as a refusal.
func TestDovecotCannotTell(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*setup, *faults)
		source string
	}{
		"deadline": {func(s *setup, _ *faults) { s.fake.ask = hang }, "deadline"},
		"panic":    {func(s *setup, f *faults) { f.arm("domain:dom.example$", "Call", 2) }, "panic"},

		"overload": {func(s *setup, _ *faults) {
			s.fake.ask, s.cfg.Backends[0].Slots, s.cfg.Backends[0].Queue = hang, 1, 0
		}, "overload"},
		"registry lost": {func(s *setup, _ *faults) {
			s.cfg.Domains[0].Name, s.cfg.Registry.Declared = "other.example", true
		}, "config"},
	} {
		t.Run(name, func(t *testing.T) {
			f := new(faults)
			r := newRig(t, func(s *setup) { s.inject, s.quickRestarts = f.inject, true; c.change(s, f) })
			cfg := short("dovecot", 400*time.Millisecond)
			if name == "overload" {
				cfg.Deadline = 4 * time.Second
				r.start("hog", "good")
				eventually(t, "the slot to be taken", func() bool { return r.fake.asked.Load() == 1 })
			}
			address := r.listen(cfg)
			d := r.dovecot(t, address, 0)
			d.say(plainLogin(1, "joe", "good"))
			d.ended()
			eventually(t, "the router", r.recovered)
			d = r.dovecot(t, address, 2)
			d.say(plainLogin(1, "eve", "good"))
			d.expect("FAIL\t1\tuser=eve\ttemp\tcode=temp_fail")
			if n := strings.Count(r.log.String(), "verdict=unavailable source="+c.source); n < 2 {
				t.Errorf("%d answers because of %s:\n%s", n, c.source, r.log.String())
			}
		})
	}
}

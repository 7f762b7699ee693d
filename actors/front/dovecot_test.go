package front

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"postern/actors/call"
	"postern/actors/front/fronttest"
	"postern/internal/auth"
)

// dovecotClient is a client of the dovecot protocol on an open connection.
type dovecotClient struct {
	fronttest.Conn
	t  *testing.T
	in *bufio.Reader
}

// dovecot connects, reads the greeting and greets with a minor version.
func (r *rig) dovecot(t *testing.T, address string, minor int) *dovecotClient {
	t.Helper()
	d := &dovecotClient{Conn: r.dial(address), t: t}
	d.in = bufio.NewReader(d.Conn)
	for d.line() != "DONE" {
	}
	d.say(fmt.Sprintf("VERSION\t1\t%d\nCPID\t1\n", minor))
	return d
}

func (d *dovecotClient) say(text string) {
	d.t.Helper()
	if _, err := io.WriteString(d.Conn, text); err != nil {
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

// gated has the backend hold the users held* back, and fail for the users down*. joe's password
// "token" is known without a backend.
func (r *rig) gated(b *barrier) {
	r.router.memory = func(c *call.Call) (auth.Answer, bool) {
		return auth.Answer{Verdict: auth.Allow, Source: auth.SourceToken}, c.ID.User == "joe" && c.Req.Secret.Reveal() == "token"
	}
	r.router.backend = func(ctx context.Context, q auth.Request) auth.Answer {
		switch {
		case strings.HasPrefix(q.User, "held"):
			return b.ask(ctx, q)
		case strings.HasPrefix(q.User, "down"):
			return outage
		}
		return goodPassword(q)
	}
}

// TestDovecotOvertakes: on one connection, a token, a refusal and the codec's own words leave
// while a login before them waits for its backend; its client's address stands in the log.
func TestDovecotOvertakes(t *testing.T) {
	for _, network := range networks {
		t.Run(network, func(t *testing.T) {
			b := newBarrier()
			r := newRig(t)
			r.gated(b)
			d := r.dovecot(t, r.listenOn(network, listenerBlock("dovecot")), 0)
			d.say(plainLogin(1, "held", "good"))
			b.reached(t, 1)
			d.say(plainLogin(2, "joe", "token"))
			d.expect("OK\t2\tuser=joe@dom.example")
			d.say(plainLogin(3, "joe@dom.example", "bad"))
			d.expect("FAIL\t3\tuser=joe@dom.example")
			d.say("AUTH\t4\tLOGIN\tservice=smtp\n")
			d.expect("CONT\t4\tVXNlcm5hbWU6")
			b.open()
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

// TestDovecotPipelining sends 200 logins in one write; answers that are ready out of turn use
// few slots again and again, whatever panics. Each login has its one answer.
func TestDovecotPipelining(t *testing.T) {
	const n = 200
	for _, pipeline := range []int{1, 2, 7, 64} {
		for kind, times := range map[string]int{"none": 0, "wake": 4, "Started": 3} {
			t.Run(fmt.Sprint(pipeline, " ", kind), func(t *testing.T) {
				r := newRig(t)
				r.router.backend = new(relay).ask
				cfg := listenerBlock("dovecot")
				cfg.Pipeline = pipeline
				address := r.listen(cfg)
				r.faults.arm("conn:", kind, times)
				if kind == "Started" {
					r.faults.arm("conn:", "wake", 1) // so that there is more than one start
				}
				d := r.dovecot(t, address, 1)
				want := make(map[string]bool)
				var in strings.Builder
				for id := 1; id <= n; id++ {
					user, password, reply := dovecotQuestion(id, pipeline > 1)
					want[fmt.Sprintf(reply, id, user)] = true
					in.WriteString(plainLogin(id, user, password))
				}
				go func() { _, _ = io.WriteString(d.Conn, in.String()); _ = d.CloseWrite() }()
				rest, err := io.ReadAll(d.in)
				if err != nil {
					t.Fatal(err)
				}
				for line := range strings.Lines(string(rest)) {
					if !want[line] {
						t.Fatalf("unexpected, or once too often: %q", line)
					}
					delete(want, line)
				}
				if len(want) > 0 || r.faults.left() > 0 {
					t.Errorf("not answered: %v; %d panics did not happen", want, r.faults.left())
				}
			})
		}
	}
}

// dovecotQuestion is one of four kinds of logins. With pairs, every slow one waits for the fast
// one behind it, see relay.
func dovecotQuestion(id int, pairs bool) (user, password, reply string) {
	user = fmt.Sprint("user", id)
	switch id % 4 {
	case 1:
		if pairs {
			user = fmt.Sprint("slow", id)
		}
		return user, "good", "OK\t%d\tuser=%s@dom.example\n"
	case 2:
		if pairs {
			user = fmt.Sprint("fast", id-1)
		}
		return user, "bad", "FAIL\t%d\tuser=%s\n"
	case 3:
		return user + "@elsewhere.example", "good", "FAIL\t%d\tuser=%s\n"
	}
	return user, "good", "OK\t%d\tuser=%s@dom.example\n"
}

// TestDovecotHangsUp: a temporary failure closes the connection of a client of minor version 0,
// after the answers that are ready, and with it whatever is under way. Others get a word.
func TestDovecotHangsUp(t *testing.T) {
	b := newBarrier()
	r := newRig(t)
	r.gated(b)
	defer b.open()
	for _, network := range networks {
		cfg := listenerBlock("dovecot")
		cfg.Name = network
		address := r.listenOn(network, cfg)
		asked := b.waiting.Load()
		d := r.dovecot(t, address, 0)
		d.say(plainLogin(1, "held"+network, "good"))
		b.reached(t, asked+1)
		d.say(plainLogin(2, "joe", "good") + plainLogin(3, "nobody@else.where", "good"))
		if got := d.line() + d.line(); !strings.Contains(got, "OK\t2\tuser=joe@dom.example") || !strings.Contains(got, "FAIL\t3\t") {
			t.Errorf("replied %q", got)
		}
		d.say(plainLogin(4, "down", "good") + "AUTH\t5\t")
		d.ended()
		d = r.dovecot(t, address, 1)
		d.say(plainLogin(1, "down", "good"))
		d.expect("FAIL\t1\tuser=down\ttemp\tcode=temp_fail")
		d.say(plainLogin(1, "joe", "good"))
		d.expect("OK\t1\tuser=joe@dom.example")
	}
	eventually(t, "the log", func() bool {
		return strings.Count(r.log.String(), "verdict=unavailable source=backend domain=dom.example user=down") == 4
	})
}

// TestDovecotCannotTell: whatever keeps postern from knowing is said as such.
func TestDovecotCannotTell(t *testing.T) {
	for source, change := range map[string]func(*rig){
		"deadline": func(r *rig) { r.router.backend = hang },
		"panic":    func(r *rig) { r.faults.arm("shard", "Call", 2) },
		"overload": func(r *rig) {
			r.inMemory(func(auth.Request) auth.Answer { return auth.Answer{Source: auth.SourceOverload} })
		},
		"config": func(r *rig) {
			r.inMemory(func(auth.Request) auth.Answer { return auth.Answer{Source: auth.SourceConfig} })
		},
	} {
		t.Run(source, func(t *testing.T) {
			r := newRig(t)
			change(r)
			address := r.listen(short("dovecot", 400*time.Millisecond))
			d := r.dovecot(t, address, 0)
			d.say(plainLogin(1, "joe", "good"))
			d.ended()
			if source == "panic" {
				eventually(t, "the shard", func() bool { return r.restarts("shard") == 1 })
				r.settled()
			}
			d = r.dovecot(t, address, 2)
			d.say(plainLogin(1, "eve", "good"))
			d.expect("FAIL\t1\tuser=eve\ttemp\tcode=temp_fail")
			if n := strings.Count(r.log.String(), "verdict=unavailable source="+source); n < 2 {
				t.Errorf("%d answers because of %s:\n%s", n, source, r.log.String())
			}
		})
	}
}

// TestDovecotDrain: a login that is under way when postern stops has its answer, what comes then
// has none, and every connection ends.
func TestDovecotDrain(t *testing.T) {
	b := newBarrier()
	r := newRig(t)
	r.router.backend = b.ask
	address := r.listen(listenerBlock("dovecot"))
	busy, late, postfix, idle := r.dovecot(t, address, 0), r.dovecot(t, address, 1), r.dovecot(t, address, 0), r.dovecot(t, address, 0)
	busy.say(plainLogin(1, "joe", "good"))
	b.reached(t, 1)
	done := r.startDrain()
	eventually(t, "the end of requests", r.gate.Draining)
	late.say(plainLogin(1, "joe", "good"))
	late.ended()
	postfix.ended()
	b.open()
	busy.expect("OK\t1\tuser=joe@dom.example")
	<-done
	for _, d := range []*dovecotClient{busy, idle} {
		d.ended()
	}
}

// TestDovecotHangsUpAfterPanic: a panic of the write before it does not undo hanging up.
func TestDovecotHangsUpAfterPanic(t *testing.T) {
	r := newRig(t)
	r.gated(newBarrier())
	socket := &watchedSocket{Listener: socketOf(t), panicAtWrite: 2} // the greeting is the first
	d := r.dovecot(t, r.listenAt(listenerBlock("dovecot"), socket), 0)
	d.say("AUTH\t1\tLOGIN\tservice=smtp\n" + plainLogin(2, "down", "good"))
	d.expect("CONT\t1\tVXNlcm5hbWU6")
	d.ended()
	if !strings.Contains(r.log.String(), "front.injected") {
		t.Error("the write did not panic")
	}
}

// TestDovecotIdle: a client may be silent between its lines, but not within one.
func TestDovecotIdle(t *testing.T) {
	const frameTimeout = 50 * time.Millisecond
	r := newRig(t)
	cfg := listenerBlock("dovecot")
	cfg.FrameTimeout = frameTimeout
	address := r.listen(cfg)
	idle, slow := r.dovecot(t, address, 0), r.dovecot(t, address, 0)
	idle.say("AUTH\t1\tPLAIN\tservice=smtp\n")
	idle.expect("CONT\t1\t")
	idle.say("CANCEL\t1\n")
	slow.say("AUTH\t1\tPL")
	slow.ended()
	_ = idle.SetReadDeadline(time.Now().Add(4 * frameTimeout))
	if _, err := idle.in.ReadByte(); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("the idle connection ended: %v", err)
	}
	_ = idle.SetReadDeadline(time.Now().Add(60 * time.Second))
	idle.say(plainLogin(2, "joe", "good"))
	idle.expect("OK\t2\tuser=joe@dom.example")
}

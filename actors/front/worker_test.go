package front

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"postern/actors/call"
	"postern/internal/auth"
)

// working counts the actors of connections, those that wait for one included.
func (r *rig) working() int { return int(r.started.Load()) - r.faults.count("conn:", "Stopped") }

// waiting counts the workers of the first listener that wait for a connection.
func (r *rig) waiting() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.listeners[0].workers.Len()
}

// oneShot asks for a login by the protocol of saslauthd and returns the two letters of the answer.
func (r *rig) oneShot(address, user, password string) string {
	r.t.Helper()
	out := r.exchange(address, fields(user, password, "smtp", "dom.example"))
	if len(out) < 2 {
		r.t.Fatalf("answered %q", out)
	}
	return out[2:min(4, len(out))]
}

// TestWorkersServeOneAfterAnother: a thousand connections, one at a time, take a few actors, and
// each gets its own answer.
func TestWorkersServeOneAfterAnother(t *testing.T) {
	const n = 1000
	r := newRig(t)
	address := r.listenOn("unix", listenerBlock("saslauthd"))
	for i := range n {
		password, want := "good", "OK"
		if i%3 == 0 {
			password, want = "bad", "NO"
		}
		if got := r.oneShot(address, "joe", password); got != want {
			t.Fatalf("connection %d was answered %q, want %q", i, got, want)
		}
	}
	if made := r.started.Load(); made > idleWorkers {
		t.Errorf("%d connections took %d actors", n, made)
	}
	if _, ever := r.Connections(); ever != n {
		t.Errorf("%d connections were counted, want %d", ever, n)
	}
}

// TestWorkersAfterBurst: of the workers of many connections at once so many stay as a listener
// keeps, and none when it is removed.
func TestWorkersAfterBurst(t *testing.T) {
	const n = 3 * idleWorkers
	r := newRig(t)
	address := r.listenOn("unix", listenerBlock("generic"))
	var conns []net.Conn
	for range n {
		conns = append(conns, r.dial(address))
	}
	eventually(t, "all connections to be accepted", func() bool { return r.open() == n })
	for _, c := range conns {
		_ = c.Close()
	}
	eventually(t, "the surplus to go", func() bool { return r.working() == idleWorkers })
	if r.open() != 0 || r.waiting() != idleWorkers {
		t.Errorf("%d connections are open and %d workers wait", r.open(), r.waiting())
	}
	r.mu.Lock()
	l := r.listeners[0]
	r.mu.Unlock()
	r.remove(l)
	eventually(t, "all to go", func() bool { return r.working() == 0 })
}

// TestLateAnswer: what comes for a connection that has ended does nothing to the one that its
// worker serves by then.
func TestLateAnswer(t *testing.T) {
	first, second := newBarrier(), newBarrier()
	r := newRig(t)
	r.router.backend = func(ctx context.Context, q auth.Request) auth.Answer {
		if q.User == "ann" {
			return first.ask(ctx, q)
		}
		return second.ask(ctx, q)
	}
	address := r.listenOn("unix", listenerBlock("saslauthd"))

	ended := make(chan *conn, 1)
	late := make(chan *call.Call, 1)
	go func() {
		first.reached(t, 1)
		for _, c := range r.connsWhere((*conn).busy) {
			ended <- c
			call := c.ring[0].Load()
			call.Unavailable(auth.SourceDeadline) // of a deadline; the backend's answer comes late
			late <- call
		}
	}()
	if got := r.oneShot(address, "ann", "good"); got != "" {
		t.Fatalf("the first was answered %q", got)
	}
	before, call := <-ended, <-late
	eventually(t, "the worker to wait", func() bool { return r.waiting() == 1 })

	answer := make(chan string, 1)
	go func() { answer <- r.oneShot(address, "bob", "bad") }()
	second.reached(t, 1)
	now := before.worker.conn.Load()
	if now == nil || now == before || r.started.Load() != 1 {
		t.Fatalf("the second connection is not served by the worker of the first")
	}
	for range 100 {
		before.Answered(call)
		if call.Answer(auth.Answer{Verdict: auth.Allow}) {
			t.Error("a call was answered twice")
		}
	}
	first.open()
	if now.written.Load() != 0 || !now.busy() {
		t.Error("something was written to the second connection")
	}
	second.open()
	if got := <-answer; got != "NO" {
		t.Errorf("the second was answered %q", got)
	}
}

// TestWorkerThatPanicked: the connection on which an actor panics is answered all the same, and is
// the last of its worker.
func TestWorkerThatPanicked(t *testing.T) {
	r := newRig(t)
	address := r.listenOn("unix", listenerBlock("saslauthd"))
	for i, panics := range []int{0, 0, 3, 0} {
		r.faults.arm("conn:", "wake", min(panics, 1))
		r.faults.arm("conn:", "Started", max(panics-1, 0)) // those of its restarts
		if got := r.oneShot(address, "joe", "good"); got != "OK" {
			t.Errorf("connection %d was answered %q", i, got)
		}
		eventually(t, "the end of the connection", func() bool { return r.open() == 0 })
		eventually(t, "the worker", func() bool { return r.working() == r.waiting() })
	}
	if r.faults.left() != 0 || r.started.Load() != 2 || r.waiting() != 1 {
		t.Errorf("%d panics are left, %d actors were made and %d wait; want none, two and one", r.faults.left(), r.started.Load(), r.waiting())
	}
}

// TestCloseAfterAnswer: a peer that has made the one request of a connection and sent nothing more
// finds it closed with the answer where that cannot destroy the answer, on a Unix socket; else the
// rest of what it may send is read first.
func TestCloseAfterAnswer(t *testing.T) {
	login := fields("joe", "good", "smtp", "dom.example")
	full := fields("joe", strings.Repeat("x", smallBuffer-len(fields("joe", "", "smtp", "dom.example"))), "smtp", "dom.example")
	for name, c := range map[string]struct {
		network, input string
		closed         bool
	}{
		"unix":                {"unix", login, true},
		"tcp":                 {"tcp", login, false},
		"unix, more":          {"unix", login + "more", false},
		"unix, buffer full":   {"unix", full, false},
		"unix, refused frame": {"unix", "\xff\xff", false},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			conn := r.dial(r.listenOn(c.network, listenerBlock("saslauthd")))
			if _, err := io.WriteString(conn, c.input); err != nil {
				t.Fatal(err)
			}
			out, err := io.ReadAll(conn)
			if err != nil || len(out) < 4 {
				t.Fatalf("answered %q: %v", out, err)
			}
			_, err = io.WriteString(conn, "late")
			if c.closed && !errors.Is(err, syscall.EPIPE) || !c.closed && err != nil {
				t.Errorf("a write after the end of the answers: %v", err)
			}
		})
	}
}

// TestNoAnswerStaysBehind: answers that come at any moment, from the reader's own goroutine and from
// others, all leave, although the actor is not woken up while the reader attends. One that stayed
// behind would come with the deadline only, as another answer.
func TestNoAnswerStaysBehind(t *testing.T) {
	const connections, rounds = 8, 400
	for _, pipeline := range []int{1, 2, 7, 64} {
		for _, protocol := range []string{"generic", "dovecot"} {
			t.Run(fmt.Sprint(protocol, "/", pipeline), func(t *testing.T) {
				r := newRigAt(t, 100) // no log
				r.router.memory = func(*call.Call) (auth.Answer, bool) { return accepted, rand.N(3) == 0 }
				r.router.backend = func(context.Context, auth.Request) auth.Answer {
					switch rand.N(4) {
					case 0:
						time.Sleep(time.Duration(rand.N(20)) * time.Microsecond)
					case 1:
						for range rand.N(2000) { // some microseconds
							_ = r.gate.InFlight()
						}
					}
					return accepted
				}
				cfg := listenerBlock(protocol)
				cfg.Pipeline = pipeline
				address := r.listenOn("unix", cfg)
				var wg sync.WaitGroup
				var answers atomic.Int64
				for range connections {
					wg.Add(1)
					go func() {
						defer wg.Done()
						answers.Add(int64(r.manyRounds(t, address, protocol, rounds)))
					}()
				}
				wg.Wait()
				t.Logf("%d answers", answers.Load())
			})
		}
	}
}

// manyRounds sends some requests and reads their answers, again and again.
func (r *rig) manyRounds(t *testing.T, address, protocol string, rounds int) (answers int) {
	c := r.dial(address)
	if protocol == "dovecot" {
		c = r.dovecot(t, address, 1)
	}
	reply := len(yes.reply(protocol))
	if protocol == "dovecot" {
		reply = len("OK\t1000001\tuser=joe@dom.example\n")
	}
	got := make([]byte, 16*reply)
	for range rounds {
		n := 1 + rand.N(3)
		if rand.N(10) == 0 {
			n = 16
		}
		in := strings.Repeat(yes.frame(protocol), n)
		if protocol == "dovecot" {
			in = ""
			for i := range n {
				in += plainLogin(1000001+answers+i, "joe", "good")
			}
		}
		if _, err := io.WriteString(c, in); err != nil {
			t.Error(err)
			return answers
		}
		if _, err := io.ReadFull(c, got[:n*reply]); err != nil {
			t.Error(err)
			return answers
		}
		if strings.Contains(string(got[:n*reply]), "0\n") || strings.Contains(string(got[:n*reply]), "FAIL") {
			t.Errorf("answered %q", got[:n*reply])
			return answers
		}
		answers += n
	}
	return answers
}

// TestStorm: in a storm of panics, of connections and of the actors that answer, every request has
// one answer, in order, which is the right one or none.
func TestStorm(t *testing.T) {
	const connections, bursts = 8, 150
	r := newRigAt(t, 100) // a stack for each panic is too much to keep
	var panics atomic.Int64
	storm := func(actor string, message any) {
		if rand.N(100) < 2 && !strings.HasPrefix(actor, "listener:") {
			panics.Add(1)
			panic(injected("storm"))
		}
	}
	r.faults.more.Store(&storm)
	r.router.backend = func(ctx context.Context, q auth.Request) auth.Answer {
		if rand.N(10) == 0 {
			return outage
		}
		return goodPassword(q)
	}
	r.router.memory = func(c *call.Call) (auth.Answer, bool) {
		return goodPassword(auth.Request{Op: c.Req.Op, User: c.ID.User, Secret: c.Req.Secret}), rand.N(2) == 0
	}
	cfg := listenerBlock("ejabberd")
	cfg.Pipeline = 4
	address := r.listen(cfg)
	var known atomic.Int64
	var wg sync.WaitGroup
	for range connections {
		wg.Add(1)
		go func() {
			defer wg.Done()
			c := r.dial(address)
			for range bursts {
				questions := mixture("ejabberd", 16, false)
				in, _ := script("ejabberd", questions)
				if _, err := io.WriteString(c, in); err != nil {
					t.Error(err)
					return
				}
				for i, q := range questions {
					got := make([]byte, 4)
					if _, err := io.ReadFull(c, got); err != nil {
						t.Errorf("answer %d of a burst: %v", i, err)
						return
					}
					if string(got) == q.reply("ejabberd") {
						known.Add(1)
					} else if string(got) != unavailable {
						t.Errorf("answer to %+v: %x", q, got)
					}
				}
			}
			_ = c.CloseWrite()
			ended(t, c, "")
		}()
	}
	wg.Wait()
	eventually(t, "the last answer", func() bool { return r.gate.InFlight() == 0 })
	if n := panics.Load(); n < 100 {
		t.Errorf("only %d panics", n)
	}
	if known.Load() < connections*bursts*16/4 {
		t.Errorf("only %d requests had a yes or no", known.Load())
	}
	t.Logf("%d panics, %d of %d requests had a yes or no", panics.Load(), known.Load(), connections*bursts*16)
}

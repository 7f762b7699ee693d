package front

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"testing"
	"time"

	"postern/internal/auth"
)

// lineProtocols are those that carry many requests on one connection.
var lineProtocols = []string{"generic", "ejabberd", "tcp_table", "socketmap"}

// networks are those of listeners.
var networks = []string{"tcp", "unix"}

// TestPipelining sends 100 requests of every kind in one write; some of their answers become
// ready later than those behind them. A pipeline of 1 or 2 runs out of room all the time.
func TestPipelining(t *testing.T) {
	for _, protocol := range lineProtocols {
		for _, network := range networks {
			for _, pipeline := range []int{1, 2, 64} {
				t.Run(fmt.Sprintf("%s/%s/%d", protocol, network, pipeline), func(t *testing.T) {
					r := newRig(t)
					r.router.backend = new(relay).ask
					cfg := listenerBlock(protocol)
					cfg.Pipeline = pipeline
					in, want := script(protocol, mixture(protocol, 100, pipeline > 1))
					same(t, r.exchange(r.listenOn(network, cfg), in), want)
				})
			}
		}
	}
}

// TestAnswersWaitTheirTurn holds the first of 64 requests until all others have their answers.
func TestAnswersWaitTheirTurn(t *testing.T) {
	for _, protocol := range lineProtocols {
		t.Run(protocol, func(t *testing.T) {
			release := make(chan struct{})
			r := newRig(t)
			r.router.backend = func(_ context.Context, q auth.Request) auth.Answer {
				if q.User == "nobody" {
					<-release
				}
				return goodPassword(q)
			}
			questions := []question{{"isuser", "nobody", "dom.example", "", auth.Deny}}
			for i := range 63 {
				questions = append(questions, question{"isuser", fmt.Sprint("user", i), "dom.example", "", auth.Allow})
			}
			in, want := script(protocol, questions)
			c := r.dial(r.listen(listenerBlock(protocol)))
			if _, err := io.WriteString(c, in); err != nil {
				t.Fatal(err)
			}
			eventually(t, "63 answers", func() bool { return r.ready() == 63 })
			close(release)
			got := make([]byte, len(want))
			if _, err := io.ReadFull(c, got); err != nil || string(got) != want {
				t.Errorf("got %q (%v), want %q", got, err, want)
			}
		})
	}
}

// TestEndInMidRequest: a request without its end is neither answered nor carried out,
// and those before it are.
func TestEndInMidRequest(t *testing.T) {
	half := question{"auth", "eve", "dom.example", "good", auth.Allow}
	for _, protocol := range []string{"generic", "ejabberd"} { // those with logins
		for _, network := range networks {
			t.Run(protocol+"/"+network, func(t *testing.T) {
				r := newRig(t)
				rest := half.frame(protocol)
				got := r.exchange(r.listenOn(network, listenerBlock(protocol)), yes.frame(protocol)+rest[:len(rest)-1])
				same(t, got, yes.reply(protocol))
				if n := r.router.asked.Load(); n != 1 {
					t.Errorf("%d requests were carried out, want 1", n)
				}
			})
		}
	}
}

// TestPeerQuits: the words that end a dialogue end it after the answers before them.
func TestPeerQuits(t *testing.T) {
	words := map[string]string{"generic": "quit\n", "ejabberd": "\x00\x00", "tcp_table": "quit\n"}
	for protocol, word := range words {
		t.Run(protocol, func(t *testing.T) {
			r := newRig(t)
			yes := question{"isuser", "joe", "dom.example", "", auth.Allow}
			got := r.exchange(r.listen(listenerBlock(protocol)), yes.frame(protocol)+word+yes.frame(protocol))
			same(t, got, yes.reply(protocol))
		})
	}
}

// fields is a saslauthd request.
func fields(texts ...string) string {
	var b []byte
	for _, text := range texts {
		b = binary.BigEndian.AppendUint16(b, uint16(len(text)))
		b = append(b, text...)
	}
	return string(b)
}

// TestSaslauthd: one answer, then the connection ends, whatever else the peer sent before it.
func TestSaslauthd(t *testing.T) {
	const (
		yes  = "\x00\x0aOK success"
		no   = "\x00\x18NO authentication failed"
		temp = "\x00\x00"
	)
	cases := []struct{ name, input, want string }{
		{"four fields", fields("joe", "good", "smtp", "dom.example"), yes},
		{"five fields", fields("joe", "good", "smtp", "dom.example", "192.0.2.1;25"), yes},
		{"five fields, the last empty", fields("joe", "good", "smtp", "dom.example", ""), yes},
		{"default domain", fields("joe", "good", "smtp", ""), yes},
		{"address as user", fields("joe@dom.example", "good", "imap", ""), yes},
		{"refused", fields("joe", "bad", "smtp", "dom.example"), no},
		{"malformed", fields("", "good", "smtp", "dom.example"), no},
		{"over-long field", "\xff\xff", no},
		{"unknown domain", fields("joe", "good", "smtp", "elsewhere.example"), no},
		{"outage", fields("down", "good", "smtp", "dom.example"), temp},
		{"two requests", fields("joe", "bad", "smtp", "dom.example") + fields("joe", "good", "smtp", "dom.example"), no},
		{"half a request", fields("joe", "good", "smtp") + "\x00", ""},
	}
	for _, network := range networks {
		for _, inline := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s/inline=%t", network, inline), func(t *testing.T) {
				r := newRig(t)
				answer := func(q auth.Request) auth.Answer {
					if q.User == "down" {
						return outage
					}
					return goodPassword(q)
				}
				r.router.backend = func(_ context.Context, q auth.Request) auth.Answer { return answer(q) }
				if inline {
					r.inMemory(answer)
				}
				address := r.listenOn(network, listenerBlock("saslauthd"))
				for _, c := range cases {
					if got := r.exchange(address, c.input); got != c.want {
						t.Errorf("%s: got %q, want %q", c.name, got, c.want)
					}
				}
			})
		}
	}
}

// TestSaslauthdAsksOn: xcauth's clients send a request after the answer to the one before. It is
// answered, and the connection is one to the metrics.
func TestSaslauthdAsksOn(t *testing.T) {
	for _, network := range networks {
		r := newRig(t)
		c := r.dial(r.listenOn(network, listenerBlock("saslauthd")))
		for i, question := range []struct{ input, want string }{
			{fields("joe", "good", "smtp", "dom.example"), "\x00\x0aOK success"},
			{fields("joe", "bad", "smtp", "dom.example"), "\x00\x18NO authentication failed"},
			{fields("joe", "good", "smtp", "dom.example") + fields("joe", "bad", "smtp", "dom.example"), "\x00\x0aOK success"}, // the second is dropped
			{fields("ann", "good", "smtp", "", "192.0.2.1;25"), "\x00\x0aOK success"},
			{"\xff\xff", "\x00\x18NO authentication failed"}, // and the framing is lost
		} {
			if _, err := io.WriteString(c, question.input); err != nil {
				t.Fatal(err)
			}
			got := make([]byte, len(question.want))
			if _, err := io.ReadFull(c, got); err != nil || string(got) != question.want {
				t.Fatalf("%s, request %d: got %q, %v, want %q", network, i, got, err, question.want)
			}
		}
		if rest, err := io.ReadAll(c); err != nil || len(rest) > 0 {
			t.Errorf("%s: after the end: %q, %v", network, rest, err)
		}
		if open, ever := r.Connections(); ever != 1 {
			t.Errorf("%s: %d connections were counted, %d are open", network, ever, open)
		}
	}
}

// TestSaslauthdEnds: a connection that may ask on is no reason to wait when everything ends.
func TestSaslauthdEnds(t *testing.T) {
	r := newRig(t)
	c := r.dial(r.listenOn("unix", listenerBlock("saslauthd")))
	if _, err := io.WriteString(c, fields("joe", "good", "smtp", "dom.example")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, make([]byte, 12)); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	r.CloseConnections()
	if rest, err := io.ReadAll(c); err != nil || len(rest) > 0 {
		t.Errorf("%q, %v", rest, err)
	}
	if took := time.Since(began); took > oneMore*3/4 {
		t.Errorf("it took %v to end", took)
	}
}

// TestSaslauthdDoesNotWait: libsasl2 keeps its side open while it reads the answer.
func TestSaslauthdDoesNotWait(t *testing.T) {
	r := newRig(t)
	c := r.dial(r.listenOn("unix", listenerBlock("saslauthd")))
	if _, err := io.WriteString(c, fields("joe", "good", "smtp", "dom.example")); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(c); err != nil || string(got) != "\x00\x0aOK success" {
		t.Errorf("got %q, %v", got, err)
	}
}

// TestOneWriteForManyRequests: what memory answers of one read is answered by one write. On a busy
// machine an actor may be in use, and the answer that waited for it leaves by a write of its own.
func TestOneWriteForManyRequests(t *testing.T) {
	const n = 16
	for _, protocol := range lineProtocols {
		t.Run(protocol, func(t *testing.T) {
			r := newRig(t)
			socket := &watchedSocket{Listener: socketOf(t)}
			c := r.dial(r.listenAt(listenerBlock(protocol), socket))
			var questions []question
			for i := range n {
				questions = append(questions, question{"isuser", fmt.Sprint("user", i), "dom.example", "", auth.Allow})
			}
			in, want := script(protocol, questions)
			for range 10 {
				roundTrip(t, c, in, want)
			}
			if got := socket.writes.Load(); got < 10 || got > 20 {
				t.Errorf("%d answers took %d writes, want 10 to 20", 10*n, got)
			}
		})
	}
}

// TestLateAnswersLeave: the last answer of a batch leaves while the reader waits for input, or for
// room.
func TestLateAnswersLeave(t *testing.T) {
	for _, pipeline := range []int{1, 3, 64} {
		t.Run(fmt.Sprint(pipeline), func(t *testing.T) {
			r := newRig(t)
			r.router.backend = func(_ context.Context, q auth.Request) auth.Answer {
				time.Sleep(time.Millisecond)
				return goodPassword(q)
			}
			cfg := listenerBlock("generic")
			cfg.Pipeline = pipeline
			c := r.dial(r.listen(cfg))
			in, want := script("generic", []question{yes, yes, yes, yes})
			for range 50 {
				roundTrip(t, c, in, want)
			}
		})
	}
}

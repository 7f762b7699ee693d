package actors

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"testing"

	"postern/internal/auth"
	"postern/internal/backend"
)

// lineProtocols are those that carry many requests on one connection.
var lineProtocols = []string{"generic", "ejabberd", "tcp_table", "socketmap"}

// TestPipelining sends 100 requests of every kind in one write, some of whose answers become
// ready later than those behind them. A pipeline of 1 or 2 runs out of credits all the time.
func TestPipelining(t *testing.T) {
	for _, protocol := range lineProtocols {
		for _, via := range transports {
			for _, pipeline := range []int{1, 2, 64} {
				t.Run(fmt.Sprintf("%s/%s/%d", protocol, via.name, pipeline), func(t *testing.T) {
					r := newRig(t, func(s *setup) {
						s.fake.ask = new(relay).ask
						s.cfg.Backends[0].Slots = 128 // who waits must not keep out those who end the wait
					})
					cfg := listenerBlock(protocol)
					cfg.Pipeline = pipeline
					in, want := script(protocol, mixture(protocol, 100, pipeline > 1))
					same(t, via.carry(r, cfg, in), want)
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
			r := newRig(t, func(s *setup) {
				s.fake.ask = func(_ context.Context, q backend.Query) backend.Result {
					if q.User == "nobody" {
						<-release
					}
					return goodPassword(q)
				}
			})
			questions := []question{{"isuser", "nobody", "dom.example", "", auth.Deny}}
			for i := range 63 {
				questions = append(questions, question{"isuser", fmt.Sprint("user", i), "dom.example", "", auth.Allow})
			}
			in, want := script(protocol, questions)
			c := r.dial(r.listen(listenerBlock(protocol)))
			if _, err := io.WriteString(c, in); err != nil {
				t.Fatal(err)
			}
			eventually(t, "63 answers", func() bool {
				return r.stats().BackendAsked == 64 && r.counted().Backends[rigBackend].Busy == 1 && r.quiet()
			})
			close(release)
			got := make([]byte, len(want))
			if _, err := io.ReadFull(c, got); err != nil || string(got) != want {
				t.Errorf("got %q (%v), want %q", got, err, want)
			}
		})
	}
}

// TestEndInMidRequest: a request whose end never came is neither answered nor carried out,
// and those before it are.
func TestEndInMidRequest(t *testing.T) {
	whole := question{"auth", "joe", "dom.example", "good", auth.Allow}
	half := question{"auth", "eve", "dom.example", "good", auth.Allow}
	for _, protocol := range []string{"generic", "ejabberd"} { // those with logins
		for _, via := range transports {
			t.Run(protocol+"/"+via.name, func(t *testing.T) {
				r := newRig(t, nil)
				rest := half.frame(protocol)
				got := via.carry(r, listenerBlock(protocol), whole.frame(protocol)+rest[:len(rest)-1])
				same(t, got, whole.reply(protocol))
				if n := r.fake.asked.Load(); n != 1 {
					t.Errorf("the backend was asked %d times, want 1", n)
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
			r := newRig(t, nil)
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

// TestSaslauthd: one answer, then the connection ends, whatever else the peer sent.
func TestSaslauthd(t *testing.T) {
	const (
		yes    = "\x00\x0aOK success"
		no     = "\x00\x18NO authentication failed"
		cannot = "\x00\x00"
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
		{"outage", fields("down", "good", "smtp", "dom.example"), cannot},
		{"two requests", fields("joe", "bad", "smtp", "dom.example") + fields("joe", "good", "smtp", "dom.example"), no},
		{"half a request", fields("joe", "good", "smtp") + "\x00", ""},
	}
	for _, network := range []string{"tcp", "unix"} {
		t.Run(network, func(t *testing.T) {
			r := newRig(t, func(s *setup) {
				s.fake.ask = func(ctx context.Context, q backend.Query) backend.Result {
					if q.User == "down" {
						return outage(ctx, q)
					}
					return goodPassword(q)
				}
			})
			address := r.listenOn(network, listenerBlock("saslauthd"))
			for _, c := range cases {
				if got := r.exchange(address, c.input); got != c.want {
					t.Errorf("%s: got %q, want %q", c.name, got, c.want)
				}
			}
		})
	}
}

// TestSaslauthdDoesNotWait: libsasl2 keeps its side open while it reads the answer.
func TestSaslauthdDoesNotWait(t *testing.T) {
	r := newRig(t, nil)
	c := r.dial(r.listenOn("unix", listenerBlock("saslauthd")))
	if _, err := io.WriteString(c, fields("joe", "good", "smtp", "dom.example")); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(c); err != nil || string(got) != "\x00\x0aOK success" {
		t.Errorf("got %q, %v", got, err)
	}
}

package actors

import (
	"context"
	"strings"
	"testing"
	"time"

	"postern/internal/backend"
)

// TestExtension: an address with an extension exists if there is a user of the whole name or one of
// the name before it; and "no such user", which bounces mail, takes a no to both.
func TestExtension(t *testing.T) {
	yes, no := backend.Result{Class: backend.Accepted}, backend.Result{Class: backend.Refused}
	unavailable, never := backend.Result{Class: backend.Outage}, backend.Result{Class: backend.Unsupported}
	for name, c := range map[string]struct {
		whole, base backend.Result
		want        string
	}{
		"base":              {no, yes, "200 OK\n"},
		"whole":             {yes, no, "200 OK\n"},
		"both":              {yes, yes, "200 OK\n"},
		"none":              {no, no, "500 no such user\n"},
		"base, whole away":  {unavailable, yes, "200 OK\n"},
		"whole, base away":  {yes, unavailable, "200 OK\n"},
		"no, base away":     {no, unavailable, "400 temporarily unavailable\n"},
		"no, whole away":    {unavailable, no, "400 temporarily unavailable\n"},
		"away":              {unavailable, unavailable, "400 temporarily unavailable\n"},
		"not for a backend": {never, never, "500 not supported\n"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, func(s *setup) {
				s.fake.ask = func(_ context.Context, q backend.Query) backend.Result {
					switch q.User {
					case "alice":
						return c.base
					case "alice+news":
						return c.whole
					}
					t.Errorf("asked about %q", q.User)
					return no
				}
			})
			cfg := listenerBlock("tcp_table")
			cfg.RecipientDelimiter = "+"
			same(t, r.exchange(r.listen(cfg), "get alice+news@dom.example\n"), c.want)
			if n := strings.Count(r.log.String(), "msg=decision"); n != 1 {
				t.Errorf("%d decisions were logged, want one", n)
			}
		})
	}
}

// TestExtensionHangs: whatever hangs, the answer comes once and in time, and a known user waits
// for no backend.
func TestExtensionHangs(t *testing.T) {
	m := &hangingBackend{}
	r := newRig(t, func(s *setup) { s.fake.ask = m.ask })
	cfg := short("tcp_table", 400*time.Millisecond)
	cfg.RecipientDelimiter = "+"
	address := r.listen(cfg)
	same(t, r.exchange(address, "get alice@dom.example\n"), "200 OK\n")
	m.hangs.Store(true)
	answeredWithin(t, 4*time.Second, "the answers", func() {
		same(t, r.exchange(address, "get alice+news@dom.example\nget bob+news@dom.example\nget alice@dom.example\n"),
			"200 OK\n400 temporarily unavailable\n200 OK\n")
	})
	eventually(t, "the end of all questions", func() bool { return r.gate.InFlight() == 0 })
}

package front

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"postern/actors/call"
	"postern/internal/auth"
)

// TestExtension: an address with an extension exists if there is a user of the whole name or one of
// the name before it; and "no such user", which bounces mail, takes a no to both.
func TestExtension(t *testing.T) {
	for name, c := range map[string]struct {
		whole, base auth.Answer
		want        string
	}{
		"base":              {refused, accepted, "200 OK\n"},
		"whole":             {accepted, refused, "200 OK\n"},
		"both":              {accepted, accepted, "200 OK\n"},
		"none":              {refused, refused, "500 no such user\n"},
		"base, whole away":  {outage, accepted, "200 OK\n"},
		"whole, base away":  {accepted, outage, "200 OK\n"},
		"no, base away":     {refused, outage, "400 temporarily unavailable\n"},
		"no, whole away":    {outage, refused, "400 temporarily unavailable\n"},
		"away":              {outage, outage, "400 temporarily unavailable\n"},
		"not for a backend": {unsupported, unsupported, "500 not supported\n"},
	} {
		for how, inline := range map[string]bool{"at once": true, "by a backend": false} {
			t.Run(name+"/"+how, func(t *testing.T) {
				r := newRig(t)
				answer := func(q auth.Request) auth.Answer {
					switch q.User {
					case "alice":
						return c.base
					case "alice+news":
						return c.whole
					}
					t.Errorf("asked about %q", q.User)
					return refused
				}
				r.router.backend = func(_ context.Context, q auth.Request) auth.Answer { return answer(q) }
				if inline {
					r.inMemory(answer)
				}
				cfg := listenerBlock("tcp_table")
				cfg.RecipientDelimiter = "+"
				same(t, r.exchange(r.listen(cfg), "get alice+news@dom.example\n"), c.want)
				if n := strings.Count(r.log.String(), "msg=decision"); n != 1 {
					t.Errorf("%d decisions were logged, want one", n)
				}
			})
		}
	}
}

// TestExtensionNamesTheAccount: the account of an address with an extension is the user of the whole
// name, if there is one. Where that is not known, no account is named.
func TestExtensionNamesTheAccount(t *testing.T) {
	named := auth.Answer{Verdict: auth.Allow, Account: "Alice"}
	for name, c := range map[string]struct {
		whole, base auth.Answer
		want        string
	}{
		"base":                  {refused, accepted, "200 alice@dom.example\n"},
		"base, named":           {refused, named, "200 Alice@dom.example\n"},
		"whole":                 {accepted, refused, "200 alice+news@dom.example\n"},
		"both":                  {accepted, named, "200 alice+news@dom.example\n"},
		"base, whole away":      {outage, accepted, "400 temporarily unavailable\n"},
		"whole, base away":      {accepted, outage, "200 alice+news@dom.example\n"},
		"none":                  {refused, refused, "500 no such user\n"},
		"base, whole no lookup": {unsupported, accepted, "200 alice@dom.example\n"},
	} {
		for _, inline := range []bool{true, false} {
			r := newRig(t)
			answer := func(q auth.Request) auth.Answer {
				if q.User == "alice" {
					return c.base
				}
				return c.whole
			}
			r.router.backend = func(_ context.Context, q auth.Request) auth.Answer { return answer(q) }
			if inline {
				r.inMemory(answer)
			}
			cfg := listenerBlock("tcp_table")
			cfg.RecipientDelimiter, cfg.Logins = "+", true
			if got := r.exchange(r.listen(cfg), "get alice+news@DOM.example\n"); got != c.want {
				t.Errorf("%s, at once %v: %q, want %q", name, inline, got, c.want)
			}
		}
	}
}

// TestExtensionHangs: whatever hangs, the answer comes once and in time, and a user who is known
// waits for no backend.
func TestExtensionHangs(t *testing.T) {
	r := newRig(t)
	var halves atomic.Int64
	r.router.memory = func(c *call.Call) (auth.Answer, bool) {
		return auth.Answer{Verdict: auth.Allow, Source: auth.SourceHot}, c.ID.User == "alice"
	}
	r.router.backend = func(ctx context.Context, q auth.Request) auth.Answer {
		halves.Add(1)
		defer halves.Add(-1)
		<-ctx.Done()
		time.Sleep(50 * time.Millisecond) // so that the backstop is first
		return outage
	}
	cfg := short("tcp_table", 400*time.Millisecond)
	cfg.RecipientDelimiter = "+"
	address := r.listen(cfg)
	within(t, 10*time.Second, "the answers", func() {
		same(t, r.exchange(address, "get alice+news@dom.example\nget bob+news@dom.example\nget alice@dom.example\n"),
			"200 OK\n400 temporarily unavailable\n200 OK\n")
	})
	eventually(t, "the end of all questions", func() bool { return r.gate.InFlight() == 0 && halves.Load() == 0 })
}

package actors

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"postern/actors/call"
	"postern/actors/slots"
	"postern/internal/auth"
	"postern/internal/backend"
	"postern/internal/config"
)

// canary is a password that must appear nowhere but at the backend.
const canary = "cAnArY-password-nobody-may-read"

// canaryRig is a rig with everything in its log, and the secrets to look for in it.
type canaryRig struct {
	*rig
	secrets []string
	seen    strings.Builder // other output
}

func newCanaryRig(t *testing.T, change func(*setup)) *canaryRig {
	return &canaryRig{rig: newRig(t, func(s *setup) {
		withTokens(s)
		s.level = slog.LevelDebug
		change(s)
	}), secrets: []string{canary}}
}

// look prints values for check, under every verb that prints structs.
func (a *canaryRig) look(values ...any) {
	for _, v := range values {
		fmt.Fprintf(&a.seen, "%v %+v %#v %s\n", v, v, v, v)
		slog.New(slog.NewJSONHandler(&a.seen, nil)).Info("look", "value", v)
	}
}

// check looks for the secrets in the log, the tree and what look has printed, and for words in the
// log that say what happened.
func (a *canaryRig) check(words ...string) {
	a.t.Helper()
	tree := strings.Join(a.Tree(), "\n")
	a.stop()
	log := a.log.String()
	for _, secret := range a.secrets {
		for name, text := range map[string]string{"log": log, "audit log": a.trail.String(), "tree": tree, "output": a.seen.String()} {
			if i := strings.Index(text, secret); i >= 0 {
				a.t.Errorf("the %s holds a secret: %q", name, text[max(i-200, 0):min(i+100, len(text))])
			}
		}
	}
	for _, word := range words {
		if !strings.Contains(log, word) {
			a.t.Errorf("the log does not mention %q", word)
		}
	}
}

// TestCanaryInDialogues sends the password through every protocol, well formed and not.
func TestCanaryInDialogues(t *testing.T) {
	a := newCanaryRig(t, func(s *setup) {
		s.fake.ask = func(ctx context.Context, q backend.Query) backend.Result {
			switch q.User {
			case "joe":
				return backend.Result{Class: backend.Accepted}
			case "down":
				return outage(ctx, q)
			case "broken":
				return verdictOf(backend.Result{Class: backend.Misconfigured})(ctx, q)
			}
			return goodPassword(q)
		}
	})
	token, single := a.jsxcToken("joe", time.Hour), a.totpToken("joe")
	a.secrets = append(a.secrets, token, single)
	lines := []string{"nonsense " + canary, canary, "isuser:joe:dom.example", canary + ":a:b", "auth:joe:dom.example" + canary, "isuser:joe:dom.example", "auth::dom.example:" + canary,
		"auth:joe:dom.example:" + canary + "\x00", "auth:jo\x01e:dom.example:" + canary, "auth:joe:dom.example:" + strings.Repeat(canary, 3000)}
	for _, user := range []string{"joe", "ann", "down", "broken"} {
		lines = append(lines, "auth:"+user+":dom.example:"+canary, "auth:"+user+":dom.example:"+canary)
	}
	for _, op := range []string{"setpass", "tryregister", "removeuser3", "certauth"} {
		lines = append(lines, op+":ann:dom.example:"+canary)
	}
	lines = append(lines, "auth:joe:elsewhere.example:"+canary, "auth:joe:dom.example:"+token,
		"auth:joe:dom.example:"+single, "auth:joe:dom.example:"+single)
	generic, ejabberd, mux := a.listen(listenerBlock("generic")), a.listen(listenerBlock("ejabberd")), a.listen(listenerBlock("saslauthd"))
	frames := ""
	for _, line := range lines {
		if len(line) < 1<<16 {
			frames += string(binary.BigEndian.AppendUint16(nil, uint16(len(line)))) + line
		}
		if rest, ok := strings.CutPrefix(line, "auth:joe:dom.example:"); ok && len(rest) < 1<<16 {
			a.exchange(mux, fields("joe", rest, rest, "dom.example"))
			a.exchange(mux, fields("joe", rest, "smtp", "dom.example", rest))
		}
	}
	a.exchange(generic, strings.Join(lines, "\n")+"\n")
	a.exchange(ejabberd, frames)
	a.exchange(a.listen(listenerBlock("tcp_table")), "put "+canary+"\nget "+canary+"\n"+canary+"\n")
	a.check("verdict=allow source=token", "verdict=deny source=malformed", "verdict=deny source=backend", "verdict=unavailable source=backend",
		"verdict=unsupported", "source=unknown-domain", "backend cannot answer", "backend is misconfigured")
}

// TestCanaryInPanics panics with whatever holds the password, in each kind of actor, in the
// backend, in the hashing pool and in a reader.
func TestCanaryInPanics(t *testing.T) {
	var armed atomic.Bool
	disk := openStore(t)
	a := newCanaryRig(t, func(s *setup) {
		onDisk(s, disk)
		s.quickRestarts = true
		s.inject = func(_ string, message any) {
			if armed.Swap(false) {
				panic(message)
			}
		}
		s.fake.ask = func(_ context.Context, q backend.Query) backend.Result {
			switch q.User {
			case "text":
				panic(q.Secret.Reveal())
			case "error":
				panic(errors.New(q.Secret.Reveal()))
			case "query":
				panic(q)
			}
			return backend.Result{Class: backend.Accepted}
		}
	})
	for _, user := range []string{"text", "error", "query"} {
		a.want(a.auth(user, canary), auth.Unavailable, auth.SourceBackend)
	}
	for range 40 { // whichever message comes next
		armed.Store(true)
		a.auth("joe", canary)
		eventually(t, "recovery", a.recovered)
	}
	c := &call.Call{Req: login("joe", canary)}
	question := &slots.Question{Query: backend.Query{User: "joe", Secret: c.Req.Secret}}
	for _, reason := range []any{canary, errors.New(canary), c, c.Req, question, []byte(canary)} {
		_ = a.shards.Hashing.Run(context.Background(), auth.Identity{}, func() { panic(reason) })
	}
	a.look(c, c.Req, &c.Req, question.Query, question)
	eventually(t, "the panics of the pool", func() bool { return strings.Count(a.log.String(), "password hashing panicked") == 6 })
	a.check("actor panicked", "backend panicked")
}

// TestCanaryInTrouble: overload, deadlines, a store that fails, a peer that is gone, and
// messages for actors that are gone.
func TestCanaryInTrouble(t *testing.T) {
	disk := &failingStore{Store: openStore(t)}
	g := newBarrier()
	a := newCanaryRig(t, func(s *setup) {
		onDisk(s, disk)
		s.cfg.Backends[0].Slots, s.cfg.Backends[0].Queue, s.cfg.Backends[0].BreakerFailures = 1, 1, 3
		s.fake.ask = func(ctx context.Context, q backend.Query) backend.Result {
			if q.User == "joe" {
				return backend.Result{Class: backend.Accepted}
			}
			return g.ask(ctx, q)
		}
	})
	disk.failing.Store(true)
	a.want(a.auth("joe", canary), auth.Allow, auth.SourceBackend)
	address := a.listen(short("generic", 300*time.Millisecond))
	var answers []<-chan auth.Answer
	for i := range 6 { // for one slot and one place in the queue
		answers = append(answers, a.startRequest(login(fmt.Sprint("ann", i), canary), 100*time.Millisecond))
	}
	for _, answer := range answers {
		<-answer
	}
	a.look(a.Ask(t.Context(), login("ann", canary), 50*time.Millisecond))
	a.exchange(address, strings.Repeat("auth:eve:dom.example:"+canary+"\n", 3)+"auth:bob:dom.example:"+canary+"\nauth:bea:dom.example:"+canary+"\n")
	gone := a.dial(address)
	_, _ = io.WriteString(gone, strings.Repeat("auth:eve:dom.example:"+canary+"\n", 20))
	_ = gone.(*net.TCPConn).SetLinger(0)
	_ = gone.Close()
	eventually(t, "the end of the connection", func() bool { return a.open() == 0 })
	g.open()
	refs := a.env.System.Refs()
	a.stop()
	for _, ref := range refs { // dead letters
		c := &call.Call{Req: login("joe", canary)}
		ref.Send(c)
		eventually(t, "the answer to a dead letter", c.Done)
	}
	a.check("source=overload", "source=deadline", "cache cannot be written", "breaker changed")
}

// TestCanaryInConfiguration: nothing that is made of the configuration shows its secrets.
func TestCanaryInConfiguration(t *testing.T) {
	a := newCanaryRig(t, func(s *setup) {
		s.cfg.Domains[0].JSXC = &config.JSXCToken{Secrets: []auth.Secret{auth.NewSecret(canary)}, TTL: time.Hour}
		s.cfg.Backends[0].Secret = auth.NewSecret(canary)
	})
	d := a.table.Domains(false)["dom.example"]
	a.look(a.cfg.Backends, a.cfg.Domains, d, d.JSXC, d.TOTP)
	_, err := Start(Options{Config: &config.Config{Domains: []config.Domain{{Name: "bad.example", TOTP: &config.TOTPToken{
		Seed: auth.NewSecret(canary), Secrets: []auth.Secret{auth.NewSecret(canary)}}}}}, Log: slog.New(slog.DiscardHandler)})
	if err == nil {
		t.Error("a seed that is not base32 is taken")
	}
	a.look(err)
	a.check()
}

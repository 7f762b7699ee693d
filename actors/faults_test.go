package actors

import (
	"testing"
	"time"

	"postern/internal/auth"
	"postern/internal/config"
	"postern/internal/token"
)

// tokenSecret signs the tokens of withTokens.
var tokenSecret = auth.NewSecret("the secret that signs tokens")

// withTokens gives the rig's domain both kinds of tokens.
func withTokens(s *setup) {
	s.cfg.Domains[0].JSXC = &config.JSXCToken{Secrets: []auth.Secret{tokenSecret}, TTL: time.Hour}
	s.cfg.Domains[0].TOTP = &config.TOTPToken{Seed: auth.NewSecret("JBSWY3DPEHPK3PXP"), Secrets: []auth.Secret{tokenSecret}, NonceDigits: 32}
}

// jsxcToken issues a token that is good for a time from now.
func (r *rig) jsxcToken(user string, good time.Duration) string {
	r.t.Helper()
	j, err := token.NewJSXC([]auth.Secret{tokenSecret})
	if err != nil {
		r.t.Fatal(err)
	}
	text, err := j.Issue(auth.Identity{User: user, Domain: "dom.example"}, r.clock.now().Add(good))
	if err != nil {
		r.t.Fatal(err)
	}
	return text.Reveal()
}

// totp issues single-use tokens with nonces of some digits.
func (r *rig) totp(nonceDigits int) *token.TOTP {
	r.t.Helper()
	o, err := token.NewTOTP(r.cfg.Domains[0].TOTP.Seed, r.cfg.Domains[0].TOTP.Secrets, nonceDigits)
	if err != nil {
		r.t.Fatal(err)
	}
	return o
}

// totpToken issues a single-use token.
func (r *rig) totpToken(user string) string {
	r.t.Helper()
	text, err := r.totp(r.cfg.Domains[0].TOTP.NonceDigits).Issue(auth.Identity{User: user, Domain: "dom.example"}, r.clock.now())
	if err != nil {
		r.t.Fatal(err)
	}
	return text.Reveal()
}

// plannedFault is a panic of an actor at a kind of message.
type plannedFault struct {
	actor, kind string
	times       int
}

// TestFaults: whichever actor panics at whichever message of a login, the login is
// answered, rightly or as a temporary failure, and the next one rightly.
func TestFaults(t *testing.T) {
	const router, shard, worker, slots = "domain:dom.example$", "cache", "token", "backend."
	cases := map[string]struct {
		faults  []plannedFault
		actor   string // to be restarted
		token   bool
		verdict auth.Verdict
		source  auth.Source
	}{
		"none":                                 {nil, "", false, auth.Allow, auth.SourceBackend},
		"router, a call":                       {[]plannedFault{{router, "Call", 1}}, router, false, auth.Unavailable, auth.SourcePanic},
		"router, and again":                    {[]plannedFault{{router, "Call", 1}, {router, "Started", 3}}, router, false, auth.Unavailable, auth.SourcePanic},
		"router, and while it restarts":        {[]plannedFault{{router, "Call", 1}, {router, "Restarting", 1}}, router, false, auth.Unavailable, auth.SourcePanic},
		"token worker, a token":                {[]plannedFault{{worker, "Call", 1}}, worker, true, auth.Unavailable, auth.SourcePanic},
		"shard, a call":                        {[]plannedFault{{shard, "Call", 1}}, shard, false, auth.Unavailable, auth.SourcePanic},
		"shard, the backend's answer":          {[]plannedFault{{shard, askResult, 1}}, shard, false, auth.Allow, auth.SourceBackend},
		"shard, the answer, all attempts":      {[]plannedFault{{shard, askResult, attempts}}, shard, false, auth.Allow, auth.SourceBackend},
		"shard, the answer, and one more":      {[]plannedFault{{shard, askResult, attempts + 1}}, shard, false, auth.Unavailable, auth.SourcePanic},
		"shard, the answer, while it restarts": {[]plannedFault{{shard, askResult, 1}, {shard, "Restarting", 1}}, shard, false, auth.Allow, auth.SourceBackend},
		"shard, the answer, and again":         {[]plannedFault{{shard, askResult, 1}, {shard, "Started", 2}}, shard, false, auth.Allow, auth.SourceBackend},
		"backend, a question":                  {[]plannedFault{{slots, "Question", 1}}, slots, false, auth.Unavailable, auth.SourcePanic},
		"backend, and again":                   {[]plannedFault{{slots, "Question", 1}, {slots, "Started", 2}}, slots, false, auth.Unavailable, auth.SourcePanic},
		"backend, a slot":                      {[]plannedFault{{slots, "slotDone", 1}}, slots, false, auth.Allow, auth.SourceBackend},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			f := new(faults)
			r := newRig(t, func(s *setup) { withTokens(s); s.inject = f.inject })
			r.settled(f)
			for _, p := range c.faults {
				f.arm(p.actor, p.kind, p.times)
			}
			password := "good"
			if c.token {
				password = r.jsxcToken("joe", time.Hour)
			}
			r.want(r.auth("joe", password), c.verdict, c.source)
			eventually(t, "every restart", func() bool {
				return f.left() == 0 && r.restarts(c.actor) >= restartsAfter(c.faults) && r.recovered()
			})
			if a := r.auth("joe", password); a.Verdict != auth.Allow {
				t.Errorf("afterwards answered %v (%v)", a.Verdict, a.Source)
			}
			r.want(r.auth("eve", "bad"), auth.Deny, auth.SourceBackend)
		})
	}
}

// restartsAfter is how often Tree must show an actor restarted: a panic during a
// restart is no failure of its own.
func restartsAfter(faults []plannedFault) (n int) {
	for _, p := range faults {
		if p.kind != "Restarting" {
			n += p.times
		}
	}
	return n
}

// TestFaultsOfOthers sends each kind of actor a message that no request waits for, at
// which it panics: a request that is with a backend at the time is answered rightly.
func TestFaultsOfOthers(t *testing.T) {
	for _, actor := range []string{"domain:dom.example$", "/roster", "cache", "token", "backend.", "listener:"} {
		t.Run(actor, func(t *testing.T) {
			f := new(faults)
			gate := newBarrier()
			r := newRosterRig(t, newEjabberd(t), func(s *setup) { withTokens(s); s.inject, s.fake.ask = f.inject, gate.ask })
			r.listen(listenerBlock("generic"))
			r.settled(f)
			asked := r.start("joe", "good")
			gate.reached(t, 1)
			f.arm(actor, "tick", 1)
			r.tickAll()
			eventually(t, "the panic", func() bool { return f.left() == 0 })
			eventually(t, "the restart", func() bool { return r.restarts(actor) > 0 && r.recovered() })
			gate.open()
			r.want(<-asked, auth.Allow, auth.SourceBackend)
			eventually(t, "a login", func() bool { return r.auth("eve", "good").Verdict == auth.Allow })
		})
	}
}

// tickAll sends every listed actor a message that it ignores.
func (r *rig) tickAll() {
	for _, ref := range r.env.System.Refs() {
		ref.Send(tickMessage)
	}
}

// TestFaultsWhileStarting: an actor that panics in its very first message is started again.
func TestFaultsWhileStarting(t *testing.T) {
	for _, actor := range []string{"domain:dom.example$", "/roster", "cache", "token", "backend.", "listener:", "conn:"} {
		t.Run(actor, func(t *testing.T) {
			f := new(faults)
			f.arm(actor, "Started", 2)
			r := newRosterRig(t, newEjabberd(t), func(s *setup) { withTokens(s); s.inject = f.inject })
			address := r.listen(listenerBlock("ejabberd"))
			eventually(t, "a login", func() bool {
				return r.exchange(address, question{op: "auth", user: "joe", domain: "dom.example", secret: "good"}.frame("ejabberd")) == "\x00\x02\x00\x01"
			})
			// The login needs no token worker: it may have been answered before that came to its second start.
			eventually(t, "the panics", func() bool { return f.left() == 0 })
		})
	}
}

// TestFaultsWhileStopping: panics at the end neither hold up Stop nor bring an actor back.
func TestFaultsWhileStopping(t *testing.T) {
	for _, kind := range []string{"Stopping", "Stopped"} {
		t.Run(kind, func(t *testing.T) {
			f := new(faults)
			r := newRosterRig(t, newEjabberd(t), func(s *setup) { withTokens(s); s.inject = f.inject })
			open := r.dial(r.listen(listenerBlock("generic")))
			roundTrip(t, open, "generic", yes)
			f.arm("", kind, 1000)
			// A future that is never completed ends after 10 s.
			answeredWithin(t, 8*time.Second, "Stop", r.stop)
			ended(t, open, "")
			for _, actor := range []string{"conn:", "listener:", "backend.", "domain:dom.example$", "/roster", "cache", "token"} {
				if f.count(actor, "Stopped") == 0 {
					t.Errorf("%s did not stop", actor)
				}
			}
			if n := f.count("", "Restarting"); n != 0 {
				t.Errorf("%d actors came back", n)
			}
		})
	}
}

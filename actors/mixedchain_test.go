package actors

import (
	"context"
	"io"
	"strings"
	"testing"
	"time"

	"postern/internal/backend"
	"postern/internal/config"
)

// newMixedRig has a domain on two backends: the first tells letter case apart and knows its users, the
// second ignores letter case.
func newMixedRig(t *testing.T) (exact, folding *people, say func(want string, lines ...string)) {
	exact, folding = &people{all: map[string]string{}}, &people{fold: true, registers: true, all: map[string]string{}}
	_, _, say = newPeopleRig(t, true, func(s *setup) {
		s.fake.ask = exact.ask
		second := s.cfg.Backends[0]
		second.Name, second.FoldCase = "second", true
		s.more = map[string]*fakeBackend{"second": {ask: folding.ask}}
		s.cfg.Backends[0].FoldCase = false
		s.cfg.Backends = append(s.cfg.Backends, second)
		s.cfg.Domains[0].Backends = []config.BackendRef{rigBackend, second.BackendRef}
	})
	return exact, folding, say
}

// TestMixedChain: what a backend that ignores letter case says of one spelling holds for no other one
// where the backend before it has another account of that spelling.
func TestMixedChain(t *testing.T) {
	const d = "dom.example"
	for _, first := range []string{"vera", "VERA", "Vera"} {
		exact, folding, say := newMixedRig(t)
		exact.sure = true
		exact.set("Vera", "hers")
		folding.set("vera", "other")
		want := map[bool]string{true: "0", false: "1"}[first == "Vera"]
		say(want, "auth:"+first+":"+d+":other")
		for range 2 { // asked, and from memory
			say("0", "auth:Vera:"+d+":other")
			say("1", "auth:Vera:"+d+":hers", "auth:vera:"+d+":other", "auth:VERA:"+d+":other")
		}
		for range 3 { // a new password has the others verified again
			say("1", "auth:Vera:"+d+":hers", "auth:vera:"+d+":other")
		}
		asked := exact.logins()
		say("1", "auth:Vera:"+d+":hers", "auth:vera:"+d+":other")
		if n := exact.logins() - asked; n != 0 {
			t.Errorf("after %s: asked %d times about known passwords", first, n)
		}
	}
}

// TestMixedChainRegister: a name with capital letters is not registered at a backend that ignores them
// while the other one may have it in small letters.
func TestMixedChainRegister(t *testing.T) {
	const d = "dom.example"
	exact, folding, say := newMixedRig(t)
	exact.set("newbie", "hers")
	say("0", "tryregister:Newbie:"+d+":evil", "tryregister:newbie:"+d+":evil", "auth:newbie:"+d+":evil")
	if password, ok := folding.all["newbie"]; ok {
		t.Errorf("registered with %q", password)
	}
	say("1", "auth:newbie:"+d+":hers", "tryregister:carol:"+d+":own", "auth:Carol:"+d+":own")
}

// TestTokenOfASpelling: where letter case counts, a token lets in as the account that it names.
func TestTokenOfASpelling(t *testing.T) {
	for fold, want := range map[bool]string{false: "Joe", true: "joe"} {
		r := newRig(t, func(s *setup) {
			withTokens(s)
			s.cfg.Backends[0].FoldCase = fold
		})
		d := r.dovecot(t, r.listen(listenerBlock("dovecot")), 1)
		d.say(plainLogin(1, "Joe", r.jsxcToken("Joe", time.Hour)))
		if got := d.line(); !strings.Contains(got, "user="+want+"@dom.example") {
			t.Errorf("fold_case = %t: answered %q, want %s", fold, got, want)
		}
	}
}

// TestAliasesInACircle: two names that lead to each other do not send a login round and round.
func TestAliasesInACircle(t *testing.T) {
	r, p, _ := newPeopleRig(t, true, nil)
	p.set("ann", "hers")
	p.set("ben", "his")
	p.also = map[string]string{"ann": "ben", "ben": "ann"}
	d := r.dovecot(t, r.listen(listenerBlock("dovecot")), 1)
	id := 0
	for range 3 {
		for user, c := range map[string][2]string{"ann": {"his", "ben"}, "ben": {"hers", "ann"}} {
			id++
			d.say(plainLogin(id, user, c[0]))
			if got := d.line(); !strings.Contains(got, "OK") || !strings.HasSuffix(got, "user="+c[1]+"@dom.example") {
				t.Errorf("%s is answered %q, want %s", user, got, c[1])
			}
		}
	}
}

// TestOtherAccountForOneFront: a login that waits for an identical one gets the account where its front
// returns it, though the front of the first does not.
func TestOtherAccountForOneFront(t *testing.T) {
	g := newBarrier()
	r, p, _ := newPeopleRig(t, true, func(s *setup) {
		ask := s.fake.ask
		s.fake.ask = func(ctx context.Context, q backend.Query) backend.Result {
			g.ask(ctx, q)
			return ask(ctx, q)
		}
	})
	p.set("alice", "one")
	p.lead("mallory", "alice")
	first := r.dial(r.listen(listenerBlock("generic")))
	d := r.dovecot(t, r.listen(listenerBlock("dovecot")), 1)
	if _, err := io.WriteString(first, "auth:mallory:dom.example:one\n"); err != nil {
		t.Fatal(err)
	}
	g.reached(t, 1)
	d.say(plainLogin(1, "mallory", "one"))
	eventually(t, "the second login", func() bool { return r.gate.InFlight() == 2 })
	g.open()
	if got := d.line(); !strings.HasSuffix(got, "user=alice@dom.example") || !strings.HasPrefix(got, "OK") {
		t.Errorf("dovecot is answered %q", got)
	}
	answer := make([]byte, 2)
	if _, err := io.ReadFull(first, answer); err != nil || string(answer) != "0\n" {
		t.Errorf("the first login: %q, %v", answer, err)
	}
}

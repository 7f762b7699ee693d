package limit

import (
	"testing"
	"time"

	"postern/internal/unixtime"
)

// TestProofs: each wrong proof is a guess, and the owner's address is not shut out by those of others, as long as its own
// last one was right. Proofs displace no secrets that are known.
func TestProofs(t *testing.T) {
	a, rules := NewAccounts(), &Rules{Refusals: 3, Window: 10 * time.Minute, First: 2 * time.Second, Longest: 15 * time.Minute}
	now, n := unixtime.At(time.Unix(1_800_000_000, 0)), uint64(100)
	proof := func(from uint64) *Guess {
		n++
		return &Guess{Account: 1, Secret: n, From: from, Rules: rules, Proof: true}
	}
	put := func(from uint64) bool {
		d, _ := a.Admit(proof(from), now, now.Add(time.Second))
		return d == Pass || d == PassUncounted
	}
	password := &Guess{Account: 1, Secret: 7, From: 9, Rules: rules}
	a.Accepted(password, 1)
	for range 2 * maxKnownSecrets {
		a.Accepted(proof(1), 1)
	}
	if !a.Knows(1, 7) || !a.Familiar(1) || a.Trusts(proof(2)) || !a.Trusts(proof(1)) || a.Trusts(&Guess{Account: 1, Secret: 8, From: 1}) {
		t.Error("what was accepted is not known, or something else is")
	}
	a.Accepted(proof(0), 1)
	for range 6 {
		g := proof(2)
		if d, _ := a.Admit(g, now, now.Add(time.Second)); d == Pass {
			a.Done(g, now)
		}
		a.Refused(g, "joe", now)
	}
	if put(2) || put(0) {
		t.Error("no limit holds for the guesser, or for an unknown address")
	}
	if !put(1) || !a.Knows(1, 7) {
		t.Error("the owner is shut out")
	}
	a.Refused(proof(1), "joe", now)
	if put(1) {
		t.Error("an address with a wrong proof is trusted")
	}
	if !a.Knows(1, 7) {
		t.Error("a wrong proof takes trust from a password")
	}
	a.Accepted(proof(1), 1)
	a.Forget(1, now)
	if a.Familiar(1) || a.Trusts(proof(1)) {
		t.Error("a forgotten account is known")
	}
}

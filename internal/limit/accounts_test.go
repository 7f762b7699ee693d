package limit

import (
	"testing"
	"time"

	"postern/internal/unixtime"
)

// accountWorld is a backend with accounts that have one right secret, and its limits.
type accountWorld struct {
	*Accounts
	t     *testing.T
	rules *Rules
	now   unixtime.Time
	right uint64
	asked []unixtime.Time
	last  uint64
}

func newAccountWorld(t *testing.T) *accountWorld {
	return &accountWorld{Accounts: NewAccounts(), t: t, rules: rules(), now: base, right: 1, last: 1000}
}

// login is a login with an unknown secret at account 7; the results are whether the backend was asked and
// accepted the secret.
func (w *accountWorld) login(from, secret uint64) (d Decision, in bool) {
	g := &Guess{Account: 7, Secret: secret, From: from, Rules: w.rules}
	d, _ = w.Admit(g, w.now, w.now.Add(5*time.Second))
	if d != Pass && d != PassUncounted {
		return d, false
	}
	if d == Pass {
		w.Done(g, w.now)
		w.asked = append(w.asked, w.now)
	}
	if secret == w.right {
		w.Accepted(g, 7)
		return d, true
	}
	w.Refused(g, "joe", w.now)
	return d, false
}

func (w *accountWorld) guess(from uint64) Decision {
	w.last++
	d, _ := w.login(from, w.last)
	return d
}

// most returns the largest number of questions within a time.
func (w *accountWorld) most(within time.Duration) (most int) {
	for i, at := range w.asked {
		n := 0
		for _, other := range w.asked[i:] {
			if other.Sub(at) < within {
				n++
			}
		}
		most = max(most, n)
	}
	return most
}

// TestOwnerUnderAttack: ten guesses a second from twenty addresses for ten minutes. The owner's
// password, which is not known, is asked about within two minutes from an address of the owner's,
// whenever the owner comes, and whatever was mistyped at first.
func TestOwnerUnderAttack(t *testing.T) {
	const attackers = 20
	for _, arrives := range []time.Duration{10 * time.Second, 61 * time.Second, 2 * time.Minute, 5 * time.Minute, 8 * time.Minute} {
		for _, retries := range []time.Duration{5 * time.Second, 17 * time.Second, 40 * time.Second} {
			for _, typo := range []bool{false, true} {
				w := newAccountWorld(t)
				var in time.Duration
				for at := time.Duration(0); at < 10*time.Minute; at += 100 * time.Millisecond {
					w.now = base.Add(at)
					w.guess(uint64(1 + at/(100*time.Millisecond)%attackers))
					if since := at - arrives; since >= 0 && since%retries == 0 && in == 0 {
						secret := w.right
						if typo && since == 0 {
							secret = 2
						}
						if _, ok := w.login(99, secret); ok {
							in = since + 1
						}
					}
				}
				if in == 0 || in > 2*time.Minute {
					t.Errorf("coming after %v and again every %v (typo: %t), the owner is in after %v", arrives, retries, typo, in)
				}
				limited := &accountWorld{asked: w.asked[10:]}
				if n := limited.most(time.Minute); n > 1 {
					t.Errorf("%d unknown secrets within a minute", n)
				}
				if d, ok := w.login(0, w.right); d != PassUncounted || !ok {
					t.Errorf("a secret that was accepted: %v", d)
				}
			}
		}
	}
}

// TestTrialsDaily: guessing without an end gets 60 secrets a day to the backend, and leaves half of
// these to clean addresses.
func TestTrialsDaily(t *testing.T) {
	for name, clients := range map[string]func(i int) uint64{
		"without an address": func(int) uint64 { return 0 },
		"one address":        func(int) uint64 { return 5 },
		"a botnet":           func(i int) uint64 { return uint64(1 + i%5000) },
	} {
		w := newAccountWorld(t)
		w.rules.Longest = 10 * time.Second // so that the pauses do not slow it down
		for i := range 48 * 3600 {
			w.now = base.Add(time.Duration(i) * time.Second)
			w.guess(clients(i))
		}
		n := (&accountWorld{asked: w.asked[10:]}).most(24 * time.Hour)
		want := 30
		if name == "a botnet" {
			want = 60
		}
		if n != want {
			t.Errorf("%s: %d secrets in a day, want %d", name, n, want)
		}
		if name != "a botnet" {
			if _, ok := w.login(99, w.right); !ok {
				t.Errorf("%s: the owner has no trial left", name)
			}
		}
	}
}

// TestTrialsWithoutAddress: without addresses, the pauses hold, and a minute between trials.
func TestTrialsWithoutAddress(t *testing.T) {
	w := newAccountWorld(t)
	for i := range 10 {
		if d := w.guess(0); d != Pass {
			t.Fatalf("guess %d: %v", i, d)
		}
	}
	for _, step := range []struct {
		after time.Duration
		want  Decision
	}{
		{2*time.Second - time.Millisecond, Blocked}, {time.Millisecond, Pass},
		{2*time.Minute - time.Millisecond, Blocked}, {time.Millisecond, Pass},
	} {
		if w.now = w.now.Add(step.after); w.guess(0) != step.want {
			t.Errorf("after %v: not %v", step.after, step.want)
		}
	}
}

// TestCompare: while an account is limited, few comparisons are made for it.
func TestCompare(t *testing.T) {
	w := newAccountWorld(t)
	compares := func(from uint64) (n int) {
		for range 100 {
			w.now = w.now.Add(100 * time.Millisecond)
			w.last++
			d, compare := w.Admit(&Guess{Account: 7, Secret: w.last, From: from, Rules: w.rules}, w.now, w.now)
			if compare && d != Pass {
				n++
			}
		}
		return n
	}
	for range 11 {
		w.guess(5)
	}
	if n := compares(5) + compares(0); n < 2 || n > 11 {
		t.Errorf("%d comparisons in 20 seconds of guesses", n)
	}
	if _, compare := w.Admit(&Guess{Account: 7, Secret: w.right, From: 99, Rules: w.rules}, w.now, w.now); !compare {
		t.Error("the owner's secret may not be compared")
	}
}

// TestKnownSecrets: what was accepted is known, until it is refused or forgotten; of one account the
// last few.
func TestKnownSecrets(t *testing.T) {
	w := newAccountWorld(t)
	for secret := range uint64(maxKnownSecrets + 1) {
		w.Accepted(&Guess{Account: 7, Secret: secret, Rules: w.rules}, 7)
	}
	if w.Knows(7, 0) || !w.Knows(7, 1) || !w.Knows(7, maxKnownSecrets) || w.Knows(8, 1) || !w.Familiar(7) || w.Familiar(8) {
		t.Error("not the last ones are known")
	}
	w.Refused(&Guess{Account: 7, Secret: 1, Rules: w.rules}, "joe", w.now)
	if w.Knows(7, 1) || !w.Knows(7, 2) {
		t.Error("a refusal is not followed")
	}
	if s := w.Forget(7, w.now); s.Refusals != 1 || w.Familiar(7) || w.State(7, w.now).Refusals != 0 {
		t.Errorf("forgotten: %+v", s)
	}
	w.Accepted(&Guess{Account: 9, Secret: 1}, 9)
	w.Refused(&Guess{Account: 9, Secret: 1}, "", w.now) // nothing is limited there
	if w.Familiar(9) {
		t.Error("an account without known secrets is familiar")
	}
}

// TestAlias: guesses at an account by another of its names count for the account, once a login has
// shown that it leads there.
func TestAlias(t *testing.T) {
	w := newAccountWorld(t)
	mail := &Guess{Account: 70, Secret: 3, Rules: w.rules}
	w.Accepted(mail, 7)
	for range 10 {
		w.guess(0)
	}
	if d, _ := w.Admit(&Guess{Account: 70, Secret: 4, Rules: w.rules}, w.now, w.now); d != Blocked {
		t.Errorf("by the other name: %v", d)
	}
	if d, _ := w.Admit(mail, w.now, w.now); d != PassUncounted {
		t.Errorf("a known secret: %v", d)
	}
	w.Accepted(mail, 70) // it is another account now
	if d, _ := w.Admit(&Guess{Account: 70, Secret: 4, Rules: w.rules}, w.now, w.now); d != Pass {
		t.Errorf("the name of another account: %v", d)
	}
}

// TestWithdraw: a trial that was not put leaves the next one its turn.
func TestWithdraw(t *testing.T) {
	w := newAccountWorld(t)
	for range 10 {
		w.guess(0)
	}
	g := &Guess{Account: 7, Secret: 2, From: 99, Rules: w.rules}
	for range 3 {
		if d, _ := w.Admit(g, w.now, w.now.Add(time.Second)); d != Pass {
			t.Fatalf("%v", d)
		}
		w.Withdraw(g, w.now)
	}
	w.Admit(g, w.now, w.now.Add(time.Second))
	if d, _ := w.Admit(&Guess{Account: 7, Secret: 2, From: 98, Rules: w.rules}, w.now, w.now); d != Blocked {
		t.Errorf("beside the one that is under way: %v", d)
	}
	w.Done(g, w.now)
	if until := w.LimitedUntil(7, w.now); until != w.now.Add(2*time.Second+w.rules.Window) || w.LimitedUntil(8, w.now) != 0 {
		t.Errorf("limited until %v", until)
	}
}

package limit

import (
	"net/netip"
	"reflect"
	"testing"
	"time"

	"postern/internal/unixtime"
)

func someEvents() []*Event {
	return []*Event{
		{What: RefusedUser, Backend: "backend.json.app 01", Account: "joe@dom.example", Name: "joe@dom.example", From: netip.MustParsePrefix("192.0.2.7/32"),
			Alike: 77, Counted: true, Stranger: true, Charges: 2, Rules: Rules{Refusals: 10, Window: 10 * time.Minute, First: 2 * time.Second, Longest: 15 * time.Minute}},
		{What: ForgetAddress, From: netip.MustParsePrefix("2001:db8::/64")},
		{What: ForgetUser, Backend: "b", Account: "joe"},
	}
}

func TestEvent(t *testing.T) {
	for _, e := range someEvents() {
		b := e.Encode()
		if got, err := DecodeEvent(b); err != nil || !reflect.DeepEqual(got, e) {
			t.Errorf("%+v was read back as %+v, %v", e, got, err)
		}
		for n := range b {
			if got, err := DecodeEvent(b[:n]); err == nil {
				t.Errorf("%d of %d bytes are %+v", n, len(b), got)
			}
		}
	}
	if _, err := DecodeEvent([]byte{2, 1, 0}); err == nil {
		t.Error("another version is read")
	}
}

func FuzzDecodeEvent(f *testing.F) {
	for _, e := range someEvents() {
		f.Add(e.Encode())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := DecodeEvent(b)
		if err != nil {
			return
		}
		if again, err := DecodeEvent(e.Encode()); err != nil || !reflect.DeepEqual(e, again) {
			t.Fatalf("%+v was read back as %+v, %v", e, again, err)
		}
	})
}

// peer is one of several processes, which hear of each other at once unless they are apart.
type peer struct {
	*Accounts
	*Budget
}

// Several processes stop guesses one after another at the limit, wherever they come, and the same wrong secret at all of
// them counts once.
func TestPeers(t *testing.T) {
	rules := &Rules{Refusals: 10, Window: 10 * time.Minute, First: 2 * time.Second, Longest: 15 * time.Minute}
	alike := Peers{Seed: NewSeed()}
	const account, n = 5, 3
	for name, c := range map[string]struct {
		secret func(i int) uint64
		asked  int
	}{
		"guesses":    {func(i int) uint64 { return uint64(1000 + i) }, 10},
		"one secret": {func(int) uint64 { return 1000 }, 60},
	} {
		var peers [n]peer
		for i := range peers {
			peers[i] = peer{NewAccounts(), NewBudget(BudgetRules{Refusals: 100, Window: 30 * time.Minute})}
		}
		now, asked := unixtime.At(time.Unix(1_800_000_000, 0)), 0
		for i := range 60 {
			at := i % n
			secret := c.secret(i)
			g := &Guess{Account: account, Secret: secret + uint64(at)<<32, Alike: alike.Alike("joe", string(rune(secret))), Rules: rules} // each has a key of its own
			d, _ := peers[at].Accounts.Admit(g, now, now.Add(time.Second))
			if d != Pass && d != PassUncounted {
				continue
			}
			asked++
			if d == Pass {
				peers[at].Accounts.Done(g, now)
			}
			peers[at].Accounts.Refused(g, "joe", now)
			peers[at].Budget.Refused(g, 1, now)
			for other := range peers {
				if other != at {
					e := &Event{What: RefusedUser, Alike: g.Alike, Counted: true, Charges: 1, Rules: *rules, Name: "joe"}
					peers[other].Accounts.Learn(account, e, 0, now, now)
					peers[other].Budget.Learn(account, 0, e, now, now)
				}
			}
			now = now.Add(time.Millisecond)
		}
		if asked != c.asked {
			t.Errorf("%s: the backend was asked %d times, want %d", name, asked, c.asked)
		}
		for i, p := range peers {
			if s := p.Accounts.State(account, now); s.Pauses > 0 != (c.asked == 10) {
				t.Errorf("%s: process %d: %+v", name, i, s)
			}
			if s := p.Budget.State(now); s.Refusals != c.asked {
				t.Errorf("%s: process %d has %d refusals in the budget, want %d", name, i, s.Refusals, c.asked)
			}
		}
	}
}

// While an account is limited, all processes have the trials of one.
func TestPeersTrials(t *testing.T) {
	rules := &Rules{Refusals: 10, Window: 10 * time.Minute, First: 2 * time.Second, Longest: 15 * time.Minute}
	a := NewAccounts()
	now := unixtime.At(time.Unix(1_800_000_000, 0))
	learn := func(alike uint16) bool {
		return a.Learn(5, &Event{Alike: alike, Counted: true, Rules: *rules, Name: "joe"}, 0, now, now)
	}
	for i := range uint16(10) {
		if begins := learn(i + 1); begins != (i == 9) {
			t.Fatalf("after %d refusals: %t", i+1, begins)
		}
	}
	now = now.Add(time.Hour / 10)
	learn(20)
	for _, c := range []struct {
		after time.Duration
		want  Decision
	}{{30 * time.Second, Blocked}, {5 * time.Minute, Pass}} {
		at := now.Add(c.after)
		if d, _ := a.Admit(&Guess{Account: 5, Secret: 9, From: 3, Rules: rules}, at, at.Add(time.Second)); d != c.want {
			t.Errorf("%v after a trial elsewhere: %v, want %v", c.after, d, c.want)
		}
	}
}

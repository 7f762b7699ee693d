package limit

import (
	"math/rand/v2"
	"testing"
	"time"

	"postern/internal/unixtime"
)

var base = unixtime.At(time.Unix(1_800_000_000, 0))

func rules() *Rules {
	return &Rules{Refusals: 10, Window: 10 * time.Minute, First: 2 * time.Second, Longest: 15 * time.Minute}
}

// guesser asks with secrets that are all wrong.
type guesser struct {
	t     *testing.T
	table *Table[string]
	rules *Rules
	now   unixtime.Time
	last  uint64
}

func newGuesser(t *testing.T) *guesser {
	return &guesser{t: t, table: NewTable[string](), rules: rules(), now: base}
}

func (g *guesser) try(user string, secret uint64) Decision {
	d := g.table.Admit(user, secret, g.rules, g.now, g.now.Add(5*time.Second))
	if d == Pass {
		g.table.Done(user, g.rules, g.now)
	}
	if d == Pass || d == PassUncounted {
		g.table.Refused(user, secret, user, g.rules, g.now)
	}
	return d
}

func (g *guesser) guess(user string) Decision {
	g.last++
	return g.try(user, g.last)
}

func (g *guesser) advance(d time.Duration) { g.now = g.now.Add(d) }

// TestPausesGrow: ten guesses are free, then each waits twice as long as the one before, up to
// the longest pause.
func TestPausesGrow(t *testing.T) {
	g := newGuesser(t)
	for i := range 10 {
		if d := g.guess("joe"); d != Pass {
			t.Fatalf("guess %d: %v", i, d)
		}
	}
	for _, pause := range []time.Duration{2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900, 900} {
		g.advance(pause*time.Second - time.Millisecond)
		if d := g.guess("joe"); d != Blocked {
			t.Fatalf("just before %d s: %v", pause, d)
		}
		g.advance(time.Millisecond)
		if d := g.guess("joe"); d != Pass {
			t.Fatalf("after %d s: %v", pause, d)
		}
		if d := g.table.Admit("jane", 1, g.rules, g.now, g.now); d != Pass {
			t.Fatalf("another user: %v", d)
		}
	}
}

// TestDecay: each window without a refusal halves the next pause, and at last all is as it was.
func TestDecay(t *testing.T) {
	g := newGuesser(t)
	for range 10 {
		g.guess("joe")
	}
	for range 4 { // 2, 4, 8, 16 s
		g.advance(20 * time.Second)
		g.guess("joe")
	}
	if s := g.table.State("joe", g.now); s.Pauses != 5 || s.Name != "joe" || s.Until != g.now.Add(32*time.Second) {
		t.Fatalf("%+v", s)
	}
	g.advance(32*time.Second + 3*g.rules.Window)
	if s := g.table.State("joe", g.now); s.Pauses != 2 || s.Refusals != 0 {
		t.Fatalf("after three windows: %+v", s)
	}
	g.guess("joe")
	if s := g.table.State("joe", g.now); s.Pauses != 3 || s.Until != g.now.Add(8*time.Second) {
		t.Fatalf("one more guess: %+v", s)
	}
	g.advance(8*time.Second + 3*g.rules.Window)
	for i := range 10 {
		if d := g.guess("joe"); d != Pass {
			t.Fatalf("after the decay, guess %d: %v", i, d)
		}
	}
	g.advance(time.Hour)
	g.table.Admit("joe", 0, g.rules, g.now, g.now)
	g.table.Done("joe", g.rules, g.now.Add(time.Hour))
	if w, l := g.table.Len(); w+l != 0 {
		t.Errorf("%d and %d are kept", w, l)
	}
}

// TestSameSecretCountsOnce: a phone that never stops is one mistake, whatever comes between.
func TestSameSecretCountsOnce(t *testing.T) {
	const old = 1 << 50
	g := newGuesser(t)
	for i := range 1000 {
		if d := g.try("joe", old); i > 0 && d != PassUncounted {
			t.Fatalf("attempt %d: %v", i, d)
		}
		g.advance(10 * time.Second)
	}
	if s := g.table.State("joe", g.now); s.Refusals != 1 || s.Pauses != 0 {
		t.Errorf("%+v", s)
	}
	for range 8 {
		g.guess("joe")
		g.try("joe", old)
	}
	if d := g.guess("joe"); d != Pass {
		t.Errorf("the tenth secret: %v", d)
	}
	if d := g.guess("joe"); d != Blocked {
		t.Errorf("the eleventh secret: %v", d)
	}
	g.advance(3 * time.Second)
	for range 5 {
		if d := g.try("joe", old); d != PassUncounted {
			t.Fatalf("the old secret after the pause: %v", d)
		}
	}
	if s := g.table.State("joe", g.now); s.Pauses != 1 {
		t.Errorf("the old secret prolongs the pauses: %+v", s)
	}
}

// TestWindow: refusals that are spread over more than the window never add up.
func TestWindow(t *testing.T) {
	g := newGuesser(t)
	for i := range 200 {
		if d := g.guess("joe"); d != Pass {
			t.Fatalf("guess %d: %v", i, d)
		}
		g.advance(67 * time.Second) // 9 in 10 minutes
	}
}

// TestParallelGuesses: guesses that come all at once do not get past the limit, and a question that
// has to wait is not answered "no".
func TestParallelGuesses(t *testing.T) {
	g := newGuesser(t)
	count := func(ahead, questions int) map[Decision]int {
		said := map[Decision]int{}
		g.rules.InFlight = ahead
		for range questions {
			g.last++
			said[g.table.Admit("joe", g.last, g.rules, g.now, g.now.Add(5*time.Second))]++
		}
		return said
	}
	if n := count(0, 100); n[Pass] != 10 || n[Wait] != 90 {
		t.Fatalf("of 100 at once: %v", n)
	}
	for i := range 10 {
		g.table.Done("joe", g.rules, g.now)
		g.table.Refused("joe", uint64(i)+1, "joe", g.rules, g.now)
	}
	if n := count(0, 100); n[Blocked] != 100 {
		t.Fatalf("then: %v", n)
	}
	g.advance(2 * time.Second)
	if n := count(0, 100); n[Pass] != 1 || n[Wait] != 99 {
		t.Fatalf("after the pause: %v", n)
	}
	// A question without an end is given up after MaxPending.
	g.advance(5 * time.Second)
	if n := count(0, 2); n[Pass] != 1 || n[Wait] != 1 {
		t.Fatalf("after a question that was lost: %v", n)
	}
	g.table = NewTable[string]()
	if n := count(20, 100); n[Pass] != 30 {
		t.Fatalf("with 20 ahead: %v", n)
	}
}

// TestOff: without a limit nothing is remembered.
func TestOff(t *testing.T) {
	g := newGuesser(t)
	g.rules = &Rules{}
	for range 100 {
		if d := g.guess("joe"); d != PassUncounted {
			t.Fatal(d)
		}
	}
	if w, l := g.table.Len(); w+l != 0 {
		t.Errorf("%d and %d are kept", w, l)
	}
}

// TestClockJumps: whatever a clock does, no pause becomes longer than the longest one.
func TestClockJumps(t *testing.T) {
	for _, jump := range []time.Duration{-24 * time.Hour, -time.Hour, -10 * time.Minute, -time.Minute, time.Minute, 24 * time.Hour} {
		g := newGuesser(t)
		for range 10 {
			g.guess("joe")
		}
		for range 10 {
			g.now = g.table.State("joe", g.now).Until
			g.guess("joe")
		}
		for i := range 10 { // questions that are lost
			g.table.Admit("jane", uint64(i), g.rules, g.now, g.now.Add(24*time.Hour))
		}
		g.advance(jump)
		for user, most := range map[string]time.Duration{"joe": g.rules.Longest, "jane": MaxPending} {
			began := g.now
			for g.guess(user) != Pass {
				if g.advance(time.Second); g.now > began.Add(most) {
					t.Errorf("a jump by %v locks %s out for over %v", jump, user, most)
					break
				}
			}
		}
	}
}

// TestRandom drives tables with random questions and clocks: there are never more refusals of
// new secrets than the rules allow, and no question waits for ever.
func TestRandom(t *testing.T) {
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 1))
		r := &Rules{Refusals: 1 + rng.IntN(12), Window: time.Duration(1+rng.IntN(20)) * time.Minute,
			First: time.Second << rng.IntN(4), Longest: time.Minute << rng.IntN(5)}
		table, now := NewTable[int](), base
		var counted []unixtime.Time
		secrets := map[uint64]bool{}
		for range 2000 {
			now = now.Add(time.Duration(rng.IntN(int(3 * time.Second))))
			if rng.IntN(200) == 0 {
				now = now.Add(time.Duration(rng.Int64N(int64(time.Hour))))
			}
			secret := rng.Uint64N(1 << 20)
			d := table.Admit(1, secret, r, now, now.Add(time.Second))
			if d != Pass {
				continue
			}
			table.Done(1, r, now)
			table.Refused(1, secret, "x", r, now)
			if !secrets[secret] {
				counted = append(counted, now)
			}
			secrets[secret] = true
		}
		// Within any window: the free ones, and those between pauses that at least double.
		for i, from := range counted {
			n, most := 0, r.Refusals+1
			for left, p := r.Window, r.First; left > 0; left, p = left-p, min(2*p, r.Longest) {
				most++
			}
			for _, at := range counted[i:] {
				if time.Duration(at-from)*time.Millisecond < r.Window {
					n++
				}
			}
			if n > most {
				t.Fatalf("seed %d: %d refusals within %v under %+v, at most %d are right", seed, n, r.Window, *r, most)
			}
		}
		now = now.Add(r.Longest)
		if d := table.Admit(1, 1<<30, r, now, now); d != Pass {
			t.Fatalf("seed %d: after the longest pause: %v", seed, d)
		}
	}
}

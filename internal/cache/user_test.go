package cache

import (
	"slices"
	"testing"
	"time"

	"postern/internal/auth"
	"postern/internal/unixtime"
)

var (
	keyA = Key{0xa}
	keyB = Key{0xb}
	base = unixtime.At(time.Unix(1_800_000_000, 0))
)

func defaults() *Rules {
	return &Rules{
		Hashed: true, Query: time.Hour, Verify: 24 * time.Hour, Outage: 168 * time.Hour,
		Refused: 5 * time.Minute, Exists: time.Hour, Absent: time.Minute, Secrets: 4, Refusals: 16,
	}
}

func after(d time.Duration) unixtime.Time { return base + unixtime.Time(d/time.Millisecond) }

const justUnder = -time.Millisecond

// TestLogin is a table of the package's rules: what is remembered, what the backend says, what time
// it is, and what must be answered.
func TestLogin(t *testing.T) {
	known := func(stale bool) User { // secret A, known to this process
		return User{Verifiers: []Verifier{{Hash: hashA, Key: keyA, First: base, Verified: base, Used: base, Stale: stale}}}
	}
	graced := func() User { // secret A, allowed two hours later in an outage
		u := known(false)
		u.Verifiers[0].graced = after(2 * time.Hour)
		return u
	}
	loaded := func(used, verified unixtime.Time) User { // secret A, from disk
		return User{Verifiers: []Verifier{{Hash: hashA, First: base, Verified: verified, Used: used}}}
	}
	allow := func(s auth.Source) auth.Answer { return auth.Answer{Verdict: auth.Allow, Source: s} }
	deny := func(s auth.Source) auth.Answer { return auth.Answer{Verdict: auth.Deny, Source: s} }
	unavailable := auth.Answer{Verdict: auth.Unavailable, Source: auth.SourceBackend}
	const notAsked = Outcome(200)
	cases := []struct {
		name    string
		user    User
		rules   func(*Rules)
		key     Key
		matches string // the hash that the secret has
		at      time.Duration
		backend Outcome
		want    auth.Answer
	}{
		{"fresh and known", known(false), nil, keyA, hashA, time.Minute, notAsked, allow(auth.SourceHot)},
		{"fresh from disk", loaded(base, base), nil, keyA, hashA, time.Minute, notAsked, allow(auth.SourceCache)},
		{"fresh, but another secret, refused", loaded(base, base), nil, keyB, "", time.Minute, Refused, deny(auth.SourceBackend)},
		{"fresh, but another secret, accepted", loaded(base, base), nil, keyB, "", time.Minute, Accepted, allow(auth.SourceBackend)},
		{"just within query", known(false), nil, keyA, hashA, time.Hour + justUnder, notAsked, allow(auth.SourceHot)},
		{"query is over", known(false), nil, keyA, hashA, time.Hour, Accepted, allow(auth.SourceBackend)},
		{"query is over, refused", known(false), nil, keyA, hashA, time.Hour, Refused, deny(auth.SourceBackend)},
		{"used just now, verification just within", loaded(after(24*time.Hour-time.Minute), base), nil, keyA, hashA, 24*time.Hour + justUnder, notAsked, allow(auth.SourceCache)},
		{"used just now, verification is over", loaded(after(24*time.Hour-time.Minute), base), nil, keyA, hashA, 24 * time.Hour, Refused, deny(auth.SourceBackend)},
		{"stale asks", known(true), nil, keyA, hashA, time.Minute, Accepted, allow(auth.SourceBackend)},
		{"stale, refused", known(true), nil, keyA, hashA, time.Minute, Refused, deny(auth.SourceBackend)},
		{"grace, known", known(false), nil, keyA, hashA, 2 * time.Hour, CannotAnswer, allow(auth.SourceGrace)},
		{"grace, from disk", loaded(base, base), nil, keyA, hashA, 2 * time.Hour, CannotAnswer, allow(auth.SourceGrace)},
		{"grace, stale", known(true), nil, keyA, hashA, time.Minute, CannotAnswer, allow(auth.SourceGrace)},
		{"grace just within", known(false), nil, keyA, hashA, 168*time.Hour + justUnder, CannotAnswer, allow(auth.SourceGrace)},
		{"grace is over", known(false), nil, keyA, hashA, 168 * time.Hour, CannotAnswer, unavailable},
		{"grace is over, from disk", loaded(base, base), nil, keyA, hashA, 168 * time.Hour, CannotAnswer, unavailable},
		{"graced just within query", graced(), nil, keyA, hashA, 3*time.Hour + justUnder, notAsked, allow(auth.SourceGrace)},
		{"graced longer ago than query", graced(), nil, keyA, hashA, 3 * time.Hour, Refused, deny(auth.SourceBackend)},
		{"no grace for another secret", loaded(base, base), nil, keyB, "", 2 * time.Hour, CannotAnswer, unavailable},
		{"no grace when misconfigured", known(false), nil, keyA, hashA, 2 * time.Hour, Misconfigured, unavailable},
		{"busy serves the known", known(false), nil, keyA, hashA, 2 * time.Hour, Busy, allow(auth.SourceGrace)},
		{"busy computes nothing", loaded(base, base), nil, keyA, hashA, 2 * time.Hour, Busy, unavailable},
		{"unknown user in an outage", User{}, nil, keyA, "", 0, CannotAnswer, unavailable},
		{"unknown user, refused", User{}, nil, keyA, "", 0, Refused, deny(auth.SourceBackend)},
		{"no such operation", User{}, nil, keyA, "", 0, Unsupported, auth.Answer{Verdict: auth.Unsupported, Source: auth.SourceUnsupported}},
		{"cache off asks", known(false), func(r *Rules) { r.Off = true }, keyA, hashA, time.Minute, Refused, deny(auth.SourceBackend)},
		{"cache off has no grace", known(false), func(r *Rules) { r.Off = true }, keyA, hashA, time.Minute, CannotAnswer, unavailable},
		{"refused before", User{Refusals: []Refusal{{Key: keyA, At: base}}}, nil, keyA, "", 5*time.Minute + justUnder, notAsked, deny(auth.SourceRefusedBefore)},
		{"refused long ago", User{Refusals: []Refusal{{Key: keyA, At: base}}}, nil, keyA, "", 5 * time.Minute, Accepted, allow(auth.SourceBackend)},
		{"clock set back a little", known(false), nil, keyA, hashA, -time.Minute, notAsked, allow(auth.SourceHot)},
		{"clock set back a day", known(false), nil, keyA, hashA, -24 * time.Hour, Refused, deny(auth.SourceBackend)},
		{"clock set back a day, in an outage", known(false), nil, keyA, hashA, -24 * time.Hour, CannotAnswer, unavailable},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			rules := defaults()
			if c.rules != nil {
				c.rules(rules)
			}
			got, asked := login(t, &c.user, c.key, c.matches, c.backend, rules, after(c.at))
			if got.Verdict != c.want.Verdict || got.Source != c.want.Source {
				t.Errorf("answered %v (%v), want %v (%v)", got.Verdict, got.Source, c.want.Verdict, c.want.Source)
			}
			if want := c.backend != notAsked; asked != want {
				t.Errorf("backend asked: %v, want %v", asked, want)
			}
		})
	}
}

// work answers the steps of a login.
type work struct {
	rules   *Rules
	matches string // the hash of the secret
	ran     bool   // comparisons are made
	backend func(known bool) Outcome
	source  auth.Source // of an answer that is not the backend's
	made    string      // the hash that is made

	compared *int // comparisons; may be nil
	instead  bool // it asks in place of a comparison
}

// run drives a login to its end, doing its work at once.
func (w *work) run(t *testing.T, f *Login, u *User, now unixtime.Time) (a auth.Answer, asked int) {
	t.Helper()
	step := f.Start(u, w.rules, now)
	if w.instead && f.MayAsk() {
		step = f.AskInstead(u)
	}
	for answers := 0; ; {
		if step.Answered {
			a = step.Answer
			answers++
		}
		switch step.Do {
		case Nothing:
			if answers != 1 {
				t.Fatalf("%d answers", answers)
			}
			return a, asked
		case Ask:
			asked++
			step = f.BackendAnswered(u, w.backend(step.Known), w.source, w.rules, now)
		case Compare:
			if w.compared != nil {
				*w.compared++
			}
			match := ""
			if w.ran && slices.Contains(step.Hashes, w.matches) {
				match = w.matches
			}
			step = f.Compared(u, match, step.Hashes, w.ran, w.rules, now)
		case Hash:
			step = f.Hashed(u, w.made)
		}
	}
}

// login runs a login with a secret that has that key and matches that hash.
func login(t *testing.T, u *User, key Key, matches string, backend Outcome, r *Rules, now unixtime.Time) (a auth.Answer, asked bool) {
	t.Helper()
	w := work{rules: r, matches: matches, ran: true, backend: func(bool) Outcome { return backend },
		source: auth.SourceBackend, made: "made-" + string('0'+rune(key[0]))}
	a, n := w.run(t, NewLogin(key, ""), u, now)
	return a, n > 0
}

func TestAcceptedWritesAndKeepsFirst(t *testing.T) {
	u := &User{Verifiers: []Verifier{{Hash: hashA, First: base, Verified: base, Used: base}}}
	login(t, u, keyA, hashA, Accepted, defaults(), after(48*time.Hour))
	want := Verifier{Name: Name{Exact: true}, Hash: hashA, Key: keyA, First: base, Verified: after(48 * time.Hour), Used: after(48 * time.Hour)}
	if len(u.Verifiers) != 1 || u.Verifiers[0] != want {
		t.Errorf("verifiers are %+v, want only %+v", u.Verifiers, want)
	}
	if !u.Exists.Known || !u.Exists.Yes {
		t.Error("an accepted login does not say that the user exists")
	}
}

func TestFreshUseProlongsQueryButNotVerify(t *testing.T) {
	u, rules := &User{}, defaults()
	login(t, u, keyA, "", Accepted, rules, base)
	var at time.Duration
	for at = 0; at < 24*time.Hour; at += 50 * time.Minute {
		if a, asked := login(t, u, keyA, "", Refused, rules, after(at)); asked {
			t.Fatalf("asked after %v, answer %v", at, a)
		}
	}
	if _, asked := login(t, u, keyA, "", Refused, rules, after(24*time.Hour)); !asked {
		t.Error("not asked when the verification was over")
	}
}

// Two app passwords in turn settle after three requests.
func TestTwoSecretsSettle(t *testing.T) {
	u, rules := &User{}, defaults()
	asked := 0
	for i := range 10 {
		key := []Key{keyA, keyB}[i%2]
		_, was := login(t, u, key, "", Accepted, rules, after(time.Duration(i)*time.Minute))
		if was {
			asked++
		}
	}
	if asked != 3 {
		t.Errorf("the backend was asked %d times, want 3", asked)
	}
}

// A replaced password stops working: the new one makes the old one ask the backend, and the refusal
// removes it.
func TestChangedPasswordDies(t *testing.T) {
	u, rules := &User{}, defaults()
	login(t, u, keyA, "", Accepted, rules, base)
	login(t, u, keyB, "", Accepted, rules, after(time.Minute))
	if a, asked := login(t, u, keyA, "", Refused, rules, after(2*time.Minute)); !asked || a.Verdict != auth.Deny {
		t.Fatalf("old password: asked %v, answered %v", asked, a.Verdict)
	}
	if a, _ := login(t, u, keyA, "", CannotAnswer, rules, after(time.Hour)); a.Verdict != auth.Unavailable {
		t.Errorf("old password in a later outage: %v", a.Verdict)
	}
	if a, asked := login(t, u, keyB, "", Refused, rules, after(3*time.Minute)); asked || a.Verdict != auth.Allow {
		t.Errorf("new password: asked %v, answered %v", asked, a.Verdict)
	}
}

// One verifier per user is xcauth's rule: the last accepted secret only.
func TestOneSecret(t *testing.T) {
	u, rules := &User{}, defaults()
	rules.Secrets = 1
	login(t, u, keyA, "", Accepted, rules, base)
	login(t, u, keyB, "", Accepted, rules, after(time.Minute))
	if len(u.Verifiers) != 1 || u.Verifiers[0].Key != keyB {
		t.Errorf("verifiers: %+v", u.Verifiers)
	}
}

func TestMakesRoomByForgettingTheLongestUnused(t *testing.T) {
	u, rules := &User{}, defaults()
	for i := range 4 {
		login(t, u, Key{byte(i + 1)}, "", Accepted, rules, after(time.Duration(i)*time.Minute))
	}
	login(t, u, Key{1}, "", Accepted, rules, after(10*time.Minute)) // used again
	login(t, u, Key{9}, "", Accepted, rules, after(11*time.Minute))
	if u.keyed(Key{2}, "") != nil || u.keyed(Key{1}, "") == nil || len(u.Verifiers) != 4 {
		t.Errorf("verifiers: %+v", u.Verifiers)
	}
}

// A refusal removes the verifier also when the secret was not known to this process.
func TestRefusalRemovesStoredVerifier(t *testing.T) {
	for _, ran := range []bool{true, false} {
		u, rules := &User{Verifiers: []Verifier{
			{Hash: hashA, First: base, Verified: base, Used: base, Stale: true},
			{Hash: hashB, First: base, Verified: base, Used: base, Key: keyB},
		}}, defaults()
		f := NewLogin(keyA, "")
		f.Start(u, rules, after(time.Minute))
		step := f.BackendAnswered(u, Refused, auth.SourceBackend, rules, after(time.Minute))
		if step.Do != Compare || len(step.Hashes) != 1 || !step.Answered {
			t.Fatalf("step after a refusal: %+v", step)
		}
		// Meanwhile the secret is not served, even in an outage and with no memory of refusals.
		rules.Refused = 0
		if a, _ := login(t, u, keyA, hashA, CannotAnswer, rules, after(2*time.Minute)); a.Verdict != auth.Unavailable {
			t.Errorf("ran=%v: answered %v while the refused verifier was looked for", ran, a.Verdict)
		}
		match := hashA
		if !ran {
			match = ""
		}
		if step = f.Compared(u, match, step.Hashes, ran, rules, after(3*time.Minute)); !step.Save {
			t.Errorf("ran=%v: the removal is not saved", ran)
		}
		if len(u.Verifiers) != 1 || u.Verifiers[0].Hash != hashB {
			t.Errorf("ran=%v: verifiers: %+v", ran, u.Verifiers)
		}
	}
}

// TestRevoked: the refusal of a secret that was accepted before is a change, and nothing else is.
func TestRevoked(t *testing.T) {
	r := defaults()
	var u User
	want := func(what string, want bool) {
		t.Helper()
		if got := u.Revoked(); got != want {
			t.Errorf("%s: %t", what, got)
		}
		if u.Revoked() {
			t.Errorf("%s: said twice", what)
		}
	}
	login(t, &u, keyA, "", Refused, r, after(0))
	want("an unknown secret refused", false)
	login(t, &u, keyB, "", Accepted, r, after(time.Minute))
	want("accepted", false)
	login(t, &u, keyA, "", Accepted, r, after(10*time.Minute))
	want("a new secret beside it", false)
	login(t, &u, keyB, "", CannotAnswer, r, after(11*time.Minute))
	want("an outage", false)
	login(t, &u, keyB, "", Refused, r, after(12*time.Minute))
	want("the old secret refused", true)
	login(t, &u, keyB, "", Refused, r, after(3*time.Hour))
	want("refused again", false)

	// Known by its hash alone, as after a restart.
	u = User{Verifiers: []Verifier{{Hash: hashA, First: base, Verified: base, Used: base}}}
	login(t, &u, keyB, "", Refused, r, after(3*time.Hour))
	want("another secret than that of the hash", false)
	login(t, &u, keyA, hashA, Refused, r, after(4*time.Hour))
	want("the secret of the hash", true)
}

func TestRefusalsAreBounded(t *testing.T) {
	u, rules := &User{}, defaults()
	for i := range 100 {
		login(t, u, Key{1, byte(i)}, "", Refused, rules, base)
	}
	if len(u.Refusals) != rules.Refusals {
		t.Errorf("%d refusals are remembered, want %d", len(u.Refusals), rules.Refusals)
	}
}

func TestIsUser(t *testing.T) {
	yes := User{Exists: Existence{Known: true, Yes: true, At: base}}
	no := User{Exists: Existence{Known: true, At: base}}
	loggedIn := User{Verifiers: []Verifier{{Hash: hashA, Verified: base, Used: base}}}
	cases := []struct {
		name        string
		user        User
		at          time.Duration
		want, grace auth.Verdict // Unavailable: not from memory
	}{
		{"yes", yes, time.Hour + justUnder, auth.Allow, auth.Allow},
		{"yes, over", yes, time.Hour, auth.Unavailable, auth.Allow},
		{"yes, outage over", yes, 168 * time.Hour, auth.Unavailable, auth.Unavailable},
		{"no", no, time.Minute + justUnder, auth.Deny, auth.Unavailable},
		{"no, over", no, time.Minute, auth.Unavailable, auth.Unavailable},
		{"never asked", User{}, 0, auth.Unavailable, auth.Unavailable},
		{"logged in lately", loggedIn, time.Hour, auth.Unavailable, auth.Allow},
		{"logged in long ago", loggedIn, 168 * time.Hour, auth.Unavailable, auth.Unavailable},
	}
	for _, c := range cases {
		a, ok := c.user.IsUser("", defaults(), after(c.at))
		if ok != (c.want != auth.Unavailable) || a.Verdict != c.want {
			t.Errorf("%s: %v, %v", c.name, a.Verdict, ok)
		}
		g, ok := c.user.IsUserGrace("", defaults(), after(c.at))
		if ok != (c.grace == auth.Allow) || ok && g.Verdict != c.grace {
			t.Errorf("%s, in an outage: %v, %v", c.name, g.Verdict, ok)
		}
	}
	off := defaults()
	off.Off = true
	if _, ok := yes.IsUser("", off, base); ok {
		t.Error("a cache that is off answers isuser")
	}
}

func TestKeysDiffer(t *testing.T) {
	k := NewKeyer()
	id := func(u, d string) auth.Identity { return auth.Identity{User: u, Domain: d} }
	seen := map[Key]string{}
	for name, key := range map[string]Key{
		"base":             k.Key(auth.OpAuth, id("joe", "dom"), auth.NewSecret("pw")),
		"other secret":     k.Key(auth.OpAuth, id("joe", "dom"), auth.NewSecret("pw2")),
		"other operation":  k.Key(auth.OpIsUser, id("joe", "dom"), auth.NewSecret("pw")),
		"shifted user":     k.Key(auth.OpAuth, id("joep", "dom"), auth.NewSecret("w")),
		"shifted domain":   k.Key(auth.OpAuth, id("mjoe", "do"), auth.NewSecret("pw")),
		"other process":    NewKeyer().Key(auth.OpAuth, id("joe", "dom"), auth.NewSecret("pw")),
		"no secret at all": k.Key(auth.OpAuth, id("joe", "dom"), auth.Secret{}),
	} {
		if other, ok := seen[key]; ok {
			t.Errorf("%s has the key of %s", name, other)
		}
		seen[key] = name
	}
	again := k.Key(auth.OpAuth, id("joe", "dom"), auth.NewSecret("pw"))
	if seen[again] != "base" {
		t.Error("one question has two keys")
	}
}

func BenchmarkHot(b *testing.B) {
	u := &User{Verifiers: []Verifier{{Hash: hashA, Key: keyA, First: base, Verified: base, Used: base}}}
	rules := defaults()
	b.ReportAllocs()
	for b.Loop() {
		if _, ok := u.Hot(keyA, "", "", rules, base); !ok {
			b.Fatal("missed")
		}
	}
}

func BenchmarkKey(b *testing.B) {
	k, id, pw := NewKeyer(), auth.Identity{User: "joe", Domain: "dom.example"}, auth.NewSecret("correct horse")
	b.ReportAllocs()
	for b.Loop() {
		k.Key(auth.OpAuth, id, pw)
	}
}

// MissReason distinguishes a password that must be asked about again from one that
// was never seen, and from none.
func TestMissed(t *testing.T) {
	seen, other := Key{1}, Key{2}
	u := &User{Verifiers: []Verifier{{Key: seen, Stale: true}, {Hash: "on disk only"}}}
	for key, want := range map[Key]string{seen: "stale: in memory, but to be verified again", other: "not in memory", {}: "not in memory"} {
		if got := u.MissReason(key, ""); got != want {
			t.Errorf("%v: %s, want %s", key[:1], got, want)
		}
	}
}

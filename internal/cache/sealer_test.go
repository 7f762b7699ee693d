package cache

import (
	"strings"
	"testing"
	"time"

	"postern/internal/auth"
)

// secretA and secretB are the secrets with the keys keyA and keyB.
var secretA, secretB = auth.NewSecret("right"), auth.NewSecret("wrong")

// sealedRules are the rules of a domain with a key for the verifiers at rest.
func sealedRules(s *Sealer) *Rules {
	r := defaults()
	r.Sealer, r.Authorities = s, []auth.Authority{{ID: authority(1), Folds: true}}
	return r
}

// enter runs a login with its secret, at a backend that says by. Hashes that it asks to be compared match
// as matches says; compared counts them.
func enter(t *testing.T, u *User, key Key, secret auth.Secret, matches string, backend Outcome, r *Rules, at time.Duration) (a auth.Answer, asked, compared int) {
	t.Helper()
	f := NewLogin(key, "joe")
	f.Secret("dom.example", secret)
	f.Answers(Name{Account: "joe"}, authority(1))
	w := work{rules: r, matches: matches, ran: true, backend: func(bool) Outcome { return backend }, source: auth.SourceBackend, made: hashB,
		compared: &compared}
	a, asked = w.run(t, f, u, after(at))
	return a, asked, compared
}

// restarted is the user as the next process reads it.
func restarted(t *testing.T, u *User, r *Rules) *User {
	t.Helper()
	u = reloaded(t, u)
	u.Settle(r)
	return u
}

// TestSealed: a sealed verifier answers after a restart without a comparison on the pool, for its own
// account, domain and authority only.
func TestSealed(t *testing.T) {
	r := sealedRules(sealers[1])
	u := new(User)
	if a, _, _ := enter(t, u, keyA, secretA, "", Accepted, r, 0); a.Verdict != auth.Allow || len(u.Verifiers) != 1 || !sealed(u.Verifiers[0].Hash) {
		t.Fatalf("answered %v, remembered %+v", a.Verdict, u.Verifiers)
	}
	again := restarted(t, u, r)
	if a, asked, compared := enter(t, again, keyA, secretA, "", Refused, r, time.Minute); a.Verdict != auth.Allow || a.Source != auth.SourceCache || asked+compared != 0 {
		t.Errorf("after a restart: %v (%v), asked %d, compared %d", a.Verdict, a.Source, asked, compared)
	}
	if a, asked, _ := enter(t, again, keyA, secretA, "", Refused, r, time.Minute); a.Source != auth.SourceHot || asked != 0 {
		t.Errorf("the next time: %v (%v)", a.Verdict, a.Source)
	}
	again = restarted(t, u, r)
	if a, asked, compared := enter(t, again, keyB, secretB, "", Refused, r, time.Minute); a.Verdict != auth.Deny || asked != 1 || compared != 0 || len(again.Verifiers) != 1 {
		t.Errorf("another secret: %v, asked %d, compared %d, remembered %+v", a.Verdict, asked, compared, again.Verifiers)
	}
	s, text := sealers[1], u.Verifiers[0].Hash
	for name, other := range map[string]string{
		"another domain":    s.seal("dom.exampl", authority(1), "ejoe", secretA),
		"another authority": s.seal("dom.example", authority(2), "joe", secretA),
		"another account":   s.seal("dom.example", authority(1), "joer", auth.NewSecret("ight")),
		"another key":       sealers[2].seal("dom.example", authority(1), "joe", secretA),
	} {
		if other == text {
			t.Errorf("%s has the same verifier", name)
		}
	}
	if strings.Contains(text, "right") || strings.Contains(text, "joe") {
		t.Errorf("the verifier shows what it is of: %s", text)
	}
}

// TestSealedInOutage: a sealed verifier has grace, and a refusal takes it away for good.
func TestSealedInOutage(t *testing.T) {
	r := sealedRules(sealers[1])
	u := new(User)
	enter(t, u, keyA, secretA, "", Accepted, r, 0)
	if a, _, compared := enter(t, restarted(t, u, r), keyA, secretA, "", CannotAnswer, r, 2*time.Hour); a.Source != auth.SourceGrace || compared != 0 {
		t.Errorf("in an outage: %v (%v), compared %d", a.Verdict, a.Source, compared)
	}
	again := restarted(t, u, r)
	if a, _, compared := enter(t, again, keyA, secretA, "", Refused, r, 2*time.Hour); a.Verdict != auth.Deny || compared != 0 || len(again.Verifiers) != 0 {
		t.Errorf("refused: %v, compared %d, remembered %+v", a.Verdict, compared, again.Verifiers)
	}
}

// TestSealReplacesHash: with a key, the next login that matches a hash seals its verifier, whether the cache or
// the backend lets it in.
func TestSealReplacesHash(t *testing.T) {
	for name, c := range map[string]struct {
		at      time.Duration
		backend Outcome
		source  auth.Source
	}{
		"by the hash":    {time.Minute, Refused, auth.SourceCache},
		"by the backend": {2 * time.Hour, Accepted, auth.SourceBackend},
		"in an outage":   {2 * time.Hour, CannotAnswer, auth.SourceGrace},
	} {
		r := sealedRules(sealers[1])
		u := &User{Verifiers: []Verifier{{Name: Name{Account: "joe"}, By: authority(1), Hash: hashA, First: base, Verified: base, Used: base}}}
		if a, _, compared := enter(t, u, keyA, secretA, hashA, c.backend, r, c.at); a.Source != c.source || compared != 1 {
			t.Errorf("%s: %v (%v), compared %d", name, a.Verdict, a.Source, compared)
		}
		if v := restarted(t, u, r).Verifiers; len(v) != 1 || !r.Sealer.made(v[0].Hash) || v[0].First != base {
			t.Errorf("%s: on disk is %+v", name, v)
		}
	}
}

// TestLostSeal: verifiers under a lost key are as good as none, and do not come back with the key once the
// backend has said something of a secret. Without a key new ones are hashes again.
func TestLostSeal(t *testing.T) {
	for name, now := range map[string]*Sealer{"no key": nil, "another key": sealers[2]} {
		before := sealedRules(sealers[1])
		r := sealedRules(now)
		u := new(User)
		enter(t, u, keyA, secretA, "", Accepted, before, 0)
		if a, asked, compared := enter(t, restarted(t, u, r), keyA, secretA, "", CannotAnswer, r, time.Minute); a.Verdict != auth.Unavailable || asked != 1 || compared != 0 {
			t.Errorf("%s: in an outage %v, asked %d, compared %d", name, a.Verdict, asked, compared)
		}
		again := restarted(t, u, r)
		if _, yes := again.IsUserGrace("joe", r, after(time.Minute)); !yes {
			t.Errorf("%s: the user is not known to have existed", name)
		}
		if a, asked, _ := enter(t, again, keyA, secretA, "", Accepted, r, time.Minute); a.Verdict != auth.Allow || asked != 1 {
			t.Errorf("%s: %v, asked %d", name, a.Verdict, asked)
		}
		if v := restarted(t, again, r).Verifiers; len(v) != 1 || now == nil && v[0].Hash != hashB || now != nil && !now.made(v[0].Hash) {
			t.Errorf("%s: on disk is %+v", name, v)
		}
		again = restarted(t, u, r)
		if a, _, _ := enter(t, again, keyA, secretA, "", Refused, r, time.Minute); a.Verdict != auth.Deny {
			t.Errorf("%s: %v", name, a.Verdict)
		}
		if record := again.Encode(); record != nil {
			u, _ := Decode(record)
			if a, asked, _ := enter(t, u, keyA, secretA, "", Refused, before, time.Minute); a.Verdict == auth.Allow || asked != 1 {
				t.Errorf("%s: the refused password came back with the key: %v", name, a.Verdict)
			}
		}
	}
}

// TestSealedRecord: what is no seal is not read as one.
func TestSealedRecord(t *testing.T) {
	good := sealers[1].seal("d", authority(1), "joe", secretA)
	for text, want := range map[string]bool{
		good: true, good[:len(good)-1]: false, good + "A": false, "": false, sealMark: false,
		strings.Replace(good, ":", ";", 1): false, strings.ToUpper(good): false, good[:len(sealMark)] + "zz" + good[len(sealMark)+2:]: false,
	} {
		u := User{Verifiers: []Verifier{{Hash: text, First: base, Verified: base, Used: base}}}
		record := u.Encode()
		if _, err := Decode(record); text != "" && (err == nil) != want {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func FuzzCheckSealed(f *testing.F) {
	f.Add(sealers[1].seal("d", authority(1), "joe", secretA))
	f.Add(hashA)
	f.Add(sealMark + "::")
	f.Fuzz(func(t *testing.T, text string) {
		if checkSealed(text) && !sealed(text) {
			t.Errorf("%q is a seal without its mark", text)
		}
	})
}

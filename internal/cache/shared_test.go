package cache

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"postern/internal/auth"
	"postern/internal/store"
	"postern/internal/unixtime"
)

const sharedNow = unixtime.Time(1_000_000_000)

var sharedRules = &Rules{Hashed: true, Query: time.Hour, Verify: time.Hour, Outage: time.Hour, Refused: time.Hour, Exists: time.Hour, Secrets: 4, Refusals: 4}

// hashNo is a hash that Decode takes.
func hashNo(n int) string {
	return "$2a$04$" + strings.Repeat(string(rune('a'+n)), 21) + "u" + strings.Repeat("O", 31)
}

func ofHash(n int) Verifier {
	return Verifier{Name: Name{Account: "joe"}, By: authority(1), Hash: hashNo(n), First: sharedNow, Verified: sharedNow, Used: sharedNow}
}

// describe names the verifiers of a user by their letters, with flags.
func describe(u *User) string {
	var all []string
	for _, v := range u.Verifiers {
		text := "-"
		if v.Hash != "" {
			text = v.Hash[7:8]
		}
		if v.Key != (Key{}) {
			text += fmt.Sprint(v.Key[0])
		}
		if v.Stale {
			text += "!"
		}
		if v.Suspect {
			text += "?"
		}
		all = append(all, text)
	}
	return strings.Join(all, " ")
}

func TestRenew(t *testing.T) {
	keyed := func(v Verifier, key byte) Verifier { v.Key = Key{key}; return v }
	bearer := Verifier{Name: Name{Account: "joe"}, Key: Key{9}, Verified: sharedNow, Used: sharedNow, Until: sharedNow + 1000}
	pending := Verifier{Name: Name{Account: "joe"}, Key: Key{8}, Verified: sharedNow, Used: sharedNow}
	one, two := store.Version{1}, store.Version{2}
	for name, c := range map[string]struct {
		memory []Verifier
		read   *User
		former bool
		want   string
	}{
		"own version":      {[]Verifier{keyed(ofHash(0), 1), pending, bearer}, &User{Version: one, Verifiers: []Verifier{ofHash(0)}}, false, "a1 -8 -9"},
		"another":          {[]Verifier{keyed(ofHash(0), 1), keyed(ofHash(1), 2), pending, bearer}, &User{Version: two, Verifiers: []Verifier{ofHash(1), ofHash(2)}}, false, "b2 c -9!"},
		"removed":          {[]Verifier{keyed(ofHash(0), 1), pending, bearer}, nil, false, ""},
		"of another epoch": {[]Verifier{keyed(ofHash(0), 1)}, &User{Version: one, Verifiers: []Verifier{ofHash(0)}}, true, "a1!?"},
		"suspect there":    {[]Verifier{keyed(ofHash(0), 1)}, &User{Version: two, Verifiers: func() []Verifier { v := ofHash(0); v.suspect(); return []Verifier{v} }()}, false, "a1!?"},
	} {
		u := &User{Version: one, Verifiers: slices.Clone(c.memory)}
		u.Renew(c.read, c.former)
		if got := describe(u); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
		if c.read != nil && u.Version != c.read.Version {
			t.Errorf("%s: version %x", name, u.Version)
		}
	}
}

// TestLateAcceptance: what was asked for before another process has changed the record, or refused something, is not
// remembered.
func TestLateAcceptance(t *testing.T) {
	for name, c := range map[string]struct {
		meanwhile func(*User)
		want      string
	}{
		"nothing":  {func(*User) {}, "-1"},
		"own":      {func(u *User) { u.Renew(&User{Version: u.Version}, false) }, "-1"},
		"renewed":  {func(u *User) { u.Renew(&User{Version: store.Version{7}}, false) }, ""},
		"doubt":    {func(u *User) { u.Doubt() }, ""},
		"distrust": {func(u *User) { u.Distrust() }, ""},
	} {
		u := &User{Version: store.Version{1}}
		l := NewLogin(Key{1}, "joe")
		if step := l.Start(u, sharedRules, sharedNow); step.Do != Ask {
			t.Fatalf("%s: %+v", name, step)
		}
		c.meanwhile(u)
		step := l.BackendAnswered(u, Accepted, auth.SourceBackend, sharedRules, sharedNow)
		if !step.Answered || step.Answer.Verdict != auth.Allow {
			t.Errorf("%s: the backend's yes is answered by %+v", name, step.Answer)
		}
		if got := describe(u); got != c.want {
			t.Errorf("%s: remembered %q, want %q", name, got, c.want)
		}
	}
}

// TestDoubt: a secret without a hash may be what was refused elsewhere; one with a hash would be missing from the record.
func TestDoubt(t *testing.T) {
	u := &User{Verifiers: []Verifier{ofHash(0), {Key: Key{8}, Verified: sharedNow}}}
	if u.Doubt(); describe(u) != "a" {
		t.Errorf("left: %q", describe(u))
	}
}

// TestIsolated: nothing is answered without a question, and grace is a matter of Strict.
func TestIsolated(t *testing.T) {
	for _, strict := range []bool{false, true} {
		rules := *sharedRules
		rules.Isolated, rules.Strict = true, strict
		v := ofHash(0)
		v.Key = Key{1}
		u := &User{Verifiers: []Verifier{v}}
		l := NewLogin(Key{1}, "joe")
		if step := l.Start(u, &rules, sharedNow); step.Do != Ask {
			t.Fatalf("strict %t: %+v", strict, step)
		}
		want := auth.Allow
		if strict {
			want = auth.Unavailable
		}
		if step := l.BackendAnswered(u, CannotAnswer, auth.SourceBackend, &rules, sharedNow); step.Answer.Verdict != want {
			t.Errorf("strict %t: in an outage %+v", strict, step.Answer)
		}
	}
}

func TestMerge(t *testing.T) {
	record := func(verifiers ...Verifier) []byte { return (&User{Verifiers: verifiers}).Encode() }
	later, suspect := ofHash(0), ofHash(0)
	later.Verified, later.Used = sharedNow+5, sharedNow+7
	suspect.suspect()
	newer := record(ofHash(0))
	newer[0] = recordVersion + 1
	for name, c := range map[string]struct {
		mine, theirs []byte
		want         string
		ok           bool
	}{
		"the same":          {record(ofHash(0), ofHash(1)), record(ofHash(0), ofHash(1)), "a b", true},
		"removed by mine":   {record(ofHash(1)), record(ofHash(0), ofHash(1)), "b", true},
		"removed by them":   {record(ofHash(0), ofHash(1)), record(ofHash(0)), "a", true},
		"suspect to mine":   {record(suspect), record(later), "a!?", true},
		"suspect to them":   {record(later), record(suspect), "a!?", true},
		"deleted by mine":   {nil, record(ofHash(0)), "", true},
		"deleted by them":   {record(ofHash(0)), nil, "", true},
		"of a newer kind":   {record(ofHash(0)), newer, "", false},
		"deletes a newer":   {nil, newer, "", false},
		"nothing in common": {record(ofHash(2)), record(ofHash(0)), "", true},
	} {
		merged, ok := Merge(c.mine, c.theirs)
		if ok != c.ok {
			t.Errorf("%s: %t", name, ok)
		}
		u := new(User)
		if merged != nil {
			var err error
			if u, err = Decode(merged); err != nil {
				t.Fatal(err)
			}
		}
		if got := describe(u); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
	merged, _ := Merge(record(ofHash(0)), record(later))
	if u, err := Decode(merged); err != nil || u.Verifiers[0].Verified != later.Verified || u.Verifiers[0].Used != later.Used {
		t.Errorf("%+v, %v", u, err)
	}
}

// TestIsolatedGrace: a process that does not hear of refusals bridges an outage of the backend, and asks again as soon as that
// is over: an answer by grace does not stand for later ones.
func TestIsolatedGrace(t *testing.T) {
	isolated := *sharedRules
	isolated.Isolated = true
	for name, c := range map[string]struct {
		rules *Rules
		want  bool
	}{"connected": {sharedRules, true}, "isolated": {&isolated, false}} {
		v := ofHash(0)
		v.Key, v.Verified = Key{1}, sharedNow-unixtime.Time(time.Minute/time.Millisecond)
		rules := *c.rules
		rules.Verify = time.Second
		v.graced = sharedNow
		u := &User{Verifiers: []Verifier{v}}
		if _, ok := u.Hot(Key{1}, "joe", "", &rules, sharedNow+1); ok != c.want {
			t.Errorf("%s: answered without a question: %t", name, ok)
		}
		if !v.grace(&rules, sharedNow+1) {
			t.Errorf("%s: no grace in an outage", name)
		}
	}
}

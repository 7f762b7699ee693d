package cache

import (
	"testing"

	"postern/internal/auth"
	"postern/internal/unixtime"
)

// TestOrderOfAuthorities: what a backend says of one spelling holds for the others only if it, and each
// one that is asked before it, ignores letter case; also after a reload that reorders them.
func TestOrderOfAuthorities(t *testing.T) {
	exact := auth.Authority{ID: auth.NewAuthorityID("exact")}
	folds := auth.Authority{ID: auth.NewAuthorityID("folds"), Folds: true}
	for name, c := range map[string]struct {
		order []auth.Authority
		wide  bool
	}{
		"alone":         {[]auth.Authority{folds}, true},
		"first":         {[]auth.Authority{folds, exact}, true},
		"after another": {[]auth.Authority{exact, folds}, false},
	} {
		v := Name{Account: "vera"}
		u := &User{
			Verifiers: []Verifier{{Name: v, By: folds.ID, Hash: "x"}},
			Exists:    Existence{Name: v, By: folds.ID, Known: true, Yes: true},
			Alias:     Alias{Account: "alice", By: folds.ID},
		}
		if n := u.Settle(&Rules{Authorities: c.order}); n != 0 {
			t.Errorf("%s: %d passwords were forgotten", name, n)
		}
		if got := u.Verifiers[0].Covers("Vera"); got != c.wide {
			t.Errorf("%s: the password is valid for another spelling: %t", name, got)
		}
		if got := u.Exists.Covers("Vera"); got != c.wide {
			t.Errorf("%s: the account exists in another spelling: %t", name, got)
		}
		if got := u.Alias != (Alias{}); got != c.wide {
			t.Errorf("%s: the alias is kept: %t", name, got)
		}
	}
}

// TestAcceptedInAnotherSpelling: an answer that does not hold for the spelling asked is given, and
// remembered neither for that spelling nor for the account's.
func TestAcceptedInAnotherSpelling(t *testing.T) {
	u, r := new(User), &Rules{Secrets: 4, Refusals: 16}
	l := NewLogin(Key{1}, "Vera")
	if step := l.Start(u, r, unixtime.Time(1)); step.Do != Ask {
		t.Fatalf("the first step is %+v", step)
	}
	l.Answers(Name{Account: "vera", Exact: true}, auth.AuthorityID{1})
	step := l.BackendAnswered(u, Accepted, auth.SourceBackend, r, 1)
	if step.Answer.Verdict != auth.Allow || step.Answer.Account != "vera" || len(u.Verifiers) != 0 || u.Exists.Known {
		t.Errorf("answered %+v, remembered %+v", step.Answer, u)
	}
}

// TestStay: a login that has followed an alias follows no other.
func TestStay(t *testing.T) {
	u := &User{Alias: Alias{Account: "alice"}}
	r := &Rules{Secrets: 4}
	if step := NewLogin(Key{1}, "bob").Start(u, r, 1); step.Do != Follow || step.Alias != "alice" {
		t.Errorf("an alias: %+v", step)
	}
	l := NewLogin(Key{1}, "bob")
	l.Stay()
	if step := l.Start(u, r, 1); step.Do != Ask {
		t.Errorf("after another one: %+v", step)
	}
}

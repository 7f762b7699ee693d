package cache

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	"postern/internal/auth"
)

const savedHash = "$2b$04$Ov3rTheH1llsAndFarAway.uF1dd1erzGr33nAndTheDrumzOfW4r"

// TestSaved: a user comes back as it was, and with the order of its refusals.
func TestSaved(t *testing.T) {
	k := NewKeyer()
	key := func(secret string) Key {
		return k.Key(auth.OpAuth, auth.Identity{User: "joe", Domain: "dom"}, auth.NewSecret(secret))
	}
	if got := KeyerOf(k.Secret()).Key(auth.OpAuth, auth.Identity{User: "joe", Domain: "dom"}, auth.NewSecret("a")); got != key("a") {
		t.Error("the successor has other keys")
	}
	r := &Rules{Refusals: 2, Secrets: 4}
	u := &User{
		Verifiers: []Verifier{
			{Name: Name{"joe", false}, Hash: savedHash, Key: key("a"), First: 1, Verified: 2, Used: 3, graced: 4},
			{Name: Name{"Joe", true}, Key: key("b"), Stale: true, Suspect: true},
			{Name: Name{"joe", false}, Key: key("c"), Hash: NewSealer(auth.NewSecret(strings.Repeat("k", SealKeySize))).seal("dom", authority(1), "joe", auth.NewSecret("c"))},
		},
		Exists: Existence{Name: Name{"joe", false}, Known: true, At: 5},
	}
	for i, secret := range []string{"x", "y"} {
		u.refuse(key(secret), Name{Account: "joe"}, standing(i), r, 6)
	}
	saved := u.Save()
	got, err := saved.User()
	if err != nil || !reflect.DeepEqual(got, u) {
		t.Errorf("%+v, %v; want %+v", got, err, u)
	}
	got.refuse(key("z"), Name{Account: "joe"}, held, r, 7)
	if got.refusal(key("x")) != nil || got.refusal(key("y")) == nil {
		t.Error("the oldest refusal was kept")
	}
}

// TestSavedWhileComparing: a hash that may be that of a refused secret is not handed over.
func TestSavedWhileComparing(t *testing.T) {
	for standing, want := range map[standing]int{held: 1, suspected: 2} {
		u := &User{
			Verifiers: []Verifier{{Hash: savedHash}, {Hash: savedHash, Key: Key{1}}},
			Refusals:  []Refusal{{Key: Key{2}, comparing: &searches{1}, standing: standing}},
		}
		saved := u.Save()
		if len(saved.Verifiers) != want || want == 2 && (!saved.Verifiers[0].Suspect || saved.Verifiers[1].Suspect) {
			t.Errorf("while a secret is compared (%d): %+v", standing, saved.Verifiers)
		}
	}
}

// TestSavedNonsense: a user that cannot be one is refused.
func TestSavedNonsense(t *testing.T) {
	for name, s := range map[string]SavedUser{
		"no hash":          {Verifiers: []SavedVerifier{{Verifier: Verifier{Hash: "secret", Key: Key{1}}}}},
		"nothing to match": {Verifiers: []SavedVerifier{{}}},
		"too many":         {Verifiers: make([]SavedVerifier, maxRecordVerifiers+1)},
		"refusal of none":  {Refusals: []SavedRefusal{{}}},
		"unknown standing": {Refusals: []SavedRefusal{{Key: Key{1}, Standing: 9}}},
	} {
		if _, err := s.User(); !errors.Is(err, ErrRecord) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

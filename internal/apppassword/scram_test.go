package apppassword

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"postern/internal/auth"
	"postern/internal/scram"
	"postern/internal/scram/scramtest"
)

var (
	joe  = auth.Identity{User: "joe", Domain: "dom.example"}
	seed = scram.Seed{1}
	salt = seed.Salt(joe)
)

// proofOf is the proof of a text.
func proofOf(t *testing.T, mechanism, text string) (*scram.Proof, *scramtest.Client) {
	t.Helper()
	s, c := scram.NewSealer(), &scramtest.Client{Mechanism: mechanism, User: "joe", Password: text}
	who := &scram.Client{ID: joe, Mechanism: mechanism, Salt: salt}
	challenge, state, err := s.Begin(who, c.First(), at(0))
	if err != nil {
		t.Fatal(err)
	}
	e, err := s.Open(who, state, at(0))
	if err != nil {
		t.Fatal(err)
	}
	p, err := e.Finish(c.Final(challenge), "")
	if err != nil {
		t.Fatal(err)
	}
	return p, c
}

// keyed gives the entry of a secret its keys.
func keyed(t *testing.T, a *Account, s Secret, salt scram.Salt) {
	t.Helper()
	keys, err := s.Keys(salt)
	if err != nil || !a.SetKeys(key, joe.Domain, joe.User, s, keys) {
		t.Fatal(err)
	}
}

// TestProve: a proof finds the entry of its secret, in two forms, and the entry's state decides.
func TestProve(t *testing.T) {
	a := new(Account)
	_, forever := made(t, a, key, New{Name: "phone"})
	_, hour := made(t, a, key, New{Name: "guest", Expires: start.Add(time.Hour)})
	_, mail := made(t, a, key, New{Name: "mail", Services: []string{"imap"}})
	lost, revoked := made(t, a, key, New{Name: "lost"})
	for _, s := range []Secret{forever, hour, mail, revoked} {
		keyed(t, a, s, salt)
	}
	if _, err := a.Revoke("joe", lost.ID, at(time.Minute)); err != nil {
		t.Fatal(err)
	}
	text := func(s Secret) string { return s.Show().Reveal() }
	for _, c := range []struct {
		name, text, user, service string
		after                     time.Duration
		want                      Status
	}{
		{"alive", text(forever), "joe", "xmpp", time.Hour, Valid},
		{"without hyphens", strings.ReplaceAll(text(forever), "-", ""), "joe", "", time.Hour, Valid},
		{"in another form", strings.ReplaceAll(text(forever), "-", " "), "joe", "xmpp", time.Hour, Unknown},
		{"of another account", text(forever), "ann", "xmpp", time.Hour, Unknown},
		{"in its time", text(hour), "joe", "xmpp", time.Hour - time.Second, Valid},
		{"expired", text(hour), "joe", "xmpp", time.Hour, Expired},
		{"for its service", text(mail), "joe", "imap", 0, Valid},
		{"for another service", text(mail), "joe", "xmpp", 0, OtherService},
		{"revoked", text(revoked), "joe", "xmpp", time.Hour, Revoked},
		{"wrong", "wrong", "joe", "xmpp", 0, Unknown},
	} {
		for _, mechanism := range []string{"SCRAM-SHA-1", "SCRAM-SHA-256"} {
			proof, client := proofOf(t, mechanism, c.text)
			p, signature, got := a.Prove(key, c.user, proof, c.service, at(c.after))
			if got != c.want || (p == nil) != (got == Unknown) || p != nil && signature != client.Signature || p == nil && signature != "" {
				t.Errorf("%s by %s: %v, %v, %q; want %v", c.name, mechanism, got, p, signature, c.want)
			}
		}
	}
	back, err := Decode(a.Encode())
	if err != nil || !reflect.DeepEqual(back, a) {
		t.Errorf("%v: read as %+v", err, back)
	}
	if a.Encode()[0] != recordVersion {
		t.Error("keys in a record of a former version")
	}
}

// TestProveWithoutKeys: an entry that cannot be compared is no "no".
func TestProveWithoutKeys(t *testing.T) {
	a := new(Account)
	_, guest := made(t, a, key, New{Name: "guest", Expires: start.Add(time.Hour)})
	if a.Encode()[0] != plainVersion {
		t.Error("a record without keys cannot be read by a former version")
	}
	salts := func(string) scram.Salt { return salt }
	proof, _ := proofOf(t, "SCRAM-SHA-1", "wrong")
	check := func(what string, want Status, missing int) {
		t.Helper()
		if _, _, got := a.Prove(key, "joe", proof, "", at(0)); got != want || a.Keyless(salts, at(0)) != missing {
			t.Errorf("%s: %v, and %d without keys; want %v, %d", what, got, a.Keyless(salts, at(0)), want, missing)
		}
	}
	check("without keys", Unknowable, 1)
	keyed(t, a, guest, scram.Salt{9})
	check("under another salt", Unknowable, 1)
	keyed(t, a, guest, salt)
	check("with keys", Unknown, 0)
	made(t, a, other, New{Name: "old"})
	check("beside one under another key", Unknowable, 1)
	if _, err := a.Revoke("joe", "old", at(0)); err != nil {
		t.Fatal(err)
	}
	check("beside a revoked one", Unknown, 0)
	if a.SetKeys(key, joe.Domain, "ann", guest, nil) {
		t.Error("another account has keys")
	}
	b := new(Account)
	made(t, b, key, New{Name: "guest", Expires: start.Add(time.Hour)})
	if _, _, got := b.Prove(key, "joe", proof, "", at(time.Hour)); got != Unknown || b.Keyless(salts, at(time.Hour)) != 0 {
		t.Errorf("an expired one without keys: %v", got)
	}
}

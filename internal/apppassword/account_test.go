package apppassword

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"postern/internal/auth"
	"postern/internal/store"
	"postern/internal/unixtime"
)

var (
	start = time.Unix(1_800_000_000, 0)
	key   = NewKey(auth.NewSecret(strings.Repeat("k", KeySize)))
	other = NewKey(auth.NewSecret(strings.Repeat("o", KeySize)))
)

// at is so long after the start.
func at(d time.Duration) unixtime.Time { return unixtime.At(start.Add(d)) }

// made adds an app password of joe at the start.
func made(t testing.TB, a *Account, k *Key, n New) (Password, Secret) {
	t.Helper()
	p, s, err := a.Add(k, "dom.example", "joe", n, at(0))
	if err != nil {
		t.Fatal(err)
	}
	return p, s
}

// TestCheck: an entry is found by its secret, for its account, and its state decides.
func TestCheck(t *testing.T) {
	a := new(Account)
	_, forever := made(t, a, key, New{Name: "phone"})
	_, hour := made(t, a, key, New{Name: "guest", Expires: start.Add(time.Hour)})
	_, mail := made(t, a, key, New{Name: "mail", Services: []string{"IMAP", "submission"}})
	gone, revoked := made(t, a, key, New{Name: "lost"})
	if _, err := a.Revoke("joe", gone.ID, at(time.Minute)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name           string
		secret         Secret
		domain, user   string
		service        string
		after          time.Duration
		want           Status
		underAnotherID bool
	}{
		{"alive", forever, "dom.example", "joe", "imap", time.Hour, Valid, false},
		{"alive, no service", forever, "dom.example", "joe", "", time.Hour, Valid, false},
		{"alive after years", forever, "dom.example", "joe", "xmpp", 20000 * time.Hour, Valid, false},
		{"of another account", forever, "dom.example", "ann", "imap", time.Hour, Unknown, false},
		{"of another spelling", forever, "dom.example", "Joe", "imap", time.Hour, Unknown, false},
		{"of another domain", forever, "other.example", "joe", "imap", time.Hour, Unknown, false},
		{"unknown", NewSecret(), "dom.example", "joe", "imap", time.Hour, Unknown, false},
		{"before its end", hour, "dom.example", "joe", "imap", time.Hour - time.Millisecond, Valid, false},
		{"at its end", hour, "dom.example", "joe", "imap", time.Hour, Expired, false},
		{"its service", mail, "dom.example", "joe", "smtp", time.Hour, Valid, false},
		{"another service", mail, "dom.example", "joe", "xmpp", time.Hour, OtherService, false},
		{"the front does not say which", mail, "dom.example", "joe", "", time.Hour, OtherService, false},
		{"revoked", revoked, "dom.example", "joe", "imap", time.Hour, Revoked, false},
		{"under another key", forever, "dom.example", "joe", "imap", time.Hour, Unknowable, true},
		{"nothing of the name under another key", forever, "dom.example", "Joe", "imap", time.Hour, Unknown, true},
	} {
		k := key
		if c.underAnotherID {
			k = other
		}
		p, got := a.Check(k, c.domain, c.user, c.secret, c.service, at(c.after))
		if got != c.want || (p == nil) != (got == Unknown || got == Unknowable) {
			t.Errorf("%s: %d with entry %t, want %d", c.name, got, p != nil, c.want)
		}
	}
	if !a.Alive("joe", at(0)) || a.Alive("Joe", at(0)) {
		t.Error("an account that is alive is not, or another spelling is")
	}
}

// TestConfirmed: where no backend can be asked, an entry lives for the ttl since its creation or a login.
func TestConfirmed(t *testing.T) {
	p := Password{Created: at(0)}
	day := 24 * time.Hour
	for _, c := range []struct {
		login, now time.Duration
		want       bool
	}{{-day, 90*day - time.Millisecond, true}, {-day, 90 * day, false}, {day, 90 * day, true}, {day, 91 * day, false}} {
		p.Login = at(c.login)
		if got := p.Confirmed(90*day, at(c.now)); got != c.want {
			t.Errorf("login after %v, now %v: %t", c.login, c.now, got)
		}
	}
	if p.Login = 0; !p.Confirmed(90*day, at(day)) {
		t.Error("without a login the creation does not count")
	}
	a := &Account{Passwords: []Password{{Account: "joe"}, {Account: "Joe"}}}
	joe := func(account string) bool { return account == "joe" }
	if !a.Confirm(joe, at(day)) || a.Passwords[0].Login != at(day) || a.Passwords[1].Login != 0 {
		t.Errorf("a login of joe: %+v", a)
	}
	if a.Confirm(func(string) bool { return false }, at(day)) {
		t.Error("a login of an account without entries changes the record")
	}
}

// TestRevoke: by ID, by a name that is clear, or all; a second time changes nothing.
func TestRevoke(t *testing.T) {
	a := new(Account)
	phone, _ := made(t, a, key, New{Name: "phone"})
	made(t, a, key, New{Name: "laptop"})
	made(t, a, key, New{Name: "laptop"})
	if _, err := a.Revoke("joe", "laptop", at(0)); err == nil || !strings.Contains(err.Error(), "2 app passwords") {
		t.Errorf("a name of two: %v", err)
	}
	if _, err := a.Revoke("joe", "desktop", at(0)); !errors.Is(err, ErrUnknown) {
		t.Errorf("unknown: %v", err)
	}
	if _, err := a.Revoke("ann", phone.ID, at(0)); !errors.Is(err, ErrUnknown) {
		t.Errorf("another account's: %v", err)
	}
	if changed, err := a.Revoke("joe", "phone", at(0)); err != nil || len(changed) != 1 || changed[0].ID != phone.ID {
		t.Errorf("by name: %v, %v", changed, err)
	}
	if changed, err := a.Revoke("joe", phone.ID, at(time.Hour)); err != nil || len(changed) != 0 {
		t.Errorf("again: %v, %v", changed, err)
	}
	if _, err := a.SetExpiry("joe", phone.ID, time.Time{}); err == nil {
		t.Error("a revoked one got another end")
	}
	if changed, err := a.Revoke("joe", "", at(0)); err != nil || len(changed) != 2 || a.Alive("joe", at(0)) {
		t.Errorf("all: %v, %v", changed, err)
	}
}

// TestSetExpiry: an end can be set and taken away.
func TestSetExpiry(t *testing.T) {
	a := new(Account)
	p, s := made(t, a, key, New{Name: "phone"})
	status := func(d time.Duration) Status {
		_, got := a.Check(key, "dom.example", "joe", s, "imap", at(d))
		return got
	}
	if _, err := a.SetExpiry("joe", "phone", start); err != nil || status(0) != Expired {
		t.Errorf("ended now: %v, %d", err, status(0))
	}
	if _, err := a.SetExpiry("joe", p.ID, time.Time{}); err != nil || status(time.Hour) != Valid {
		t.Errorf("without an end: %v, %d", err, status(time.Hour))
	}
	if _, err := a.SetExpiry("joe", "tablet", start); !errors.Is(err, ErrUnknown) {
		t.Errorf("unknown: %v", err)
	}
}

// TestNew: what cannot be made says why.
func TestNew(t *testing.T) {
	for says, n := range map[string]New{
		"needs a name":  {},
		"one line":      {Name: "a\nb"},
		"100 bytes":     {Name: strings.Repeat("x", 101)},
		"a service":     {Name: "x", Services: []string{"im ap"}},
		"16 services":   {Name: "x", Services: strings.Split(strings.Repeat("a ", 16)+"a", " ")},
		"would have":    {Name: "x", Expires: start},
		"name of a ser": {Name: "x", Services: []string{""}},
	} {
		if _, _, err := new(Account).Add(key, "dom.example", "joe", n, at(0)); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v", says, err)
		}
	}
	a := new(Account)
	for range maxAlive {
		made(t, a, key, New{Name: "x"})
	}
	if _, _, err := a.Add(key, "dom.example", "joe", New{Name: "x"}, at(0)); err == nil {
		t.Error("there is no bound")
	}
}

// TestTidy: revoked entries are kept for a while, and only so many; those alive stay.
func TestTidy(t *testing.T) {
	a := new(Account)
	kept, _ := made(t, a, key, New{Name: "kept"})
	var ids []string
	for i := range maxRevoked + 3 {
		p, _ := made(t, a, key, New{Name: fmt.Sprint("phone", i)})
		ids = append(ids, p.ID)
		if _, err := a.Revoke("joe", p.ID, at(time.Duration(i)*time.Second)); err != nil {
			t.Fatal(err)
		}
	}
	var left []string
	for _, p := range a.Passwords {
		left = append(left, p.ID)
	}
	if want := append([]string{kept.ID}, ids[3:]...); !slices.Equal(left, want) {
		t.Errorf("left: %d entries, want %d", len(left), len(want))
	}
	if _, _, err := a.Add(key, "dom.example", "joe", New{Name: "new"}, at(revokedFor+2*time.Hour)); err != nil || len(a.Passwords) != 2 {
		t.Errorf("after a while: %d entries, %v", len(a.Passwords), err)
	}
}

// TestRecord: a record is read as it was written, by its key and version.
func TestRecord(t *testing.T) {
	a := new(Account)
	made(t, a, key, New{Name: "phone", Services: []string{"imap", "smtp"}, Expires: start.Add(time.Hour)})
	p, _ := made(t, a, other, New{Name: "laptop"})
	if _, err := a.Revoke("joe", p.ID, at(1)); err != nil {
		t.Fatal(err)
	}
	a.Passwords[0].Last, a.Passwords[0].Login = Use{at(5), "imap", "dovecot", "192.0.2.1"}, at(7)
	record := a.Encode()
	got, err := Decode(record)
	if err != nil || !reflect.DeepEqual(got, a) {
		t.Errorf("%+v\nwant %+v, %v", got, a, err)
	}
	for n := range record {
		if _, err := Decode(record[:n]); !errors.Is(err, ErrRecord) {
			t.Fatalf("cut after %d bytes: %v", n, err)
		}
	}
	if _, err := Decode(append(bytes.Clone(record), 0)); !errors.Is(err, ErrRecord) {
		t.Errorf("something behind it: %v", err)
	}
	if _, err := Decode(append([]byte{recordVersion + 1}, record[1:]...)); err == nil || !strings.Contains(err.Error(), "newer postern") {
		t.Errorf("a newer version: %v", err)
	}
	if new(Account).Encode() != nil {
		t.Error("nothing has a record")
	}
	id := auth.Identity{User: "Joe", Domain: "dom.example"}
	if got := string(RecordKey(id)); got != "apppw/dom.example\x00joe" {
		t.Errorf("the key of %s is %q", id, got)
	}
}

// TestFormerRecord: a record of version 1 has no time of a login.
func TestFormerRecord(t *testing.T) {
	record := []byte("\x01\x01\x02id\x03joe\x05phone\x01\x04imap\x02\x04\x06\x08\x04imap\x01f\x01c")
	record = append(record, bytes.Repeat([]byte{'k'}, len(KeyID{}))...)
	record = append(record, bytes.Repeat([]byte{'m'}, len(MAC{}))...)
	want := &Account{Passwords: []Password{{
		ID: "id", Account: "joe", Name: "phone", Services: []string{"imap"}, Created: 1, Expires: 2, Revoked: 3,
		Last: Use{4, "imap", "f", "c"}, key: KeyID([]byte("kkkkkkkk")), mac: MAC(bytes.Repeat([]byte{'m'}, len(MAC{}))),
	}}}
	if got, err := Decode(record); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v\nwant %+v, %v", got, want, err)
	}
	if _, err := Decode(append([]byte{0}, record[1:]...)); !errors.Is(err, ErrRecord) {
		t.Errorf("version 0: %v", err)
	}
}

// memory is a Getter.
type memory map[string][]byte

func (m memory) Get(k []byte) ([]byte, error) {
	if v, ok := m[string(k)]; ok {
		return v, nil
	}
	return nil, store.ErrNotFound
}

// TestRead: no record is an empty one, and a damaged one is an error.
func TestRead(t *testing.T) {
	id := auth.Identity{User: "joe", Domain: "dom.example"}
	if a, err := Read(memory{}, id); err != nil || len(a.Passwords) != 0 {
		t.Errorf("%+v, %v", a, err)
	}
	if _, err := Read(memory{string(RecordKey(id)): {recordVersion}}, id); !errors.Is(err, ErrRecord) {
		t.Errorf("damaged: %v", err)
	}
}

func FuzzDecode(f *testing.F) {
	a := new(Account)
	made(f, a, key, New{Name: "phone", Services: []string{"imap"}})
	f.Add(a.Encode())
	f.Add([]byte{})
	f.Add([]byte{recordVersion, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1})
	f.Add([]byte{recordVersion, 1, 0, 0, 0, 0xff, 1})
	f.Fuzz(func(t *testing.T, record []byte) {
		a, err := Decode(record)
		if err != nil {
			return
		}
		again, err := Decode(a.Encode())
		if err != nil || !reflect.DeepEqual(again, a) {
			t.Errorf("%+v\nthen %+v, %v", a, again, err)
		}
	})
}

func BenchmarkCheck(b *testing.B) {
	a := new(Account)
	_, s := made(b, a, key, New{Name: "phone"})
	made(b, a, key, New{Name: "laptop"})
	text := s.Show().Reveal()
	b.ReportAllocs()
	for b.Loop() {
		s, _ := Parse(text)
		if _, status := a.Check(key, "dom.example", "joe", s, "imap", at(0)); status != Valid {
			b.Fatal(status)
		}
	}
}

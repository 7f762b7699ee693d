package apppassword

import (
	"testing"
	"time"

	"postern/internal/store"
	"postern/internal/unixtime"
)

// What two processes have written at once is both revoked and used, and nothing that one has dropped comes back.
func TestMerge(t *testing.T) {
	now := unixtime.At(time.Unix(1_800_000_000, 0))
	entry := func(id string, change func(*Password)) Password {
		p := Password{ID: id, Account: "joe", Name: id, Created: now.Add(-time.Hour)}
		p.mac[0] = id[0]
		if change != nil {
			change(&p)
		}
		return p
	}
	revoked := func(p *Password) { p.Revoked = now }
	used := func(at time.Duration) func(*Password) {
		return func(p *Password) { p.Last = Use{At: now.Add(-at), Service: "imap"}; p.Login = now.Add(-at) }
	}
	fresh := func(p *Password) { p.Created = now }
	of := func(list ...Password) []byte { return (&Account{Passwords: list}).Encode() }
	for name, c := range map[string]struct{ mine, theirs, want []byte }{
		"revoked by theirs":    {of(entry("a", used(0))), of(entry("a", revoked)), of(entry("a", func(p *Password) { revoked(p); used(0)(p) }))},
		"revoked by mine":      {of(entry("a", revoked)), of(entry("a", used(0))), of(entry("a", func(p *Password) { revoked(p); used(0)(p) }))},
		"used later by mine":   {of(entry("a", used(1*time.Second))), of(entry("a", used(2*time.Second))), of(entry("a", used(1*time.Second)))},
		"used later by theirs": {of(entry("a", used(2*time.Second))), of(entry("a", used(1*time.Second))), of(entry("a", used(1*time.Second)))},
		"dropped by theirs":    {of(entry("a", used(0))), nil, nil},
		"added by both":        {of(entry("a", nil), entry("b", fresh)), of(entry("a", nil), entry("c", fresh)), of(entry("a", nil), entry("c", fresh), entry("b", fresh))},
		"same ID, another":     {of(entry("a", fresh)), of(entry("a", func(p *Password) { p.mac[0] = 'x'; revoked(p) })), of(entry("a", func(p *Password) { p.mac[0] = 'x'; revoked(p) }), entry("a", fresh))},
	} {
		if got, ok := MergeRecords(c.mine, c.theirs, now); !ok || string(got) != string(c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
	if _, ok := MergeRecords(nil, []byte{99}, now); ok {
		t.Error("a record of a newer version is replaced")
	}
}

func TestRecordIdentity(t *testing.T) {
	for key, want := range map[string]bool{store.AppPasswords + "dom.example\x00joe": true, store.AppPasswords: false, "cred/dom.example\x00joe": false} {
		id, ok := RecordIdentity(key)
		if ok != want || ok && (id.User != "joe" || id.Domain != "dom.example") {
			t.Errorf("%q: %+v, %t", key, id, ok)
		}
	}
}

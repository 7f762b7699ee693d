package store

import (
	"testing"
)

// TestSerial: the serial changes when the store is changed after it was opened, whatever is changed, and
// not when it is only read.
func TestSerial(t *testing.T) {
	dir := t.TempDir()
	last := Serial{}
	session := func(use func(*Pebble)) (was Serial) {
		t.Helper()
		p := open(t, dir)
		use(p)
		was, now, err := p.Renew()
		if err != nil || was == now || now == (Serial{}) {
			t.Fatalf("from %x to %x, %v", was, now, err)
		}
		last = now
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
		return was
	}
	session(func(*Pebble) {})
	for name, c := range map[string]struct {
		use     func(*Pebble)
		changes bool
	}{
		"nothing": {func(*Pebble) {}, false},
		"a read": {func(p *Pebble) {
			_, _ = p.Get([]byte("cred/a"))
			_ = p.Scan([]byte("cred/"), func(_, _ []byte) bool { return true })
			_ = p.Size()
			_ = p.Apply(nil, true)
		}, false},
		"a value":   {func(p *Pebble) { _ = p.Apply([]Op{put("cred/a", "1")}, false) }, true},
		"a removal": {func(p *Pebble) { _ = p.Apply([]Op{{Key: []byte("cred/a")}}, true) }, true},
		"a prefix":  {func(p *Pebble) { _ = p.DeletePrefix([]byte("cred/")) }, true},
	} {
		before := last
		if was := session(c.use); (was != before) != c.changes {
			t.Errorf("%s: the serial was %x before, and %x after", name, before, was)
		}
	}
	session(func(p *Pebble) { _ = p.Apply([]Op{put("cred/a", "1")}, true) })
	if err := MarkIncomplete(dir); err != nil {
		t.Fatal(err)
	}
	before := last
	if was := session(func(*Pebble) {}); was == before { // its passwords were forgotten
		t.Error("a store that was incomplete has the same serial")
	}
}

package actors

import (
	"encoding/binary"
	"strings"
	"testing"

	"postern/internal/auth"
	"postern/internal/store"
	"postern/internal/token"
)

// stale fills a store with expired nonces, before any other in the order of the keys: more than one
// round removes.
func stale(t *testing.T, disk store.Store) {
	t.Helper()
	var ops []store.Op
	for i := range uint32(2*10000 + 5) {
		n := token.Nonce{Expires: 1}
		binary.BigEndian.PutUint32(n.ID[:], i)
		ops = append(ops, store.Op{Key: append([]byte(store.Nonces), n.ID[:]...), Value: []byte{1, 0, 0, 0, 0, 0, 0, 0, 1}})
	}
	if err := disk.Apply(ops, false); err != nil {
		t.Fatal(err)
	}
}

func storedNonces(t *testing.T, disk store.Store) (n int) {
	t.Helper()
	if err := disk.Scan([]byte(store.Nonces), func(_, _ []byte) bool { n++; return true }); err != nil {
		t.Fatal(err)
	}
	return n
}

// TestStaleNonces: however many nonces have expired, a restart remembers each that counts, and
// all others are removed, at the start as well as later.
func TestStaleNonces(t *testing.T) {
	l := newRestarter(t)
	r := l.next(outage)
	used := r.totpToken("joe")
	r.want(r.auth("joe", used), allow, auth.SourceToken)
	stale(t, l.disk)
	r = l.next(outage)
	if a := r.auth("joe", used); a.Verdict == allow {
		t.Errorf("a used token was answered %v (%v) after a restart", a.Verdict, a.Source)
	}
	if n := storedNonces(t, l.disk); n != 1 {
		t.Errorf("%d nonces are stored after the start", n)
	}
	stale(t, l.disk)
	r.tokens.Prune()
	if n := storedNonces(t, l.disk); n != 1 {
		t.Errorf("%d nonces are stored in the end", n)
	}
}

// TestNoncesOfFailingStore: a used token stays used though the expired ones before it cannot be
// removed.
func TestNoncesOfFailingStore(t *testing.T) {
	l := newRestarter(t)
	disk := &failingStore{Store: l.disk}
	l.disk = disk
	r := l.next(outage)
	used := r.totpToken("joe")
	r.want(r.auth("joe", used), allow, auth.SourceToken)
	stale(t, l.disk)
	r.stop()
	disk.failing.Store(true)
	r = l.next(outage)
	if a := r.auth("joe", used); a.Verdict == allow {
		t.Errorf("a used token was answered %v (%v) after a restart", a.Verdict, a.Source)
	}
	if !strings.Contains(r.log.String(), "expired tokens could not be removed") {
		t.Errorf("the log does not say so: %s", r.log)
	}
}

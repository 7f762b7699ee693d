package valkeystore

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"postern/internal/auth"
	"postern/internal/store"
	"postern/internal/store/storetest"
	"postern/internal/store/valkeystore/valkeytest"
)

// patience bounds every wait of a test.
const patience = time.Minute

type starter = func(t *testing.T, options ...string) *valkeytest.Server

func open(t *testing.T, address string) *Store {
	t.Helper()
	s, err := Open(Options{Addresses: []string{address}, Prefix: "postern:"}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// eventually waits until something holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not within %v", what, patience)
		}
	}
}

// heard collects the keys that a store has told.
type heard struct {
	mu   sync.Mutex
	keys []string
}

func listen(s *Store) *heard {
	h := new(heard)
	s.Watch(func(keys []string) {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.keys = append(h.keys, keys...)
	})
	return h
}

func (h *heard) has(key string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Contains(h.keys, key)
}

func (h *heard) list() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return strings.Join(h.keys, " ")
}

func put(t *testing.T, s *Store, key, value string) {
	t.Helper()
	if err := s.Apply([]store.Op{{Key: []byte(key), Value: []byte(value)}}, true); err != nil {
		t.Fatal(err)
	}
}

func TestConform(t *testing.T) {
	valkeytest.Each(t, func(t *testing.T, start starter) {
		server := start(t)
		before := goleak.IgnoreCurrent()
		s := open(t, server.Address)
		storetest.Conform(t, s)
		goleak.VerifyNone(t, before)
	})
}

// TestOthersKeys: keys with another prefix are neither read nor deleted.
func TestOthersKeys(t *testing.T) {
	server := valkeytest.Start(t)
	server.Do("SET", "other:cred/a", "x")
	server.Do("SET", "postern:cred/odd", "not ours")
	s := open(t, server.Address)
	put(t, s, "cred/b", "1")
	n := 0
	if err := s.Scan([]byte("cred/"), func(k, v []byte) bool { n++; return true }); err != nil || n != 1 {
		t.Errorf("%d records, %v", n, err)
	}
	if _, err := s.Get([]byte("cred/odd")); !errors.Is(err, errLayout) {
		t.Errorf("a value that is not ours: %v", err)
	}
	if err := s.DeletePrefix(nil); err != nil {
		t.Fatal(err)
	}
	if reply := server.Do("GET", "other:cred/a"); !strings.Contains(reply, "x") {
		t.Errorf("another program's key: %q", reply)
	}
}

// TestSwap: a record is changed only over the version that was read, and a change that is repeated is one change.
func TestSwap(t *testing.T) {
	valkeytest.Each(t, func(t *testing.T, start starter) {
		server := start(t)
		a, b := open(t, server.Address), open(t, server.Address)
		key := []byte("cred/joe")
		over := func(s *Store, was, now store.Version, value []byte) []store.Lost {
			t.Helper()
			lost, err := s.Swap([]store.Change{{Key: key, Value: value, Over: true, Was: was, Now: now}})
			if err != nil {
				t.Fatal(err)
			}
			return lost
		}
		none := store.Version{}
		first, second := a.versions.Next(), b.versions.Next()
		if lost := over(a, none, first, []byte("1")); len(lost) != 0 {
			t.Fatalf("the first write is lost: %v", lost)
		}
		if lost := over(a, none, first, []byte("1")); len(lost) != 0 {
			t.Errorf("the repeated write is lost: %v", lost)
		}
		lost := over(b, none, second, []byte("2"))
		if len(lost) != 1 || !lost[0].Of || lost[0].Record.Version != first || string(lost[0].Record.Value) != "1" {
			t.Fatalf("a write over nothing is not lost: %v", lost)
		}
		if lost := over(b, first, second, []byte("2")); len(lost) != 0 {
			t.Errorf("a write over what was read is lost: %v", lost)
		}
		r, err := a.Read(key)
		if err != nil || string(r.Value) != "2" || r.Version != second || r.Former {
			t.Errorf("read %+v, %v", r, err)
		}
		if lost := over(a, first, none, nil); len(lost) != 1 {
			t.Errorf("a removal over an older version is not lost: %v", lost)
		}
		if lost := over(a, second, none, nil); len(lost) != 0 {
			t.Errorf("a removal is lost: %v", lost)
		}
		if lost := over(b, second, first, []byte("3")); len(lost) != 1 || !lost[0].Of || lost[0].Record.Value != nil {
			t.Errorf("a write over what is gone: %v", lost)
		}
		server.Do("SET", "postern:cred/joe", "of a newer version")
		if lost := over(b, second, first, []byte("3")); len(lost) != 1 || lost[0].Of {
			t.Errorf("a write over what cannot be read: %v", lost)
		}
	})
}

// TestWatch: a store tells what others change, and not what it changes itself.
func TestWatch(t *testing.T) {
	valkeytest.Each(t, func(t *testing.T, start starter) {
		server := start(t)
		a, b := open(t, server.Address), open(t, server.Address)
		ofA, ofB := listen(a), listen(b)
		term, ok := b.Term()
		if !ok {
			t.Fatal("the watch has not begun with Open")
		}
		put(t, a, "cred/joe", "1")
		eventually(t, "B hears of A's write", func() bool { return ofB.has("cred/joe") })
		put(t, b, "cred/jim", "1")
		eventually(t, "A hears of B's write", func() bool { return ofA.has("cred/jim") })
		if err := a.DeletePrefix([]byte("cred/j")); err != nil {
			t.Fatal(err)
		}
		put(t, a, "cred/last", "1")
		eventually(t, "B hears of A's last write", func() bool { return ofB.has("cred/last") })
		put(t, b, "cred/end", "1")
		eventually(t, "A hears of B's last write", func() bool { return ofA.has("cred/end") })
		if ofA.has("cred/joe") && !ofA.has("cred/jim") || ofA.has("cred/last") {
			t.Errorf("A hears of its own writes: %s", ofA.list())
		}
		if now, ok := b.Term(); now != term || !ok {
			t.Errorf("term %d (%t) after %d", now, ok, term)
		}
		server.Do("FLUSHALL")
		eventually(t, "a flush is another term", func() bool { now, ok := b.Term(); return now != term && ok })
	})
}

// TestMark: marks of several processes do not hide each other, and their end is nothing to tell.
func TestMark(t *testing.T) {
	server := valkeytest.Start(t)
	a, b := open(t, server.Address), open(t, server.Address)
	ofA := listen(a)
	mark := func(s *Store, key string, keep time.Duration) {
		t.Helper()
		if _, err := s.Swap([]store.Change{{Key: []byte(key), Value: []byte{1}, Keep: keep}}); err != nil {
			t.Fatal(err)
		}
	}
	mark(a, store.Refused+"own", time.Minute)
	mark(b, store.Refused+"short", time.Millisecond)
	mark(b, store.Refused+"other", time.Minute)
	eventually(t, "A hears of B's mark", func() bool { return ofA.has(store.Refused + "other") })
	if ofA.has(store.Refused + "own") {
		t.Error("A hears of its own mark")
	}
}

// TestSilence: a server that does not answer ends the term's validity in time, by itself, and reads wait only for a while.
func TestSilence(t *testing.T) {
	server := valkeytest.Start(t)
	s := open(t, server.Address)
	put(t, s, "cred/joe", "1")
	term, _ := s.Term()
	if err := server.Process().Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	if _, err := s.Read([]byte("cred/joe")); !errors.Is(err, store.ErrAway) {
		t.Errorf("read of a server that hangs: %v", err)
	}
	eventually(t, "the watch ends", func() bool { _, ok := s.Term(); return !ok })
	if took := time.Since(begun); took < time.Second {
		t.Errorf("the watch has ended after %v: a server may be slow for a second", took)
	}
	if err := server.Process().Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the watch begins again", func() bool { now, ok := s.Term(); return ok && now >= term })
	eventually(t, "it can be read", func() bool { _, err := s.Read([]byte("cred/joe")); return err == nil })
}

// TestAway: a store can be opened without its server, and is there when that is.
func TestAway(t *testing.T) {
	server := valkeytest.Start(t)
	server.Kill()
	s := open(t, server.Address)
	if _, ok := s.Term(); ok || s.Failed() == "" {
		t.Error("there is no server, but the store works")
	}
	if _, err := s.Get([]byte("cred/joe")); !errors.Is(err, store.ErrAway) {
		t.Errorf("read without a server: %v", err)
	}
	if _, err := s.Claim(context.Background(), []byte("nonce/1"), nil, time.Minute); !errors.Is(err, store.ErrAway) {
		t.Errorf("claim without a server: %v", err)
	}
	server.Start()
	eventually(t, "the watch begins", func() bool { _, ok := s.Term(); return ok })
	eventually(t, "it can be written", func() bool {
		return s.Apply([]store.Op{{Key: []byte("cred/joe"), Value: []byte("1")}}, true) == nil
	})
	if s.Failed() != "" {
		t.Errorf("the server is there, but the store does not work: %s", s.Failed())
	}
}

// age has the epoch begun long ago.
func age(server *valkeytest.Server, by time.Duration) {
	since := strconv.FormatInt(time.Now().Add(-by).UnixMilli(), 10)
	server.Do("EVAL", "local e = redis.call('GET', KEYS[1]); redis.call('SET', KEYS[1], string.sub(e, 1, 48) .. ARGV[1])", "1", "postern:"+epochKey, since)
}

// TestClaim: one of all gets a key, and none for a while after the server may have lost some.
func TestClaim(t *testing.T) {
	valkeytest.Each(t, func(t *testing.T, start starter) {
		server := start(t, "--appendonly", "yes", "--appendfsync", "always")
		a, b := open(t, server.Address), open(t, server.Address)
		claim := func(s *Store, key string) (bool, error) {
			return s.Claim(context.Background(), []byte(key), []byte("x"), time.Minute)
		}
		if _, err := claim(a, "nonce/1"); !errors.Is(err, store.ErrAway) {
			t.Errorf("a claim in a young epoch: %v", err)
		}
		age(server, claimAfter+time.Second)
		if first, err := claim(a, "nonce/1"); err != nil || !first {
			t.Errorf("the first claim: %t, %v", first, err)
		}
		for _, s := range []*Store{a, b} {
			if first, err := claim(s, "nonce/1"); err != nil || first {
				t.Errorf("another claim: %t, %v", first, err)
			}
		}
		var wins [2]int
		var both sync.WaitGroup
		for i, s := range []*Store{a, b} {
			both.Go(func() {
				for n := range 200 {
					if first, err := claim(s, "nonce/race"+strconv.Itoa(n)); err != nil {
						t.Error(err)
					} else if first {
						wins[i]++
					}
				}
			})
		}
		both.Wait()
		if wins[0]+wins[1] != 200 {
			t.Errorf("200 keys were claimed %d times", wins[0]+wins[1])
		}
		put(t, a, "cred/joe", "1")

		// Another process has the data: what it got last may be lost.
		server.Kill()
		server.Start()
		eventually(t, "the epoch is noticed", func() bool { return b.Counts().Epochs == 1 })
		eventually(t, "a claim in the new epoch", func() bool {
			_, err := claim(b, "nonce/2")
			return errors.Is(err, store.ErrAway) && strings.Contains(err.Error(), "ago")
		})
		if r, err := b.Read([]byte("cred/joe")); err != nil || !r.Former {
			t.Errorf("a record of the former epoch: %+v, %v", r, err)
		}
		put(t, b, "cred/joe", "2")
		if r, err := b.Read([]byte("cred/joe")); err != nil || r.Former {
			t.Errorf("a record of this epoch: %+v, %v", r, err)
		}
		age(server, claimAfter+time.Second)
		if first, err := claim(b, "nonce/1"); err != nil || first {
			t.Errorf("what was claimed before: %t, %v", first, err)
		}

		// A claim finds out by itself that the server was emptied, before a heartbeat does.
		server.Do("FLUSHALL")
		if first, err := claim(b, "nonce/1"); first {
			t.Errorf("what a flush has removed is claimed again (%v)", err)
		}
	})
}

// FuzzDecode: what can be read is what was written.
func FuzzDecode(f *testing.F) {
	f.Add(encode(epochID{1}, store.Version{2}, []byte("content")))
	f.Add(encode(epochID{}, store.Version{}, nil))
	f.Add([]byte{})
	f.Add([]byte{2, 0, 0})
	f.Fuzz(func(t *testing.T, value []byte) {
		epoch, v, content, err := decode(value)
		if err != nil {
			return
		}
		if again := encode(epoch, v, content); !slices.Equal(again, value) {
			t.Errorf("%x is read, and written as %x", value, again)
		}
	})
}

// TestACL: the user of the manual's page may do all that is needed, and nothing with other keys.
func TestACL(t *testing.T) {
	valkeytest.Each(t, func(t *testing.T, start starter) {
		server := start(t)
		page, err := os.ReadFile("../../manual/pages/machines.md")
		if err != nil {
			t.Fatal(err)
		}
		_, rule, ok := strings.Cut(string(page), "\nuser postern ")
		if !ok {
			t.Fatal("the page has no user")
		}
		rule, _, _ = strings.Cut(rule, "\n")
		rule = strings.Replace(rule, ">PASSWORD", ">the-password", 1)
		if reply := server.Do(append([]string{"ACL", "SETUSER", "postern"}, strings.Fields(rule)...)...); !strings.HasPrefix(reply, "+OK") {
			t.Fatalf("%q", reply)
		}
		o := Options{Addresses: []string{server.Address}, Username: "postern", Password: auth.NewSecret("the-password"), Prefix: "postern:"}
		s, err := Open(o, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if _, ok := s.Term(); !ok {
			t.Fatalf("the watch does not work: %s", s.Failed())
		}
		age(server, claimAfter+time.Second)
		if first, err := s.Claim(context.Background(), []byte("nonce/1"), []byte("x"), time.Minute); err != nil || !first {
			t.Errorf("claim: %t, %v", first, err)
		}
		other := open(t, server.Address)
		heard := listen(s)
		put(t, other, "cred/heard", "1")
		eventually(t, "it hears of others' writes", func() bool { return heard.has("cred/heard") })
		if err := s.DeletePrefix([]byte("cred/")); err != nil {
			t.Fatal(err)
		}
		if err := s.DeletePrefix([]byte("nonce/")); err != nil {
			t.Fatal(err)
		}
		storetest.Conform(t, s)

		o.Password = auth.NewSecret("wrong")
		s, err = Open(o, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if why := s.Failed(); !strings.Contains(why, "WRONGPASS") || strings.Contains(why, "wrong\"") {
			t.Errorf("with another password: %q", why)
		}
	})
}

package actors

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"testing"
	"time"

	"postern/internal/auth"
	"postern/internal/cache"
	"postern/internal/config"
)

// startMany asks n times at once and returns channels for the answers.
func (r *rig) startMany(n int, req auth.Request) (answers []<-chan auth.Answer) {
	for range n {
		answers = append(answers, r.startRequest(req, 30*time.Second))
	}
	return answers
}

// tally counts answers, each written as its verdict and source.
func tally(answers []<-chan auth.Answer) map[string]int {
	count := make(map[string]int)
	for _, a := range answers {
		got := <-a
		count[got.Verdict.String()+" "+got.Source.String()]++
	}
	return count
}

func login(user, password string) auth.Request {
	return auth.Request{Op: auth.OpAuth, User: user, Domain: "dom.example", Secret: auth.NewSecret(password)}
}

// TestOneQuestionForMany: a thousand identical requests at once put one question to the backend.
func TestOneQuestionForMany(t *testing.T) {
	const n = 1000
	cases := map[string]struct {
		req     auth.Request
		leader  string
		waiters string
	}{
		"right password": {login("joe", "good"), "allow backend", "allow coalesced"},
		"wrong password": {login("joe", "bad"), "deny backend", "deny coalesced"},
		"isuser": {auth.Request{Op: auth.OpIsUser, User: "joe", Domain: "dom.example"},
			"allow backend", "allow coalesced"},
		"roster": {auth.Request{Op: auth.OpRoster, User: "joe", Domain: "dom.example"},
			"allow backend", "allow coalesced"},
	}
	for name, c := range cases {
		for _, storage := range []config.Storage{config.StorageMemory, config.StorageNone} {
			t.Run(fmt.Sprint(name, "/", storage), func(t *testing.T) {
				f, g := new(faults), newBarrier()
				r := newRig(t, func(s *setup) {
					s.inject, s.fake.ask = f.inject, g.ask
					s.cfg.Domains[0].Cache.Storage = storage
				})
				answers := r.startMany(n, c.req)
				r.routed(f, n)
				g.open()
				if count := tally(answers); count[c.leader] != 1 || count[c.waiters] != n-1 {
					t.Errorf("answers: %v", count)
				}
				if asked := r.fake.asked.Load(); asked != 1 {
					t.Errorf("the backend was asked %d times", asked)
				}
			})
		}
	}
}

// TestOneLoginForManyConnections: a thousand connections that log in the same user with the
// same password at the same time cost one question to the backend and one hash.
func TestOneLoginForManyConnections(t *testing.T) {
	const n = 1000
	g := newBarrier()
	disk := openStore(t)
	r := newRig(t, func(s *setup) {
		s.fake.ask = g.ask
		onDisk(s, disk)
	})
	cfg := listenerBlock("generic")
	cfg.Deadline = time.Minute // until the last one is there
	address := r.listen(cfg)
	var conns []client
	for range n {
		c := r.dial(address)
		if _, err := io.WriteString(c, "auth:joe:dom.example:good\n"); err != nil {
			t.Fatal(err)
		}
		conns = append(conns, c)
	}
	eventually(t, "all logins to be under way", func() bool { return r.gate.InFlight() == n })
	g.open()
	for i, c := range conns {
		if line, err := bufio.NewReader(c).ReadString('\n'); err != nil || line != "1\n" {
			t.Fatalf("connection %d was answered %q: %v", i, line, err)
		}
	}
	if asked := r.fake.asked.Load(); asked != 1 {
		t.Errorf("the backend was asked %d times", asked)
	}

	eventually(t, "the hash on disk", func() bool {
		_, err := disk.Get(cache.RecordKey(auth.Identity{User: "joe", Domain: "dom.example"}))
		return err == nil
	})
	all, err := r.CacheStats(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if s := all["dom.example"]; s.Hashes != 1 || s.Compares != 0 {
		t.Errorf("%d hashes were made and %d compared, want one and none", s.Hashes, s.Compares)
	}
}

// TestNotJoined: different questions, and changes, do not share an answer.
func TestNotJoined(t *testing.T) {
	isUser := auth.Request{Op: auth.OpIsUser, User: "joe", Domain: "dom.example"}
	roster, other := isUser, isUser
	roster.Op, other.User = auth.OpRoster, "ann"
	setPass := login("joe", "new")
	setPass.Op = auth.OpSetPass
	cases := map[string][]auth.Request{
		"passwords":  {login("joe", "good"), login("joe", "goo"), login("joe", "good ")},
		"users":      {login("joe", "good"), login("jo", "egood"), isUser, other},
		"operations": {login("joe", "good"), isUser, roster, setPass},
		"changes":    {setPass, setPass, setPass},
	}
	for name, requests := range cases {
		t.Run(name, func(t *testing.T) {
			g := newBarrier()
			r := newRig(t, func(s *setup) { s.fake.ask = g.ask })
			var answers []<-chan auth.Answer
			for _, req := range requests {
				answers = append(answers, r.startRequest(req, 30*time.Second))
			}
			g.reached(t, int64(len(requests)))
			g.open()
			for answer, n := range tally(answers) {
				if answer == "allow coalesced" || answer == "deny coalesced" {
					t.Errorf("%d were joined: %s", n, answer)
				}
			}
		})
	}
}

// TestSpellingWaits: another spelling of the user under way waits for its answer, and then has a
// question of its own: the backend may take it for another account.
func TestSpellingWaits(t *testing.T) {
	g := newBarrier()
	r := newRig(t, func(s *setup) { s.fake.ask = g.ask })
	first := r.startRequest(login("joe", "good"), 30*time.Second)
	g.reached(t, 1)
	second := r.startRequest(login("joE", "good"), 30*time.Second)
	g.open()
	r.want(<-first, allow, fromBackend)
	r.want(<-second, allow, fromBackend)
	if asked := r.fake.asked.Load(); asked != 2 {
		t.Errorf("the backend was asked %d times", asked)
	}
}

// TestChangeIsNotRepeated: a change is asked for once, also if it is not known whether it was made.
func TestChangeIsNotRepeated(t *testing.T) {
	second := new(fakeBackend)
	r := newRig(t, func(s *setup) {
		s.fake.ask = outage
		block := s.cfg.Backends[0]
		block.Name = "second"
		s.cfg.Backends = append(s.cfg.Backends, block)
		s.cfg.Domains[0].Backends = append(s.cfg.Domains[0].Backends, block.BackendRef)
		s.more = map[string]*fakeBackend{"second": second}
	})
	for i, op := range []auth.Operation{auth.OpSetPass, auth.OpTryRegister, auth.OpRemoveUser, auth.OpRemoveUser3} {
		req := login("joe", "new")
		req.Op = op
		r.want(r.ask(req), auth.Unavailable, auth.SourceBackend)
		if n := r.fake.asked.Load(); n != int64(i+1) {
			t.Errorf("%v: the backend was asked %d times", op, n-int64(i))
		}
	}
	if n := second.asked.Load(); n != 0 {
		t.Errorf("the second backend was asked %d times", n)
	}
}

// TestWaitersShareFailure: calls that wait for another get its temporary failure, and the next
// request is asked anew.
func TestWaitersShareFailure(t *testing.T) {
	f, g := new(faults), newBarrier()
	r := newRig(t, func(s *setup) {
		s.inject = f.inject
		s.fake.ask = g.ask
	})
	answers := r.startMany(20, login("joe", "good"))
	r.routed(f, 20)
	g.reached(t, 1)
	f.arm("cache", askResult, attempts+1)
	g.open()
	if count := tally(answers); count["unavailable panic"] != 20 {
		t.Errorf("answers: %v", count)
	}
	eventually(t, "recovery", r.recovered)
	if a := r.auth("joe", "good"); a.Verdict != auth.Allow {
		t.Errorf("afterwards answered %v (%v)", a.Verdict, a.Source)
	}
}

// TestTokenForMany: of fifty logins with one single-use token at once, one is allowed.
func TestTokenForMany(t *testing.T) {
	for _, storage := range []config.Storage{config.StorageMemory, config.StorageDisk} {
		t.Run(string(storage), func(t *testing.T) {
			disk := openStore(t)
			r := newRig(t, func(s *setup) {
				withTokens(s)
				onDisk(s, disk)
				s.cfg.Domains[0].Cache.Storage = storage
			})
			count := tally(r.startMany(50, login("joe", r.totpToken("joe"))))
			if count["allow token"] != 1 || count["deny token"] != 49 {
				t.Errorf("answers: %v", count)
			}
			if n := r.fake.asked.Load(); n != 0 {
				t.Errorf("the backend was asked %d times", n)
			}
		})
	}
}

// TestShardPanicsBeforeManyWaiters: calls that wait for one answer outlive a restart of the shard.
func TestShardPanicsBeforeManyWaiters(t *testing.T) {
	const n = 20
	f := new(faults)
	gate := newBarrier()
	r := newRig(t, func(s *setup) { s.inject, s.fake.ask = f.inject, gate.ask })
	var answers []<-chan auth.Answer
	for range n {
		answers = append(answers, r.start("joe", "good"))
	}
	r.routed(f, n)
	f.arm("cache", "tick", r.width())
	r.tickAll()
	eventually(t, "the restart", func() bool { return r.restarts("cache") >= 1 && r.recovered() })
	late := r.start("joe", "good") // the new shard does not know of the others
	gate.reached(t, 2)
	gate.open()
	for _, a := range append(answers, late) {
		if got := <-a; got.Verdict != auth.Allow {
			t.Errorf("answered %v (%v)", got.Verdict, got.Source)
		}
	}
	if asked := r.fake.asked.Load(); asked != 2 {
		t.Errorf("the backend was asked %d times, want 2", asked)
	}
}

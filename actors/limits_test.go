package actors

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"postern/internal/auth"
	"postern/internal/backend"
	"postern/internal/config"
)

const (
	byUser, byAddress, byBudget = auth.SourceLimitUser, auth.SourceLimitAddress, auth.SourceLimitBudget
)

// withLimits gives a rig limits: 4 refusals of a user, 6 from an address, within ten minutes.
func withLimits(s *setup) {
	s.cfg.Domains[0].Limit = config.Limit{UserRefusals: 4, AddressRefusals: 6, Window: 10 * time.Minute,
		FirstPause: 2 * time.Second, LongestPause: 15 * time.Minute}
}

// asks checks an answer and how many questions it cost the backend.
func (r *rig) asks(n int64, req auth.Request, v auth.Verdict, s auth.Source) {
	r.t.Helper()
	before := r.fake.asked.Load()
	r.want(r.ask(req), v, s)
	r.quiesce()
	if got := r.fake.asked.Load() - before; got != n {
		r.t.Errorf("%s with %s: the backend was asked %d times, want %d", req.User, s, got, n)
	}
}

// quiesce waits until every shard and backend has handled what was on its way to it.
func (r *rig) quiesce() {
	r.t.Helper()
	for range 2 { // messages of a backend to a shard, and to itself
		if err := r.shards.Settle(context.Background()); err != nil {
			r.t.Fatal(err)
		}
		if _, err := r.Limits(context.Background()); err != nil {
			r.t.Fatal(err)
		}
	}
}

func from(client string, req auth.Request) auth.Request {
	req.Client = client
	return req
}

// TestUserLimit: guesses at the password of one user.
func TestUserLimit(t *testing.T) {
	for _, storage := range []config.Storage{config.StorageMemory, config.StorageDisk} {
		t.Run(string(storage), func(t *testing.T) {
			g := newScriptedBackend("good")
			disk := openStore(t)
			start := func() *rig {
				return newRig(t, func(s *setup) {
					onDisk(s, disk)
					s.cfg.Domains[0].Cache.Storage = storage
					g.use(s)
					withLimits(s)
				})
			}
			r := start()
			r.asks(1, login("joe", "good"), allow, fromBackend)
			for i := range 4 {
				r.asks(1, login("joe", fmt.Sprint("guess", i)), deny, fromBackend)
				r.asks(0, login("joe", fmt.Sprint("guess", i)), deny, before)
			}
			r.asks(0, login("joe", "guess4"), unavailable, byUser)
			// Neither the owner nor another user is locked out.
			r.asks(0, login("joe", "good"), allow, hot)
			r.asks(1, login("jane", "good"), allow, fromBackend)
			r.asks(0, isUser("joe"), allow, hot)
			// After the pause nothing is remembered of what was not asked about; the next is longer.
			r.clock.advance(2 * time.Second)
			r.asks(1, login("joe", "guess4"), deny, fromBackend)
			r.clock.advance(3 * time.Second)
			r.asks(0, login("joe", "guess5"), unavailable, byUser)
			// The owner's new password has to wait too, but not for ever.
			g.change("new")
			r.asks(0, login("joe", "new"), unavailable, byUser)
			r.clock.advance(2 * minute)
			r.asks(1, login("joe", "guess6"), deny, fromBackend)
			r.asks(0, login("joe", "new"), unavailable, byUser)
			r.clock.advance(2 * minute)
			r.asks(1, login("joe", "new"), allow, fromBackend)
			r.clock.advance(2 * minute)
			r.asks(1, login("joe", "guess7"), deny, fromBackend)
			// The old one must be verified again: the cache knows it, so it may be asked about.
			r.asks(0, login("joe", "guess8"), unavailable, byUser)
			r.asks(1, login("joe", "good"), deny, fromBackend)
			r.asks(0, login("joe", "new"), allow, hot)
			stats, err := r.CacheStats(context.Background())
			if n := stats["dom.example"].LimitUser; err != nil || n != 5 {
				t.Errorf("%d refusals by the limit are counted, %v", n, err)
			}
			if n := strings.Count(r.log.String(), "user limited"); n != 1 {
				t.Errorf("it is logged %d times", n)
			}
			if log := r.log.String(); strings.Contains(log, "guess") || !strings.Contains(log, "source=limit-user") {
				t.Errorf("the log holds a password, or not the source")
			}
			if storage != config.StorageDisk {
				return
			}
			r.hashed("joe", 1)
			r.stop()
			// Only the disk knows the owner now, and the login is to be verified again.
			g.change("new")
			r = start()
			r.clock.advance(2 * hour)
			for i := range 4 {
				r.asks(1, login("joe", fmt.Sprint("guess", i)), deny, fromBackend)
			}
			r.asks(0, login("joe", "guess4"), unavailable, byUser)
			r.clock.advance(2 * time.Second)
			r.asks(1, login("joe", "guess5"), deny, fromBackend)
			r.asks(1, login("joe", "new"), allow, fromBackend)
		})
	}
}

// TestKnownWithoutCache: a password that the backend has accepted is put to it while the account is
// limited, also where the cache remembers nothing.
func TestKnownWithoutCache(t *testing.T) {
	r := newRig(t, func(s *setup) { withLimits(s); s.cfg.Domains[0].Cache.Storage = config.StorageNone })
	r.asks(1, login("joe", "good"), allow, fromBackend)
	r.clock.advance(24 * time.Hour)
	for i := range 4 {
		r.asks(1, login("joe", fmt.Sprint("guess", i)), deny, fromBackend)
	}
	r.asks(0, login("joe", "guess4"), unavailable, byUser)
	r.asks(1, login("joe", "good"), allow, fromBackend)
	r.fake.ask = func(context.Context, backend.Query) backend.Result { return backend.Result{Class: backend.Refused} }
	r.asks(1, login("joe", "good"), deny, fromBackend)
	r.asks(0, login("joe", "good"), unavailable, byUser)
}

// TestOneAccountLimit: guesses at one account of a backend count together, whatever its name is
// spelled like, and whichever domain leads there.
func TestOneAccountLimit(t *testing.T) {
	r := newRig(t, func(s *setup) {
		withLimits(s)
		s.cfg.Domains[0].Name, s.cfg.Domains[0].AuthDomains = "*", []string{"dom.example"}
	})
	names := []string{"joe", "Joe", "JOE ", "ｊo\u00adE"}
	for i, name := range names {
		r.asks(1, at(fmt.Sprintf("invented%d.example", i), name, "guess"), deny, fromBackend)
	}
	for i := range 200 {
		r.want(r.ask(at(fmt.Sprintf("more%d.example", i), names[i%len(names)], "guess")), unavailable, byUser)
	}
	r.asks(1, at("invented0.example", "jane", "guess"), deny, fromBackend)
	id := auth.Identity{User: "JoE", Domain: "another.example"}
	if l, err := r.UserLimit(context.Background(), id); err != nil || l.Refusals != 4 {
		t.Errorf("%+v, %v", l, err)
	}
}

// TestLimitedComparisons: wrong passwords of a limited user with hashes on disk cost few comparisons,
// and the owner's password, which only the disk knows, is found all the same.
func TestLimitedComparisons(t *testing.T) {
	disk := openStore(t)
	r := newRig(t, func(s *setup) { onDisk(s, disk); withLimits(s) })
	r.asks(1, login("joe", "good"), allow, fromBackend)
	r.hashed("joe", 1)
	r.stop()
	r = newRig(t, func(s *setup) { onDisk(s, disk); withLimits(s) })
	for i := range 4 {
		r.asks(1, login("joe", fmt.Sprint("guess", i)), deny, fromBackend)
	}
	before := r.stats().Compares
	for i := range 100 {
		r.want(r.auth("joe", fmt.Sprint("another", i)), unavailable, byUser)
		r.clock.advance(10 * time.Millisecond)
	}
	if n := r.stats().Compares - before; n != 1 {
		t.Errorf("%d comparisons in a second", n)
	}
	r.asks(1, from("198.51.100.8", login("joe", "mistyped")), deny, fromBackend)
	r.asks(0, from("198.51.100.9", login("joe", "good")), allow, auth.SourceCache)
}

// TestOwnerUnderAttack: ten guesses a second from twenty addresses, over a listener. The owner gets in
// within two minutes from another address, with a password that is not known, and at once with one
// that is.
func TestOwnerUnderAttack(t *testing.T) {
	g := newScriptedBackend("good")
	r := newRig(t, func(s *setup) {
		g.use(s)
		s.cfg.Domains[0].Limit = config.Limit{UserRefusals: 10, Window: 10 * time.Minute, FirstPause: 2 * time.Second, LongestPause: 15 * time.Minute}
	})
	r.want(r.auth("joe", "good"), allow, fromBackend)
	g.change("new")
	d := r.dovecot(t, r.listen(listenerBlock("dovecot")), 2)
	id := 0
	try := func(client, password string) bool {
		id++
		d.say(strings.Replace(plainLogin(id, "joe", password), "192.0.2.7", client, 1))
		return strings.HasPrefix(d.line(), "OK")
	}
	const step = 100 * time.Millisecond
	var in time.Duration
	for now := time.Duration(0); now < 4*time.Minute; now += step {
		if try(fmt.Sprint("198.51.100.", 1+now/step%20), fmt.Sprint("guess", now)) {
			t.Fatal("a guess is right")
		}
		if since := now - time.Minute; since >= 0 && since%(10*time.Second) == 0 && in == 0 && try("203.0.113.5", "new") {
			in = since + step
		}
		r.clock.advance(step)
	}
	if in == 0 || in > 2*time.Minute {
		t.Errorf("the owner is in after %v", in)
	}
	if !try("203.0.113.5", "new") || !try("203.0.113.6", "new") {
		t.Error("a known password is not accepted")
	}
	if n := r.fake.asked.Load(); n > 1+10+5+1 {
		t.Errorf("the backend was asked %d times", n)
	}
}

// TestAddressLimit: one address that tries many users is stopped, and only it.
func TestAddressLimit(t *testing.T) {
	r := newRig(t, withLimits)
	const bad, good = "198.51.100.7", "198.51.100.8"
	r.asks(1, from(bad, login("owner", "good")), allow, fromBackend)
	for i := range 6 {
		r.asks(1, from(bad, login(fmt.Sprint("user", i), "spring")), deny, fromBackend)
	}
	r.asks(0, from(bad, login("user6", "spring")), unavailable, byAddress)
	r.asks(0, from("::ffff:"+bad, login("user6", "spring")), unavailable, byAddress)
	r.asks(0, from(bad, login("owner", "good")), allow, hot)
	r.asks(1, from(good, login("user6", "good")), allow, fromBackend)
	r.asks(1, login("user7", "good"), allow, fromBackend)
	r.clock.advance(2 * time.Second)
	r.asks(1, from(bad, login("user8", "good")), allow, fromBackend)
	if n := strings.Count(r.log.String(), "client address limited"); n != 1 {
		t.Errorf("it is logged %d times", n)
	}
	want := Limited{Name: bad + "/32", Refusals: 6, Pauses: 1}
	if l, err := r.AddressLimit(bad); err != nil || l.Until == nil || l.Name != want.Name || l.Refusals != want.Refusals || l.Pauses != want.Pauses {
		t.Errorf("%+v, %v", l, err)
	}
	if l, err := r.ForgetAddressLimit(bad); err != nil || l.Refusals != want.Refusals || l.Pauses != want.Pauses {
		t.Errorf("what was forgotten: %+v, %v", l, err)
	}
	if l, err := r.ForgetAddressLimit(bad); err != nil || l.Refusals != 0 || l.Pauses != 0 || l.Name != want.Name {
		t.Errorf("forgotten: %+v, %v", l, err)
	}
	if _, err := r.ForgetAddressLimit("host.example"); err == nil {
		t.Error("a name is taken for an address")
	}
}

// TestAddressLimitOfTheMachine: an address has as many guesses on the whole machine as it has at one
// domain, whether domains are configured, registered or invented; another one is not affected.
func TestAddressLimitOfTheMachine(t *testing.T) {
	r := newRig(t, func(s *setup) {
		withLimits(s)
		s.cfg.Domains[0].Name = "*"
		second := s.cfg.Domains[0]
		second.Name = "second.example"
		s.cfg.Domains = append(s.cfg.Domains, second)
	})
	const bad, good = "2001:db8:0:7::1", "2001:db8:0:8::1"
	for i := range 3 {
		r.asks(1, from(bad, at("second.example", fmt.Sprint("user", i), "spring")), deny, fromBackend)
		r.asks(1, from("2001:db8:0:7::ffff", at(fmt.Sprintf("invented%d.example", i), "joe", "spring")), deny, fromBackend)
	}
	for i := range 20 {
		r.asks(0, from(bad, at(fmt.Sprintf("another%d.example", i), "joe", "spring")), unavailable, byAddress)
	}
	r.asks(0, from(bad, at("second.example", "joe", "spring")), unavailable, byAddress)
	r.asks(1, from(good, at("second.example", "joe", "spring")), deny, fromBackend)
	l, err := r.Limits(context.Background())
	if err != nil || len(l.Addresses.Limited) != 1 || l.Addresses.Limited[0].Name != "2001:db8:0:7::/64" || l.Addresses.Watched != 1 {
		t.Errorf("%+v, %v", l, err)
	}
}

// TestAddressIsNotCoalesced: the same question from another address is not refused because the first
// address is limited.
func TestAddressIsNotCoalesced(t *testing.T) {
	disk := openStore(t)
	r := newRig(t, func(s *setup) { onDisk(s, disk); withLimits(s) })
	const bad = "198.51.100.7"
	r.want(r.auth("joe", "good"), allow, fromBackend)
	r.hashed("joe", 1)
	r.stop()
	r = newRig(t, func(s *setup) { onDisk(s, disk); withLimits(s) })
	for i := range 6 {
		r.asks(1, from(bad, login(fmt.Sprint("user", i), "spring")), deny, fromBackend)
	}
	// Both have to wait for the hash of joe's other password to be compared.
	release := r.busyHashing()
	var wg sync.WaitGroup
	answers := make([]auth.Answer, 2)
	wg.Add(2)
	go func() { defer wg.Done(); answers[0] = r.ask(from(bad, login("joe", "other"))) }()
	eventually(t, "the comparison", func() bool {
		stats, err := r.CacheStats(context.Background())
		return err == nil && stats["dom.example"].Compares == 1
	})
	r.fake.ask = func(_ context.Context, q backend.Query) backend.Result {
		return backend.Result{Class: backend.Accepted}
	}
	go func() { defer wg.Done(); answers[1] = r.ask(from("198.51.100.8", login("joe", "other"))) }()
	eventually(t, "the second request", func() bool {
		stats, err := r.CacheStats(context.Background())
		return err == nil && stats["dom.example"].Missed == 8
	})
	r.quiesce()
	release()
	wg.Wait()
	r.want(answers[0], unavailable, byAddress)
	r.want(answers[1], allow, fromBackend)
}

// TestTwoLimitedAddresses: what one address that is limited asks is not asked for another one that
// is limited as well, however many of its requests waited for the answer.
func TestTwoLimitedAddresses(t *testing.T) {
	const bad, worse = "198.51.100.7", "198.51.100.8"
	disk := openStore(t)
	r := newRig(t, func(s *setup) { onDisk(s, disk); withLimits(s) })
	r.want(r.auth("joe", "good"), allow, fromBackend)
	r.hashed("joe", 1)
	r.stop()
	r = newRig(t, func(s *setup) { onDisk(s, disk); withLimits(s) })
	for i := range 6 {
		r.asks(1, from(bad, login(fmt.Sprint("user", i), "spring")), deny, fromBackend)
		r.asks(1, from(worse, login(fmt.Sprint("other", i), "spring")), deny, fromBackend)
	}
	release := r.busyHashing()
	before := r.fake.asked.Load()
	first := make(chan auth.Answer, 1)
	go func() { first <- r.ask(from(bad, login("joe", "guess"))) }()
	eventually(t, "the comparison", func() bool { return r.stats().Compares == 1 })
	missed := r.stats().Missed
	others := make(chan auth.Answer, 8)
	for range cap(others) {
		go func() { others <- r.ask(from(worse, login("joe", "guess"))) }()
	}
	eventually(t, "the other requests", func() bool { return r.stats().Missed == missed+uint64(cap(others)) })
	r.quiesce()
	release()
	r.want(<-first, unavailable, byAddress)
	for range cap(others) {
		if a := <-others; a.Verdict != unavailable || a.Source != byAddress {
			t.Errorf("a request from the other address was answered %v (%v)", a.Verdict, a.Source)
		}
	}
	if n := r.fake.asked.Load() - before; n != 0 {
		t.Errorf("the backend was asked %d times for addresses that are limited", n)
	}
}

// busyHashing has every worker of the hashing pool wait for release, at the latest until the test's end.
func (r *rig) busyHashing() (release func()) {
	block := make(chan struct{})
	release = sync.OnceFunc(func() { close(block) })
	r.t.Cleanup(release)
	var held atomic.Int64
	for i := range 64 {
		id := auth.Identity{User: fmt.Sprint("busy", i), Domain: "busy.example"}
		go func() { _ = r.shards.Hashing.Run(context.Background(), id, func() { held.Add(1); <-block }) }()
	}
	eventually(r.t, "all workers to be busy", func() bool { return held.Load() == int64(min(64, r.width())) })
	return release
}

// TestUserLimitPerDomain: wrong passwords of a user in one domain of the fallback do not
// count against the user of the same name in another.
func TestUserLimitPerDomain(t *testing.T) {
	r := newRig(t, func(s *setup) { s.cfg.Domains[0].Name = "*"; withLimits(s) })
	for i := range 4 {
		r.want(r.ask(at("a.example", "info", fmt.Sprint("bad", i))), deny, fromBackend)
		r.quiesce()
	}
	r.want(r.ask(at("a.example", "info", "good")), unavailable, byUser)
	r.want(r.ask(at("b.example", "info", "good")), allow, fromBackend)
}

// TestParallelGuesses: guesses that come all at once get no further than guesses one after the other.
func TestParallelGuesses(t *testing.T) {
	gate := make(chan struct{})
	r := newRig(t, func(s *setup) {
		withLimits(s)
		s.fake.ask = func(_ context.Context, q backend.Query) backend.Result {
			<-gate
			return goodPassword(q)
		}
	})
	var wg sync.WaitGroup
	answers := make(chan auth.Answer, 100)
	for i := range 100 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			answers <- r.auth("joe", fmt.Sprint("guess", i))
		}()
	}
	eventually(t, "the limit", func() bool { return len(answers) == 96 })
	close(gate)
	wg.Wait()
	close(answers)
	count := map[string]int{}
	for a := range answers {
		count[a.Verdict.String()+" "+a.Source.String()]++
	}
	if count["unavailable limit-user"] != 96 || count["deny backend"] != 4 {
		t.Errorf("answers: %v", count)
	}
	if n := r.fake.asked.Load(); n != 4 {
		t.Errorf("the backend was asked %d times", n)
	}
	r.quiesce()
	r.asks(0, login("joe", "guess"), unavailable, byUser)
}

// TestDovecotAddressLimit: the address that a mail server passes on is limited. Whether its password
// is right is not known, so its client gets a temporary failure, not a refusal.
func TestDovecotAddressLimit(t *testing.T) {
	r := newRig(t, withLimits)
	d := r.dovecot(t, r.listen(listenerBlock("dovecot")), 2)
	for i := range 8 {
		d.say(plainLogin(i+1, fmt.Sprint("user", i), "guess"))
		if got, want := d.line(), fmt.Sprintf("FAIL\t%d\t", i+1); !strings.HasPrefix(got, want) || strings.Contains(got, "temp") != (i >= 6) {
			t.Errorf("replied %q, want %q", got, want)
		}
		r.quiesce()
	}
	if n := r.fake.asked.Load(); n != 6 {
		t.Errorf("the backend was asked %d times", n)
	}
	d.say(plainLogin(9, "user9", "good"))
	if got := d.line(); !strings.HasPrefix(got, "FAIL\t9\t") {
		t.Errorf("replied %q", got)
	}
	d.say(strings.Replace(plainLogin(10, "user9", "good"), "192.0.2.7", "192.0.2.8", 1))
	if got := d.line(); !strings.HasPrefix(got, "OK\t10\t") {
		t.Errorf("replied %q", got)
	}
}

package actors

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"postern/internal/auth"
	"postern/internal/backend"
	"postern/internal/config"
	"postern/internal/store"
	"postern/internal/token"
)

// TestJSXCToken: a valid token is accepted any number of times, without a question to the backend
// and without a record in the cache.
func TestJSXCToken(t *testing.T) {
	for _, storage := range []config.Storage{config.StorageNone, config.StorageMemory, config.StorageDisk} {
		t.Run(string(storage), func(t *testing.T) {
			disk := openStore(t)
			r := newRig(t, func(s *setup) {
				withTokens(s)
				onDisk(s, disk)
				s.cfg.Domains[0].Cache.Storage = storage
			})
			text := r.jsxcToken("joe", time.Hour)
			for range 3 {
				r.want(r.auth("joe", text), auth.Allow, auth.SourceToken)
			}
			if u := r.cached("joe"); len(u.Verifiers)+len(u.Refusals) > 0 || u.Exists.Known {
				t.Errorf("the cache knows %+v", u)
			}
			counted(t, disk, 0)
			if n := r.fake.asked.Load(); n != 0 {
				t.Errorf("the backend was asked %d times", n)
			}
			// A token of another user is a password like any other, an expired one is not.
			r.want(r.auth("eve", text), auth.Deny, auth.SourceBackend)
			r.clock.advance(time.Hour + 2*time.Second)
			r.want(r.auth("joe", text), auth.Deny, auth.SourceToken)
			if n := r.fake.asked.Load(); n != 1 {
				t.Errorf("the backend was asked %d times", n)
			}
		})
	}
}

// TestExpiredToken: a token that is signed for its user but of another time, or with a nonce of another
// length, is refused as often as it comes: it is no guess, so no limit counts it, no backend is asked,
// and the user's password stays good.
func TestExpiredToken(t *testing.T) {
	r := newRig(t, func(s *setup) {
		withTokens(s)
		s.cfg.Domains[0].Limit = config.Limit{UserRefusals: 4, AddressRefusals: 6, Window: 10 * time.Minute, FirstPause: 30 * time.Second, LongestPause: 15 * time.Minute}
	})
	jsxc, totp := r.jsxcToken("joe", time.Minute), r.totpToken("joe")
	ahead := r.clock.now().Add(time.Hour)
	early, err := r.totp(32).Issue(auth.Identity{User: "joe", Domain: "dom.example"}, ahead)
	if err != nil {
		t.Fatal(err)
	}
	long, err := r.totp(40).Issue(auth.Identity{User: "joe", Domain: "dom.example"}, r.clock.now())
	if err != nil {
		t.Fatal(err)
	}
	r.clock.advance(2 * time.Minute)
	for kind, c := range map[string]struct{ text, reason string }{
		"jsxc": {jsxc, "expired token"}, "totp": {totp, "expired token"}, "totp of the future": {early.Reveal(), "expired token"},
		"nonce of another length": {long.Reveal(), "nonce_digits"},
	} {
		for range 20 {
			a := r.auth("joe", c.text)
			r.want(a, auth.Deny, auth.SourceToken)
			if !strings.Contains(a.Reason, c.reason) {
				t.Fatalf("%s: refused for %q", kind, a.Reason)
			}
		}
	}
	if n := r.fake.asked.Load(); n != 0 {
		t.Errorf("the backend was asked %d times", n)
	}
	r.want(r.auth("joe", "good"), auth.Allow, auth.SourceBackend)
	if log := r.log.String(); !strings.Contains(log, "nonce_digits = 40") {
		t.Errorf("the log does not say what to configure:\n%s", log)
	}
}

// TestForeignTokenIsAPassword: a password in the form of a token is accepted by backend, cache and
// grace.
func TestForeignTokenIsAPassword(t *testing.T) {
	g := newScriptedBackend("")
	r := newRig(t, func(s *setup) { withTokens(s); g.use(s) })
	alike := map[string]string{
		"jsxc, of another":   r.jsxcToken("bob", time.Hour),
		"totp, of another":   r.totpToken("bob"),
		"totp, by its looks": "12345678 " + strings.Repeat("A", 43) + "=",
	}
	for name, password := range alike {
		if !token.LooksJSXC(password) && !token.LooksTOTP(password) {
			t.Fatalf("%s does not look like a token", name)
		}
		g.change(password)
		user := "ann " + name
		r.want(r.auth(user, password), auth.Allow, auth.SourceBackend)
		r.want(r.auth(user, password), auth.Allow, auth.SourceHot)
	}
	g.always(backend.Outage)
	r.clock.advance(2 * time.Hour)
	for name, password := range alike {
		r.want(r.auth("ann "+name, password), auth.Allow, auth.SourceGrace)
	}
}

// TestWithoutTokens: a domain that has none of them takes a token for a password.
func TestWithoutTokens(t *testing.T) {
	r := newRig(t, nil)
	r.want(r.auth("joe", r.jsxcToken("joe", time.Hour)), auth.Deny, auth.SourceBackend)
}

// TestSingleUse: a single-use token is good once, also after a panic of its worker and after
// a restart of the broker.
func TestSingleUse(t *testing.T) {
	disk := openStore(t)
	shared := &clock{}
	next := func(f *faults) *rig {
		return newRig(t, func(s *setup) {
			withTokens(s)
			onDisk(s, disk)
			s.inject, s.clock = f.inject, shared
		})
	}
	f := new(faults)
	r := next(f)
	text := r.totpToken("joe")
	r.want(r.auth("joe", text), auth.Allow, auth.SourceToken)
	r.want(r.auth("joe", text), auth.Deny, auth.SourceToken)
	r.settled(f)
	workers := r.width()
	f.arm("token", "tick", workers)
	r.tickAll()
	eventually(t, "the restarts", func() bool { return r.restarts("token") == workers && r.recovered() })
	r.want(r.auth("joe", text), auth.Deny, auth.SourceToken)
	second := r.totpToken("joe")
	r.want(r.auth("joe", second), auth.Allow, auth.SourceToken)
	r.stop()

	r = next(new(faults))
	r.want(r.auth("joe", text), auth.Deny, auth.SourceToken)
	r.want(r.auth("joe", second), auth.Deny, auth.SourceToken)
	r.want(r.auth("joe", r.totpToken("joe")), auth.Allow, auth.SourceToken)
	if n := r.fake.asked.Load(); n != 0 {
		t.Errorf("the backend was asked %d times", n)
	}
	r.stop()

	// What can never be presented again is not kept.
	shared.advance(time.Hour)
	r = next(new(faults))
	nonces := 0
	if err := disk.Scan([]byte(store.Nonces), func(_, _ []byte) bool { nonces++; return true }); err != nil {
		t.Fatal(err)
	}
	if nonces != 0 {
		t.Errorf("%d nonces are kept for ever", nonces)
	}
	r.want(r.auth("joe", text), auth.Deny, auth.SourceToken)
}

// TestUnreadableNonces: what stands in the store under a nonce's key but is none is removed.
func TestUnreadableNonces(t *testing.T) {
	disk := openStore(t)
	if err := disk.Apply([]store.Op{
		{Key: []byte(store.Nonces + "short"), Value: []byte{1, 0, 0, 0, 0, 255, 255, 255, 255}},
		{Key: []byte(store.Nonces + strings.Repeat("x", 32)), Value: []byte{9, 0, 0, 0, 0, 255, 255, 255, 255}},
		{Key: []byte(store.Nonces + strings.Repeat("y", 32)), Value: []byte{}},
	}, true); err != nil {
		t.Fatal(err)
	}
	r := newRig(t, func(s *setup) { withTokens(s); onDisk(s, disk) })
	left := 0
	if err := disk.Scan([]byte(store.Nonces), func(_, _ []byte) bool { left++; return true }); err != nil {
		t.Fatal(err)
	}
	if left != 0 {
		t.Errorf("%d records are left", left)
	}
	r.want(r.auth("joe", r.totpToken("joe")), auth.Allow, auth.SourceToken)
}

// TestTokenIsDurableFirst: a single-use token is on disk before the login is allowed.
func TestTokenIsDurableFirst(t *testing.T) {
	disk := &slowStore{Store: openStore(t), reached: make(chan struct{}), release: make(chan struct{})}
	r := newRig(t, func(s *setup) { withTokens(s); onDisk(s, disk) })
	answer := r.start("joe", r.totpToken("joe"))
	<-disk.reached
	select {
	case a := <-answer:
		t.Errorf("answered %v before the token was stored", a.Verdict)
	default:
	}
	close(disk.release)
	r.want(<-answer, auth.Allow, auth.SourceToken)
}

// slowStore holds the first durable write until the test releases it.
type slowStore struct {
	store.Store
	reached, release chan struct{}
}

func (s *slowStore) Apply(ops []store.Op, sync bool) error {
	if sync {
		close(s.reached)
		<-s.release
	}
	return s.Store.Apply(ops, sync)
}

// TestTokenTrace: `postern test` shows what became of a token, and never the token.
func TestTokenTrace(t *testing.T) {
	r := newRig(t, withTokens)
	single := r.totpToken("joe")
	for _, step := range []struct{ text, want string }{
		{r.jsxcToken("joe", time.Hour), "jsxc: valid"}, {r.jsxcToken("joe", -time.Hour), "jsxc: expired"},
		{r.jsxcToken("eve", time.Hour), "jsxc: invalid"}, {single, "totp: valid"}, {single, "totp: already used"},
	} {
		p := r.Ask(context.Background(), login("joe", step.text), 4*time.Second)
		steps := fmt.Sprint(p.Steps)
		if !strings.Contains(steps, step.want) || strings.Contains(steps, step.text) {
			t.Errorf("the steps are %s, want %q", steps, step.want)
		}
	}
}

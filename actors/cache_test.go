package actors

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"postern/internal/auth"
	"postern/internal/backend"
	"postern/internal/config"
)

// scriptedBackend is a backend with answers that the test changes.
type scriptedBackend struct {
	password atomic.Pointer[string]
	class    atomic.Int64 // not 0: every answer
}

func newScriptedBackend(password string) *scriptedBackend {
	g := new(scriptedBackend)
	g.password.Store(&password)
	return g
}

func (g *scriptedBackend) change(password string) { g.password.Store(&password) }
func (g *scriptedBackend) always(c backend.Class) { g.class.Store(int64(c) + 1) }
func (g *scriptedBackend) works()                 { g.class.Store(0) }
func (g *scriptedBackend) use(s *setup)           { s.fake.ask = g.ask }
func (g *scriptedBackend) rig(t *testing.T, s config.Storage) *rig {
	t.Helper()
	disk := openStore(t)
	return newRig(t, func(u *setup) {
		onDisk(u, disk)
		u.cfg.Domains[0].Cache.Storage = s
		g.use(u)
	})
}

func (g *scriptedBackend) ask(_ context.Context, q backend.Query) backend.Result {
	if c := g.class.Load(); c != 0 {
		return backend.Result{Class: backend.Class(c - 1), Err: fmt.Errorf("always %v", backend.Class(c-1))}
	}
	if q.Op == auth.OpAuth && q.Secret.Reveal() == *g.password.Load() {
		q.Secret = auth.NewSecret("good")
	} else if q.Op == auth.OpAuth {
		return backend.Result{Class: backend.Refused}
	}
	return goodPassword(q)
}

// timedRequest is one request and its answer, some time after the one before.
type timedRequest struct {
	after   time.Duration
	outage  bool
	req     auth.Request
	verdict auth.Verdict
	source  auth.Source
}

const (
	allow, deny, unavailable = auth.Allow, auth.Deny, auth.Unavailable
	fromBackend, hot         = auth.SourceBackend, auth.SourceHot
	before, grace            = auth.SourceRefusedBefore, auth.SourceGrace
	minute, hour             = time.Minute, time.Hour
)

func isUser(user string) auth.Request {
	return auth.Request{Op: auth.OpIsUser, User: user, Domain: "dom.example"}
}

// TestLifetimes runs sequences of requests with each storage.
func TestLifetimes(t *testing.T) {
	good, bad := login("joe", "good"), login("joe", "bad")
	remembering := map[string][]timedRequest{
		"a second login asks no backend, until it was not used for an hour": {
			{0, false, good, allow, fromBackend}, {0, false, good, allow, hot}, {50 * minute, false, good, allow, hot},
			{50 * minute, false, good, allow, hot}, {hour, false, good, allow, fromBackend}},
		"a login that is used all day is verified once a day": {
			{0, false, good, allow, fromBackend}, {59 * minute, false, good, allow, hot}, {59 * minute, false, good, allow, hot},
			{22 * hour, false, good, allow, fromBackend}},
		"a wrong password is remembered for five minutes": {
			{0, false, bad, deny, fromBackend}, {0, false, bad, deny, before}, {4 * minute, false, bad, deny, before},
			{minute, false, bad, deny, fromBackend}, {0, false, good, allow, fromBackend}, {0, false, bad, deny, before}},
		"grace lasts a week, and is for right passwords only": {
			{0, false, good, allow, fromBackend}, {2 * hour, true, good, allow, grace}, {0, true, bad, unavailable, fromBackend},
			{165 * hour, true, good, allow, grace}, {hour, true, good, unavailable, fromBackend}, {0, false, good, allow, fromBackend}},
		"a refused password gets no grace": {
			{0, false, bad, deny, fromBackend}, {hour, true, bad, unavailable, fromBackend}},
		"a user is there for an hour, and in grace": {
			{0, false, isUser("joe"), allow, fromBackend}, {59 * minute, false, isUser("joe"), allow, hot},
			{minute, false, isUser("joe"), allow, fromBackend}, {2 * hour, true, isUser("joe"), allow, grace},
			{166 * hour, true, isUser("joe"), unavailable, fromBackend}},
		"a user is absent for a minute, and an outage never says no": {
			{0, false, isUser("nobody"), deny, fromBackend}, {50 * time.Second, false, isUser("nobody"), deny, hot},
			{10 * time.Second, false, isUser("nobody"), deny, fromBackend}, {hour, true, isUser("nobody"), unavailable, fromBackend}},
		"a login shows that the user is there": {
			{0, false, good, allow, fromBackend}, {0, false, isUser("joe"), allow, hot}},
	}
	forgetting := map[string][]timedRequest{
		"every login asks": {
			{0, false, good, allow, fromBackend}, {0, false, good, allow, fromBackend}, {0, true, good, unavailable, fromBackend},
			{0, false, bad, deny, fromBackend}, {0, false, bad, deny, fromBackend}},
		"every isuser asks": {
			{0, false, isUser("joe"), allow, fromBackend}, {0, false, isUser("joe"), allow, fromBackend},
			{0, true, isUser("joe"), unavailable, fromBackend}},
	}
	for storage, stories := range map[config.Storage]map[string][]timedRequest{
		config.StorageMemory: remembering, config.StorageDisk: remembering, config.StorageNone: forgetting,
	} {
		for name, story := range stories {
			t.Run(fmt.Sprint(storage, "/", name), func(t *testing.T) { newScriptedBackend("good").play(t, storage, story) })
		}
	}
}

// play makes the requests of a story and checks each answer, and that the backend was asked exactly
// where the source says so.
func (g *scriptedBackend) play(t *testing.T, storage config.Storage, story []timedRequest) {
	t.Helper()
	r := g.rig(t, storage)
	for i, c := range story {
		r.clock.advance(c.after)
		g.works()
		if c.outage {
			g.always(backend.Outage)
		}
		asked := r.fake.asked.Load()
		a := r.ask(c.req)
		if a.Verdict != c.verdict || a.Source != c.source {
			t.Fatalf("request %d: answered %v (%v), want %v (%v)", i, a.Verdict, a.Source, c.verdict, c.source)
		}
		asked = r.fake.asked.Load() - asked
		if want := c.source == fromBackend || c.source == grace; (asked == 1) != want || asked > 1 {
			t.Errorf("request %d: the backend was asked %d times", i, asked)
		}
	}
}

// TestChangedPassword: once the new password has been seen, the old one is asked about
// and refused, although its hour is not over.
func TestChangedPassword(t *testing.T) {
	for _, storage := range []config.Storage{config.StorageMemory, config.StorageDisk} {
		t.Run(string(storage), func(t *testing.T) {
			g := newScriptedBackend("old")
			r := g.rig(t, storage)
			r.want(r.auth("joe", "old"), allow, fromBackend)
			r.want(r.auth("joe", "old"), allow, hot)
			g.change("new")
			r.want(r.auth("joe", "new"), allow, fromBackend)
			r.want(r.auth("joe", "old"), deny, fromBackend)
			r.want(r.auth("joe", "old"), deny, before)
			r.want(r.auth("joe", "new"), allow, hot)
			g.always(backend.Outage)
			r.clock.advance(2 * hour)
			r.want(r.auth("joe", "old"), unavailable, fromBackend)
			r.want(r.auth("joe", "new"), allow, grace)
		})
	}
}

// TestClassesAndGrace: which answers of a backend let the cache serve in its place.
func TestClassesAndGrace(t *testing.T) {
	cases := []struct {
		class backend.Class
		login auth.Answer
		exist auth.Answer
	}{
		{backend.Outage, auth.Answer{Verdict: allow, Source: grace}, auth.Answer{Verdict: allow, Source: grace}},
		{backend.Throttled, auth.Answer{Verdict: allow, Source: grace}, auth.Answer{Verdict: allow, Source: grace}},
		{backend.Unsure, auth.Answer{Verdict: allow, Source: grace}, auth.Answer{Verdict: allow, Source: auth.SourceCache}},
		{backend.Misconfigured, auth.Answer{Source: fromBackend}, auth.Answer{Source: fromBackend}},
		{backend.Unsupported, auth.Answer{Verdict: auth.Unsupported, Source: auth.SourceUnsupported},
			auth.Answer{Verdict: auth.Unsupported, Source: auth.SourceUnsupported}},
		{backend.Refused, auth.Answer{Verdict: deny, Source: fromBackend}, auth.Answer{Verdict: deny, Source: fromBackend}},
	}
	for _, c := range cases {
		t.Run(c.class.String(), func(t *testing.T) {
			g := newScriptedBackend("good")
			r := g.rig(t, config.StorageMemory)
			r.want(r.auth("joe", "good"), allow, fromBackend)
			r.clock.advance(2 * hour)
			g.always(c.class)
			r.want(r.auth("joe", "good"), c.login.Verdict, c.login.Source)
			r.want(r.ask(isUser("joe")), c.exist.Verdict, c.exist.Source)
			if a := r.auth("joe", "other"); a.Verdict == allow || a.Verdict != deny && c.class == backend.Refused {
				t.Errorf("another password is answered %v (%v)", a.Verdict, a.Source)
			}
		})
	}
}

// TestUnsure: where no backend can look users up, a user that logged in within the outage lifetime
// exists, and no user is said to be absent.
func TestUnsure(t *testing.T) {
	for _, storage := range []config.Storage{config.StorageMemory, config.StorageDisk} {
		t.Run(string(storage), func(t *testing.T) {
			g := newScriptedBackend("good")
			r := g.rig(t, storage)
			ask := func(verdict auth.Verdict, source auth.Source) {
				t.Helper()
				g.always(backend.Unsure)
				r.want(r.ask(isUser("joe")), verdict, source)
				g.works()
			}
			ask(unavailable, fromBackend)
			r.want(r.auth("joe", "bad"), deny, fromBackend)
			ask(unavailable, fromBackend)
			r.want(r.auth("joe", "good"), allow, fromBackend)
			ask(allow, hot)
			r.clock.advance(2 * hour)
			ask(allow, auth.SourceCache)
			r.clock.advance(165 * hour)
			ask(allow, auth.SourceCache)
			r.clock.advance(hour)
			ask(unavailable, fromBackend)
		})
	}
}

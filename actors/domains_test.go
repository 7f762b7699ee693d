package actors

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"postern/internal/auth"
	"postern/internal/backend"
	"postern/internal/config"
)

// at is a login in a domain.
func at(domain, user, password string) auth.Request {
	return auth.Request{Op: auth.OpAuth, User: user, Domain: domain, Secret: auth.NewSecret(password)}
}

// TestInventedDomains: names that are not served start no actors and ask no backend.
func TestInventedDomains(t *testing.T) {
	r := newRig(t, withTokens)
	before := len(r.Tree())
	for i := range 1000 {
		r.want(r.ask(at(fmt.Sprintf("invented%d.example", i), "joe", "good")), auth.Deny, auth.SourceUnknownDomain)
	}
	if after := len(r.Tree()); after != before {
		t.Errorf("Tree has %d lines, it had %d", after, before)
	}
	if n := r.fake.asked.Load(); n != 0 {
		t.Errorf("the backend was asked %d times", n)
	}
}

// TestFallbackDomain answers for every other name, without more actors, and keeps the users
// of one name from those of another.
func TestFallbackDomain(t *testing.T) {
	g := newBarrier()
	r := newRig(t, func(s *setup) { s.cfg.Domains[0].Name = "*"; s.fake.ask = g.ask })
	before := len(r.Tree())
	joe := []<-chan auth.Answer{r.startRequest(at("one.example", "joe", "good"), time.Minute),
		r.startRequest(at("two.example", "joe", "good"), time.Minute)}
	g.reached(t, 2) // the same question in two domains is two questions
	g.open()
	for _, a := range joe {
		r.want(<-a, auth.Allow, auth.SourceBackend)
	}
	for i := range 200 {
		r.want(r.ask(at(fmt.Sprintf("d%d.example", i), "joe", "good")), auth.Allow, auth.SourceBackend)
	}
	r.want(r.ask(at("one.example", "joe", "good")), auth.Allow, auth.SourceHot)
	if after := len(r.Tree()); after != before {
		t.Errorf("Tree has %d lines, it had %d", after, before)
	}
	if err := r.ForgetDomain(context.Background(), "one.example"); err != nil {
		t.Fatal(err)
	}
	r.want(r.ask(at("one.example", "joe", "good")), auth.Allow, auth.SourceBackend)
	r.want(r.ask(at("two.example", "joe", "good")), auth.Allow, auth.SourceHot)
}

// TestOwnDomainBeforeFallback: the fallback is for names without a block of their own.
func TestOwnDomainBeforeFallback(t *testing.T) {
	second := &fakeBackend{}
	r := newRig(t, func(s *setup) {
		s.cfg.Backends = append(s.cfg.Backends, s.cfg.Backends[0])
		s.cfg.Backends[1].Name = "second"
		all := s.cfg.Domains[0]
		all.Name, all.Backends = "*", []config.BackendRef{s.cfg.Backends[1].BackendRef}
		s.cfg.Domains = append(s.cfg.Domains, all)
		s.more = map[string]*fakeBackend{"second": second}
	})
	r.ask(at("dom.example", "joe", "good"))
	r.ask(at("sub.dom.example", "joe", "good"))
	if a, b := r.fake.asked.Load(), second.asked.Load(); a != 1 || b != 1 {
		t.Errorf("the backends were asked %d and %d times", a, b)
	}
}

// domainRecorder records in which domains a backend is asked.
type domainRecorder struct {
	mu      sync.Mutex
	domains []string
	yes     string // the domain with the right password
}

func (d *domainRecorder) ask(_ context.Context, q backend.Query) backend.Result {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.domains = append(d.domains, q.Domain)
	if d.yes != "" && q.Domain != d.yes {
		return backend.Result{Class: backend.Refused}
	}
	return goodPassword(q)
}

// TestFolding: one domain has many spellings, and a user is the same in all of them.
func TestFolding(t *testing.T) {
	for name, spellings := range map[string][]string{
		"dom.example":     {"dom.example", "DOM.EXAMPLE", "Dom.Example."},
		"münchen.example": {"münchen.example", "MÜNCHEN.example", "xn--mnchen-3ya.example", "XN--MNCHEN-3YA.EXAMPLE."},
	} {
		t.Run(name, func(t *testing.T) {
			d := new(domainRecorder)
			r := newRig(t, func(s *setup) { s.cfg.Domains[0].Name = name; s.fake.ask = d.ask })
			source := auth.SourceBackend
			for _, spelling := range spellings {
				r.want(r.ask(at(spelling, "joe", "good")), auth.Allow, source)
				source = auth.SourceHot
			}
			if !slices.Equal(d.domains, []string{name}) {
				t.Errorf("the backend was asked about %q", d.domains)
			}
		})
	}
}

// TestAuthDomains: a domain's names at its backend are asked in turn until one knows the user.
func TestAuthDomains(t *testing.T) {
	names := []string{"cloud.example", "old.example", "older.example"}
	for _, c := range []struct {
		yes   string
		asked int
		want  auth.Verdict
	}{{"cloud.example", 1, auth.Allow}, {"old.example", 2, auth.Allow}, {"older.example", 3, auth.Allow}, {"dom.example", 3, auth.Deny}} {
		t.Run(c.yes, func(t *testing.T) {
			d := &domainRecorder{yes: c.yes}
			r := newRig(t, func(s *setup) { s.cfg.Domains[0].AuthDomains = names; s.fake.ask = d.ask })
			r.want(r.auth("joe", "good"), c.want, auth.SourceBackend)
			if !slices.Equal(d.domains, names[:c.asked]) {
				t.Errorf("asked about %q", d.domains)
			}
		})
	}
}

// verdictOf is a backend that always answers the same.
func verdictOf(r backend.Result) func(context.Context, backend.Query) backend.Result {
	if r.Err == nil && (r.Class == backend.Outage || r.Class == backend.Throttled ||
		r.Class == backend.Misconfigured || r.Class == backend.Unsure) {
		r.Err = errors.New("as the test wants it")
	}
	return func(context.Context, backend.Query) backend.Result { return r }
}

// TestTwoBackends: the first that knows the user decides, and one that cannot answer never
// becomes a no.
func TestTwoBackends(t *testing.T) {
	yes, no := backend.Result{Class: backend.Accepted}, backend.Result{Class: backend.Refused}
	known := backend.Result{Class: backend.Refused, Known: true}
	absent := backend.Result{Class: backend.Refused, Absent: true}
	down, busy := backend.Result{Class: backend.Outage}, backend.Result{Class: backend.Throttled}
	broken, none := backend.Result{Class: backend.Misconfigured}, backend.Result{Class: backend.Unsupported}
	unsure := backend.Result{Class: backend.Unsure}
	cases := []struct {
		first, second backend.Result
		asked         int64 // the second
		verdict       auth.Verdict
		grace         bool // a user known from before is allowed all the same
	}{
		{yes, no, 0, auth.Allow, true}, {known, yes, 0, auth.Deny, false}, {no, yes, 1, auth.Allow, true},
		{no, no, 1, auth.Deny, false}, {no, known, 1, auth.Deny, false},
		{down, yes, 1, auth.Allow, true}, {down, absent, 1, auth.Unavailable, true}, {absent, down, 1, auth.Unavailable, true},
		{down, known, 1, auth.Deny, false}, {busy, absent, 1, auth.Unavailable, true}, {absent, busy, 1, auth.Unavailable, true},
		// A refused password gets no grace, whatever the other backend says.
		{down, no, 1, auth.Unavailable, false}, {no, down, 1, auth.Unavailable, false}, {no, busy, 1, auth.Unavailable, false},
		{broken, no, 1, auth.Unavailable, false}, {no, broken, 1, auth.Unavailable, false}, {broken, yes, 1, auth.Allow, true},
		{none, no, 1, auth.Deny, false}, {no, none, 1, auth.Deny, false}, {none, none, 1, auth.Unsupported, false},
		{down, down, 1, auth.Unavailable, true}, {none, down, 1, auth.Unavailable, true},
		{unsure, absent, 1, auth.Unavailable, true}, {absent, unsure, 1, auth.Unavailable, true},
		{no, unsure, 1, auth.Unavailable, false}, {unsure, yes, 1, auth.Allow, true},
	}
	for _, c := range cases {
		t.Run(fmt.Sprintf("%+v/%+v", c.first, c.second), func(t *testing.T) {
			second := &fakeBackend{}
			r := newRig(t, func(s *setup) {
				s.cfg.Backends = append(s.cfg.Backends, s.cfg.Backends[0])
				s.cfg.Backends[1].Name = "second"
				s.cfg.Domains[0].Backends = append(s.cfg.Domains[0].Backends, s.cfg.Backends[1].BackendRef)
				s.more = map[string]*fakeBackend{"second": second}
			})
			r.want(r.auth("joe", "good"), auth.Allow, auth.SourceBackend)
			r.fake.ask, second.ask = verdictOf(c.first), verdictOf(c.second)
			if a := r.auth("ann", "good"); a.Verdict != c.verdict {
				t.Errorf("answered %v (%v), want %v", a.Verdict, a.Source, c.verdict)
			}
			if a := r.ask(isUser("eve")); a.Verdict != c.verdict {
				t.Errorf("isuser answered %v (%v), want %v", a.Verdict, a.Source, c.verdict)
			}
			want := 2 * c.asked
			if c.second.Class == backend.Throttled {
				want = c.asked // and left alone
			}
			if n := second.asked.Load(); n != want {
				t.Errorf("the second backend was asked %d times, want %d", n, want)
			}
			r.clock.advance(2 * time.Hour)
			if a := r.auth("joe", "good"); (a.Verdict == auth.Allow) != c.grace {
				t.Errorf("the known user is answered %v (%v)", a.Verdict, a.Source)
			}
			// What was refused stays so when neither backend answers any more.
			refused := func(r backend.Result) bool { return r.Class == backend.Refused && !r.Absent }
			later := c.verdict == auth.Allow || !refused(c.first) && !refused(c.second)
			r.fake.ask, second.ask = outage, outage
			r.clock.advance(2 * time.Hour)
			if a := r.auth("joe", "good"); (a.Verdict == auth.Allow) != later {
				t.Errorf("in an outage of both joe is answered %v (%v)", a.Verdict, a.Source)
			}
		})
	}
}

// TestDomainsDoNotShareTrouble: neither a backend that hangs nor a panic affects another
// domain.
func TestDomainsDoNotShareTrouble(t *testing.T) {
	f, g, second := new(faults), newBarrier(), &fakeBackend{}
	r := newRig(t, func(s *setup) {
		s.fake.ask, s.inject = g.ask, f.inject
		s.cfg.Backends[0].Queue = 0
		s.cfg.Backends = append(s.cfg.Backends, s.cfg.Backends[0])
		s.cfg.Backends[1].Name = "second"
		other := s.cfg.Domains[0]
		other.Name, other.Backends = "other.example", []config.BackendRef{s.cfg.Backends[1].BackendRef}
		s.cfg.Domains = append(s.cfg.Domains, other)
		s.more = map[string]*fakeBackend{"second": second}
	})
	defer g.open()
	r.startMany(1, login("joe", "good"))
	for i := range 20 {
		r.start(fmt.Sprint("user", i), "good")
	}
	g.reached(t, 8)
	r.settled(f)
	f.arm("domain:dom.example$", "tick", 1)
	r.tickAll()
	for i := range 50 {
		r.want(r.ask(at("other.example", fmt.Sprint("user", i), "good")), auth.Allow, auth.SourceBackend)
	}
	eventually(t, "the panics", func() bool { return r.over(f) })
	if n := r.restarts("domain:other.example"); n != 0 {
		t.Errorf("%d restarts in the other domain", n)
	}
}

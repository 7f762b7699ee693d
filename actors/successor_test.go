package actors

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"postern/internal/auth"
	"postern/internal/backend"
	"postern/internal/config"
	"postern/internal/snapshot"
)

// handedOver stops a broker and returns what its successor gets, through the form in which it travels.
func handedOver(r *rig) *Memory {
	r.t.Helper()
	var m *Memory
	var err error
	r.end = func() { m, err = r.StopForSuccessor() }
	r.stop()
	if err != nil {
		r.t.Fatal(err)
	}
	valid := snapshot.Header{Boot: "boot", Serial: snapshot.Serial{1}}
	data, err := snapshot.Encode(valid, m)
	if err != nil {
		r.t.Fatal(err)
	}
	m = new(Memory)
	if err := snapshot.Decode(data, valid, m); err != nil {
		r.t.Fatal(err)
	}
	return m
}

// succeed ends a broker and starts its successor with a backend that answers with ask.
func succeed(r *rig, ask func(context.Context, backend.Query) backend.Result, change func(*setup)) *rig {
	r.t.Helper()
	m := handedOver(r)
	return newRig(r.t, func(s *setup) {
		s.former, s.clock, s.fake.ask = m, r.clock, ask
		if change != nil {
			change(s)
		}
	})
}

// unasked fails if a backend was asked or a hash compared.
func (r *rig) unasked() {
	r.t.Helper()
	stats, err := r.CacheStats(context.Background())
	if s := stats["dom.example"]; err != nil || r.fake.asked.Load() != 0 || s.Compares != 0 || s.Hashes != 0 {
		r.t.Errorf("the backend was asked %d times; %+v, %v", r.fake.asked.Load(), s, err)
	}
}

// TestSuccessorAwaitsNoHash: a stop for a successor does not wait for the hashes that are being computed.
func TestSuccessorAwaitsNoHash(t *testing.T) {
	r := newRig(t, nil)
	r.want(r.auth("joe", "good"), allow, fromBackend)
	release := r.busyHashing()
	answeredWithin(t, 20*time.Second, "StopForSuccessor", func() {
		m, err := r.StopForSuccessor()
		if err != nil || m.Users == nil {
			t.Errorf("left %v (%v)", m, err)
		}
	})
	release()
	r.end = func() {}
	r.stop()
}

var isNobody = auth.Request{Op: auth.OpIsUser, User: "nobody", Domain: "dom.example"}

// TestSuccessor: a broker goes on with what the one before it knew, without a question and without a
// hash, while the backend is away; and so does the one after it.
func TestSuccessor(t *testing.T) {
	for _, storage := range []config.Storage{config.StorageMemory, config.StorageDisk} {
		t.Run(string(storage), func(t *testing.T) {
			disk := openStore(t)
			place := func(s *setup) {
				onDisk(s, disk)
				s.cfg.Domains[0].Cache.Storage = storage
			}
			r := newRig(t, place)
			for _, user := range []string{"joe", "Ann", "bob"} {
				r.want(r.auth(user, "good"), allow, fromBackend)
				r.want(r.auth(user, "bad"), deny, fromBackend)
			}
			r.want(r.ask(isNobody), deny, fromBackend)
			for range 3 {
				r = succeed(r, outage, place)
				for _, user := range []string{"joe", "Ann", "bob"} {
					r.want(r.auth(user, "good"), allow, auth.SourceHot)
					r.want(r.auth(user, "bad"), deny, auth.SourceRefusedBefore)
				}
				r.want(r.ask(isNobody), deny, auth.SourceHot)
				r.unasked()
			}
			if !strings.Contains(r.log.String(), "taken over") {
				t.Error("it is not in the log")
			}
			r.clock.advance(6 * time.Minute) // refused_ttl goes on where it was
			r.fake.ask = nil
			r.want(r.auth("joe", "bad"), deny, fromBackend)
			r.clock.advance(25 * time.Hour) // and so does verify_ttl
			r.want(r.auth("joe", "good"), allow, fromBackend)
		})
	}
}

// TestSuccessorLimits: the limits of accounts, of addresses and of a backend's budget outlive a restart,
// and so does what was accepted.
func TestSuccessorLimits(t *testing.T) {
	change := func(s *setup) {
		withLimits(s)
		s.cfg.Domains[0].Limit.FirstPause = time.Minute // longer than the test
		s.cfg.Backends[0].RefusalBudget, s.cfg.Backends[0].RefusalWindow = 40, 30*time.Minute
	}
	r := newRig(t, change)
	r.asks(1, login("joe", "good"), allow, fromBackend)
	for i := range 4 {
		r.asks(1, from("192.0.2.1", login("joe", fmt.Sprint("guess", i))), deny, fromBackend)
	}
	for i := range 6 {
		r.want(r.ask(from("192.0.2.9", login(fmt.Sprint("user", i), "guess"))), deny, fromBackend)
	}
	for range 2 {
		r = succeed(r, nil, change)
		for user, want := range map[string]int{"joe": 4, "user1": 1} {
			l, err := r.UserLimit(context.Background(), auth.Identity{User: user, Domain: "dom.example"})
			if err != nil || l.Refusals != want {
				t.Errorf("%s: %+v, %v", user, l, err)
			}
		}
		if l, err := r.AddressLimit("192.0.2.9"); err != nil || l.Refusals != 6 || l.Pauses != 1 {
			t.Errorf("%+v, %v", l, err)
		}
		if l, err := r.Limits(context.Background()); err != nil || l.Backends["backend.json.fake"].Refusals != 10 {
			t.Errorf("%+v, %v", l, err)
		}
		r.asks(0, login("joe", "another"), unavailable, byUser)
		r.asks(0, from("192.0.2.9", login("zoe", "good")), unavailable, byAddress)
		r.asks(0, login("joe", "good"), allow, auth.SourceHot)
	}
}

// TestSuccessorTokens: a used token stays used though no disk has it.
func TestSuccessorTokens(t *testing.T) {
	r := newRig(t, withTokens)
	used, unused := r.totpToken("joe"), r.totpToken("joe")
	r.want(r.auth("joe", used), allow, auth.SourceToken)
	r = succeed(r, outage, withTokens)
	r.want(r.auth("joe", used), deny, auth.SourceToken)
	r.want(r.auth("joe", unused), allow, auth.SourceToken)
	r = succeed(r, outage, withTokens)
	r.want(r.auth("joe", used), deny, auth.SourceToken)
	r.want(r.auth("joe", unused), deny, auth.SourceToken)
}

// TestSuccessorAuthority: what other backends have answered is not taken over.
func TestSuccessorAuthority(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*setup)
		good   auth.Answer // of joe with a password that was accepted
		bad    auth.Answer // with one that was refused
	}{
		"nothing": {func(*setup) {}, auth.Answer{Verdict: allow, Source: auth.SourceHot}, auth.Answer{Verdict: deny, Source: auth.SourceRefusedBefore}},
		"another place": {func(s *setup) { s.cfg.Backends[0].URL = "https://elsewhere.example" },
			auth.Answer{Source: fromBackend}, auth.Answer{Source: fromBackend}},
		"other names there": {func(s *setup) { s.cfg.Domains[0].AuthDomains = []string{"other.example"} },
			auth.Answer{Source: fromBackend}, auth.Answer{Source: fromBackend}},
		"other logins": {func(s *setup) { s.cfg.Domains[0].Login = []string{"{address}"} },
			auth.Answer{Verdict: allow, Source: auth.SourceHot}, auth.Answer{Source: fromBackend}},
		"no cache": {func(s *setup) { s.cfg.Domains[0].Cache.Storage = config.StorageNone },
			auth.Answer{Source: fromBackend}, auth.Answer{Source: fromBackend}},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, nil)
			r.want(r.auth("joe", "good"), allow, fromBackend)
			r.want(r.auth("joe", "bad"), deny, fromBackend)
			r = succeed(r, outage, c.change)
			r.want(r.auth("joe", "good"), c.good.Verdict, c.good.Source)
			r.want(r.auth("joe", "bad"), c.bad.Verdict, c.bad.Source)
		})
	}
}

// stamped is a backend that answers from a file.
type stamped struct {
	*fakeBackend
	state *atomic.Int64
}

// Stamp implements backend.Stamper.
func (s stamped) Stamp() string { return fmt.Sprint(s.state.Load()) }

// TestSuccessorFile: a users file that was changed between two processes may have another password, or no
// such account.
func TestSuccessorFile(t *testing.T) {
	state := new(atomic.Int64)
	file := func(s *setup) {
		s.wrap = func(f *fakeBackend) backend.Backend { return stamped{f, state} }
	}
	r := newRig(t, file)
	r.want(r.auth("joe", "good"), allow, fromBackend)
	r.want(r.auth("joe", "bad"), deny, fromBackend)
	state.Add(1) // while the process runs that has asked it
	r = succeed(r, outage, file)
	r.want(r.auth("joe", "good"), allow, auth.SourceHot)
	m := handedOver(r)
	state.Add(1)
	r = newRig(t, func(s *setup) { file(s); s.former, s.fake.ask = m, outage })
	r.want(r.auth("joe", "good"), unavailable, fromBackend)
	r.want(r.auth("joe", "bad"), unavailable, fromBackend)
}

// TestSuccessorRegistered: the users of a registered domain come into use with it, also when a process
// had no request for it; what was forgotten before does not.
func TestSuccessorRegistered(t *testing.T) {
	limits := func(s *setup) { withLimits(s); s.cfg.Registry.Limit = s.cfg.Domains[0].Limit }
	r, e, disk := newRegisteredRig(t, limits, "one.example", "two.example")
	at := func(domain, user, password string) auth.Request {
		return auth.Request{Op: auth.OpAuth, User: user, Domain: domain, Secret: auth.NewSecret(password)}
	}
	for _, domain := range []string{"one.example", "two.example"} {
		for _, user := range []string{"joe", "ann"} {
			r.want(r.ask(at(domain, user, "good")), allow, fromBackend)
			r.want(r.ask(at(domain, user, "bad")), deny, fromBackend)
		}
	}
	next := func() {
		r = succeed(r, nil, func(s *setup) {
			s.cfg.Registry = config.Registry{Declared: true, Cache: s.cfg.Domains[0].Cache}
			limits(s)
			s.store, s.made = disk, e.make
		})
	}
	next()
	next()
	e.hold = func(context.Context) { t.Error("a backend was asked") }
	joe := auth.Identity{User: "joe", Domain: "one.example"}
	if err := r.ForgetUser(context.Background(), auth.Identity{User: "ann", Domain: "one.example"}); err != nil {
		t.Fatal(err)
	}
	if err := r.ForgetDomain(context.Background(), "two.example"); err != nil {
		t.Fatal(err)
	}
	r.want(r.ask(at("one.example", "joe", "good")), allow, auth.SourceHot)
	r.want(r.ask(at("one.example", "joe", "bad")), deny, auth.SourceRefusedBefore)
	if l, err := r.UserLimit(context.Background(), joe); err != nil || l.Refusals != 1 {
		t.Errorf("%+v, %v", l, err)
	}
	e.hold = nil
	r.want(r.ask(at("one.example", "ann", "good")), allow, fromBackend)
	r.want(r.ask(at("two.example", "joe", "bad")), deny, fromBackend)
	r.stop()
}

// TestSuccessorElsewhere: while another block answers for a domain, what its own had remembered gets old:
// a password that was refused meanwhile must stay refused when the block is back.
func TestSuccessorElsewhere(t *testing.T) {
	domains := func(names ...string) func(*setup) {
		return func(s *setup) {
			block := s.cfg.Domains[0]
			s.cfg.Domains = nil
			for _, name := range names {
				block.Name = name
				s.cfg.Domains = append(s.cfg.Domains, block)
			}
		}
	}
	for name, start := range map[string][]string{"at the start": {"*"}, "by a reload": {"other.example"}} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, nil)
			r.want(r.auth("joe", "good"), allow, fromBackend)
			r = succeed(r, nil, domains(start...))
			become := func(names ...string) {
				t.Helper()
				s := setup{cfg: rigConfig()}
				domains(names...)(&s)
				if _, err := r.Reload(context.Background(), Reload{Config: s.cfg}); err != nil {
					t.Fatal(err)
				}
			}
			become("*")
			r.fake.ask = func(_ context.Context, q backend.Query) backend.Result { return backend.Result{Class: backend.Refused} }
			r.want(r.auth("joe", "good"), deny, fromBackend)
			become("dom.example")
			r.fake.ask = outage
			r.want(r.auth("joe", "good"), unavailable, fromBackend)
		})
	}
}

// TestSuccessorDamaged: a memory that makes no sense is refused as a whole, with one line in the log.
func TestSuccessorDamaged(t *testing.T) {
	r := newRig(t, withTokens)
	used := r.totpToken("joe")
	r.want(r.auth("joe", used), allow, auth.SourceToken)
	r.want(r.auth("joe", "good"), allow, fromBackend)
	r.want(r.auth("ann", "good"), allow, fromBackend)
	m := handedOver(r)
	for i := range m.Users.Blocks {
		for j := range m.Users.Blocks[i].Users {
			if u := &m.Users.Blocks[i].Users[j]; u.ID.User == "ann" {
				u.User.Verifiers[0].Hash = "no hash"
			}
		}
	}
	r = newRig(t, func(s *setup) { withTokens(s); s.former, s.fake.ask = m, outage })
	r.want(r.auth("joe", "good"), unavailable, fromBackend)
	r.want(r.auth("joe", used), allow, auth.SourceToken)
	if n := strings.Count(r.log.String(), "not taken over"); n != 1 {
		t.Errorf("%d lines in the log: %s", n, r.log.String())
	}
}

// TestNoSecretShown: what goes to a successor prints no key.
func TestNoSecretShown(t *testing.T) {
	r := newRig(t, nil)
	r.want(r.auth("joe", "good"), allow, fromBackend)
	m := handedOver(r)
	key := m.Users.Key
	for _, text := range []string{fmt.Sprint(key), fmt.Sprintf("%x%v%+v%#v%s", key, key, key, key, key)} {
		if strings.ContainsAny(text, "0123456789") {
			t.Errorf("it prints as %q", text)
		}
	}
}

// TestFormat: with a change of a type in a snapshot, snapshot.Format must be raised, and the sum here
// with it.
func TestFormat(t *testing.T) {
	const format, sum = 4, "207e4f9eae2b3b2d"
	var b strings.Builder
	describeType(&b, reflect.TypeFor[Memory](), map[reflect.Type]bool{})
	if got := fmt.Sprintf("%x", sha256.Sum256([]byte(b.String())))[:16]; snapshot.Format != format || got != sum {
		t.Errorf("format %d with types of the sum %s, want %d and %s:\n%s", snapshot.Format, got, format, sum, b.String())
	}
}

// describeType lists the exported fields of a type and of those that it is made of.
func describeType(b *strings.Builder, t reflect.Type, seen map[reflect.Type]bool) {
	if t == reflect.TypeFor[netip.Prefix]() {
		return
	}
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Array:
		describeType(b, t.Elem(), seen)
	case reflect.Map:
		describeType(b, t.Key(), seen)
		describeType(b, t.Elem(), seen)
	case reflect.Struct:
		if seen[t] {
			return
		}
		seen[t] = true
		fmt.Fprintf(b, "%s:", t)
		for i := range t.NumField() {
			if f := t.Field(i); f.IsExported() {
				fmt.Fprintf(b, " %s %s %s %d", f.Name, f.Type, f.Type.Kind(), f.Type.Size())
			}
		}
		b.WriteString("\n")
		for i := range t.NumField() {
			if f := t.Field(i); f.IsExported() {
				describeType(b, f.Type, seen)
			}
		}
	}
}

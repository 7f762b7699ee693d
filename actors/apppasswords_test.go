package actors

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"postern/internal/apppassword"
	"postern/internal/auth"
	"postern/internal/backend"
	"postern/internal/config"
	"postern/internal/store"
	"postern/internal/unixtime"
)

// appKey is the key of the rig's app passwords.
var appKey = auth.NewSecret(strings.Repeat("k", apppassword.KeySize))

// appTTL is the life of an app password where no backend can be asked about its account.
const appTTL = 90 * 24 * time.Hour

// withApps gives a rig's domain app passwords, in a store.
func withApps(s *setup, in store.Store) {
	s.store = in
	s.cfg.Domains[0].AppPasswords = &config.AppPasswords{Key: appKey, UnconfirmedTTL: appTTL}
}

// appRig is a rig with app passwords. asked has the secrets that reached its backend.
func appRig(t testing.TB, change func(*setup)) *rig {
	in := openStore(t)
	return newRig(t, func(s *setup) {
		withApps(s, in)
		if change != nil {
			change(s)
		}
	})
}

// apps runs a function on the app passwords of a user of dom.example.
func (r *rig) apps(user string, run func(apppassword.Owner, *apppassword.Account, unixtime.Time) error) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	err := r.AppPasswords(ctx, auth.Identity{User: user, Domain: "dom.example"}, func(o apppassword.Owner, a *apppassword.Account, now time.Time) (bool, error) {
		return true, run(o, a, unixtime.At(now))
	})
	if err != nil {
		r.t.Fatal(err)
	}
}

// add makes an app password.
func (r *rig) add(user string, n apppassword.New) (text string) {
	r.t.Helper()
	r.apps(user, func(o apppassword.Owner, a *apppassword.Account, now unixtime.Time) error {
		_, s, err := a.Add(o.Key, o.ID.Domain, o.ID.User, n, now)
		text = s.Show().Reveal()
		return err
	})
	return text
}

// revoke takes one back.
func (r *rig) revoke(user, name string) {
	r.t.Helper()
	r.apps(user, func(o apppassword.Owner, a *apppassword.Account, now unixtime.Time) error {
		_, err := a.Revoke(o.ID.User, name, now)
		return err
	})
}

// login asks for a login for a service.
func (r *rig) login(user, service, password string) auth.Answer {
	return r.ask(auth.Request{Op: auth.OpAuth, User: user, Domain: "dom.example", Secret: auth.NewSecret(password), Service: service})
}

// because checks an answer of the app passwords and the reason of a no.
func (r *rig) because(a auth.Answer, v auth.Verdict, reason string) {
	r.t.Helper()
	r.want(a, v, auth.SourceAppPassword)
	if !strings.Contains(a.Reason, reason) {
		r.t.Errorf("the reason is %q, want %q", a.Reason, reason)
	}
}

// noAppPassword fails the test if a secret of the form of an app password reaches a backend.
func noAppPassword(t testing.TB) func(context.Context, backend.Query) backend.Result {
	return func(_ context.Context, q backend.Query) backend.Result {
		if _, form := apppassword.Parse(q.Secret.Reveal()); form {
			t.Errorf("an app password of %s was sent to a backend", q.User)
		}
		return goodPassword(q)
	}
}

// TestAppPassword: an app password is decided on here, by the state of its entry; no backend sees it and
// the cache remembers nothing of it. Any other password goes on.
func TestAppPassword(t *testing.T) {
	r := appRig(t, func(s *setup) {
		s.cfg.Backends[0].FoldCase = true
		s.fake.ask = noAppPassword(t)
	})
	phone := r.add("Joe", apppassword.New{Name: "phone"})
	mail := r.add("joe", apppassword.New{Name: "mail", Services: []string{"imap", "smtp"}})
	guest := r.add("joe", apppassword.New{Name: "guest", Expires: r.clock.now().Add(time.Hour)})
	lost := r.add("joe", apppassword.New{Name: "lost"})
	for range 2 {
		r.because(r.login("joe", "xmpp", phone), auth.Allow, "")
		r.because(r.login("JOE", "", strings.ToUpper(strings.ReplaceAll(phone, "-", " "))), auth.Allow, "")
		r.because(r.login("joe", "submission", mail), auth.Allow, "")
		r.because(r.login("joe", "xmpp", mail), auth.Deny, "not for xmpp")
		r.because(r.login("joe", "", mail), auth.Deny, "names no service")
		r.because(r.login("joe", "imap", guest), auth.Allow, "")
		r.because(r.login("ann", "imap", phone), auth.Deny, "unknown")
		r.because(r.login("joe", "imap", lost), auth.Allow, "")
	}
	r.revoke("joe", "lost")
	r.because(r.login("joe", "imap", lost), auth.Deny, "revoked")
	r.clock.advance(time.Hour)
	r.because(r.login("joe", "imap", guest), auth.Deny, "expired")
	r.because(r.login("joe", "imap", phone), auth.Allow, "")
	r.want(r.login("joe", "imap", "good"), auth.Allow, auth.SourceBackend)
	r.want(r.login("joe", "imap", "bad"), auth.Deny, auth.SourceBackend)
	if u := r.cached("joe"); len(u.Verifiers) != 1 || len(u.Refusals) != 1 {
		t.Errorf("the cache knows %+v", u)
	}
	if text := r.log.String(); strings.Contains(text, phone) || !strings.Contains(text, "revoked") {
		t.Errorf("the log has the secret, or lacks the reason:\n%s", text)
	}
}

// TestAppPasswordAccount: an app password is good only as long as its account is, as far as the backends
// say, and an outage is bridged.
func TestAppPasswordAccount(t *testing.T) {
	var says atomic.Pointer[backend.Result]
	set := func(r backend.Result) { says.Store(&r) }
	set(backend.Result{Class: backend.Accepted, Known: true})
	r := appRig(t, func(s *setup) {
		s.cfg.Domains[0].Cache.Storage = config.StorageDisk
		s.fake.ask = func(_ context.Context, q backend.Query) backend.Result {
			if q.Op != auth.OpIsUser {
				return goodPassword(q)
			}
			return *says.Load()
		}
	})
	joe, ann := r.add("joe", apppassword.New{Name: "phone"}), r.add("ann", apppassword.New{Name: "phone"})
	r.because(r.auth("joe", joe), auth.Allow, "")
	down := backend.Result{Class: backend.Outage}
	set(down)
	r.because(r.auth("joe", joe), auth.Allow, "") // as the backend said a moment ago
	r.clock.advance(2 * time.Hour)
	r.because(r.auth("joe", joe), auth.Allow, "") // in grace
	if a := r.auth("ann", ann); a.Verdict != auth.Unavailable {
		t.Errorf("nothing is known of ann: %v, %q", a.Verdict, a.Reason)
	}
	r.clock.advance(8 * 24 * time.Hour)
	if a := r.auth("joe", joe); a.Verdict != auth.Unavailable {
		t.Errorf("joe's grace is over: %v, %q", a.Verdict, a.Reason)
	}
	set(backend.Result{Class: backend.Accepted, Known: true, Disabled: true})
	r.because(r.auth("joe", joe), auth.Deny, "disabled")
	set(down)
	r.because(r.auth("joe", joe), auth.Deny, "disabled")
	r.clock.advance(2 * time.Minute)
	if a := r.auth("joe", joe); a.Verdict != auth.Unavailable || a.Source != auth.SourceGrace {
		t.Errorf("joe was disabled before the outage: %v, %q", a.Verdict, a.Reason)
	}
	set(backend.Result{Class: backend.Accepted, Known: true})
	r.because(r.auth("joe", joe), auth.Allow, "")
	set(backend.Result{Class: backend.Refused, Absent: true})
	r.clock.advance(2 * time.Hour)
	r.because(r.auth("joe", joe), auth.Deny, "does not exist")
	set(backend.Result{Class: backend.Accepted, Known: true, Account: "someone"})
	r.clock.advance(2 * time.Minute)
	r.because(r.auth("joe", joe), auth.Deny, "leads to the account")
}

// TestAppPasswordUnasked: where no backend can be asked whether an account exists, its app passwords end some
// time after they were made, or after the last login with its own password.
func TestAppPasswordUnasked(t *testing.T) {
	for _, class := range []backend.Class{backend.Unsure, backend.Unsupported} {
		r := appRig(t, func(s *setup) {
			s.fake.ask = func(_ context.Context, q backend.Query) backend.Result {
				if q.Op == auth.OpIsUser {
					return backend.Result{Class: class}
				}
				return goodPassword(q)
			}
		})
		text := r.add("joe", apppassword.New{Name: "phone"})
		r.because(r.auth("joe", text), auth.Allow, "")
		r.clock.advance(80 * 24 * time.Hour)
		r.because(r.auth("joe", text), auth.Allow, "")
		r.want(r.auth("joe", "good"), auth.Allow, auth.SourceBackend)
		r.clock.advance(80 * 24 * time.Hour)
		r.because(r.auth("joe", text), auth.Allow, "")
		if a, _ := r.SignIn(context.Background(), "own", auth.Request{User: "joe", Domain: "dom.example", Secret: auth.NewSecret("good")}, auth.Own{}, timeout); a.Verdict != auth.Allow {
			t.Fatal(a)
		}
		r.clock.advance(80 * 24 * time.Hour)
		r.because(r.auth("joe", text), auth.Allow, "")
		r.clock.advance(10*24*time.Hour + time.Second)
		r.because(r.auth("joe", text), auth.Deny, "no backend can be asked")
		r.because(r.auth("joe", r.add("joe", apppassword.New{Name: "new"})), auth.Allow, "")
	}
}

// TestAppPasswordLoginStays: the last login with the account's own password counts, whatever the cache forgets.
func TestAppPasswordLoginStays(t *testing.T) {
	for name, forget := range map[string]func(*rig, *setup) *rig{
		"storage none": func(r *rig, _ *setup) *rig { return r },
		"forgotten": func(r *rig, _ *setup) *rig {
			if err := r.ForgetUser(t.Context(), auth.Identity{User: "joe", Domain: "dom.example"}); err != nil {
				t.Fatal(err)
			}
			return r
		},
		"restarted": func(r *rig, former *setup) *rig {
			r.stop()
			return newRig(t, func(s *setup) {
				withApps(s, former.store)
				s.clock, s.fake.ask = former.clock, former.fake.ask
			})
		},
	} {
		var made *setup
		r := appRig(t, func(s *setup) {
			if made = s; name == "storage none" {
				s.cfg.Domains[0].Cache.Storage = config.StorageNone
			}
			s.fake.ask = func(_ context.Context, q backend.Query) backend.Result {
				if q.Op == auth.OpIsUser {
					return backend.Result{Class: backend.Unsure}
				}
				return goodPassword(q)
			}
		})
		text := r.add("joe", apppassword.New{Name: "phone"})
		r.clock.advance(80 * 24 * time.Hour)
		r.want(r.auth("Joe", "good"), auth.Allow, auth.SourceBackend) // of another account, since the backend does not fold
		r.want(r.auth("joe", "good"), auth.Allow, auth.SourceBackend)
		r = forget(r, made)
		r.clock.advance(80 * 24 * time.Hour)
		r.because(r.auth("joe", text), auth.Allow, "")
		r.want(r.auth("Joe", "good"), auth.Allow, auth.SourceBackend)
		r.want(r.auth("joe", "bad"), auth.Deny, auth.SourceBackend)
		r.clock.advance(10*24*time.Hour + time.Second)
		r.because(r.auth("joe", text), auth.Deny, "no backend can be asked")
	}
}

// TestAppPasswordJoined: of identical logins in an outage, none is refused for what was known before it.
func TestAppPasswordJoined(t *testing.T) {
	const n = 4
	says := make(chan backend.Result)
	f := new(faults)
	r := appRig(t, func(s *setup) {
		s.inject = f.inject
		s.fake.ask = func(ctx context.Context, _ backend.Query) backend.Result {
			select {
			case a := <-says:
				return a
			case <-ctx.Done():
				return backend.Result{Class: backend.Outage}
			}
		}
	})
	text := r.add("joe", apppassword.New{Name: "phone"})
	first := r.startMany(1, login("joe", text))
	says <- backend.Result{Class: backend.Accepted, Known: true, Disabled: true}
	r.because(<-first[0], auth.Deny, "disabled")
	r.clock.advance(2 * time.Minute)
	answers := r.startMany(n, login("joe", text))
	r.routed(f, n+1)
	for done := false; !done; {
		select {
		case says <- backend.Result{Class: backend.Outage}:
		case a := <-answers[0]:
			r.want(a, auth.Unavailable, auth.SourceGrace)
			done = true
		}
	}
	for _, answer := range answers[1:] {
		if a := <-answer; a.Verdict != auth.Unavailable {
			t.Errorf("answered %v (%v), %q", a.Verdict, a.Source, a.Reason)
		}
	}
}

// TestAppPasswordsAlone: a domain with nothing else has the accounts with app passwords.
func TestAppPasswordsAlone(t *testing.T) {
	r := appRig(t, func(s *setup) {
		d := &s.cfg.Domains[0]
		s.cfg.Backends[0].BackendRef = config.BackendRef{Kind: config.KindAppPasswords, Name: rigBackend.Name}
		d.Backends = []config.BackendRef{s.cfg.Backends[0].BackendRef}
		s.fake.ask = backend.NewAppPasswords().Ask
	})
	isUser := func(user string) auth.Answer {
		return r.ask(auth.Request{Op: auth.OpIsUser, User: user, Domain: "dom.example"})
	}
	r.want(isUser("joe"), auth.Deny, auth.SourceAppPassword)
	text := r.add("joe", apppassword.New{Name: "phone"})
	r.want(isUser("joe"), auth.Allow, auth.SourceAppPassword)
	r.because(r.auth("joe", text), auth.Allow, "")
	r.want(r.auth("joe", "good"), auth.Deny, auth.SourceBackend)
	r.revoke("joe", "phone")
	r.want(isUser("joe"), auth.Deny, auth.SourceAppPassword)
	text = r.add("joe", apppassword.New{Name: "phone"})
	r.clock.advance(appTTL)
	r.because(r.auth("joe", text), auth.Deny, "no backend can be asked")
}

// TestRequireAppPassword: where one is required, the account's own password is refused, also one that the
// cache knows.
func TestRequireAppPassword(t *testing.T) {
	r := appRig(t, func(s *setup) { s.cfg.Domains[0].AppPasswords.Require = []string{"imap", "smtp"} })
	text := r.add("joe", apppassword.New{Name: "phone"})
	r.want(r.login("joe", "xmpp", "good"), auth.Allow, auth.SourceBackend)
	asked := r.fake.asked.Load()
	for _, service := range []string{"imap", "IMAPS", "smtp", "submission"} {
		r.because(r.login("joe", service, "good"), auth.Deny, "an app password is required")
		r.because(r.login("joe", service, text), auth.Allow, "")
	}
	if n := r.fake.asked.Load() - asked; n != 0 { // the login before says that the account exists
		t.Errorf("the backend was asked %d times", n)
	}
	r.want(r.login("joe", "", "good"), auth.Allow, auth.SourceHot)
	r.reload(func(c *config.Config) {
		apps := *c.Domains[0].AppPasswords
		apps.RequireAll = true
		c.Domains[0].AppPasswords = &apps
	})
	r.because(r.login("joe", "", "good"), auth.Deny, "an app password is required")
	r.because(r.login("joe", "", text), auth.Allow, "")
}

// TestAppPasswordFronts: each front says for which service a login is.
func TestAppPasswordFronts(t *testing.T) {
	r := appRig(t, func(s *setup) { s.cfg.Domains[0].AppPasswords.RequireAll = true })
	xmpp := r.add("joe", apppassword.New{Name: "chat", Services: []string{"xmpp"}})
	smtp := r.add("joe", apppassword.New{Name: "mail", Services: []string{"smtp"}})
	ejabberd := r.listen(listenerBlock("ejabberd"))
	frame := func(password string) string {
		text := "auth:joe:dom.example:" + password
		return string([]byte{0, byte(len(text))}) + text
	}
	generic := r.listen(listenerBlock("generic"))
	for password, want := range map[string]string{xmpp: "\x00\x02\x00\x01", smtp: "\x00\x02\x00\x00", "good": "\x00\x02\x00\x00"} {
		if got := r.exchange(ejabberd, frame(password)); got != want {
			t.Errorf("ejabberd: %q", got)
		}
		line := map[byte]string{1: "1\n", 0: "0\n"}[want[3]]
		if got := r.exchange(generic, "auth:joe:dom.example:"+password+"\n"); got != line {
			t.Errorf("generic: %q, want %q", got, line)
		}
	}
	mux := r.listen(listenerBlock("saslauthd"))
	for service, want := range map[string]string{"smtp": "OK", "imap": "NO", "xmpp": "NO"} {
		if got := r.exchange(mux, fields("joe", smtp, service, "dom.example")); !strings.Contains(got, want) {
			t.Errorf("saslauthd for %s: %q, want %s", service, got, want)
		}
	}
	d := r.dovecot(t, r.listen(listenerBlock("dovecot")), 2) // its logins are for smtp
	d.say(plainLogin(1, "joe@dom.example", smtp))
	if got := d.line(); !strings.HasPrefix(got, "OK\t1\tuser=joe") {
		t.Errorf("dovecot: %q", got)
	}
	d.say(plainLogin(2, "joe@dom.example", xmpp))
	if got := d.line(); !strings.HasPrefix(got, "FAIL\t2") || strings.Contains(got, "temp") {
		t.Errorf("dovecot: %q", got)
	}
	r.apps("joe", func(_ apppassword.Owner, a *apppassword.Account, _ unixtime.Time) error {
		if u := a.Passwords[1].Last; u.Service != "smtp" || u.Front != "dovecot" || u.Client != "192.0.2.7" || u.At == 0 {
			t.Errorf("last used: %+v", u)
		}
		return nil
	})
}

// TestRevokedIsNeverAccepted: no login that begins after a revocation has returned is let in, whatever is
// under way at the same time.
func TestRevokedIsNeverAccepted(t *testing.T) {
	r := appRig(t, nil)
	const accounts, clients = 4, 4
	var done sync.WaitGroup
	for n := range accounts {
		user := fmt.Sprint("joe", n)
		for round := range 25 {
			name := fmt.Sprint(round)
			text := r.add(user, apppassword.New{Name: name})
			var revoked atomic.Bool
			var allowed atomic.Int64
			for range clients {
				done.Go(func() {
					for after := 0; after < 3; {
						gone := revoked.Load()
						a := r.auth(user, text)
						switch {
						case gone && a.Verdict != auth.Deny:
							t.Errorf("after the revocation: %v (%v), %q", a.Verdict, a.Source, a.Reason)
						case a.Verdict == auth.Allow:
							allowed.Add(1)
						}
						if gone {
							after++
						}
					}
				})
			}
			eventually(t, "a login", func() bool { return allowed.Load() > 0 })
			r.revoke(user, name)
			revoked.Store(true)
			done.Wait()
		}
	}
}

// TestAppPasswordsStay: they, and what was revoked, outlive the process, with their last use.
func TestAppPasswordsStay(t *testing.T) {
	in := openStore(t)
	run := func(s *setup) { withApps(s, in) }
	first := newRig(t, run)
	kept, gone := first.add("joe", apppassword.New{Name: "kept"}), first.add("joe", apppassword.New{Name: "gone"})
	first.revoke("joe", "gone")
	first.because(first.login("joe", "imap", kept), auth.Allow, "")
	first.stop()
	second := newRig(t, run)
	second.apps("joe", func(_ apppassword.Owner, a *apppassword.Account, _ unixtime.Time) error {
		if len(a.Passwords) != 2 || a.Passwords[0].Last.Service != "imap" {
			t.Errorf("%+v", a.Passwords)
		}
		return nil
	})
	second.because(second.login("joe", "imap", kept), auth.Allow, "")
	second.because(second.login("joe", "imap", gone), auth.Deny, "revoked")
}

// TestAppPasswordsUnknown: where it is not known what an account has, nothing is refused.
func TestAppPasswordsUnknown(t *testing.T) {
	in := openStore(t)
	first := newRig(t, func(s *setup) { withApps(s, in) })
	text := first.add("joe", apppassword.New{Name: "phone"})
	first.stop()
	for name, c := range map[string]struct {
		change func(*setup)
		reason string
	}{
		"without a store": {func(s *setup) { s.store = nil }, "store"},
		"under another key": {func(s *setup) {
			s.cfg.Domains[0].AppPasswords.Key = auth.NewSecret(strings.Repeat("o", apppassword.KeySize))
		}, "another key"},
		"by a damaged record": {func(s *setup) { s.store = damaged{in} }, "unreadable"},
	} {
		r := newRig(t, func(s *setup) { withApps(s, in); c.change(s) })
		if a := r.auth("joe", text); a.Verdict != auth.Unavailable || !strings.Contains(a.Reason, c.reason) {
			t.Errorf("%s: %v, %q", name, a.Verdict, a.Reason)
		}
		r.stop()
	}
}

// damaged is a store with records of app passwords that cannot be read.
type damaged struct{ store.Store }

func (d damaged) Get(key []byte) ([]byte, error) {
	value, err := d.Store.Get(key)
	if strings.HasPrefix(string(key), store.AppPasswords) && err == nil {
		value = value[:len(value)/2]
	}
	return value, err
}

// TestAppPasswordsOfReplaced: an account that is removed, or made anew, leaves no app passwords, also while its
// domain has none; and they are gone from the disk before the answer. Those of another spelling stay.
func TestAppPasswordsOfReplaced(t *testing.T) {
	for _, op := range []auth.Operation{auth.OpTryRegister, auth.OpRemoveUser, auth.OpRemoveUser3} {
		for _, folds := range []bool{true, false} {
			in := openStore(t)
			var says atomic.Int64
			start := func() *rig {
				return newRig(t, func(s *setup) {
					withApps(s, in)
					s.cfg.Backends[0].FoldCase = folds
					s.fake.ask = func(_ context.Context, q backend.Query) backend.Result {
						if q.Op.Changes() {
							return backend.Result{Class: backend.Class(says.Load())}
						}
						return goodPassword(q)
					}
				})
			}
			r := start()
			apps := r.cfg.Domains[0].AppPasswords
			with := func(a *config.AppPasswords) { r.reload(func(c *config.Config) { c.Domains[0].AppPasswords = a }) }
			change := func(c backend.Class, v auth.Verdict) {
				says.Store(int64(c))
				r.want(r.ask(auth.Request{Op: op, User: "joe", Domain: "dom.example", Secret: auth.NewSecret("good")}), v, auth.SourceBackend)
			}
			add := func(user string) string { return r.add(user, apppassword.New{Name: "phone"}) }
			text, other := add("joe"), ""
			if !folds {
				other = add("JOE")
			}
			change(backend.Refused, auth.Deny)
			r.because(r.auth("joe", text), auth.Allow, "")
			change(backend.Accepted, auth.Allow)
			if record, err := in.Get(apppassword.RecordKey(auth.Identity{User: "joe", Domain: "dom.example"})); folds == (err == nil) || folds && !errors.Is(err, store.ErrNotFound) {
				t.Errorf("on disk after %v: %q, %v", op, record, err)
			}
			r.because(r.auth("joe", text), auth.Deny, "unknown")
			text = add("joe")
			with(nil)
			change(backend.Accepted, auth.Allow)
			with(apps)
			r.because(r.auth("joe", text), auth.Deny, "unknown")
			text = add("joe")
			with(nil)
			if err := r.DropAppPasswords(t.Context(), auth.Identity{User: "joe", Domain: "dom.example"}); err != nil {
				t.Error(err)
			}
			r.stop()
			r = start()
			r.because(r.auth("joe", text), auth.Deny, "unknown")
			if !folds {
				r.because(r.auth("JOE", other), auth.Allow, "")
			}
		}
	}
}

// TestAppPasswordReload: under another key it is not known what an account has; without the backend an app
// password is a password like any other, until that is back.
func TestAppPasswordReload(t *testing.T) {
	r := appRig(t, nil)
	text := r.add("joe", apppassword.New{Name: "phone"})
	r.because(r.auth("joe", text), auth.Allow, "")
	apps := r.cfg.Domains[0].AppPasswords
	with := func(a *config.AppPasswords) { r.reload(func(c *config.Config) { c.Domains[0].AppPasswords = a }) }
	other := *apps
	other.Key = auth.NewSecret(strings.Repeat("o", apppassword.KeySize))
	with(&other)
	if a := r.auth("joe", text); a.Verdict != auth.Unavailable || !strings.Contains(a.Reason, "another key") {
		t.Errorf("another key: %v, %q", a.Verdict, a.Reason)
	}
	with(nil)
	r.want(r.auth("joe", text), auth.Deny, auth.SourceBackend)
	if err := r.AppPasswords(t.Context(), auth.Identity{User: "joe", Domain: "dom.example"}, nil); !errors.Is(err, ErrNoAppPasswords) {
		t.Errorf("without the backend: %v", err)
	}
	with(apps)
	r.because(r.auth("joe", text), auth.Allow, "")
}

// TestAppPasswordLimit: unknown app passwords count against the client's address, and what is revoked or
// valid does not.
func TestAppPasswordLimit(t *testing.T) {
	r := appRig(t, withLimits)
	text, lost := r.add("joe", apppassword.New{Name: "phone"}), r.add("joe", apppassword.New{Name: "lost"})
	r.revoke("joe", "lost")
	try := func(password string) auth.Answer {
		return r.ask(from("192.0.2.1", auth.Request{Op: auth.OpAuth, User: "joe", Domain: "dom.example", Secret: auth.NewSecret(password)}))
	}
	for range 20 {
		r.because(try(lost), auth.Deny, "revoked")
	}
	for range 6 {
		r.because(try(apppassword.NewSecret().Show().Reveal()), auth.Deny, "unknown")
	}
	r.want(try(apppassword.NewSecret().Show().Reveal()), auth.Unavailable, auth.SourceLimitAddress)
	r.because(try(lost), auth.Deny, "revoked")
	r.because(try(text), auth.Allow, "")
}

// TestAppPasswordSpelling: where letter case counts at the backend, each spelling has its own.
func TestAppPasswordSpelling(t *testing.T) {
	r := appRig(t, nil) // its backend does not fold
	upper := r.add("Joe", apppassword.New{Name: "phone"})
	r.because(r.auth("Joe", upper), auth.Allow, "")
	r.because(r.auth("joe", upper), auth.Deny, "unknown")
}

package memory

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"postern/actors/call"
	"postern/actors/domain"
	"postern/actors/env"
	"postern/actors/supervise"
	"postern/internal/apppassword"
	"postern/internal/audit"
	"postern/internal/auth"
	"postern/internal/cache"
	"postern/internal/limit"
	"postern/internal/store"
	"postern/internal/unixtime"
)

// maxAppAccounts bounds the records of app passwords in memory, over all shards.
const maxAppAccounts = 1 << 17

// errNoAppStore is why app passwords are not known without a store.
var errNoAppStore = errors.New("the store with the app passwords is not open")

// appAccounts is what a shard holds of app passwords: the records of accounts seen lately. It is the only
// one that changes them while a daemon runs, so that what is here is true, whatever has reached the disk.
type appAccounts struct {
	env     env.Env
	strict  func() bool // while a shared store is away, what was true before does not count
	held    *simplelru.LRU[auth.Identity, *apppassword.Account]
	loads   map[auth.Identity]*appLoad
	touched map[auth.Identity]struct{} // newer than on disk by a use or a login, which may be lost
	// unsaved are the records with a change that is not known to be on disk. They stay until it is: else the
	// record would be read again as it was before, with what was revoked since. They outlive restarts.
	unsaved map[auth.Identity]*unsaved
}

// unsaved is a record with changes on their way to the disk.
type unsaved struct {
	account *apppassword.Account
	writes  int  // how often it was put
	failed  bool // the last one was in vain
	all     bool // they replace what another process has written
}

func newAppAccounts(e env.Env, shards int, kept map[auth.Identity]*unsaved, strict func() bool) *appAccounts {
	a := &appAccounts{env: e, strict: strict, loads: make(map[auth.Identity]*appLoad), touched: make(map[auth.Identity]struct{}), unsaved: kept}
	a.held, _ = simplelru.NewLRU(max(maxAppAccounts/shards, 16), func(id auth.Identity, account *apppassword.Account) { // it fails for sizes under 1 only
		if _, ok := a.touched[id]; ok {
			a.save(id, account)
		}
	})
	return a
}

// get returns a record that is in memory, unless another process may have changed it.
func (a *appAccounts) get(id auth.Identity) (*apppassword.Account, bool) {
	if u := a.unsaved[id]; u != nil {
		return u.account, true
	}
	account, ok := a.held.Get(id)
	if !ok || !a.current(account) {
		return nil, false
	}
	return account, true
}

// current reports whether a record need not be read again. While the store is away, what was true before counts, unless it
// is not to.
func (a *appAccounts) current(account *apppassword.Account) bool {
	disk := a.env.Disk()
	if disk == nil || disk.Shared() == nil {
		return true
	}
	if term, ok := disk.Shared().Term(); ok {
		return account.Seen == term
	}
	return account.Seen != outdated && !a.strict()
}

// install takes what was read into memory. What is written lazily is not lost by that.
func (a *appAccounts) install(l *appLoad) {
	if was, ok := a.held.Peek(l.id); ok && was != l.account {
		l.account.TakeUses(was)
	}
	l.account.Seen = l.term
	a.held.Add(l.id, l.account)
}

// changed notes that another process has changed a record.
func (a *appAccounts) changed(id auth.Identity) {
	delete(a.loads, id) // one that is being read is read again
	if account, ok := a.held.Peek(id); ok {
		account.Seen = outdated
	}
	if u := a.unsaved[id]; u != nil {
		u.account.Seen = outdated
	}
}

// save has a record written some time soon.
func (a *appAccounts) save(id auth.Identity, account *apppassword.Account) {
	delete(a.touched, id)
	if disk := a.env.Disk(); disk != nil {
		account.Version = disk.PutOver(apppassword.RecordKey(id), account.Encode(), account.Version)
	}
}

// flushApps writes what is lazily written, and once more what could not be.
func (s *shard) flushApps() {
	for id := range s.apps.touched {
		if u := s.apps.unsaved[id]; u != nil {
			s.apps.save(id, u.account)
		} else if account, ok := s.apps.held.Peek(id); ok { // also if another process has changed it: both count
			s.apps.save(id, account)
		}
	}
	clear(s.apps.touched)
	for id, u := range s.apps.unsaved {
		if u.failed {
			s.storeApps(id, u.account, u.all, func(error) {})
		}
	}
}

// storeApps puts a record in force that was changed. With all, it replaces what another process has written meanwhile.
// done is called once, when it is on disk, and must not block.
func (s *shard) storeApps(id auth.Identity, account *apppassword.Account, all bool, done func(error)) {
	delete(s.apps.touched, id)
	delete(s.apps.loads, id) // one that is being read is read again
	s.apps.held.Add(id, account)
	u := s.apps.unsaved[id]
	if u == nil {
		u = new(unsaved)
		s.apps.unsaved[id] = u
	}
	u.account, u.failed, u.all = account, false, u.all || all
	u.writes++
	self, n := s.self, u.writes
	if disk := s.env.Disk(); disk.Shared() != nil && account.Seen == 0 {
		account.Seen = termOf(disk)
	}
	written := func(err error) {
		failed := err != nil
		supervise.Do(self, func(s *shard) {
			switch {
			case s.apps.unsaved[id] != u || u.writes != n: // a newer one is on its way
			case failed:
				u.failed = true
			default:
				delete(s.apps.unsaved, id)
			}
		})
		if failed {
			err = fmt.Errorf("the change is in force, but it could not be stored yet, and is lost if the daemon ends before it is: %w", err)
		}
		done(err)
	}
	if key, record := apppassword.RecordKey(id), account.Encode(); u.all {
		s.env.Disk().PutDurably(key, record, written)
		account.Seen = outdated // its version is not known
	} else {
		account.Version = s.env.Disk().PutOverDurably(key, record, account.Version, written)
	}
}

// appWork is a message that needs the record of an account.
type appWork interface {
	supervise.Request
	of() auth.Identity // folded
	// with goes on with the record, in the shard. The error says why it is not known.
	with(*shard, *apppassword.Account, error)
}

// appLoad is the read of a record, on a goroutine of its own.
type appLoad struct {
	id      auth.Identity
	account *apppassword.Account
	err     error
	term    uint64    // of the store, in which it is read
	waiting []appWork // for the shard's goroutine only
}

// appLoaded brings a record to the shard.
type appLoaded struct{ *appLoad }

var _ supervise.Continuation = (*appLoaded)(nil)

// Continues implements supervise.Continuation.
func (*appLoaded) Continues() {}

// Fail implements supervise.Request.
func (l *appLoaded) Fail(why supervise.Reason) { supervise.FailAll(l.waiting, why) }

// onAppWork does what needs a record, once that is in memory.
func (s *shard) onAppWork(w appWork) {
	id := w.of()
	if account, ok := s.apps.get(id); ok {
		w.with(s, account, nil)
		return
	}
	disk := s.env.Disk()
	if disk == nil {
		w.with(s, nil, errNoAppStore)
		return
	}
	l := s.apps.loads[id]
	if l == nil {
		l = &appLoad{id: id, term: termOf(disk)}
		s.apps.loads[id] = l
		self := s.self
		s.env.System.Go(func() {
			l.read(disk)
			self.Send(&appLoaded{l})
		})
	}
	l.waiting = append(l.waiting, w)
}

// read reads the record. A panic is an error: what the account has is not known.
func (l *appLoad) read(disk *store.WriteBehind) {
	defer func() {
		if reason := recover(); reason != nil {
			l.err = fmt.Errorf("app passwords: %s", supervise.PanicText(reason))
		}
	}()
	l.account, l.err = apppassword.ReadRecord(disk, l.id)
}

// onAppLoaded has the work go on that has waited for a record. If that was dropped meanwhile, or the shard
// has been restarted, it is read again.
func (s *shard) onAppLoaded(l *appLoaded) {
	current := s.apps.loads[l.id] == l.appLoad
	if current {
		delete(s.apps.loads, l.id)
		if l.err == nil {
			s.apps.install(l.appLoad)
		} else if alike, ok := s.appLog.Due(time.Now()); ok {
			s.env.Log.Error("app passwords cannot be read: their logins are temporary failures", "domain", l.id.Domain, "user", l.id.User, "err", l.err, "alike", alike)
		}
	}
	for len(l.waiting) > 0 {
		if w := l.waiting[0]; current && s.apps.unsaved[l.id] == nil {
			w.with(s, l.account, l.err)
		} else {
			s.onAppWork(w)
		}
		l.waiting = l.waiting[1:] // not before: after a panic it is failed with the others
	}
}

// byAppPassword takes a call that app passwords decide: a login with one, a login with a password where an
// app password is required, and whether an account exists that has nothing else.
func (s *shard) byAppPassword(c *call.Call, d *domain.Domain, sp *space) bool {
	switch c.Req.Op {
	case auth.OpAuth:
		if c.Req.Bearer {
			return false
		}
	case auth.OpIsUser:
		if d.AppPasswords.Alone {
			s.onAppWork(&appExists{c})
		}
		return d.AppPasswords.Alone
	default:
		return false
	}
	secret, ok := apppassword.Parse(c.Req.Secret.Reveal())
	switch {
	case ok && c.Req.SignsIn():
		s.answerApp(c, sp, apppassword.NotOwn())
		return true
	case c.Req.SignsIn():
		return false
	case !ok:
		if d.AppPasswords.Requires(c.Service) && d.Bearer(c.Asked(), &c.Req) == nil {
			s.answerApp(c, sp, apppassword.Required(c.Service))
			return true
		}
		return false
	}
	if account, held := s.apps.get(c.ID); held {
		s.appLogin(c, d, sp, account, secret, nil)
	} else {
		s.onAppWork(&appLogin{call: c})
	}
	return true
}

// appExists is an isuser question in a domain without another backend.
type appExists struct{ *call.Call }

func (e *appExists) of() auth.Identity { return e.ID }

func (e *appExists) with(s *shard, account *apppassword.Account, err error) {
	a := auth.Answer{Verdict: auth.Deny, Source: auth.SourceAppPassword, Reason: "the account has no app password, and the domain no other backend"}
	switch {
	case err != nil:
		a = auth.Answer{Source: auth.SourceAppPassword, Reason: err.Error()}
	case account.Alive(e.Domain.AppAccount(e.Name), unixtime.At(s.env.Clock())):
		a = auth.Answer{Verdict: auth.Allow, Source: auth.SourceAppPassword}
	}
	e.Call.Trace.Add("app-password", a.Verdict.String())
	e.Answer(a)
}

// appLogin is a login with an app password that waits: for the record, or for what the backends say of the
// account.
type appLogin struct {
	call     *call.Call
	standing *auth.Answer // whether the account exists and is enabled; nil: that was not asked
}

func (l *appLogin) of() auth.Identity { return l.call.ID }

// Fail implements supervise.Request.
func (l *appLogin) Fail(why supervise.Reason) { l.call.Fail(why) }

func (l *appLogin) with(s *shard, account *apppassword.Account, err error) {
	c, d := l.call, s.directory.Current(l.call.ID.Domain)
	switch secret, _ := apppassword.Parse(c.Req.Secret.Reveal()); {
	case c.Done():
	case d == nil || d != c.Domain: // the configuration has changed meanwhile
		s.directory.Reroute(c)
	case err != nil:
		s.answer(c, s.space(d), auth.Answer{Source: auth.SourceAppPassword, Reason: err.Error()})
	case c.Proof != nil:
		s.appProof(c, d, s.space(d), account, l.standing)
	default:
		s.appLogin(c, d, s.space(d), account, secret, l.standing)
	}
}

// appLogin decides on a login with an app password. Nothing of it is remembered: it is decided anew each
// time, also after the backends were asked about the account.
func (s *shard) appLogin(c *call.Call, d *domain.Domain, sp *space, account *apppassword.Account, secret apppassword.Secret, standing *auth.Answer) {
	now := unixtime.At(s.env.Clock())
	switch p, status := account.Check(d.AppPasswords.Key, c.ID.Domain, d.AppAccount(c.Name), secret, c.Service, now); status {
	case apppassword.Valid:
		s.appStanding(c, d, sp, p, standing, now)
	case apppassword.Unknown:
		s.unknownApp(c, d, sp, now)
	default:
		s.answerApp(c, sp, apppassword.Refused(status, p, c.Service))
	}
}

func (s *shard) answerApp(c *call.Call, sp *space, a auth.Answer) {
	c.Trace.Add("app-password", cmp.Or(a.Reason, "valid"))
	s.answer(c, sp, a)
}

// unknownApp refuses a secret of the form that the account does not have. It counts against the client's
// address as any wrong password; no limit of the account goes by it, since it cannot be guessed. One that
// is only of another time or service is no guess at all.
func (s *shard) unknownApp(c *call.Call, d *domain.Domain, sp *space, now unixtime.Time) {
	if from, ok := limit.Network(c.Req.Client, d.Limits.Exempt); ok {
		switch s.Addresses.ask(from, c.Key.Fingerprint(), &d.Limits.Address, now, now.Add(time.Until(c.Deadline))) {
		case limit.Pass:
			s.Addresses.landed(from, &d.Limits.Address, now)
		case limit.Blocked:
			s.answer(c, sp, auth.Answer{Source: auth.SourceLimitAddress, Reason: "too many wrong passwords came from the client's address"})
			return
		}
		s.refusedFrom(c, d, from, false, now)
	}
	s.answerApp(c, sp, apppassword.Refused(apppassword.Unknown, nil, c.Service))
}

// refusedFrom counts a refused secret, or a made-up token, against the client's address.
func (p *Shards) refusedFrom(c *call.Call, d *domain.Domain, from netip.Prefix, forged bool, now unixtime.Time) {
	l, action, what, count := &d.Limits, "address", "wrong passwords", p.Addresses.refused
	event := limit.RefusedAddress
	if forged {
		action, what, count, event = "tokens", "made-up tokens", p.Addresses.forged, limit.ForgedAddress
	}
	alike := uint16(0)
	if peers := p.env.Peers(); peers != nil {
		if secret := c.Req.Secret.Reveal(); secret != "" {
			alike = peers.Alike(c.ID.String(), secret)
		}
		peers.Send(&limit.Event{What: event, From: from, Name: from.String(), Alike: alike, Rules: l.Address})
	}
	if !count(from, c.Key.Fingerprint(), alike, &l.Address, now) {
		return
	}
	p.env.Audit.Note(audit.Event{
		Kind: audit.Limit, Action: action, Client: c.Req.Client, Network: from.String(), Domain: c.ID.Domain, User: c.ID.User,
		Front: c.Front, Refusals: l.Address.Refusals, Window: l.Address.Window.String(),
	})
	if held, ok := d.AddressLimitLog.Due(time.Now()); ok {
		p.env.Log.Warn("client address limited: too many "+what+"; those that the cache does not know are a temporary failure for a while",
			"domain", c.ID.Domain, "client", from.String(), "refusals", l.Address.Refusals, "within", l.Address.Window, "alike", held)
	}
}

// RefusedElsewhere counts a password against the client's address that another server has refused, which hash stands
// for. front is the name of the listener by which that is known.
func (p *Shards) RefusedElsewhere(front string, d *domain.Domain, id auth.Identity, client, hash string) {
	from, ok := limit.Network(client, d.Limits.Exempt)
	if !ok {
		return
	}
	c := &call.Call{ID: id, Front: front, Key: p.Key(id, auth.NewSecret(hash), false)}
	c.Req.Client = client
	p.refusedFrom(c, d, from, false, unixtime.At(p.env.Clock()))
}

// Limited reports whether no unknown password is taken from a client's address now.
func (p *Shards) Limited(d *domain.Domain, client string) bool {
	from, ok := limit.Network(client, d.Limits.Exempt)
	if !ok {
		return false
	}
	now := unixtime.At(p.env.Clock())
	state := p.Addresses.Show(from, now)
	return state.Pauses > 0 && now < state.Until
}

// appStanding goes on with a login by a valid app password: the account must exist and be enabled at the
// other backends.
func (s *shard) appStanding(c *call.Call, d *domain.Domain, sp *space, p *apppassword.Password, standing *auth.Answer, now unixtime.Time) {
	user := sp.get(c.ID)
	if standing == nil && d.AppPasswords.Alone {
		standing = &auth.Answer{Unasked: true}
	}
	if standing == nil && user != nil && !c.Req.Fresh {
		if a, ok := user.Standing(c.Name, c.Service, &d.Rules, now); ok {
			standing = &a
		}
	}
	if standing == nil {
		c.Trace.Add("app-password", "valid; whether the account exists is asked")
		s.askStanding(c, func(a auth.Answer) { s.self.Send(&appLogin{call: c, standing: &a}) })
		return
	}
	s.concludeApp(c, d, sp, p, *standing, now)
}

// concludeApp answers a login by a valid app password, given what is known of its account.
func (s *shard) concludeApp(c *call.Call, d *domain.Domain, sp *space, p *apppassword.Password, standing auth.Answer, now unixtime.Time) {
	a := d.Rules.Allow.Decide(p.Answer(standing, c.Leads(standing.Account), d.AppPasswords.TTL, now), c.Service)
	if a.Verdict == auth.Allow {
		p.Last = apppassword.Use{At: now, Service: c.Service, Front: c.Front, Client: c.Req.Client}
		s.apps.touched[c.ID] = struct{}{}
		if c.Proof != nil {
			a.Body = []byte(c.Signature)
		} else if d.Scram != nil && !p.Keyed(d.Scram.Salt(c.Asked())) {
			s.learnApp(c, d)
		}
	}
	s.answerApp(c, sp, a)
}

// appConfirmed notes in the record of an account that a backend has accepted its own password.
type appConfirmed struct {
	id   auth.Identity // folded
	name cache.Name    // the accounts for which the backend's answer holds
	at   unixtime.Time
}

func (w *appConfirmed) of() auth.Identity { return w.id }

// Fail implements supervise.Request. The next login comes soon enough.
func (*appConfirmed) Fail(supervise.Reason) {}

func (w *appConfirmed) with(s *shard, account *apppassword.Account, err error) {
	if err == nil && account.Confirm(w.name.Covers, w.at) {
		s.apps.touched[w.id] = struct{}{}
	}
}

// confirmApps notes that a backend has accepted the password of an account, which may be that of another shard.
func (s *shard) confirmApps(d *domain.Domain, name cache.Name, domain string, now unixtime.Time) {
	if d.AppPasswords == nil || d.AppPasswords.Alone {
		return
	}
	w := &appConfirmed{id: auth.Identity{User: auth.FoldUser(name.Account), Domain: domain}, name: name, at: now}
	if ref := s.Ref(s.Hash(w.id)); ref != s.self {
		ref.Send(w)
	} else {
		s.onAppWork(w)
	}
}

// dropApps removes the app passwords of an account that was removed or registered: the next account of a name
// must not have those of the one before. The domain may have had some when it was configured otherwise. Where
// letter case counts, those of other spellings stay. done is called once, when they are gone from the disk, and
// must not block.
func (s *shard) dropApps(d *domain.Domain, id auth.Identity, done func(error)) {
	switch {
	case s.env.Disk() != nil && d.Folds: // it need not be read, and may be damaged
		s.storeApps(id.Fold(), new(apppassword.Account), true, done)
	case s.env.Disk() != nil:
		s.onAppWork(&appChange{id: id.Fold(), done: done, run: func(account *apppassword.Account) (bool, error) {
			return account.Drop(id.User), nil
		}})
	case d.AppPasswords != nil:
		done(errNoAppStore)
	default:
		done(nil)
	}
}

// DropAppPasswords is dropApps for an account by a domain's block, and waits.
func (p *Shards) DropAppPasswords(ctx context.Context, d *domain.Domain, id auth.Identity) error {
	done := make(chan error, 1)
	err := supervise.Ask(ctx, p.Ref(p.Hash(id)), func(s *shard) { s.dropApps(d, id, func(err error) { done <- err }) })
	if err != nil {
		return err
	}
	return await(ctx, done)
}

// appChange is a function of an administrator's that looks at a record or changes it.
type appChange struct {
	id  auth.Identity
	run func(*apppassword.Account) (changed bool, err error)
	// done is called once, when what was changed is on disk, and must not block.
	done func(error)
}

func (w *appChange) of() auth.Identity { return w.id }

// Fail implements supervise.Request.
func (w *appChange) Fail(why supervise.Reason) { w.done(fmt.Errorf("app passwords: %s", why)) }

// with changes the record in memory first, so that a revoked secret is refused from here on, and then on
// disk. If that fails, it is tried again until it is there.
func (w *appChange) with(s *shard, account *apppassword.Account, err error) {
	if err == nil && s.env.Disk() == nil {
		err = errNoAppStore
	}
	if err != nil {
		w.done(err)
		return
	}
	copied := account.Clone()
	changed, err := w.run(&copied)
	if err != nil || !changed {
		w.done(err)
		return
	}
	s.storeApps(w.id, &copied, false, w.done)
}

// AppPasswords runs a function on the record of an account's app passwords, and waits until what it has
// changed, as it reports, is on disk. It runs once, unless there is an error, and must not block.
func (p *Shards) AppPasswords(ctx context.Context, id auth.Identity, run func(*apppassword.Account) (changed bool, err error)) error {
	id = id.Fold()
	done := make(chan error, 1)
	once := func(err error) {
		select {
		case done <- err:
		default:
		}
	}
	p.Ref(p.Hash(id)).Send(&appChange{id: id, run: run, done: once})
	return await(ctx, done)
}

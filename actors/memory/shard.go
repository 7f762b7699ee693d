package memory

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/hashicorp/golang-lru/v2/simplelru"

	"postern/actors/call"
	"postern/actors/changes"
	"postern/actors/domain"
	"postern/actors/supervise"
	"postern/internal/audit"
	"postern/internal/auth"
	"postern/internal/backend"
	"postern/internal/cache"
	"postern/internal/scram"
	"postern/internal/store"
	"postern/internal/unixtime"
)

// flushEvery is how long a "last used" may be missing on disk.
const flushEvery = 15 * time.Second

// infoTTL is how long a "yes" to isuser counts where a user is to be let in without a password.
const infoTTL = time.Minute

// pruneAt is the smallest size at which a shard looks for flights that ended without its notice.
const pruneAt = 256

// shard is the actor that owns the memory of its users: all decisions about one user are
// taken here, one after the other, by internal/cache. Reading, hashing and asking are done
// elsewhere, and their outcomes come back as messages.
type shard struct {
	*Shards
	self   *supervise.Ref
	spaces map[string]*space // by the name of the block that answers: a domain, or "*"
	// former has what a former process has handed over of blocks without a space yet, until formerUntil.
	former      map[string]*former
	formerUntil time.Time
	loads       map[auth.Identity]*load

	// flights are the questions under way: an identical one waits for its answer, so that a
	// thousand phones that reconnect at once put one question.
	flights map[cache.Key]*call.Call
	prune   int // size at which flights is searched for calls that have ended

	// guessed has, by hash of the identity, until when accounts are limited.
	guessed *simplelru.LRU[uint64, unixtime.Time]

	// epoch is bumped whenever an account changes for a reason other than a login: what a backend
	// was asked before does not count after it. It is no time, since one millisecond holds both a change
	// and a login, and clocks are set back; and it is not kept per user, since the record may have
	// been out of memory meanwhile. It outlives restarts.
	epoch *uint64
	timer *time.Timer

	apps  *appAccounts
	spent *scram.Spent // the exchanges of SCRAM that have ended; it outlives restarts
}

// flushTick is the message of a shard's timer.
type flushTick struct{}

// Receive implements actor.Actor.
func (s *shard) Receive(ctx actor.Context) {
	switch m := ctx.Message().(type) {
	case *actor.Started:
		s.arm()
	case *call.Call:
		s.onCall(m)
	case *outcome:
		s.onOutcome(m)
	case appWork:
		s.onAppWork(m)
	case *appLoaded:
		s.onAppLoaded(m)
	case *loaded:
		s.onLoaded(m)
	case *supervise.Op[*shard]:
		m.Run(s)
	case *flushTick:
		s.onFlushTick()
	case *actor.Restarting, *actor.Stopping:
		for _, sp := range s.spaces {
			sp.flush()
		}
		s.flushApps()
		if s.timer != nil {
			s.timer.Stop()
		}
	}
}

func (s *shard) arm() {
	self := s.self
	s.timer = time.AfterFunc(flushEvery, func() { self.Send(&flushTick{}) })
}

// onFlushTick writes what is lazily written, and drops the memory of blocks that are gone: an
// outcome that came late may have brought it back.
func (s *shard) onFlushTick() {
	for name, sp := range s.spaces {
		sp.flush()
		if !s.directory.Served(name) {
			delete(s.spaces, name)
		}
	}
	s.flushApps()
	if len(s.former) > 0 && time.Now().After(s.formerUntil) {
		s.former = nil
	}
	s.arm()
}

// space returns the memory of a domain's users.
func (s *shard) space(d *domain.Domain) *space {
	sp := s.spaces[d.Name]
	switch {
	case sp == nil:
		sp = newSpace(s.Shards, d)
		s.spaces[d.Name] = sp
		s.inherit(sp)
	case sp.domain != d:
		sp.adapt(d)
	}
	return sp
}

// onCall answers from memory, lets the call wait for one with the same question, or begins a task.
func (s *shard) onCall(c *call.Call) {
	d := s.directory.Current(c.ID.Domain)
	if d == nil || d != c.Domain { // the configuration has changed since the router saw it
		s.directory.Reroute(c)
		return
	}
	sp := s.space(d)
	c.Shard = s.self
	if c.Req.SASL != nil {
		s.onSASL(c, d, sp)
		return
	}
	if c.Prover != nil && c.Standing == nil {
		s.forProver(c, sp)
		return
	}
	if d.AppPasswords != nil && s.byAppPassword(c, d, sp) {
		return
	}
	if !c.Req.Fresh && s.answerHot(c, sp) {
		return
	}
	if c.Req.Op.Changes() || c.Req.Fresh { // never joined: each is carried out
		s.begin(c, d, sp)
		return
	}
	if c.Key == (cache.Key{}) {
		c.Key = s.keyer.Key(c.Req.Op, c.ID, proof(c))
	}
	// An answer of other backends, asked before the configuration changed, is none for this call.
	if leader := s.flights[c.Key]; leader != nil && leader != c && leader.Domain.SameQuestion(d) && leader.Join(c) {
		c.Trace.Add("cache", "waiting for an identical request")
		return
	}
	if len(s.flights) >= s.prune {
		s.pruneFlights()
	}
	s.flights[c.Key] = c
	s.begin(c, d, sp)
}

// pruneFlights forgets calls that were answered elsewhere, as after a panic.
func (s *shard) pruneFlights() {
	for key, c := range s.flights {
		if c.Done() {
			delete(s.flights, key)
		}
	}
	s.prune = max(pruneAt, 2*len(s.flights))
}

// answerHot answers from memory, if it can.
func (s *shard) answerHot(c *call.Call, sp *space) bool {
	now := unixtime.At(s.env.Clock())
	rules := s.rules(sp.domain)
	user := sp.get(c.ID)
	if user != nil && s.current(sp, user) {
		switch c.Req.Op {
		case auth.OpAuth:
			step, ok := user.Hot(c.Key, c.As(), c.Service, rules, now)
			if ok && step.Answer.Verdict == auth.Allow && sp.domain.MayBeSigned(c.Req.Secret) && !user.Token(c.Key) {
				break // it was a password before the issuer of such tokens was known, and may be one of them
			}
			if ok {
				if step.Touched {
					sp.touched[c.ID] = struct{}{}
				}
				s.answer(c, sp, step.Answer)
				return true
			}
		case auth.OpIsUser:
			if a, ok := isUser(c, user, rules, now); ok {
				s.answer(c, sp, a)
				return true
			}
		}
	}
	sp.count.Missed++
	if c.Trace != nil {
		if user == nil {
			user = new(cache.User)
		}
		c.Trace.Add("cache", user.MissReason(c.Key, c.As()))
	}
	return false
}

// isUser answers isuser from memory.
func isUser(c *call.Call, user *cache.User, rules *cache.Rules, now unixtime.Time) (auth.Answer, bool) {
	switch {
	case c.Proven:
		return user.Standing(c.Name, c.Service, rules, now)
	case !c.Req.Info:
		return user.IsUser(c.Name, rules, now)
	}
	soon := *rules
	soon.Exists = min(soon.Exists, infoTTL)
	return user.Standing(c.Name, c.Service, &soon, now)
}

// proof is the secret by which an isuser question differs from others: one that may need another answer does not
// wait for theirs.
func proof(c *call.Call) auth.Secret {
	if c.Domain.Rules.Allow == nil || !c.Proven && !c.Req.Info {
		return auth.Secret{}
	}
	return auth.NewSecret("groups for " + c.Service)
}

func (s *shard) answer(c *call.Call, sp *space, a auth.Answer) {
	s.note(c, sp, a)
	s.reply(c, sp, a, false)
}

// note counts an answer of the cache or of a limit.
func (s *shard) note(c *call.Call, sp *space, a auth.Answer) {
	sp.note(a)
	if c.Trace != nil {
		c.Trace.Add("cache", a.Verdict.String()+" ("+a.Source.String()+")")
	}
}

// begin starts the task of a call that memory could not answer.
func (s *shard) begin(c *call.Call, d *domain.Domain, sp *space) {
	router := c.Admission()
	if router == nil || !router.Join() {
		return // c has been answered
	}
	if !d.Acquire() { // replaced a moment ago
		if s.flights[c.Key] == c { // or it would wait for itself when it comes again
			delete(s.flights, c.Key)
		}
		router.Release()
		s.directory.Reroute(c)
		return
	}
	t := &task{
		shards: s.Shards, shard: s.self, call: c, domain: d, begun: &sp.begun, router: router,
		chain: backend.NewChain(c.Req.Op), epoch: *s.epoch,
	}
	begun := false
	defer func() {
		if !begun { // a panic: the call is failed by that
			t.end()
		}
	}()
	o := &outcome{task: t, kind: started}
	s.prepare(t, d)
	if t.barred != nil {
		s.note(c, sp, *t.barred)
		s.finish(t, sp, *t.barred, false)
		t.end()
		begun = true
		return
	}
	if user := s.user(o, sp); user != nil {
		s.handle(o, d, sp, user)
	}
	begun = true
}

// prepare gives a task its login or its change, with what limits or bars it.
func (s *shard) prepare(t *task, d *domain.Domain) {
	c := t.call
	if c.Req.Op == auth.OpAuth && c.Proof == nil {
		t.bearer = d.Bearer(c.Asked(), &c.Req)
		if t.bearer != nil && c.Req.SignsIn() {
			t.barred = &auth.Answer{Verdict: auth.Deny, Source: auth.SourceToken, Reason: "a token is no password"}
			return
		}
		if t.bearer != nil && len(t.bearer.Hops) == 0 {
			t.barred = &auth.Answer{Verdict: auth.Deny, Source: auth.SourceUnsupported, Reason: "the domain has no issuer that takes the token"}
			return
		}
	}
	switch {
	case c.Proof != nil, c.Req.SignsIn(): // no cache knows its secret, or may say so
		t.limitWith()
	case c.Req.Fresh:
	case c.Req.Op == auth.OpAuth:
		t.login = cache.NewLogin(c.Key, c.As())
		t.login.Secret(c.ID.Domain, c.Req.Secret)
		t.login.For(c.Service)
		switch {
		case t.bearer != nil:
			t.login.Bearer()
		case d.Local || s.limited(c) || d.MayBeOpaque(c.Req.Secret): // no hash is a token's
			t.login.AskFirst()
		}
		if c.Via != "" {
			t.login.Stay()
		}
		t.limitWith()
	case c.Req.Op == auth.OpRemoveUser3: // it compares a password, too
		t.limitWith()
	}
	if c.Req.Op.Changes() {
		t.change = backend.NewChange(c.Req.Op, len(d.Hops))
		switch {
		case d.Guards(c.Asked()):
			t.barred = &auth.Answer{Verdict: auth.Unsupported, Source: auth.SourceForbidden, Reason: "it is the service account of a backend"}
		case c.Req.Op == auth.OpTryRegister && d.Mixed && auth.FoldUser(c.Name) != c.Name:
			// A backend that does not fold would be asked about this spelling, and one that does would
			// add the folded name, which the first may have.
			t.barred = &auth.Answer{Verdict: auth.Deny, Source: auth.SourceForbidden,
				Reason: "a name with capital letters cannot be registered where one backend ignores letter case and another does not"}
		}
	}
}

// limited reports whether the account of a login is limited, as far as the backends' replies have said:
// then they are to be asked before a hash is compared.
func (s *shard) limited(c *call.Call) bool {
	until, ok := s.guessed.Get(c.Hash)
	if ok && unixtime.At(s.env.Clock()) >= until {
		s.guessed.Remove(c.Hash)
		return false
	}
	return ok
}

// user returns the record of an outcome's user. It is nil if the record has to be read: the outcome
// then comes again.
func (s *shard) user(o *outcome, sp *space) *cache.User {
	id := o.call.ID
	known := sp.get(id)
	if known != nil && s.current(sp, known) {
		return known
	}
	disk := sp.disk()
	if disk == nil {
		delete(s.loads, id) // what was read before, when it was kept on disk, may not be true any more
		return new(cache.User)
	}
	l := s.loads[id]
	if l == nil {
		l = &load{shards: s.Shards, shard: s.self, id: id, disk: disk, term: termOf(disk)}
		s.loads[id] = l
		if o.kind == started && known == nil {
			l.lead = o.task
		} else {
			l.wanted.Store(true)
			l.waiting = append(l.waiting, o)
		}
		s.env.System.Go(l.read)
		return nil
	}
	l.wanted.Store(true)
	if user := l.user.Load(); user != nil { // read, but nothing has brought it here yet
		return s.install(l, sp, user)
	}
	l.waiting = append(l.waiting, o)
	return nil
}

// install takes a record that was read into memory.
func (s *shard) install(l *load, sp *space, user *cache.User) *cache.User {
	delete(s.loads, l.id)
	if known := sp.get(l.id); known != nil {
		renew(known, l, user)
		user = known
	}
	user.Settle(&sp.domain.Rules)
	sp.place(l.id, user)
	return user
}

// onLoaded has the outcomes go on that have waited for a record.
func (s *shard) onLoaded(l *loaded) {
	if s.loads[l.id] == l.load && len(l.waiting) > 0 { // else it was forgotten meanwhile, and is read again
		s.install(l.load, s.space(s.answering(l.waiting[0])), l.user.Load())
	}
	if l.again != nil {
		s.reread(l.load)
	}
	for len(l.waiting) > 0 {
		l.current, l.waiting = l.waiting[0], l.waiting[1:]
		s.onOutcome(l.current)
		l.current = nil
	}
}

// onOutcome takes what came of a task's work. It is handled by the rules in force, whatever they
// were when the task began.
func (s *shard) onOutcome(o *outcome) {
	if o.domain == nil { // its task ended by a panic
		o.call.Fail(supervise.Panicked)
		return
	}
	d := s.answering(o)
	sp := s.space(d)
	if user := s.user(o, sp); user != nil {
		s.handle(o, d, sp, user)
	}
}

// answering is the domain that answers for the name of an outcome's user. If there is none any more,
// it is that with which the task began: what is stored must stay true all the same.
func (s *shard) answering(o *outcome) *domain.Domain {
	if d := s.directory.Current(o.call.ID.Domain); d != nil {
		return d
	}
	return o.domain
}

// handle goes on with a task. user is the record of its user.
func (s *shard) handle(o *outcome, d *domain.Domain, sp *space, user *cache.User) {
	t := o.task
	now := unixtime.At(s.env.Clock())
	switch o.kind {
	case started:
		s.apply(t, d, sp, user, t.firstStep(user))
	case decided:
		s.apply(t, d, sp, user, o.step)
	case compared:
		if o.leaves && t.login.MayAsk() {
			s.apply(t, d, sp, user, t.askInstead(user))
			return
		}
		s.apply(t, d, sp, user, t.login.Compared(user, o.match, o.hashes, o.ran, s.rules(d), now))
	case hashed:
		s.apply(t, d, sp, user, t.login.Hashed(user, o.hash))
	case asked:
		s.onAsked(o, d, sp, user, now)
	}
}

// apply carries out what was decided.
func (s *shard) apply(t *task, d *domain.Domain, sp *space, user *cache.User, step cache.Step) {
	c := t.call
	if step.Save {
		sp.save(c.ID, user)
	}
	if step.Touched {
		sp.touched[c.ID] = struct{}{}
	}
	sp.place(c.ID, user)
	if user.Revoked() {
		s.Changes.Note(c.ID, changes.Secret, d.Disk)
		s.noteRefusal(c, "password")
	}
	if step.Answered {
		s.note(c, sp, step.Answer)
		s.finish(t, sp, step.Answer, step.Lasting)
	}
	switch step.Do {
	case cache.Nothing:
		t.end()
	case cache.Ask:
		t.chain, t.known, t.epoch = backend.NewChain(c.Req.Op), step.Known, *s.epoch
		t.hop, _ = t.next(-1)
		t.withheld, t.noCompare = auth.SourceNone, false
		s.ask(t)
	case cache.Compare:
		t.compare(&step)
	case cache.Hash:
		t.makeHash(d.HashCost)
	case cache.Follow:
		s.follow(t, step.Alias)
	}
}

// follow sends the call of a task to the shard of the account to which an alias leads.
func (s *shard) follow(t *task, account string) {
	c := t.call
	if s.flights[c.Key] == c {
		delete(s.flights, c.Key)
	}
	t.landed(false)
	t.end()
	c.Via, c.ID.User = account, auth.FoldUser(account)
	c.Key, c.Hash = s.Key(c.ID, c.Req.Secret, c.Req.Bearer), s.Hash(c.ID)
	c.Trace.Add("cache", fmt.Sprintf("the name leads to the account %q", account))
	s.self.Forward(s.Ref(c.Hash), c)
}

// onOther ends a login that a backend has let in as an account of another name than that of the
// record: the record of the name asked keeps an alias, and what is learned is the account's.
func (s *shard) onOther(t *task, d *domain.Domain, sp *space, user *cache.User, name cache.Name, by auth.AuthorityID, groups auth.Groups) {
	c := t.call
	current := d == t.domain && t.epoch == *s.epoch
	switch {
	case c.Via != "":
		s.dropAlias(c.Asked().Fold())
	case current && c.Returns && !name.Exact && user.SetAlias(name.Account, by, &d.Rules):
		sp.save(c.ID, user)
		sp.place(c.ID, user)
	}
	a := auth.Answer{Verdict: auth.Allow, Source: auth.SourceBackend, Account: name.Account, Groups: groups}
	s.note(c, sp, a)
	s.finish(t, sp, a, false)
	t.end()
}

// dropAlias forgets an alias that does not lead to its account any more.
func (s *shard) dropAlias(id auth.Identity) {
	supervise.Do(s.Ref(s.Hash(id)), func(s *shard) {
		for _, sp := range s.spaces {
			if user := sp.get(id); user != nil && user.Alias != (cache.Alias{}) {
				user.Alias = cache.Alias{}
				sp.save(id, user)
				sp.place(id, user)
			}
		}
	})
}

// ask puts the task's question to its present backend.
func (s *shard) ask(t *task) {
	backend, question := t.question()
	s.self.Forward(backend.Ref, question)
}

// onAsked takes a backend's answer: the next backend of the chain, or the end of it.
func (s *shard) onAsked(o *outcome, d *domain.Domain, sp *space, user *cache.User, now unixtime.Time) {
	t := o.task
	r := &o.reply
	if r.Limited != 0 {
		s.guessed.Add(t.call.Hash, r.Limited)
	}
	withheld := r.Source == auth.SourceLimitBudget || r.Source == auth.SourceLimitUser
	if r.Result.Err != nil && !(t.call.Req.Op == auth.OpAuth && r.Result.Class == backend.Refused) { // reason has those
		t.why = r.Result.Err.Error()
	}
	if t.change != nil {
		switch {
		case withheld: // nothing was changed
			a := auth.Answer{Source: r.Source}
			s.note(t.call, sp, a)
			s.finish(t, sp, a, false)
		case !t.change.Add(o.number, r.Result):
			s.ask(t)
			return
		default:
			result := t.change.Result()
			if result.Err != nil {
				t.why = result.Err.Error()
			}
			s.concludeOther(t, d, sp, user, result, r.Source, now)
		}
		t.end()
		return
	}
	if withheld {
		t.withheld, t.noCompare = r.Source, t.noCompare || r.NoCompare
	}
	instead := t.instead
	if t.instead = false; instead && r.Busy {
		t.login.Unasked()
	}
	if next, more := t.after(&o.reply.Result); !t.chain.Add(o.reply.Result) && more {
		if instead && !t.chain.Refused() {
			s.apply(t, d, sp, user, t.login.Return(user, s.rules(d), now))
			return
		}
		t.hop = next
		s.ask(t)
		return
	}
	result := t.chain.Result()
	if result.Class == backend.Refused {
		sp.count.Refusals++
	}
	if t.login != nil {
		s.concludeLogin(o, d, sp, user, result, now)
		return
	}
	if t.call.Proof != nil {
		s.concludeProof(o, d, sp, user, result, now)
	} else {
		s.concludeOther(t, d, sp, user, result, o.reply.Source, now)
	}
	t.end()
}

// concludeLogin gives a login the combined result of its backends.
func (s *shard) concludeLogin(o *outcome, d *domain.Domain, sp *space, user *cache.User, result backend.Result, now unixtime.Time) {
	t := o.task
	if d != t.domain {
		t.login.Outdate()
	}
	if t.epoch != *s.epoch {
		t.login.Supersede()
	}
	name, by := s.noteLogin(t, d, sp, user, result, now)
	if t.chain.Suspect() {
		t.login.Suspect()
	}
	if result.Class == backend.Accepted && auth.FoldUser(name.Account) != t.call.ID.User {
		s.onOther(t, d, sp, user, name, by, result.Groups)
		return
	}
	t.login.Answers(name, by)
	if !result.Expires.IsZero() {
		t.login.Expires(unixtime.At(result.Expires))
	}
	t.login.InGroups(result.Groups)
	meaning, source := meaningOf(result.Class, o.reply.Busy), o.reply.Source
	if t.withheld != auth.SourceNone && result.Class != backend.Accepted && result.Class != backend.Refused {
		meaning, source = cache.Withheld, t.withheld
		if t.noCompare {
			meaning = cache.Busy
		}
	}
	if t.bearer != nil && result.Class == backend.Unsure { // the provider can be reached: its word of a while ago does not count
		meaning = cache.Misconfigured
	}
	step := t.login.BackendAnswered(user, meaning, source, s.rules(d), now)
	if meaning == cache.Refused && !step.Save {
		sp.mark(t.call.ID)
	}
	if reason := t.reason(&result); reason != "" && step.Answered && step.Answer.Verdict == auth.Deny {
		step.Answer.Reason = reason
	}
	s.apply(t, d, sp, user, step)
}

// noteRefusal writes to the audit log that what was let in before is not any more: a password, or the account.
func (s *shard) noteRefusal(c *call.Call, what string) {
	s.env.Audit.Note(audit.Event{
		Kind: audit.Refusal, Action: what, Client: c.Req.Client, Domain: c.ID.Domain, User: c.ID.User, Front: c.Front,
	})
}

// noteLogin notes what a login has shown of its account, and returns the name for which that is, and the authority that says so.
func (s *shard) noteLogin(t *task, d *domain.Domain, sp *space, user *cache.User, result backend.Result, now unixtime.Time) (cache.Name, auth.AuthorityID) {
	switch {
	case result.Disabled:
		s.Changes.Note(t.call.ID, changes.Disabled, d.Disk)
	case result.Class == backend.Accepted:
		s.Changes.Enabled(t.call.ID, d.Disk)
	}
	disabled := result.Disabled && user.SetDisabled(true)
	if disabled || !result.Disabled && result.Class == backend.Accepted && user.LetIn() {
		sp.save(t.call.ID, user)
	}
	if disabled {
		s.noteRefusal(t.call, "account")
	}
	name, by := t.answers(result)
	if result.Class == backend.Accepted && d == t.domain && t.epoch == *s.epoch {
		s.confirmApps(d, name, t.call.ID.Domain, now)
	}
	return name, by
}

// meaningOf is what a backend's answer means to the cache.
func meaningOf(c backend.Class, busy bool) cache.Outcome {
	switch c {
	case backend.Accepted:
		return cache.Accepted
	case backend.Refused:
		return cache.Refused
	case backend.Misconfigured:
		return cache.Misconfigured
	case backend.Unsupported:
		return cache.Unsupported
	}
	if busy {
		return cache.Busy
	}
	return cache.CannotAnswer
}

// concludeOther ends the operations other than auth.
func (s *shard) concludeOther(t *task, d *domain.Domain, sp *space, user *cache.User, r backend.Result, source auth.Source, now unixtime.Time) {
	a := auth.Answer{Source: source, Body: r.Body, Disabled: r.Disabled, Groups: r.Groups}
	a.Unasked = t.call.Req.Op == auth.OpIsUser && (r.Class == backend.Unsure || r.Class == backend.Unsupported)
	switch r.Class {
	case backend.Accepted:
		a.Verdict = auth.Allow
	case backend.Refused:
		a.Verdict, a.Reason = auth.Deny, t.reason(&r)
	case backend.Unsupported:
		a.Verdict, a.Source = auth.Unsupported, auth.SourceUnsupported
	}
	lasting := false
	switch op := t.call.Req.Op; {
	case op == auth.OpIsUser && !t.call.Req.Fresh:
		a = s.afterIsUser(t, d, sp, user, r, a, now)
	case t.call.Req.SignsIn():
		if t.withheld != auth.SourceNone && a.Verdict == auth.Unavailable {
			a.Source = t.withheld
		}
		if r.Class == backend.Accepted {
			name, _ := t.answers(r)
			a.Account = name.Account
			if d == t.domain && t.epoch == *s.epoch {
				s.confirmApps(d, name, t.call.ID.Domain, now)
			}
		}
	case op.Changes():
		lasting = t.change.Put() && s.afterChange(t, sp, user, r.Class)
	}
	s.note(t.call, sp, a)
	if s.isAlias(t, user, r.Class, a) {
		s.landed(t)
		return
	}
	s.finish(t, sp, a, lasting)
}

func (s *shard) afterIsUser(t *task, d *domain.Domain, sp *space, user *cache.User, r backend.Result, a auth.Answer, now unixtime.Time) auth.Answer {
	id, rules := t.call.ID, &d.Rules
	switch r.Class {
	case backend.Accepted, backend.Refused:
		if d != t.domain || t.epoch != *s.epoch {
			return a
		}
		switch was := user.Exists; {
		case r.Disabled || r.Class == backend.Refused && was.Known && was.Yes:
			s.Changes.Note(id, changes.Disabled, d.Disk)
		case r.Class == backend.Accepted:
			s.Changes.Enabled(id, d.Disk)
		}
		name, by := t.answers(r)
		changed := user.SetExists(r.Class == backend.Accepted, name, by, rules, now)
		if r.Class == backend.Accepted {
			user.SetDisabled(r.Disabled)
			user.SetGroups(r.Groups)
		}
		if a.Account = name.Account; changed {
			sp.save(id, user)
		}
		sp.place(id, user)
	case backend.Outage, backend.Throttled:
		if grace, ok := user.IsUserGrace(t.call.Name, rules, now); ok {
			return grace
		}
	case backend.Unsure:
		// No backend can be asked: a user that logged in within the outage lifetime is there.
		if known, ok := user.IsUserUnasked(t.call.Name, rules, now); ok {
			return known
		}
	}
	return a
}

// isAlias has an isuser question that no backend has answered be answered by what is known of the
// account to which the name leads, and else with a. It is false if the name leads nowhere.
func (s *shard) isAlias(t *task, user *cache.User, class backend.Class, a auth.Answer) bool {
	account, c, rules := user.Alias.Account, t.call, &t.domain.Rules
	if account == "" || c.Req.Op != auth.OpIsUser || c.Req.Fresh || a.Verdict != auth.Unavailable {
		return false
	}
	shards, id := s.Shards, auth.Identity{User: auth.FoldUser(account), Domain: c.ID.Domain}
	s.env.System.Go(func() {
		ctx, cancel := context.WithDeadline(s.env.Context, c.Deadline)
		defer cancel()
		known, err := shards.CachedUser(ctx, id)
		known.Settle(rules)
		remembered := known.IsUserGrace
		if class == backend.Unsure {
			remembered = known.IsUserUnasked
		}
		if grace, ok := remembered(account, rules, unixtime.At(shards.env.Clock())); err == nil && ok {
			a = grace
		}
		c.Answer(a)
	})
	return true
}

// afterChange keeps cache and limits true to a user that was changed at its backend, before
// anything that is asked after the change's answer: a password that was wrong may be right now.
// lasting reports that a crash must not bring back what was remembered, once the peer was answered.
func (s *shard) afterChange(t *task, sp *space, user *cache.User, class backend.Class) (lasting bool) {
	c := t.call
	switch class {
	case backend.Accepted:
		user.Forget()
		s.guessed.Remove(c.Hash)
		for _, h := range t.domain.Hops {
			h.Backend.ForgetAccount(t.domain.Query(h, c.ID))
		}
		switch c.Req.Op {
		case auth.OpSetPass:
			s.Changes.Note(c.ID, changes.Secret, t.domain.Disk)
		case auth.OpRemoveUser, auth.OpRemoveUser3:
			s.Changes.Note(c.ID, changes.Removed, t.domain.Disk)
		}
	case backend.Refused, backend.Unsupported:
		return false
	default:
		s.Changes.Note(c.ID, changes.Secret, t.domain.Disk)
		// Whether it was carried out is not known: every password must be verified again.
		user.Invalidate()
	}
	sp.mark(c.ID)
	*s.epoch++
	clear(s.flights) // later questions must not have an answer from before
	sp.save(c.ID, user)
	sp.place(c.ID, user)
	return true
}

// landed notes that nothing more is asked for a task.
func (s *shard) landed(t *task) {
	if c := t.call; s.flights[c.Key] == c {
		delete(s.flights, c.Key)
	}
	t.landed(t.refused())
}

// reply answers a call. A lasting answer leaves when what was saved is on disk, or in the shared store, and so does a
// refusal for an account of which that lacks one.
func (s *shard) reply(c *call.Call, sp *space, a auth.Answer, lasting bool) {
	disk, written := sp.disk(), func() {}
	if disk != nil && disk.Shared() != nil && (lasting || a.Verdict == auth.Deny) {
		lasting, written = s.refused.note(c.ID, lasting)
	}
	if !lasting || disk == nil || s.failing.Load() && disk.Shared() == nil {
		c.Answer(a)
		return
	}
	disk.Flush(func(err error) {
		if err == nil {
			written()
		}
		if errors.Is(err, store.ErrBusy) {
			a = auth.Answer{Source: auth.SourceOverload}
		}
		c.Answer(a)
	})
}

// finish answers a task's call. A lasting answer leaves when what was saved is on disk. A disk that
// fails keeps no answer waiting; one that only stalls makes the answer a temporary failure when too
// many others wait for it. For a shared store that is away it waits until the call's deadline.
func (s *shard) finish(t *task, sp *space, a auth.Answer, lasting bool) {
	c := t.call
	s.landed(t)
	if a.Verdict != auth.Allow && a.Reason == "" {
		a.Reason = t.why
	}
	log := s.env.Log
	answer := func() { s.reply(c, sp, a, lasting) }
	if a.Verdict != auth.Allow || !c.Req.Op.Replaces() {
		answer()
		return
	}
	s.dropApps(t.domain, c.Asked(), func(err error) {
		if err != nil {
			log.Error("the app passwords of a former account could not be removed: revoke them", "domain", c.ID.Domain, "user", c.Name, "err", err)
		}
		answer()
	})
}

package slots

import (
	"context"
	"errors"
	"time"

	"postern/actors/supervise"
	"postern/internal/audit"
	"postern/internal/auth"
	"postern/internal/backend"
	"postern/internal/limit"
	"postern/internal/unixtime"
)

// errLimited is why a question with an unknown password is not put.
var errLimited = errors.New("too many wrong passwords were tried for this user: unless this one was accepted before, it is not asked about for a while")

// errWithheld is why a question is not put to a backend that would slow down or block this address
// after a further refusal.
var errWithheld = errors.New("the backend has refused as many passwords as it bears, or this one lately: only passwords that the cache knows are put to it")

// How often a backend is asked how it treats this address: once in a while, and sooner after a
// refusal.
const (
	probeEvery   = 5 * time.Minute
	probeAfter   = 30 * time.Second
	probeTimeout = 10 * time.Second
)

// throttler is a backend that says how it treats this address.
type throttler interface {
	Throttle(context.Context) (backend.ThrottleState, error)
}

// limits is the part of a backend's actor that counts refused passwords: those of each account, and
// all that the backend bears.
type limits struct {
	*Backend
	accounts *limit.Accounts
	refusals *limit.Budget
	spent    bool // it has been logged
	probing  bool
	probed   unixtime.Time // when the last probe began
	news     uint64        // refusals, ever
	known    uint64        // those before the last probe
}

// throttleProbe brings what a backend said of itself.
type throttleProbe struct {
	state backend.ThrottleState
	err   error
	news  uint64 // refusals when it was asked
}

func newLimits(b *Backend) *limits {
	return &limits{Backend: b, accounts: limit.NewAccounts(), refusals: limit.NewBudget(b.rules)}
}

func (b *limits) now() unixtime.Time { return unixtime.At(b.env.Clock()) }

// account stands for the account that a question is about. confirmed is the backend's name of it, if
// it has given one.
func (b *Backend) account(q backend.Query, confirmed string) uint64 {
	return b.seed.Sum([]byte(backend.Account(b.backend, q, confirmed)))
}

// prepare finds out what a question's limits go by.
func (b *limits) prepare(q *Question) {
	if !q.guesses() {
		return
	}
	if q.token { // made-up ones use up no account's share of the budget
		q.Guess.Account = q.Guess.Secret
		return
	}
	q.Guess.Account = b.account(q.Query, "")
	q.Guess.Proof = q.Query.Proof != nil
	q.Known = q.Known || b.accounts.Knows(q.Guess.Account, q.Guess.Secret) || b.accounts.Trusts(&q.Guess)
	q.Guess.Stranger = q.Guess.Stranger && !b.accounts.Familiar(q.Guess.Account)
}

// doubtful reports whether it should be found out first whether a question's account exists: names
// that do not must not use up the budget.
func (b *limits) doubtful(q *Question) bool {
	return q.unproven() && q.Guess.Stranger && !q.looked && b.refusals.Strained(b.now())
}

// allows decides whether a question may be put now. If not, and if it need not wait, why is its answer.
func (b *limits) allows(q *Question) (d limit.Decision, why Reply) {
	b.probe()
	if !q.unproven() {
		return limit.PassUncounted, why
	}
	now := b.now()
	if d = b.refusals.Admit(&q.Guess, now); d == limit.Wait {
		return d, why
	}
	q.counted = d == limit.Pass
	if d == limit.Blocked {
		b.withheld.Add(1)
		b.log(now)
		return d, Reply{Result: backend.Result{Class: backend.Outage, Err: errWithheld}, Source: auth.SourceLimitBudget}
	}
	if q.token {
		return d, why
	}
	end := now.Add(time.Until(q.Deadline))
	guess, compare := b.accounts.Admit(&q.Guess, now, end)
	q.guessed = guess == limit.Pass
	if guess == limit.Wait || guess == limit.Blocked {
		b.withdraw(q)
		why = Reply{Result: backend.Result{Class: backend.Outage, Err: errLimited}, Source: auth.SourceLimitUser, NoCompare: !compare}
		why.Limited = b.accounts.LimitedUntil(q.Guess.Account, now)
		return limit.Blocked, why
	}
	return d, why
}

// waitsFor is the part of the budget for which a question waits that may not be put now; the zero Bound
// if it waits for a slot only.
func (b *limits) waitsFor(q *Question) limit.Bound {
	if !q.unproven() || !b.refusals.Active() {
		return limit.Bound{}
	}
	return b.refusals.WaitsFor(&q.Guess)
}

// withdraw takes back what allows has counted for a question that is not put.
func (b *limits) withdraw(q *Question) {
	if q.counted {
		b.refusals.Done(&q.Guess)
	}
	if q.guessed {
		b.accounts.Withdraw(&q.Guess, b.now())
	}
	q.counted, q.guessed = false, false
}

// log says when the budget is used up and when it is not any more.
func (b *limits) log(now unixtime.Time) {
	s := b.refusals.State(now)
	spent := b.refusals.Active() && s.Refusals >= s.Limit
	if spent == b.spent {
		return
	}
	b.spent = spent
	if spent {
		b.env.Log.Warn("backend has refused as many passwords as it bears; only those that the cache knows are put to it for a while. Exempt postern's address there",
			"backend", b.Name, "refusals", s.Refusals, "within", b.rules.Window)
		return
	}
	b.env.Log.Info("backend may be asked about any password again", "backend", b.Name)
}

// settle takes the end of a question, and returns until when the account is limited after it.
func (b *limits) settle(q *Question, class backend.Class, result *backend.Result) (limited unixtime.Time) {
	if !q.guesses() {
		return 0
	}
	now := b.now()
	if q.counted {
		b.refusals.Done(&q.Guess)
	}
	if q.guessed {
		b.accounts.Done(&q.Guess, now)
	}
	refusals := result.Attempts
	if class == backend.Refused {
		refusals = max(refusals, 1)
	}
	b.publish(q, class == backend.Refused && !q.token, refusals)
	if class == backend.Refused && !q.token {
		b.refused(q, now)
	}
	if refusals > 0 {
		b.news++
		b.refusals.Refused(&q.Guess, refusals, now)
	}
	if class == backend.Accepted && q.Query.Op == auth.OpAuth {
		b.refusals.Accepted(q.Guess.Secret)
		if !q.token {
			b.accounts.Accepted(&q.Guess, b.account(q.Query, result.Account))
		}
	}
	b.log(now)
	b.probe()
	if q.token {
		return 0
	}
	return b.accounts.LimitedUntil(q.Guess.Account, now)
}

// publish sends refusals to the other processes.
func (b *limits) publish(q *Question, counted bool, refusals int) {
	peers := b.env.Peers()
	if peers == nil || refusals == 0 {
		return
	}
	e := &limit.Event{
		What: limit.RefusedUser, Backend: b.Identity(), Name: q.ID.String(), Counted: counted && q.Guess.Rules != nil, Stranger: q.Guess.Stranger, Charges: refusals,
	}
	if !q.token {
		e.Account = backend.Account(b.backend, q.Query, "")
	}
	if q.Guess.From != 0 {
		e.From, _ = limit.Network(q.Client, nil)
	}
	if e.Counted {
		e.Rules = *q.Guess.Rules
	}
	if !q.token && q.Query.Proof == nil {
		e.Alike = peers.Alike(e.Account, q.Query.Secret.Reveal())
		q.Guess.Alike = e.Alike
	}
	peers.Send(e)
}

// Learn counts what another process has sent about the backend, some time ago. from stands for the client's network.
func (b *Backend) Learn(e *limit.Event, from uint64, age time.Duration) {
	account := uint64(0)
	if e.Account != "" {
		account = b.seed.Sum([]byte(e.Account))
	}
	supervise.Do(b.Ref, func(x *limits) {
		now := x.now()
		if e.What == limit.ForgetUser {
			x.forget(account)
			return
		}
		at := now.Add(-age)
		if e.Counted && x.accounts.Learn(account, e, from, at, now) {
			b.env.Log.Warn("user limited: too many wrong passwords came to all machines together", "backend", b.Name, "user", e.Name, "refusals", e.Rules.Refusals, "within", e.Rules.Window)
		}
		x.refusals.Learn(account, from, e, at, now)
		x.log(now)
	})
}

// forget forgets the passwords of an account.
func (b *limits) forget(account uint64) {
	b.accounts.Forget(account, b.now())
	b.refusals.Forget(account)
}

// refused counts a refusal for the account.
func (b *limits) refused(q *Question, now unixtime.Time) {
	if !b.accounts.Refused(&q.Guess, q.ID.String(), now) {
		return
	}
	b.env.Audit.Note(audit.Event{
		Kind: audit.Limit, Action: "user", Client: q.Client, Domain: q.ID.Domain, User: q.ID.User, Backend: b.Name,
		Refusals: q.Guess.Rules.Refusals, Window: q.Guess.Rules.Window.String(),
	})
	if held, ok := b.guesses.Due(time.Now()); ok {
		b.env.Log.Warn("user limited: too many wrong passwords; for a while only those that were accepted before, and one other a minute, are put to the backend",
			"backend", b.Name, "domain", q.ID.Domain, "user", q.ID.User, "refusals", q.Guess.Rules.Refusals, "within", q.Guess.Rules.Window, "alike", held)
	}
}

// probe has the backend asked how it treats this address, if it is time to.
func (b *limits) probe() {
	t, ok := b.backend.(throttler)
	if !ok || b.rules.Refusals == 0 || b.probing {
		return
	}
	now := b.now()
	age := now.Go().Sub(b.probed.Go())
	if b.probed != 0 && age >= 0 && age < probeEvery && (b.news == b.known || age < probeAfter) {
		return
	}
	b.probing, b.probed, b.known = true, now, b.news
	be, news := b.Backend, b.news
	be.probes.Add(1)
	b.env.System.Go(func() {
		p := &throttleProbe{err: errors.New("the backend's code panicked"), news: news}
		defer func() {
			_ = recover()
			be.Ref.Send(p)
			be.probes.Add(-1)
		}()
		ctx, cancel := context.WithTimeout(be.env.Context, probeTimeout)
		defer cancel()
		p.state, p.err = t.Throttle(ctx)
	})
}

// onThrottleProbe takes what the backend said, and reports whether it slows logins too much. A
// delay of zero means that it has counted no refusal against this address, unless there was one
// since.
func (b *limits) onThrottleProbe(p *throttleProbe) (slow bool) {
	b.probing = false
	if p.err != nil {
		b.env.Log.Debug("backend did not say how it treats logins from here", "backend", b.Name, "err", p.err)
		return false
	}
	if was := b.refusals.State(b.now()).Exempt; was != p.state.Exempt {
		b.env.Log.Info("backend says whether it counts wrong passwords from here", "backend", b.Name, "exempt", p.state.Exempt, "address", p.state.From.String())
	}
	delay := p.state.Delay
	if p.news != b.news {
		delay = max(delay, time.Millisecond)
	}
	b.refusals.Observed(p.state.Exempt, delay)
	b.waiting.wakeAll()
	b.delay.Store(int64(p.state.Delay))
	b.log(b.now())
	return !p.state.Exempt && b.maxDelay > 0 && p.state.Delay > b.maxDelay
}

// slowed is by how much the backend slows down a login from here on purpose: -1 if that is not known.
func (b *limits) slowed() time.Duration {
	switch _, says := b.backend.(throttler); {
	case !says || !b.refusals.Active():
		return 0
	case b.news != b.known: // refused something since it was asked
		return -1
	}
	return time.Duration(b.delay.Load())
}

// room is how many questions with unknown passwords may be under way at once, of so many slots, and whether
// half of the budget is used up.
func (b *limits) room(slots int) (width int, strained bool) {
	if !b.refusals.Active() {
		return slots, false
	}
	s := b.refusals.State(b.now())
	return min(slots, max(s.Limit-s.Refusals, 1)), 2*s.Refusals >= s.Limit
}

// Limits is what a backend's limits have come to.
type Limits struct {
	Refusals int           `json:"refusals"` // within the window of its budget
	Most     int           `json:"budget"`   // 0: no budget
	Exempt   bool          `json:"exempt"`   // the backend says that it does not count ours
	Delay    time.Duration `json:"delay_ns"` // of each login from here, when last asked
	Withheld int64         `json:"withheld"` // questions that were not put for want of a budget

	Limited []limit.State `json:"-"` // accounts with a pause
	Watched int           `json:"-"` // accounts with refusals, but without a pause
}

// Limits returns how the backend's limits stand. It lists at most most accounts.
func (b *Backend) Limits(ctx context.Context, most int) (stands Limits, err error) {
	err = supervise.Ask(ctx, b.Ref, func(x *limits) {
		s := x.refusals.State(x.now())
		stands = Limits{Refusals: s.Refusals, Most: s.Limit, Exempt: s.Exempt, Delay: time.Duration(b.delay.Load()), Withheld: b.withheld.Load()}
		stands.Limited, stands.Watched = x.accounts.Limited(most, x.now())
	})
	if err != nil {
		return Limits{}, err
	}
	return stands, nil
}

// AccountLimit returns what is counted of the account that a question would be about.
func (b *Backend) AccountLimit(ctx context.Context, q backend.Query) (state limit.State, err error) {
	account := b.account(q, "")
	err = supervise.Ask(ctx, b.Ref, func(x *limits) { state = x.accounts.State(account, x.now()) })
	if err != nil {
		return limit.State{}, err
	}
	return state, nil
}

// ForgetAccount forgets the refused and the accepted passwords of the account that a question would
// be about, as after a change of the password.
func (b *Backend) ForgetAccount(q backend.Query) *supervise.Op[*limits] {
	account := b.account(q, "")
	if peers := b.env.Peers(); peers != nil {
		peers.Send(&limit.Event{What: limit.ForgetUser, Backend: b.Identity(), Account: backend.Account(b.backend, q, "")})
	}
	return supervise.Do(b.Ref, func(x *limits) { x.forget(account) })
}

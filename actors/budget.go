package actors

import (
	"context"
	"errors"
	"time"

	"postern/internal/auth"
	"postern/internal/backend"
	"postern/internal/limit"
	"postern/internal/unixtime"
)

// errWithheld is why a question is not put to a backend that would take a further refusal amiss.
var errWithheld = errors.New("the backend has refused as many passwords as it bears, or this one lately: only passwords that the cache knows are put to it")

// How often a backend is asked how it treats our address: once in a while, and sooner after a
// refusal.
const (
	lookEvery    = 5 * time.Minute
	lookAfter    = 30 * time.Second
	lookPatience = 10 * time.Second
)

// throttler is a backend that tells how it treats our address.
type throttler interface {
	Throttle(context.Context) (backend.ThrottleState, error)
}

// purse is the part of a backend's actor that keeps its budget of refusals.
type purse struct {
	*backendRef
	budget  *limit.Budget
	spent   bool // it has been said
	looking bool
	looked  unixtime.Time // when a look began
	news    uint64        // refusals, ever
	known   uint64        // those before the last look
}

// looked brings what a backend said of itself.
type looked struct {
	state backend.ThrottleState
	err   error
	news  uint64 // refusals when it was asked
}

func newPurse(r *backendRef) *purse {
	return &purse{backendRef: r, budget: limit.NewBudget(r.rules)}
}

func (p *purse) now() unixtime.Time { return unixtime.At(p.broker.clock()) }

// allows decides whether a question may be put now.
func (p *purse) allows(a *ask) limit.Decision {
	p.look()
	if !a.unproven() {
		return limit.PassUncounted
	}
	now := p.now()
	d := p.budget.Admit(a.call.Key.Fingerprint(), now)
	a.counted = d == limit.Pass
	if d == limit.Blocked {
		p.withheld.Add(1)
		p.tell(now)
	}
	return d
}

// unproven reports whether a question may come to a refusal that counts against us.
func (a *ask) unproven() bool { return a.query.Op == auth.OpAuth && !a.known }

// tell logs when the budget is used up and when it is not any more.
func (p *purse) tell(now unixtime.Time) {
	s := p.budget.State(now)
	spent := p.budget.Active() && s.Refusals >= s.Limit
	if spent == p.spent {
		return
	}
	p.spent = spent
	if spent {
		p.log.Warn("backend has refused as many passwords as it bears; only those that the cache knows are put to it for a while. Exempt postern's address there",
			"backend", p.name, "refusals", s.Refusals, "within", p.rules.Window)
		return
	}
	p.log.Info("backend may be asked about any password again", "backend", p.name)
}

// settle takes the end of a question.
func (p *purse) settle(d *slotDone) {
	if !d.login {
		return
	}
	if d.counted {
		p.budget.Done()
	}
	refusals := d.attempts
	if d.class == backend.Refused {
		refusals = max(refusals, 1)
	}
	if refusals > 0 {
		p.news++
		p.budget.Refused(d.user, d.secret, refusals, p.now())
	}
	if d.class == backend.Accepted {
		p.budget.Accepted(d.secret)
	}
	p.tell(p.now())
	p.look()
}

// look has the backend asked how it treats our address, if it is time to.
func (p *purse) look() {
	t, ok := p.backend.(throttler)
	if !ok || p.rules.Refusals == 0 || p.looking {
		return
	}
	now := p.now()
	age := now.Go().Sub(p.looked.Go())
	if p.looked != 0 && age >= 0 && age < lookEvery && (p.news == p.known || age < lookAfter) {
		return
	}
	p.looking, p.looked, p.known = true, now, p.news
	ref, news := p.backendRef, p.news
	ref.looks.Add(1)
	p.broker.sys.pool.Schedule(func() {
		l := &looked{err: errors.New("the backend's code panicked"), news: news}
		defer func() {
			_ = recover()
			ref.send(l)
			ref.looks.Add(-1)
		}()
		ctx, cancel := context.WithTimeout(ref.broker.ctx, lookPatience)
		defer cancel()
		l.state, l.err = t.Throttle(ctx)
	})
}

// onLooked takes what the backend said. A delay of zero means that it has counted no refusal
// against us, unless there was one since.
func (p *purse) onLooked(l *looked) (slow bool) {
	p.looking = false
	if l.err != nil {
		p.log.Debug("backend did not tell how it treats logins from here", "backend", p.name, "err", l.err)
		return false
	}
	if was := p.budget.State(p.now()).Exempt; was != l.state.Exempt {
		p.log.Info("backend tells whether it counts wrong passwords from here", "backend", p.name, "exempt", l.state.Exempt)
	}
	delay := l.state.Delay
	if l.news != p.news {
		delay = max(delay, time.Millisecond)
	}
	p.budget.Observed(l.state.Exempt, delay)
	p.delay.Store(int64(l.state.Delay))
	p.tell(p.now())
	return !l.state.Exempt && p.maxDelay > 0 && l.state.Delay > p.maxDelay
}

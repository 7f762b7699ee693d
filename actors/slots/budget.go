package slots

import (
	"context"
	"errors"
	"time"

	"postern/actors/supervise"
	"postern/internal/backend"
	"postern/internal/limit"
	"postern/internal/unixtime"
)

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

// budget is the part of a backend's actor that counts refused passwords.
type budget struct {
	*Backend
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

func newBudget(b *Backend) *budget {
	return &budget{Backend: b, refusals: limit.NewBudget(b.rules)}
}

func (b *budget) now() unixtime.Time { return unixtime.At(b.env.Clock()) }

// allows decides whether a question may be put now.
func (b *budget) allows(q *Question) limit.Decision {
	b.probe()
	if !q.unproven() {
		return limit.PassUncounted
	}
	now := b.now()
	d := b.refusals.Admit(q.Secret, now)
	q.counted = d == limit.Pass
	if d == limit.Blocked {
		b.withheld.Add(1)
		b.log(now)
	}
	return d
}

// log says when the budget is used up and when it is not any more.
func (b *budget) log(now unixtime.Time) {
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

// settle takes the end of a question.
func (b *budget) settle(d *slotDone) {
	if !d.login {
		return
	}
	if d.counted {
		b.refusals.Done()
	}
	refusals := d.attempts
	if d.class == backend.Refused {
		refusals = max(refusals, 1)
	}
	if refusals > 0 {
		b.news++
		b.refusals.Refused(d.user, d.secret, refusals, b.now())
	}
	if d.class == backend.Accepted {
		b.refusals.Accepted(d.secret)
	}
	b.log(b.now())
	b.probe()
}

// probe has the backend asked how it treats this address, if it is time to.
func (b *budget) probe() {
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
func (b *budget) onThrottleProbe(p *throttleProbe) (slow bool) {
	b.probing = false
	if p.err != nil {
		b.env.Log.Debug("backend did not say how it treats logins from here", "backend", b.Name, "err", p.err)
		return false
	}
	if was := b.refusals.State(b.now()).Exempt; was != p.state.Exempt {
		b.env.Log.Info("backend says whether it counts wrong passwords from here", "backend", b.Name, "exempt", p.state.Exempt)
	}
	delay := p.state.Delay
	if p.news != b.news {
		delay = max(delay, time.Millisecond)
	}
	b.refusals.Observed(p.state.Exempt, delay)
	b.delay.Store(int64(p.state.Delay))
	b.log(b.now())
	return !p.state.Exempt && b.maxDelay > 0 && p.state.Delay > b.maxDelay
}

// Budget is what a backend's budget of refused passwords has come to.
type Budget struct {
	Refusals int           `json:"refusals"` // within the window
	Most     int           `json:"budget"`   // 0: no budget
	Exempt   bool          `json:"exempt"`   // the backend says that it does not count ours
	Delay    time.Duration `json:"delay_ns"` // of each login from here, when last asked
	Withheld int64         `json:"withheld"` // questions that were not put
}

// Budget returns how the backend's budget stands.
func (b *Backend) Budget(ctx context.Context) (stands Budget, err error) {
	err = supervise.Ask(ctx, b.Ref, func(x *budget) {
		s := x.refusals.State(x.now())
		stands = Budget{s.Refusals, s.Limit, s.Exempt, time.Duration(b.delay.Load()), b.withheld.Load()}
	})
	if err != nil {
		return Budget{}, err
	}
	return stands, nil
}

// ForgetRefusals forgets the refused passwords of a user, as after a change of the password.
func (b *Backend) ForgetRefusals(user uint64) *supervise.Op[*budget] {
	return supervise.Do(b.Ref, func(x *budget) { x.refusals.Forget(user) })
}

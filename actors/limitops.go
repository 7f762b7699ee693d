package actors

import (
	"context"
	"errors"
	"fmt"
	"time"

	"postern/internal/auth"
	"postern/internal/limit"
	"postern/internal/unixtime"
)

// limitOp runs a function in an actor, where the state of its limits may be touched.
type limitOp[T any] struct {
	do   func(T)
	done chan error
}

var _ request = (*limitOp[*limiter])(nil)

func newLimitOp[T any](do func(T)) *limitOp[T] { return &limitOp[T]{do, make(chan error, 1)} }

func (o *limitOp[T]) run(t T) {
	o.do(t)
	o.done <- nil
}

// Fail implements request.
func (o *limitOp[T]) Fail(why auth.Source) {
	select {
	case o.done <- fmt.Errorf("%w (%s)", ErrBusy, why):
	default:
	}
}

func (o *limitOp[T]) wait(ctx context.Context) error {
	select {
	case err := <-o.done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", ErrBusy, ctx.Err())
	}
}

// atLimiter runs do in the domain's router and waits for it.
func (d *domain) atLimiter(ctx context.Context, do func(*limiter)) error {
	o := newLimitOp(do)
	d.broker.sys.Root.Send(d.router, o)
	return o.wait(ctx)
}

// atPurse runs do in the backend's actor and waits for it.
func (r *backendRef) atPurse(ctx context.Context, do func(*purse)) error {
	o := newLimitOp(do)
	r.send(o)
	return o.wait(ctx)
}

// Limited is what is known of a user or a client address.
type Limited struct {
	Name     string     `json:"name"`
	Refusals int        `json:"refusals"`        // of different passwords, within the window
	Pauses   int        `json:"pauses"`          // in a row
	Until    *time.Time `json:"until,omitempty"` // no password that the cache does not know is asked about before
}

func limitedOf(name string, s limit.State) Limited {
	l := Limited{Name: name, Refusals: s.Refusals, Pauses: s.Pauses}
	if s.Until != 0 {
		at := s.Until.Go().UTC()
		l.Until = &at
	}
	return l
}

// DomainLimits is what a domain's limits have come to.
type DomainLimits struct {
	WatchedUsers     int       `json:"watched_users"` // with refusals, but without a pause
	LimitedUsers     []Limited `json:"limited_users"`
	WatchedAddresses int       `json:"watched_addresses"`
	LimitedAddresses []Limited `json:"limited_addresses"`
}

// BackendBudget is what a backend's budget of refusals has come to.
type BackendBudget struct {
	Refusals int           `json:"refusals"` // within the window
	Most     int           `json:"budget"`   // 0: no budget
	Exempt   bool          `json:"exempt"`   // the backend says that it does not count ours
	Delay    time.Duration `json:"delay_ns"` // of each login from here, when last asked
	Withheld int64         `json:"withheld"` // questions that were not put
}

// mostListed bounds the lists of Limits.
const mostListed = 100

// opPatience bounds the wait for actors.
const opPatience = 5 * time.Second

// Limits returns what the limits of each domain and backend have come to.
func (b *Broker) Limits(ctx context.Context) (map[string]DomainLimits, map[string]BackendBudget, error) {
	b.shape.RLock()
	defer b.shape.RUnlock()
	ctx, cancel := context.WithTimeout(ctx, opPatience)
	defer cancel()
	now := unixtime.At(b.clock())
	domains, backends := make(map[string]DomainLimits), make(map[string]BackendBudget)
	var errs []error
	for name, d := range b.table.Load().domains {
		var l DomainLimits
		err := d.atLimiter(ctx, func(g *limiter) {
			l.WatchedUsers, _ = g.users.Len()
			l.WatchedAddresses, _ = g.addresses.Len()
			l.LimitedUsers = limitedList(g.users.Limited(mostListed, &g.params.Load().limits.user, now))
			l.LimitedAddresses = limitedList(g.addresses.Limited(mostListed, &g.params.Load().limits.address, now))
		})
		if errs = append(errs, err); err == nil {
			domains[name] = l
		}
	}
	for _, r := range b.table.Load().backends {
		var l BackendBudget
		err := r.atPurse(ctx, func(p *purse) {
			s := p.budget.State(now)
			l = BackendBudget{s.Refusals, s.Limit, s.Exempt, time.Duration(p.delay.Load()), p.withheld.Load()}
		})
		if errs = append(errs, err); err == nil {
			backends[r.name] = l
		}
	}
	return domains, backends, errors.Join(errs...)
}

func limitedList(states []limit.State) []Limited {
	list := make([]Limited, 0, len(states))
	for _, s := range states {
		list = append(list, limitedOf(s.Name, s))
	}
	return list
}

// UserLimit returns what the limits know of a user.
func (b *Broker) UserLimit(ctx context.Context, id auth.Identity) (Limited, error) {
	b.shape.RLock()
	defer b.shape.RUnlock()
	d := b.lookup(id.Domain)
	if d == nil {
		return Limited{}, fmt.Errorf("%s: %w", id.Domain, ErrUnknownDomain)
	}
	var state limit.State
	if err := d.atLimiter(ctx, func(g *limiter) {
		state = g.users.State(b.userHash(id), &g.params.Load().limits.user, unixtime.At(b.clock()))
	}); err != nil {
		return Limited{}, err
	}
	return limitedOf(id.String(), state), nil
}

// AddressLimit returns what the limits of each domain know of a client's address.
func (b *Broker) AddressLimit(ctx context.Context, address string) (map[string]Limited, error) {
	b.shape.RLock()
	defer b.shape.RUnlock()
	ctx, cancel := context.WithTimeout(ctx, opPatience)
	defer cancel()
	all := make(map[string]Limited)
	var errs []error
	for name, d := range b.table.Load().domains {
		from, ok := limit.Network(address, d.params.Load().limits.exempt)
		if !ok {
			continue
		}
		var state limit.State
		err := d.atLimiter(ctx, func(g *limiter) {
			state = g.addresses.State(from, &g.params.Load().limits.address, unixtime.At(b.clock()))
		})
		if errs = append(errs, err); err == nil {
			all[name] = limitedOf(from.String(), state)
		}
	}
	return all, errors.Join(errs...)
}

// ForgetUserLimit has a user's passwords asked about again, whatever was refused.
func (b *Broker) ForgetUserLimit(ctx context.Context, id auth.Identity) error {
	b.shape.RLock()
	defer b.shape.RUnlock()
	d := b.lookup(id.Domain)
	if d == nil {
		return fmt.Errorf("%s: %w", id.Domain, ErrUnknownDomain)
	}
	hash := b.userHash(id)
	errs := []error{d.atLimiter(ctx, func(g *limiter) { g.users.Forget(hash) })}
	for _, h := range d.params.Load().hops {
		errs = append(errs, h.backend.atPurse(ctx, func(p *purse) { p.budget.Forget(hash) }))
	}
	return errors.Join(errs...)
}

// ForgetAddressLimit forgets what was refused to a client's address.
func (b *Broker) ForgetAddressLimit(ctx context.Context, address string) error {
	b.shape.RLock()
	defer b.shape.RUnlock()
	from, ok := limit.Network(address, nil)
	if !ok {
		return fmt.Errorf("%q is not an address", address)
	}
	var errs []error
	for _, d := range b.table.Load().domains {
		errs = append(errs, d.atLimiter(ctx, func(g *limiter) { g.addresses.Forget(from) }))
	}
	return errors.Join(errs...)
}

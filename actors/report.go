package actors

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"postern/actors/changes"
	"postern/actors/domain"
	"postern/actors/memory"
	"postern/actors/rosters"
	"postern/actors/router"
	"postern/actors/slots"
	"postern/actors/supervise"
	"postern/internal/auth"
	"postern/internal/cache"
	"postern/internal/config"
	"postern/internal/limit"
	"postern/internal/store"
	"postern/internal/unixtime"
)

// Counts is how the broker stands at the moment, for metrics. Of backends and domains it has those
// of the configuration: registered ones may be many.
type Counts struct {
	Connections     int    // open
	ConnectionsEver uint64 // since the start
	InFlight        int64  // requests admitted, less answers that have left
	Restarts        int64  // of actors that panicked
	Registered      int    // domains that are registered
	Live            int    // of these, that are in use
	Backends        map[config.BackendRef]slots.Counts
	Domains         map[string]memory.Stats
}

// Counts returns the counts. The error says that a part of the cache did not answer before ctx
// ended; the others are there all the same.
func (b *Broker) Counts(ctx context.Context) (c Counts, err error) {
	c.Connections, c.ConnectionsEver = b.Connections()
	c.InFlight, c.Restarts = b.gate.InFlight(), b.env.System.Restarts()
	c.Registered, c.Live = b.table.Registered()
	c.Backends = make(map[config.BackendRef]slots.Counts)
	for name, be := range b.table.Backends() {
		c.Backends[name] = be.Counts()
	}
	c.Domains, err = b.stats(ctx, b.table.Domains(false))
	return c, err
}

// Collect sends what was counted since the start: decisions of listeners, answers of backends. It
// implements prometheus.Collector together with Describe.
func (b *Broker) Collect(out chan<- prometheus.Metric) {
	b.decisions.Collect(out)
	for _, be := range b.table.Backends() {
		be.Collect(out)
	}
}

// stats sums what the shards count of domains.
func (b *Broker) stats(ctx context.Context, domains map[string]*domain.Domain) (map[string]memory.Stats, error) {
	all, err := b.shards.Stats(ctx)
	stats := make(map[string]memory.Stats, len(domains))
	for name := range domains {
		stats[name] = all[name]
	}
	return stats, err
}

// opTimeout bounds the wait for actors.
const opTimeout = 5 * time.Second

// CacheStats sums what the shards count of each domain in use.
func (b *Broker) CacheStats(ctx context.Context) (map[string]memory.Stats, error) {
	ctx, cancel := context.WithTimeout(ctx, opTimeout)
	defer cancel()
	return b.stats(ctx, b.table.Domains(true))
}

// known returns an error that wraps router.ErrUnknownDomain if no domain answers for a name.
func (b *Broker) known(name string) error {
	if !b.table.Serves(name) {
		return fmt.Errorf("%s: %w", name, router.ErrUnknownDomain)
	}
	return nil
}

// served returns the account for an identity as the XMPP server has it, and an error as known does.
func (b *Broker) served(id auth.Identity) (auth.Identity, error) {
	if err := b.known(id.Domain); err != nil {
		return id, err
	}
	return b.account(id)
}

// CachedUser returns a copy of what the cache holds of a user.
func (b *Broker) CachedUser(ctx context.Context, id auth.Identity) (cache.User, error) {
	id, err := b.served(id)
	if err != nil {
		return cache.User{}, err
	}
	return b.shards.CachedUser(ctx, id)
}

// ForgetUser removes a user from the cache, in memory and on disk.
func (b *Broker) ForgetUser(ctx context.Context, id auth.Identity) error {
	id, err := b.served(id)
	if err != nil {
		return err
	}
	defer b.changes.Note(id, changes.Secret, true)
	return b.shards.ForgetUser(ctx, id)
}

// ForgetDomain removes the users of a domain from the cache.
func (b *Broker) ForgetDomain(ctx context.Context, name string) error {
	if err := b.known(name); err != nil {
		return err
	}
	defer b.changes.Note(auth.Identity{Domain: name}, changes.Secret, true)
	return b.shards.Forget(ctx, func(id auth.Identity) bool { return id.Domain == name }, cache.RecordPrefix(name))
}

// Flush empties the cache of every domain.
func (b *Broker) Flush(ctx context.Context) error {
	defer b.changes.Note(auth.Identity{}, changes.Secret, true)
	return b.shards.Forget(ctx, func(auth.Identity) bool { return true }, []byte(store.Credentials))
}

// NoteRemoved has servers told that an account was removed from its backend.
func (b *Broker) NoteRemoved(id auth.Identity) { b.changes.Note(id, changes.Removed, true) }

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

func limitedList(states []limit.State) []Limited {
	list := make([]Limited, 0, len(states))
	for _, s := range states[:min(len(states), maxListed)] {
		list = append(list, limitedOf(s.Name, s))
	}
	return list
}

// WatchList is what limits have come to.
type WatchList struct {
	Watched int       `json:"watched"` // with refusals, but without a pause
	Limited []Limited `json:"limited"`
}

// BackendLimits is what the limits of a backend have come to.
type BackendLimits struct {
	slots.Limits
	Users WatchList `json:"users"` // accounts, over all domains
}

// Limits is what all limits have come to.
type Limits struct {
	Addresses WatchList                `json:"addresses"` // of clients
	Backends  map[string]BackendLimits `json:"backends"`
}

// maxListed bounds the lists of Limits.
const maxListed = 100

// Limits returns what the limits have come to, those of registered domains in use among them.
func (b *Broker) Limits(ctx context.Context) (Limits, error) {
	ctx, cancel := context.WithTimeout(ctx, opTimeout)
	defer cancel()
	limited, watched := b.shards.Addresses.List(maxListed, unixtime.At(b.env.Clock()))
	l := Limits{Addresses: WatchList{watched, limitedList(limited)}, Backends: make(map[string]BackendLimits)}
	var errs []error
	for _, be := range b.table.AllBackends() {
		stands, err := be.Limits(ctx, maxListed)
		if errors.Is(err, supervise.ErrStopped) { // with its domain, a moment ago
			continue
		}
		if errs = append(errs, err); err == nil {
			l.Backends[be.Name] = BackendLimits{stands, WatchList{stands.Watched, limitedList(stands.Limited)}}
		}
	}
	return l, errors.Join(errs...)
}

// UserLimit returns what the limits know of a user.
func (b *Broker) UserLimit(ctx context.Context, id auth.Identity) (Limited, error) {
	id, err := b.served(id)
	if err != nil {
		return Limited{}, err
	}
	state, err := b.shards.UserLimit(ctx, id)
	if err != nil {
		return Limited{}, err
	}
	return limitedOf(id.String(), state), nil
}

// AddressLimit returns what is known of a client's address.
func (b *Broker) AddressLimit(address string) (Limited, error) {
	from, err := network(address)
	if err != nil {
		return Limited{}, err
	}
	return limitedOf(from.String(), b.shards.Addresses.Show(from, unixtime.At(b.env.Clock()))), nil
}

// network is the network by which an address is counted.
func network(address string) (netip.Prefix, error) {
	from, ok := limit.Network(address, nil)
	if !ok {
		return from, fmt.Errorf("%q is not an address", address)
	}
	return from, nil
}

// ForgetUserLimit has a user's passwords asked about again, and returns what was refused.
func (b *Broker) ForgetUserLimit(ctx context.Context, id auth.Identity) (Limited, error) {
	found, err := b.UserLimit(ctx, id)
	if err == nil {
		id, err = b.served(id)
	}
	if err != nil {
		return found, err
	}
	return found, b.shards.ForgetUserLimit(ctx, id)
}

// ForgetAddressLimit forgets what was refused to a client's address, and returns what that was.
func (b *Broker) ForgetAddressLimit(address string) (Limited, error) {
	found, err := b.AddressLimit(address)
	if err == nil {
		from, _ := network(address)
		b.shards.Addresses.Forget(from)
		if peers := b.env.Peers(); peers != nil {
			peers.Send(&limit.Event{What: limit.ForgetAddress, From: from})
		}
	}
	return found, err
}

// PlanRoster lists what a run for one user would do, or for all users of a domain with known
// rosters. Nothing is changed.
func (b *Broker) PlanRoster(ctx context.Context, domain, user string) (rosters.Plan, error) {
	r, err := b.table.RosterOf(domain)
	if err != nil {
		return rosters.Plan{}, err
	}
	return r.Plan(ctx, domain, user)
}

// RefreshRoster forgets what is known of a domain, or of one user there, and rebuilds it. It
// returns the number of users with rosters to be asked for from now on.
func (b *Broker) RefreshRoster(ctx context.Context, domain, user string) (users int, err error) {
	r, err := b.table.RosterOf(domain)
	if err != nil {
		return 0, err
	}
	return r.Refresh(ctx, domain, user)
}

// RefreshRosters does the same for every domain with shared rosters that has a name.
func (b *Broker) RefreshRosters(ctx context.Context) (users int, err error) {
	var errs []error
	for _, r := range b.table.Rosters() {
		if r.Name != "*" {
			n, err := r.Refresh(ctx, r.Name, "")
			users += n
			errs = append(errs, err)
		}
	}
	return users, errors.Join(errs...)
}

// ForgetGroup takes every member out of a group at the XMPP server and forgets it, as
// rosters.Roster.ForgetGroup says.
func (b *Broker) ForgetGroup(ctx context.Context, group, domain string) (steps int, err error) {
	r, err := b.table.RosterOf(domain)
	if err != nil {
		return 0, err
	}
	return r.ForgetGroup(ctx, group, domain)
}

// QuietRosters runs do while no domain talks to its XMPP server, so that no run under way brings
// back what do removes.
func (b *Broker) QuietRosters(ctx context.Context, do func() error) error {
	return rosters.Quiet(ctx, b.table.Rosters(), do)
}

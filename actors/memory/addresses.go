package memory

import (
	"hash/maphash"
	"net/netip"
	"sync"

	"postern/internal/limit"
	"postern/internal/unixtime"
)

// addressParts is into how many parts the addresses are divided, each with a lock of its own.
const addressParts = 16

// Addresses counts refused passwords by the client's network, for the whole machine: a client's
// questions are about many users, so no shard sees them all. Each domain counts by rules of its
// own. It is safe for concurrent use.
type Addresses struct {
	seed  maphash.Seed
	parts [addressParts]addressPart
}

// addressPart is the tables of a share of the networks, by domain block.
type addressPart struct {
	mu     sync.Mutex
	tables map[string]*limit.Table[netip.Prefix]
}

func newAddresses() *Addresses {
	a := &Addresses{seed: maphash.MakeSeed()}
	for i := range a.parts {
		a.parts[i].tables = make(map[string]*limit.Table[netip.Prefix])
	}
	return a
}

// with calls do with the table of a network in a domain, under its lock.
func (a *Addresses) with(domain string, from netip.Prefix, do func(*limit.Table[netip.Prefix])) {
	part := &a.parts[maphash.Comparable(a.seed, from)%addressParts]
	part.mu.Lock()
	defer part.mu.Unlock()
	t := part.tables[domain]
	if t == nil {
		t = limit.NewTable[netip.Prefix]()
		part.tables[domain] = t
	}
	do(t)
}

func (a *Addresses) ask(domain string, from netip.Prefix, secret uint64, r *limit.Rules, now, end unixtime.Time) (d limit.Decision) {
	if r.Refusals <= 0 {
		return limit.PassUncounted
	}
	a.with(domain, from, func(t *limit.Table[netip.Prefix]) { d = t.Admit(from, secret, r, now, end) })
	return d
}

func (a *Addresses) landed(domain string, from netip.Prefix, r *limit.Rules, now unixtime.Time) {
	a.with(domain, from, func(t *limit.Table[netip.Prefix]) { t.Done(from, r, now) })
}

func (a *Addresses) refused(domain string, from netip.Prefix, secret uint64, r *limit.Rules, now unixtime.Time) (begins bool) {
	if r.Refusals <= 0 {
		return false
	}
	a.with(domain, from, func(t *limit.Table[netip.Prefix]) { begins = t.Refused(from, secret, from.String(), r, now) })
	return begins
}

// Show returns what is known of a network in a domain.
func (a *Addresses) Show(domain string, from netip.Prefix, r *limit.Rules, now unixtime.Time) (s limit.State) {
	a.with(domain, from, func(t *limit.Table[netip.Prefix]) { s = t.State(from, r, now) })
	return s
}

// Forget forgets what was refused to a network, in every domain.
func (a *Addresses) Forget(from netip.Prefix) {
	for i := range a.parts {
		a.parts[i].mu.Lock()
		for _, t := range a.parts[i].tables {
			t.Forget(from)
		}
		a.parts[i].mu.Unlock()
	}
}

// List returns the networks of a domain that are limited, at most most of each part, and how many
// have refusals, but no pause.
func (a *Addresses) List(domain string, most int, r *limit.Rules, now unixtime.Time) (limited []limit.State, watched int) {
	for i := range a.parts {
		a.parts[i].mu.Lock()
		if t := a.parts[i].tables[domain]; t != nil {
			n, _ := t.Len()
			watched += n
			limited = append(limited, t.Limited(most, r, now)...)
		}
		a.parts[i].mu.Unlock()
	}
	return limited, watched
}

// prune forgets the domain blocks that are not served any more.
func (a *Addresses) prune(served func(name string) bool) {
	for i := range a.parts {
		a.parts[i].mu.Lock()
		for name := range a.parts[i].tables {
			if !served(name) {
				delete(a.parts[i].tables, name)
			}
		}
		a.parts[i].mu.Unlock()
	}
}

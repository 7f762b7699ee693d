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
// questions are about many users and domains, so neither a shard nor a router sees them all. The
// rules are those of the domain asked, see limit.Table. It is safe for concurrent use.
type Addresses struct {
	seed  maphash.Seed // of the parts
	names limit.Seed   // of the numbers that stand for networks
	parts [addressParts]addressPart
}

// addressPart is the table of a share of the networks.
type addressPart struct {
	mu    sync.Mutex
	table *limit.Table[netip.Prefix]
}

func newAddresses() *Addresses {
	a := &Addresses{seed: maphash.MakeSeed(), names: limit.NewSeed()}
	for i := range a.parts {
		a.parts[i].table = limit.NewTable[netip.Prefix]()
	}
	return a
}

// lock returns the table of a network, locked until unlock is called.
func (a *Addresses) lock(from netip.Prefix) (t *limit.Table[netip.Prefix], unlock func()) {
	part := &a.parts[maphash.Comparable(a.seed, from)%addressParts]
	part.mu.Lock()
	return part.table, part.mu.Unlock
}

// standing returns a number that stands for a network, never 0, and whether other secrets than this
// one were refused to it.
func (a *Addresses) standing(from netip.Prefix, secret uint64, now unixtime.Time) (id uint64, tainted bool) {
	t, unlock := a.lock(from)
	defer unlock()
	var buf [20]byte
	name, _ := from.AppendBinary(buf[:0]) // never fails
	return a.names.Sum(name), t.Others(from, secret, now)
}

func (a *Addresses) ask(from netip.Prefix, secret uint64, r *limit.Rules, now, end unixtime.Time) limit.Decision {
	t, unlock := a.lock(from)
	defer unlock()
	return t.Admit(from, secret, r, now, end)
}

func (a *Addresses) landed(from netip.Prefix, r *limit.Rules, now unixtime.Time) {
	t, unlock := a.lock(from)
	defer unlock()
	t.Done(from, r, now)
}

func (a *Addresses) refused(from netip.Prefix, secret uint64, r *limit.Rules, now unixtime.Time) (begins bool) {
	t, unlock := a.lock(from)
	defer unlock()
	return t.Refused(from, secret, from.String(), r, now)
}

// Show returns what is known of a network.
func (a *Addresses) Show(from netip.Prefix, now unixtime.Time) limit.State {
	t, unlock := a.lock(from)
	defer unlock()
	return t.State(from, now)
}

// Forget forgets what was refused to a network, and reports whether there was something.
func (a *Addresses) Forget(from netip.Prefix) bool {
	t, unlock := a.lock(from)
	defer unlock()
	return t.Forget(from)
}

// List returns the networks that are limited, at most most of each part, and how many have
// refusals, but no pause.
func (a *Addresses) List(most int, now unixtime.Time) (limited []limit.State, watched int) {
	for i := range a.parts {
		a.parts[i].mu.Lock()
		n, _ := a.parts[i].table.Len()
		watched += n
		limited = append(limited, a.parts[i].table.Limited(most, now)...)
		a.parts[i].mu.Unlock()
	}
	return limited, watched
}

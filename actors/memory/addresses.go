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

// addressPart has the tables of a share of the networks.
type addressPart struct {
	mu    sync.Mutex
	table *limit.Table[netip.Prefix]
	// fakes counts tokens that their issuer has not signed, apart from passwords: a web mail server is one address for
	// good tokens and for what users mistype.
	fakes *limit.Table[netip.Prefix]
}

func newAddresses() *Addresses {
	a := &Addresses{seed: maphash.MakeSeed(), names: limit.NewSeed()}
	for i := range a.parts {
		a.parts[i].table, a.parts[i].fakes = limit.NewTable[netip.Prefix](), limit.NewTable[netip.Prefix]()
	}
	return a
}

// lock returns the table of a network, locked until unlock is called.
func (a *Addresses) lock(from netip.Prefix) (t *limit.Table[netip.Prefix], unlock func()) {
	part := a.part(from)
	part.mu.Lock()
	return part.table, part.mu.Unlock
}

func (a *Addresses) part(from netip.Prefix) *addressPart {
	return &a.parts[maphash.Comparable(a.seed, from)%addressParts]
}

// standing returns a number that stands for a network, never 0, and whether other secrets than this
// one were refused to it.
func (a *Addresses) standing(from netip.Prefix, secret uint64, now unixtime.Time) (id uint64, tainted bool) {
	t, unlock := a.lock(from)
	defer unlock()
	return a.number(from), t.Others(from, secret, now)
}

// number stands for a network in the limits of backends; never 0.
func (a *Addresses) number(from netip.Prefix) uint64 {
	var buf [20]byte
	name, _ := from.AppendBinary(buf[:0]) // never fails
	return a.names.Sum(name)
}

// Number stands for a network in an event of another process; 0: none.
func (a *Addresses) Number(from netip.Prefix) uint64 {
	if !from.IsValid() {
		return 0
	}
	return a.number(from)
}

// Learn counts what another process has sent about a network, some time ago. begins is true if it is limited from now on.
func (a *Addresses) Learn(e *limit.Event, at, now unixtime.Time) (begins bool) {
	part := a.part(e.From)
	part.mu.Lock()
	defer part.mu.Unlock()
	switch e.What {
	case limit.RefusedAddress:
		return part.table.Learn(e.From, e, 0, at, now)
	case limit.ForgedAddress:
		return part.fakes.Learn(e.From, e, 0, at, now)
	case limit.ForgetAddress:
		part.fakes.Forget(e.From)
		part.table.Forget(e.From)
	}
	return false
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

func (a *Addresses) refused(from netip.Prefix, secret uint64, alike uint16, r *limit.Rules, now unixtime.Time) (begins bool) {
	t, unlock := a.lock(from)
	defer unlock()
	return t.RefusedAlike(from, secret, alike, from.String(), r, now)
}

// forged counts a made-up token, as refused does a password.
func (a *Addresses) forged(from netip.Prefix, secret uint64, alike uint16, r *limit.Rules, now unixtime.Time) (begins bool) {
	part := a.part(from)
	part.mu.Lock()
	defer part.mu.Unlock()
	return part.fakes.RefusedAlike(from, secret, alike, from.String(), r, now)
}

// barred reports whether too many made-up tokens came from a network.
func (a *Addresses) barred(from netip.Prefix, now unixtime.Time) bool {
	part := a.part(from)
	part.mu.Lock()
	defer part.mu.Unlock()
	return now < part.fakes.State(from, now).Until
}

// Show returns what is known of a network: of its passwords, unless only its tokens are limited, or for longer.
func (a *Addresses) Show(from netip.Prefix, now unixtime.Time) limit.State {
	part := a.part(from)
	part.mu.Lock()
	defer part.mu.Unlock()
	passwords, fakes := part.table.State(from, now), part.fakes.State(from, now)
	if fakes.Until > passwords.Until || passwords.Refusals == 0 {
		return fakes
	}
	return passwords
}

// Forget forgets what was refused to a network, and reports whether there was something.
func (a *Addresses) Forget(from netip.Prefix) bool {
	part := a.part(from)
	part.mu.Lock()
	defer part.mu.Unlock()
	fakes := part.fakes.Forget(from)
	return part.table.Forget(from) || fakes
}

// List returns the networks that are limited, at most most of each part, and how many have
// refusals, but no pause.
func (a *Addresses) List(most int, now unixtime.Time) (limited []limit.State, watched int) {
	for i := range a.parts {
		part := &a.parts[i]
		part.mu.Lock()
		for _, t := range []*limit.Table[netip.Prefix]{part.table, part.fakes} {
			n, _ := t.Len()
			watched += n
			limited = append(limited, t.Limited(most, now)...)
		}
		part.mu.Unlock()
	}
	return limited, watched
}

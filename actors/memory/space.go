package memory

import (
	"sync/atomic"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"postern/actors/domain"
	"postern/internal/auth"
	"postern/internal/cache"
	"postern/internal/store"
)

// space is what one shard remembers of the users of one domain block: those seen lately, bounded.
// Users of which only refusals are known have a list of their own, so that a stream of invented names
// does not evict users that log in.
type space struct {
	shards    *Shards
	domain    *domain.Domain // by which it was last used
	known     *simplelru.LRU[auth.Identity, *cache.User]
	strangers *simplelru.LRU[auth.Identity, *cache.User]
	touched   map[auth.Identity]struct{} // "last used" is newer than on disk
	count     Stats
	dropped   int // verifiers that a change of backends cost, until Adapt reports them
	begun     begun
}

// begun counts work when it begins, which may be on the goroutine that reads a record.
type begun struct{ compares, hashes, asked atomic.Uint64 }

func newSpace(p *Shards, d *domain.Domain) *space {
	sp := &space{shards: p, domain: d, touched: make(map[auth.Identity]struct{})}
	size := sp.size()
	sp.known, _ = simplelru.NewLRU(size, func(id auth.Identity, user *cache.User) {
		// Save what only memory knows before it is forgotten.
		if _, ok := sp.touched[id]; ok {
			sp.saveTouched(id, user)
		}
	})
	sp.strangers, _ = simplelru.NewLRU[auth.Identity, *cache.User](strangersOf(size), nil)
	return sp
}

// size is how many users the space may hold.
func (sp *space) size() int { return max(sp.domain.HotEntries/len(sp.shards.refs), 16) }

func strangersOf(size int) int { return max(size/4, 16) }

// adapt follows a change of the domain's configuration. What other backends have refused says
// nothing about those that are asked from now on.
func (sp *space) adapt(d *domain.Domain) {
	was := sp.domain
	sp.domain = d
	if d.Rules.Off {
		sp.drop(func(auth.Identity) bool { return true })
	}
	if !d.SameAuthority(was) {
		for _, list := range sp.lists() {
			for _, user := range list.Values() {
				user.ForgetRefusals()
				sp.dropped += user.Settle(&d.Rules)
			}
		}
	}
	sp.known.Resize(sp.size())
	sp.strangers.Resize(strangersOf(sp.size()))
}

func (sp *space) lists() [2]*simplelru.LRU[auth.Identity, *cache.User] {
	return [2]*simplelru.LRU[auth.Identity, *cache.User]{sp.known, sp.strangers}
}

// get returns a user that is in memory, or nil.
func (sp *space) get(id auth.Identity) *cache.User {
	if user, ok := sp.known.Get(id); ok {
		return user
	}
	if user, ok := sp.strangers.Get(id); ok {
		return user
	}
	return nil
}

// place puts a user into the list where it belongs now.
func (sp *space) place(id auth.Identity, user *cache.User) {
	if user.Disposable() {
		if sp.known.Contains(id) {
			delete(sp.touched, id)
			sp.known.Remove(id)
		}
		sp.strangers.Add(id, user)
		return
	}
	sp.strangers.Remove(id)
	sp.known.Add(id, user)
}

// disk is where the users are kept; nil if they are not.
func (sp *space) disk() *store.WriteBehind {
	if !sp.domain.Disk {
		return nil
	}
	return sp.shards.env.Disk()
}

// save has a user's record written. It is for the space of the domain that answered for the user
// when the message in hand came: nothing newer can be known elsewhere before that is handled.
func (sp *space) save(id auth.Identity, user *cache.User) {
	delete(sp.touched, id)
	if disk := sp.disk(); disk != nil {
		user.Version = disk.PutOver(cache.RecordKey(id), user.Encode(), user.Version)
	}
}

// saveTouched has a record written of which only "last used" has changed. Where another block answers
// for the name by now, the records are written from there.
func (sp *space) saveTouched(id auth.Identity, user *cache.User) {
	if sp.shards.answers(sp.domain.Name, id.Domain) {
		sp.save(id, user)
	}
	delete(sp.touched, id)
}

// flush writes what is only lazily written.
func (sp *space) flush() {
	for id := range sp.touched {
		if user, ok := sp.known.Peek(id); ok {
			sp.saveTouched(id, user)
		}
	}
	clear(sp.touched)
}

// drop forgets the users that match, in memory only.
func (sp *space) drop(match func(auth.Identity) bool) {
	for _, list := range sp.lists() {
		for _, id := range list.Keys() {
			if match(id) {
				delete(sp.touched, id)
				list.Remove(id)
			}
		}
	}
}

// Stats counts what the cache of a domain did since the domain is in use.
type Stats struct {
	Users         int    `json:"users"`          // in memory, with more than refusals known
	Strangers     int    `json:"strangers"`      // in memory, with only refusals known
	Hot           uint64 `json:"hot"`            // answered from memory or by a stored hash
	Missed        uint64 `json:"missed"`         // not in memory
	Compares      uint64 `json:"compares"`       // comparisons with stored hashes
	Hashes        uint64 `json:"hashes"`         // new hashes
	BackendAsked  uint64 `json:"backend_asked"`  // questions to backends
	Graces        uint64 `json:"graces"`         // answered because the backend could not
	Refusals      uint64 `json:"refusals"`       // refused by a backend
	RefusedBefore uint64 `json:"refused_before"` // refused from memory
	LimitUser     uint64 `json:"limit_user"`     // not asked about, for the user's limit
	LimitAddress  uint64 `json:"limit_address"`  // likewise, for that of the client's address
	LimitBudget   uint64 `json:"limit_budget"`   // likewise, for a backend's budget
	StoreFailing  uint64 `json:"store_failing"`  // shards, if the last write to disk failed
}

// Add adds b's counts.
func (a *Stats) Add(b Stats) {
	a.Users += b.Users
	a.Strangers += b.Strangers
	a.Hot += b.Hot
	a.Missed += b.Missed
	a.Compares += b.Compares
	a.Hashes += b.Hashes
	a.BackendAsked += b.BackendAsked
	a.Graces += b.Graces
	a.Refusals += b.Refusals
	a.RefusedBefore += b.RefusedBefore
	a.LimitUser += b.LimitUser
	a.LimitAddress += b.LimitAddress
	a.LimitBudget += b.LimitBudget
	a.StoreFailing += b.StoreFailing
}

// note counts an answer of the cache or of a limit.
func (sp *space) note(a auth.Answer) {
	switch a.Source {
	case auth.SourceHot, auth.SourceCache:
		sp.count.Hot++
	case auth.SourceRefusedBefore:
		sp.count.RefusedBefore++
	case auth.SourceGrace:
		sp.count.Graces++
	case auth.SourceLimitUser:
		sp.count.LimitUser++
		sp.domain.LimitedByUser.Add(1)
	case auth.SourceLimitAddress:
		sp.count.LimitAddress++
		sp.domain.LimitedByAddress.Add(1)
	case auth.SourceLimitBudget:
		sp.count.LimitBudget++
		sp.domain.LimitedByBudget.Add(1)
	}
}

func (sp *space) stats() Stats {
	c := sp.count
	c.Users, c.Strangers = sp.known.Len(), sp.strangers.Len()
	c.Compares, c.Hashes, c.BackendAsked = sp.begun.compares.Load(), sp.begun.hashes.Load(), sp.begun.asked.Load()
	if sp.domain.Disk && sp.shards.failing.Load() {
		c.StoreFailing = 1
	}
	return c
}

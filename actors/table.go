package actors

import (
	"errors"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"postern/internal/auth"
	"postern/internal/cache"
	"postern/internal/store"
)

// users is the hot tier of one shard: who was seen lately, bounded. Users of whom only
// refusals are known stand in a list of their own, so that a stream of invented names does
// not push out those who log in.
type users struct {
	*domain
	known     *simplelru.LRU[auth.Identity, *cache.User]
	strangers *simplelru.LRU[auth.Identity, *cache.User]
	touched   map[auth.Identity]struct{} // "last used" is newer than on disk
	failing   bool                       // the store's last write failed
}

func newUsers(d *domain) *users {
	u := &users{domain: d, touched: make(map[auth.Identity]struct{})}
	size := u.size()
	u.known, _ = simplelru.NewLRU(size, func(id auth.Identity, user *cache.User) {
		// Save what only memory knows before it is forgotten.
		if _, ok := u.touched[id]; ok {
			u.save(id, user)
		}
	})
	u.strangers, _ = simplelru.NewLRU[auth.Identity, *cache.User](strangersOf(size), nil)
	return u
}

// size is how many users the shard may hold.
func (u *users) size() int { return max(u.params.Load().hot/len(u.shards), 16) }

func strangersOf(size int) int { return max(size/4, 16) }

// resize follows a change of the domain's parameters.
func (u *users) resize() {
	u.known.Resize(u.size())
	u.strangers.Resize(strangersOf(u.size()))
}

// get returns a user, from memory or from disk. It is never nil.
func (u *users) get(id auth.Identity) *cache.User {
	if u.strange(id.Domain) {
		return new(cache.User)
	}
	if user, ok := u.known.Get(id); ok {
		return user
	}
	if user, ok := u.strangers.Get(id); ok {
		return user
	}
	user := u.load(id)
	u.place(id, user)
	return user
}

// place puts a user into the list where it belongs now.
func (u *users) place(id auth.Identity, user *cache.User) {
	if u.strange(id.Domain) {
		return
	}
	if user.Disposable() {
		if u.known.Contains(id) {
			delete(u.touched, id)
			u.known.Remove(id)
		}
		u.strangers.Add(id, user)
		return
	}
	u.strangers.Remove(id)
	u.known.Add(id, user)
}

// onDisk is where the domain's users are kept; nil if they are not.
func (u *users) onDisk() *disk {
	if !u.params.Load().disk {
		return nil
	}
	return u.broker.disk.Load()
}

func (u *users) load(id auth.Identity) *cache.User {
	if disk := u.onDisk(); disk != nil && !u.broker.hidden.has(id) {
		record, err := disk.Get(cache.RecordKey(id))
		if err == nil {
			var user *cache.User
			if user, err = cache.Decode(record); err == nil {
				return user
			}
		}
		if !errors.Is(err, store.ErrNotFound) && !errors.Is(err, store.ErrFailed) { // which is said once
			u.log.Warn("cache record ignored", "domain", id.Domain, "user", id.User, "err", err)
		}
	}
	return new(cache.User)
}

// save writes a user's record. A store that fails degrades the cache to this process's
// memory; it is said once, and again when it recovers.
func (u *users) save(id auth.Identity, user *cache.User) {
	delete(u.touched, id)
	disk := u.onDisk()
	if disk == nil || u.strange(id.Domain) {
		return
	}
	err := disk.Apply([]store.Op{{Key: cache.RecordKey(id), Value: user.Encode()}}, false)
	if (err != nil) != u.failing {
		u.failing = err != nil
		if u.failing {
			u.log.Error("cache cannot be written; logins are remembered in memory only", "domain", u.name, "err", err)
		} else {
			u.log.Info("cache can be written again", "domain", u.name)
		}
	}
}

// flush writes what is only lazily written.
func (u *users) flush() {
	for id := range u.touched {
		if user, ok := u.known.Peek(id); ok {
			u.save(id, user)
		}
	}
	clear(u.touched)
}

// reconsider forgets what the domain's backends refused, since it has others now.
func (u *users) reconsider() {
	for _, list := range []*simplelru.LRU[auth.Identity, *cache.User]{u.known, u.strangers} {
		for _, id := range list.Keys() {
			if user, ok := list.Peek(id); ok {
				user.ForgetRefusals()
			}
		}
	}
}

// take removes the users of a domain's name, and returns them with what is to be kept of them
// written to disk.
func (u *users) take(name string) map[auth.Identity]*cache.User {
	taken := make(map[auth.Identity]*cache.User)
	for _, list := range []*simplelru.LRU[auth.Identity, *cache.User]{u.known, u.strangers} {
		for _, id := range list.Keys() {
			if id.Domain != name {
				continue
			}
			user, _ := list.Peek(id)
			if _, ok := u.touched[id]; ok {
				u.save(id, user)
			}
			taken[id] = user
			list.Remove(id)
		}
	}
	return taken
}

// drop forgets the users that match, in memory; the caller removes them on disk.
func (u *users) drop(match func(auth.Identity) bool) (n int) {
	for _, list := range []*simplelru.LRU[auth.Identity, *cache.User]{u.known, u.strangers} {
		for _, id := range list.Keys() {
			if match(id) {
				delete(u.touched, id)
				list.Remove(id)
				n++
			}
		}
	}
	return n
}

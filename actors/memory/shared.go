package memory

import (
	"math"
	"strings"
	"sync"

	"postern/actors/domain"
	"postern/actors/supervise"
	"postern/internal/apppassword"
	"postern/internal/auth"
	"postern/internal/cache"
	"postern/internal/store"
)

// # Beside a shared store
//
// Other processes change the records of users that are in memory here. The store tells which: such a user is read
// again (User.Seen), and at its next use so is every user after the store may have failed to tell (its term). While
// it may miss something, the rules are those of an isolated process: the backend is asked, and
// memory only bridges its outages. A hot answer takes no more for all this than a look at two numbers.

// Values of cache.User.Seen that are no term.
const (
	outdated = 0              // another process has changed the record since
	unread   = math.MaxUint64 // it could not be read, or is as good
)

// termOf is what the user that is read now is to have as Seen.
func termOf(disk *store.WriteBehind) uint64 {
	shared := disk.Shared()
	if shared == nil {
		return unread
	}
	if term, ok := shared.Term(); ok {
		return term
	}
	return unread
}

// current reports whether a user in memory need not be read again.
func (s *shard) current(sp *space, user *cache.User) bool {
	disk := sp.disk()
	if disk == nil || disk.Shared() == nil {
		return true
	}
	term, ok := disk.Shared().Term()
	if !ok { // it cannot be
		if user.Seen == outdated {
			user.Distrust()
			user.Seen = unread
		}
		return true
	}
	return user.Seen == term
}

// rules are those of a domain at this moment.
func (p *Shards) rules(d *domain.Domain) *cache.Rules {
	if !d.Disk {
		return &d.Rules
	}
	disk := p.env.Disk()
	if disk == nil || disk.Shared() == nil {
		return &d.Rules
	}
	if _, ok := disk.Shared().Term(); ok {
		return &d.Rules
	}
	isolated := d.Rules
	isolated.Isolated, isolated.Strict = true, p.Strict
	return &isolated
}

// renew has a user in memory be what was read.
func renew(known *cache.User, l *load, read *cache.User) {
	switch {
	case !l.away:
		known.Renew(read, l.former)
	case known.Seen == outdated:
		known.Distrust()
	default:
		known.Invalidate()
	}
	known.Seen = l.term
}

// readAgain reads a user that another process has changed, so that what is known here is true when the store is lost.
func (s *shard) readAgain(sp *space, id auth.Identity) {
	disk := sp.disk()
	if disk == nil {
		return
	}
	l := &load{shards: s.Shards, shard: s.self, id: id, disk: disk, term: termOf(disk), again: sp}
	l.wanted.Store(true)
	s.loads[id] = l
	s.env.System.Go(l.read)
}

// reread takes what readAgain has read, unless it was taken for a call. If the store did not answer in time, the
// next call reads it.
func (s *shard) reread(l *load) {
	if s.loads[l.id] != l {
		return
	}
	if known := l.again.get(l.id); known == nil || l.away || s.spaces[l.again.domain.Name] != l.again {
		delete(s.loads, l.id)
		return
	}
	s.install(l, l.again, l.user.Load())
}

// markOf is the name of an account's mark.
func markOf(id auth.Identity) string {
	return strings.TrimPrefix(string(cache.RecordKey(id)), store.Credentials)
}

// mark tells other processes of a refusal, or of a change, of which the record may say nothing.
func (sp *space) mark(id auth.Identity) {
	if disk := sp.disk(); disk != nil {
		disk.Mark(markOf(id))
	}
}

// Changed takes the keys that other processes have changed in a shared store, and those of which this one has
// written something else than it has in memory.
func (p *Shards) Changed(keys []string) {
	parts := make(map[*supervise.Ref][]change)
	for _, key := range keys {
		if id, ok := apppassword.RecordIdentity(key); ok {
			supervise.Do(p.Ref(p.Hash(id)), func(s *shard) { s.apps.changed(id) })
			continue
		}
		name, doubt := store.Marked(key)
		if !doubt {
			if name = strings.TrimPrefix(key, store.Credentials); name == key {
				continue
			}
		}
		if id, ok := cache.RecordIdentity([]byte(store.Credentials + name)); ok && id.User != "" {
			ref := p.Ref(p.Hash(id))
			parts[ref] = append(parts[ref], change{id: id, doubt: doubt})
			continue
		}
		for _, ref := range p.refs {
			parts[ref] = append(parts[ref], change{id: auth.Identity{Domain: strings.TrimSuffix(name, "\x00")}, doubt: doubt})
		}
	}
	for ref, list := range parts {
		supervise.Do(ref, func(s *shard) {
			for i := range list {
				s.changed(&list[i])
			}
		})
	}
}

// change is a change by another process. An id without a user stands for all of a domain, or for all.
type change struct {
	id    auth.Identity
	doubt bool // the record may say nothing of it
}

func (c *change) of(id auth.Identity) bool {
	return c.id == id || c.id.User == "" && (c.id.Domain == "" || c.id.Domain == id.Domain)
}

func (s *shard) changed(c *change) {
	note := func(user *cache.User) {
		user.Seen = outdated
		if c.doubt {
			user.Doubt()
		}
	}
	if c.id.User != "" {
		delete(s.loads, c.id)
	} else {
		s.voidLoads(c.of)
	}
	for _, sp := range s.spaces {
		if c.id.User != "" {
			for _, list := range sp.lists() {
				if user, ok := list.Peek(c.id); ok {
					note(user)
					s.readAgain(sp, c.id)
				}
			}
			continue
		}
		for _, list := range sp.lists() {
			for _, id := range list.Keys() {
				if user, ok := list.Peek(id); ok && c.of(id) {
					note(user)
				}
			}
		}
	}
	if c.doubt { // later questions must not have an answer from before
		for key, leader := range s.flights {
			if c.of(leader.ID) {
				delete(s.flights, key)
			}
		}
	}
}

// unwritten has the accounts of which a shared store does not know yet what was refused or changed. Until it does, every
// refusal for such an account waits for it: the next question about a secret finds nothing of it in memory any more, and
// its answer must not be there before the store has the first.
type unwritten struct {
	mu sync.Mutex
	of map[auth.Identity]uint64 // the number of the last refusal
	n  uint64
}

// note takes a refusal, which is lasting if the store is to have something of it, and reports whether it must wait. written is
// to be called when the store has all that was put before.
func (u *unwritten) note(id auth.Identity, lasting bool) (wait bool, written func()) {
	u.mu.Lock()
	defer u.mu.Unlock()
	number, waits := u.of[id]
	if lasting {
		u.n++
		if u.of == nil {
			u.of = make(map[auth.Identity]uint64)
		}
		u.of[id], number = u.n, u.n
	}
	return lasting || waits, func() {
		u.mu.Lock()
		defer u.mu.Unlock()
		if u.of[id] == number {
			delete(u.of, id)
		}
	}
}

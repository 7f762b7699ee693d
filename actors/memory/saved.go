package memory

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"time"

	"postern/actors/domain"
	"postern/actors/supervise"
	"postern/internal/auth"
	"postern/internal/cache"
	"postern/internal/limit"
)

// Saved is what memory hands to a successor of the process.
type Saved struct {
	Key       cache.KeyerSecret // of all Keys in Users
	Names     limit.Seed        // of the numbers that stand for networks, also in the limits of backends
	Addresses []limit.SavedTally[netip.Prefix]
	Blocks    []SavedBlock
}

// SavedBlock has users of one domain block, or of one registered domain.
type SavedBlock struct {
	Name  string
	Mark  domain.Mark
	Users []SavedUser // those seen last at the end
}

// SavedUser is what is known of a user.
type SavedUser struct {
	ID   auth.Identity
	User cache.SavedUser
}

// keptFor is how long users of a registered domain are kept that has had no request since the start.
const keptFor = time.Hour

// former are users that a former process has handed over, of a block that this process has not used
// yet.
type former struct {
	mark  domain.Mark
	users []formerUser
}

type formerUser struct {
	id   auth.Identity
	user *cache.User
}

// Save returns what the shards and the limits of addresses have. marks are those of the blocks at this
// moment; a block without one is left out. No call may be under way.
func (p *Shards) Save(ctx context.Context, marks map[string]domain.Mark) (*Saved, error) {
	s := &Saved{Key: p.keyer.Secret(), Names: p.Addresses.names, Addresses: p.Addresses.save()}
	parts := make(chan []SavedBlock, len(p.refs))
	if err := p.each(ctx, func(sh *shard) { parts <- sh.save(marks) }); err != nil {
		return nil, err
	}
	for range p.refs {
		s.Blocks = append(s.Blocks, <-parts...)
	}
	return s, nil
}

func (s *shard) save(marks map[string]domain.Mark) (blocks []SavedBlock) {
	for name, sp := range s.spaces {
		mark, ok := marks[name]
		if !ok {
			continue
		}
		b := SavedBlock{Name: name, Mark: mark}
		for _, list := range sp.lists() {
			for _, id := range list.Keys() {
				if user, ok := list.Peek(id); ok {
					b.Users = append(b.Users, SavedUser{id, user.Save()})
				}
			}
		}
		blocks = append(blocks, b)
	}
	for name, f := range s.former {
		b := SavedBlock{Name: name, Mark: f.mark}
		for _, u := range f.users {
			b.Users = append(b.Users, SavedUser{u.id, u.user.Save()})
		}
		blocks = append(blocks, b)
	}
	return blocks
}

// Restore takes over what a former process has handed over, before the first call. An error means
// that nothing was taken. The users of a block come into use with the block: Claim has those in force do
// so at once.
func (p *Shards) Restore(s *Saved) (users int, err error) {
	parts := make([]map[string]*former, len(p.refs))
	for i := range parts {
		parts[i] = make(map[string]*former)
	}
	for _, b := range s.Blocks {
		for _, u := range b.Users {
			user, err := u.User.User()
			if err != nil {
				return 0, fmt.Errorf("user of %s: %w", b.Name, err)
			}
			part := parts[p.Hash(u.ID)%uint64(len(parts))]
			f := part[b.Name]
			if f == nil || f.mark != b.Mark {
				f = &former{mark: b.Mark}
				part[b.Name] = f
			}
			f.users = append(f.users, formerUser{u.ID, user})
			users++
		}
	}
	p.keyer = cache.KeyerOf(s.Key)
	p.Addresses.restore(s.Names, s.Addresses)
	end := time.Now().Add(keptFor)
	return users, p.each(p.env.Context, func(sh *shard) {
		for i, ref := range p.refs {
			if ref == sh.self {
				sh.former, sh.formerUntil = parts[i], end
			}
		}
	})
}

// Claim brings the users that were handed over into use, of the blocks that are in force. Where another
// block answers for the name now, they are dropped: what that learns of them, they would not know.
func (p *Shards) Claim(ctx context.Context) error {
	return p.each(ctx, func(s *shard) {
		for name := range s.former {
			switch d := p.directory.Current(name); {
			case d == nil: // a registered domain that is not in use yet
			case d.Name == name:
				s.space(d)
			default:
				delete(s.former, name)
			}
		}
	})
}

// Abandon drops what was handed over and is not in use yet, of the blocks that match: another block may
// answer for their users meanwhile.
func (p *Shards) Abandon(match func(block string) bool) {
	for _, ref := range p.refs {
		supervise.Do(ref, func(s *shard) {
			maps.DeleteFunc(s.former, func(block string, _ *former) bool { return match(block) })
		})
	}
}

// inherit brings the users of a block that were handed over into its new space. What an authority has
// accepted that is not asked any more is dropped, and refusals with it; and all, if a file that the
// backends answer from has changed: it may have had a password changed, or an account removed.
func (s *shard) inherit(sp *space) {
	f := s.former[sp.domain.Name]
	delete(s.former, sp.domain.Name)
	if f == nil || sp.domain.Rules.Off || f.mark.Files != sp.domain.Mark.Files {
		return
	}
	for _, u := range f.users {
		if f.mark.Backends != sp.domain.Mark.Backends {
			u.user.ForgetRefusals()
		}
		sp.dropped += u.user.Settle(&sp.domain.Rules)
		sp.place(u.id, u.user)
	}
}

// dropFormer forgets the users that match, of those handed over for a block.
func (s *shard) dropFormer(block string, match func(auth.Identity) bool) {
	f := s.former[block]
	if f == nil {
		return
	}
	kept := f.users[:0]
	for _, u := range f.users {
		if !match(u.id) {
			kept = append(kept, u)
		}
	}
	clear(f.users[len(kept):])
	f.users = kept
}

func (a *Addresses) save() (list []limit.SavedTally[netip.Prefix]) {
	for i := range a.parts {
		a.parts[i].mu.Lock()
		list = append(list, a.parts[i].table.Save()...)
		a.parts[i].mu.Unlock()
	}
	return list
}

func (a *Addresses) restore(names limit.Seed, list []limit.SavedTally[netip.Prefix]) {
	a.names = names
	for i := range list {
		t, unlock := a.lock(list[i].Of)
		t.Restore(list[i : i+1])
		unlock()
	}
}

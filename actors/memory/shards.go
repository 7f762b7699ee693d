// Package memory is what postern remembers of users: the cache's records, the refusals that limit
// guessing, and the questions that are under way. It is divided into shards by a hash of domain and
// user; a shard is an actor and the only owner of what it holds. Domains have no memory of their
// own: a reload changes the values that the shards look up, and hands nothing over.
package memory

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"strings"
	"sync/atomic"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/hashicorp/golang-lru/v2/simplelru"

	"postern/actors/call"
	"postern/actors/changes"
	"postern/actors/domain"
	"postern/actors/env"
	"postern/actors/supervise"
	"postern/internal/auth"
	"postern/internal/cache"
	"postern/internal/limit"
	"postern/internal/scram"
	"postern/internal/store"
	"postern/internal/unixtime"
)

// mailboxLimit bounds the queue of a shard. What one domain may have under way is bounded by its
// router.
const mailboxLimit = 1 << 16

// maxHashJobs bounds the memory of the password work that waits for a processor, per urgency.
const maxHashJobs = 8192

// maxGuessed bounds the limited accounts that a shard remembers.
const maxGuessed = 8192

// maxSpent bounds the exchanges of SCRAM that end within a minute, over all shards.
const maxSpent = 1 << 18

// Directory finds the domain that answers for a name.
type Directory interface {
	// Current returns the value in force; nil if no domain answers, or it is not known yet.
	Current(name string) *domain.Domain
	// Served reports whether a domain block, or a registered domain, is in use.
	Served(block string) bool
	// Reroute sends a call once more to the router of its domain.
	Reroute(*call.Call)
}

// Shards is the memory of the whole process.
type Shards struct {
	Hashing   *HashPool
	Addresses *Addresses
	refused   unwritten    // accounts of which a shared store lacks a refusal
	Changes   *changes.Log // gets what users must log in again for; set before the first call
	Strict    bool         // without a shared store, memory does not bridge outages either; set before the first call

	env       env.Env
	directory Directory
	keyer     *cache.Keyer
	sealer    *scram.Sealer
	seed      maphash.Seed
	refs      []*supervise.Ref
	failing   atomic.Bool           // the last write to disk failed
	appLog    supervise.LogThrottle // of app passwords that cannot be read
}

// Start starts n shards, and as many workers for password hashes.
func Start(e env.Env, n int, directory Directory) (*Shards, error) {
	p := &Shards{
		Hashing: NewHashPool(n, maxHashJobs, e.Log), Addresses: newAddresses(),
		env: e, directory: directory, keyer: cache.NewKeyer(), sealer: scram.NewSealer(), seed: maphash.MakeSeed(), refs: make([]*supervise.Ref, n),
	}
	for i := range p.refs {
		epoch, kept, ended := new(uint64), make(map[auth.Identity]*unsaved), &scram.Spent{Most: maxSpent / n}
		var err error
		p.refs[i], err = e.System.Spawn(fmt.Sprintf("cache%d", i), mailboxLimit, func(self *supervise.Ref) actor.Actor {
			guessed, _ := simplelru.NewLRU[uint64, unixtime.Time](maxGuessed, nil) // it fails for sizes under 1 only
			return &shard{
				apps: newAppAccounts(e, n, kept, func() bool { return p.Strict }), guessed: guessed, Shards: p, self: self, spaces: make(map[string]*space), loads: make(map[auth.Identity]*load),
				flights: make(map[cache.Key]*call.Call), prune: pruneAt, epoch: epoch, spent: ended,
			}
		})
		if err != nil {
			return nil, err
		}
	}
	return p, nil
}

// Ref returns the shard that owns a user, by Hash.
func (p *Shards) Ref(hash uint64) *supervise.Ref { return p.refs[hash%uint64(len(p.refs))] }

// Stop ends the shards, which put what is only lazily written on its way to the disk. Hashing must be
// closed before.
func (p *Shards) Stop() {
	for _, ref := range p.refs {
		if ref != nil {
			ref.Stop()
			<-ref.Stopped()
		}
	}
}

// Hash chooses the shard of a user, whatever the spelling, and stands for the user where limits are
// kept: those of one name in two domains that share a block are two.
func (p *Shards) Hash(id auth.Identity) uint64 {
	var h maphash.Hash
	h.SetSeed(p.seed)
	_, _ = h.WriteString(auth.FoldUser(id.User))
	_ = h.WriteByte(0)
	_, _ = h.WriteString(id.Domain)
	return h.Sum64()
}

// Key stands for a login's secret. One that came as a token is another than the same text as a password: what is known of
// the one says nothing of the other.
func (p *Shards) Key(id auth.Identity, secret auth.Secret, bearer bool) cache.Key {
	op := auth.OpAuth
	if bearer {
		op = auth.OpNone
	}
	return p.keyer.Key(op, id, secret)
}

// answers reports whether a block answers for a name, or none does.
func (p *Shards) answers(block, name string) bool {
	d := p.directory.Current(name)
	return d == nil || d.Name == block
}

// StoreWritten takes the outcome of each write to disk. A store that fails degrades the cache to
// this process's memory; it is said once, and again when it recovers.
func (p *Shards) StoreWritten(err error) {
	if was := p.failing.Swap(err != nil); was == (err != nil) {
		return
	}
	if err != nil {
		p.env.Log.Error("cache cannot be written; logins are remembered in memory only", "err", err)
	} else {
		p.env.Log.Info("cache can be written again")
	}
}

// each runs do in every shard, and waits until all have had their turn.
func (p *Shards) each(ctx context.Context, do func(*shard)) error {
	ops := make([]*supervise.Op[*shard], len(p.refs))
	for i, ref := range p.refs {
		ops[i] = supervise.Do(ref, do)
	}
	for _, op := range ops {
		select {
		case <-op.Done():
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", supervise.ErrBusy, ctx.Err())
		}
		if !op.Ran() {
			return supervise.ErrStopped
		}
	}
	return nil
}

// Drop forgets, in memory, the users of a block for which match holds.
func (p *Shards) Drop(ctx context.Context, block string, match func(auth.Identity) bool) error {
	return p.each(ctx, func(s *shard) {
		if sp := s.spaces[block]; sp != nil {
			sp.drop(match)
		}
		s.dropFormer(block, match)
		s.voidLoads(match)
	})
}

// DropBlock forgets, in memory, a block that is not served any more, or idle. What only memory
// knew is written to disk; keyed MACs and refusals are forgotten.
func (p *Shards) DropBlock(block string) {
	for _, ref := range p.refs {
		supervise.Do(ref, func(s *shard) {
			if sp := s.spaces[block]; sp != nil {
				sp.flush()
				delete(s.spaces, block)
			}
			delete(s.former, block)
			s.voidLoads(func(id auth.Identity) bool { return block == "*" || id.Domain == block })
		})
	}
}

// Settle returns when every shard has seen the configuration in force.
func (p *Shards) Settle(ctx context.Context) error { return p.each(ctx, func(*shard) {}) }

// Adapt has what is in memory of a block fit the configuration in force, and returns how many
// verifiers that, and former changes, have cost.
func (p *Shards) Adapt(ctx context.Context, block string) (dropped int, err error) {
	var n atomic.Int64
	err = p.each(ctx, func(s *shard) {
		sp, d := s.spaces[block], p.directory.Current(block)
		if sp == nil || d == nil || d.Name != block {
			return
		}
		s.space(d)
		n.Add(int64(sp.dropped))
		sp.dropped = 0
	})
	return int(n.Load()), err
}

// dropAll forgets, in memory, the users for which match holds, whatever block answers for them.
func (s *shard) dropAll(match func(auth.Identity) bool) {
	for _, sp := range s.spaces {
		sp.drop(match)
	}
	for block := range s.former {
		s.dropFormer(block, match)
	}
	s.voidLoads(match)
}

// voidLoads has the records that are being read for matching users read once more.
func (s *shard) voidLoads(match func(auth.Identity) bool) {
	for id := range s.loads {
		if match(id) {
			delete(s.loads, id)
		}
	}
}

// Forget removes the users for which match holds from memory and disk. Their records have a common
// prefix. Until they are gone from disk their records are hidden, so that no shard reads again
// what it has forgotten. What a shard writes after its turn is new: where that is deleted with the
// rest, a backend is asked once more. When it fails, some shards may have forgotten already.
func (p *Shards) Forget(ctx context.Context, match func(auth.Identity) bool, prefix []byte) error {
	disk := p.env.Disk()
	show := func() {}
	if disk != nil {
		show = disk.Hide(prefix)
		disk.Mark(strings.TrimPrefix(string(prefix), store.Credentials))
	}
	err := p.each(ctx, func(s *shard) {
		*s.epoch++ // a login now at the backend is not to be remembered
		s.dropAll(match)
	})
	if err != nil || disk == nil {
		show()
		return err
	}
	deleted := make(chan error, 1)
	removal := disk.DeletePrefix(prefix)
	p.env.System.Go(func() { // hidden until it is done, even if it is not waited for
		err := <-removal
		show()
		if err != nil || disk.Shared() == nil {
			deleted <- err
			return
		}
		disk.Flush(func(err error) { deleted <- err }) // the mark
	})
	return await(ctx, deleted)
}

// await waits for the outcome of work on disk.
func await(ctx context.Context, done <-chan error) error {
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", supervise.ErrBusy, ctx.Err())
	}
}

// ForgetUser removes a user from the cache, in memory and on disk.
func (p *Shards) ForgetUser(ctx context.Context, id auth.Identity) error {
	disk, id := p.env.Disk(), id.Fold()
	err := supervise.Ask(ctx, p.Ref(p.Hash(id)), func(s *shard) {
		*s.epoch++
		same := func(other auth.Identity) bool { return other == id }
		s.dropAll(same)
		if disk != nil {
			disk.Put(cache.RecordKey(id), nil)
			disk.Mark(markOf(id))
		}
	})
	if err != nil || disk == nil {
		return err
	}
	durable := make(chan error, 1)
	disk.Flush(func(err error) { durable <- err })
	return await(ctx, durable)
}

// CachedUser returns a copy of what is remembered of a user.
func (p *Shards) CachedUser(ctx context.Context, id auth.Identity) (user cache.User, err error) {
	found := false
	id = id.Fold()
	err = supervise.Ask(ctx, p.Ref(p.Hash(id)), func(s *shard) {
		d := p.directory.Current(id.Domain)
		if d == nil || s.spaces[d.Name] == nil {
			return
		}
		if u := s.spaces[d.Name].get(id); u != nil {
			user, found = u.Clone(), true
		}
	})
	if err != nil {
		return cache.User{}, err
	}
	disk := p.env.Disk()
	if d := p.directory.Current(id.Domain); found || disk == nil || d != nil && !d.Disk {
		return user, nil
	}
	stored, _, err := readRecord(disk, id)
	return *stored, err
}

// Stats returns what the shards count, by the name of the block. The error says that some did not
// answer before ctx ended.
func (p *Shards) Stats(ctx context.Context) (map[string]Stats, error) {
	all := make(map[string]Stats)
	var errs []error
	for _, ref := range p.refs {
		part := make(map[string]Stats)
		if err := supervise.Ask(ctx, ref, func(s *shard) {
			for name, sp := range s.spaces {
				part[name] = sp.stats()
			}
		}); err != nil {
			errs = append(errs, err)
			continue
		}
		for name, stats := range part {
			sum := all[name]
			sum.Add(stats)
			all[name] = sum
		}
	}
	return all, errors.Join(errs...)
}

// UserLimit returns what the backends of the user's domain have counted: the most that one has.
func (p *Shards) UserLimit(ctx context.Context, id auth.Identity) (most limit.State, err error) {
	d := p.directory.Current(id.Domain)
	if d == nil {
		return most, nil
	}
	var errs []error
	for _, h := range d.Hops {
		state, err := h.Backend.AccountLimit(ctx, d.Query(h, id))
		errs = append(errs, err)
		most.Refusals, most.Pauses, most.Until = max(most.Refusals, state.Refusals), max(most.Pauses, state.Pauses), max(most.Until, state.Until)
	}
	return most, errors.Join(errs...)
}

// ForgetUserLimit has a user's passwords asked about again, whatever was refused.
func (p *Shards) ForgetUserLimit(ctx context.Context, id auth.Identity) error {
	hash := p.Hash(id)
	errs := []error{supervise.Ask(ctx, p.Ref(hash), func(s *shard) { s.guessed.Remove(hash) })}
	if d := p.directory.Current(id.Domain); d != nil {
		for _, h := range d.Hops {
			errs = append(errs, h.Backend.ForgetAccount(d.Query(h, id)).Wait(ctx))
		}
	}
	return errors.Join(errs...)
}

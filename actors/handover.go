package actors

import (
	"slices"
	"sync"

	"postern/internal/auth"
	"postern/internal/cache"
	"postern/internal/store"
)

// The users of a name are remembered by one shard only at any time: otherwise one would allow
// what the other has seen refused. When a name gets a domain block of its own, or loses it to
// the fallback, the shard that had its users hands them over, and forwards from then on
// whatever still comes for them: calls that found it in the table before, and the results of
// work that it began. A user is in the shard of the same number everywhere.

// order is work that a reload wants done in a shard, between two of its messages. It passes
// full mailboxes, and is taken up again after a panic.
type order struct {
	shard *shardRef
	do    func(*shard)
	done  chan struct{}
	once  sync.Once
	tries int
}

var _ continuation = (*order)(nil)

func (*order) continues() {}

func (o *order) run(s *shard) {
	o.do(s)
	o.end()
}

func (o *order) end() { o.once.Do(func() { close(o.done) }) }

// Fail implements request.
func (o *order) Fail(why auth.Source) {
	if why == auth.SourcePanic && o.tries < attempts {
		o.tries++
		o.shard.send(o)
		return
	}
	o.end()
}

// order has do run in the shard's actor, and returns what is closed when it has.
func (s *shardRef) order(do func(*shard)) <-chan struct{} {
	o := &order{shard: s, do: do, done: make(chan struct{})}
	s.send(o)
	return o.done
}

// orderAll has do run in every shard of a domain, and waits, unless the broker stops.
func (d *domain) orderAll(do func(int, *shard)) {
	done := make([]<-chan struct{}, len(d.shards))
	for i, s := range d.shards {
		done[i] = s.order(func(s *shard) { do(i, s) })
	}
	for _, ch := range done {
		select {
		case <-ch:
		case <-d.broker.ctx.Done():
			return
		}
	}
}

// handOver moves the users of a name from the domain that answered for it to the one that
// will. When it returns, the table may say so: until then calls are forwarded.
func (b *Broker) handOver(name string, from, to *domain) {
	was, will := from.params.Load(), to.params.Load()
	others := !slices.Equal(was.hops, will.hops) || !slices.Equal(was.logins, will.logins)
	prefix := cache.RecordPrefix(name)
	if will.disk && !was.disk {
		b.wipe(name, func() error { return b.disk.Load().DeletePrefix(prefix) })
	}
	from.orderAll(func(i int, s *shard) {
		taken, heir := s.users.take(name), to.shards[i]
		if was.rules.Off || will.rules.Off { // nothing was learned, or would be
			taken = nil
		}
		s.left[name] = heir
		heir.order(func(s *shard) { // stands in its queue before anything that is forwarded
			delete(s.left, name)
			for id, user := range taken {
				if others {
					user.ForgetRefusals()
				}
				s.users.place(id, user)
			}
		})
	})
	if was.disk && !will.disk {
		b.wipe(name, func() error { return b.disk.Load().DeletePrefix(prefix) })
	}
}

// adjust puts new parameters in the place of a domain's. What is remembered stays, unless the
// place where it is kept has changed: what is on disk then misses what was refused while it was
// not written, or would miss it later.
func (b *Broker) adjust(d *domain, will *params) {
	was := d.params.Load()
	others := !slices.Equal(was.hops, will.hops) || !slices.Equal(was.logins, will.logins)
	if will.disk && !was.disk {
		b.wipe(d.name, func() error { return b.deleteUsers(b.disk.Load(), d) })
	}
	d.params.Store(will)
	d.orderAll(func(_ int, s *shard) {
		if will.rules.Off {
			s.users.drop(func(auth.Identity) bool { return true })
		}
		if others {
			s.users.reconsider()
		}
		s.users.resize()
	})
	if was.disk && !will.disk {
		b.wipe(d.name, func() error { return b.deleteUsers(b.disk.Load(), d) })
	}
	was.retire()
}

// wipe deletes users from disk, if there is one.
func (b *Broker) wipe(name string, remove func() error) {
	if b.disk.Load() == nil {
		return
	}
	b.report(name, remove())
}

func (b *Broker) report(domain string, err error) {
	if err != nil {
		b.log.Error("cache on disk could not be emptied; run `postern cache flush`", "domain", domain, "err", err)
	}
}

// deleteBatch is how many records are deleted at a time.
const deleteBatch = 10000

// deleteUsers deletes the records of all users for whom a domain answers.
func (b *Broker) deleteUsers(disk store.Store, d *domain) error {
	if d.name != "*" {
		return disk.DeletePrefix(cache.RecordPrefix(d.name))
	}
	for {
		var gone []store.Op
		err := disk.Scan([]byte(store.Credentials), func(key, _ []byte) bool {
			if id, ok := cache.RecordIdentity(key); ok && b.lookup(id.Domain) == d {
				gone = append(gone, store.Op{Key: append([]byte(nil), key...)})
			}
			return len(gone) < deleteBatch
		})
		if err == nil {
			err = disk.Apply(gone, false)
		}
		if err != nil || len(gone) < deleteBatch {
			return err
		}
	}
}

// reroute sends a call again that came to the fallback before its name was registered. It is
// false for any other.
func (s *shard) reroute(c *Call) bool {
	if !s.strange(c.ID.Domain) {
		return false
	}
	c.letGo()
	s.broker.dispatch(c)
	return true
}

// forward hands on a call for a name whose users live elsewhere by now. It is false for one
// that is to be handled here.
func (s *shard) forward(c *Call) bool {
	heir := s.left[c.ID.Domain]
	if heir == nil {
		return false
	}
	if c.moves(s.domain, heir.domain) {
		heir.send(c)
		return true
	}
	return c.Done()
}

// forwardResult hands on what came of a task, if the users of its name live elsewhere by now.
func (s *shard) forwardResult(f *finished) bool {
	heir := s.left[f.call.ID.Domain]
	if heir == nil || !heir.join() {
		return false
	}
	f.shard = heir
	if !f.holds.Load() {
		heir.release()
	} else {
		s.release()
	}
	heir.send(f)
	return true
}

// outdated reports whether a task began under another configuration than the one in force.
func (s *shard) outdated(t *task) bool { return t.params != s.params.Load() }

// acquireParams takes hold of the parameters in force. The last are retired when the domain's
// actors have stopped, who alone call it.
func (d *domain) acquireParams() *params {
	for {
		if p := d.params.Load(); p.acquire() {
			return p
		}
	}
}

package actors

import (
	"context"
	"errors"
	"fmt"
	"net"

	"postern/actors/front"
	"postern/internal/config"
	"postern/internal/registry"
	"postern/internal/store"
)

// ErrReload is wrapped when a reload is refused for a reason that is not in the configuration.
var ErrReload = errors.New("this cannot be reloaded now")

// Reload is a new configuration, with what had to be opened for it.
type Reload struct {
	Config  *config.Config
	Sockets map[string]net.Listener // open, of the listeners that are new, by name
	Store   store.Store             // nil, or opened for the first domain that wants one
}

// Reload puts a new configuration in the place of the one in force. All that may fail is done
// before anything changes, and an error means that nothing has; the sockets are then still the
// caller's. What did not change keeps running: the router of a domain lives as long as its name
// is configured, and only its value is exchanged. What is gone answers what it has begun, which
// Reload does not wait for.
func (b *Broker) Reload(ctx context.Context, r Reload) (changes config.Changes, err error) {
	b.reloading.Lock()
	defer b.reloading.Unlock()
	changes = config.Diff(b.cfg, r.Config)
	err = b.table.Change(func() error {
		if b.gate.Draining() {
			return fmt.Errorf("%w: postern is stopping", ErrReload)
		}
		if err := checkListeners(r, changes); err != nil {
			return err
		}
		plan, err := b.table.Prepare(r.Config, changes)
		if err != nil {
			return err
		}
		var disk *store.WriteBehind
		if r.Store != nil {
			disk = b.openDisk(r.Store)
		}
		if err := plan.Commit(ctx, disk); err != nil {
			b.env.Log.Warn("the cache has not followed the reload in time; it does so as it is asked", "err", err)
		}
		if disk != nil {
			b.tokens.Restore()
			b.changes.Restore()
		}
		return nil
	})
	if err != nil {
		return changes, err
	}
	b.cfg = r.Config
	b.front.Change(changes.Listeners, r.Sockets)
	for _, be := range b.table.AllBackends() { // also those that did not change: their servers may have
		be.Retry()
	}
	return changes, nil
}

func checkListeners(r Reload, changes config.Changes) error {
	for _, l := range r.Config.Listeners {
		if err := front.Check(l); err != nil {
			return fmt.Errorf("listener %q: %w", l.Name, err)
		}
	}
	for _, l := range changes.Listeners.Added {
		if r.Sockets[l.Name] == nil {
			return fmt.Errorf("listener %q: its socket was not opened", l.Name)
		}
	}
	return nil
}

// Registry carries out a change of the registered domains, which names what it has written and
// deleted, and puts it into effect before it returns. Requests in flight are answered.
func (b *Broker) Registry(change func(*registry.Registry) (put []registry.Record, deleted []string, err error)) error {
	return b.table.ChangeRegistry(change)
}

// Registered gives read access to the registry; nil without a store.
func (b *Broker) Registered() *registry.Registry { return b.table.Registry() }

// RegistryLost reports whether registered domains were to be kept but cannot be read.
func (b *Broker) RegistryLost() bool { return b.table.RegistryLost() }

// InForce is the configuration in force.
func (b *Broker) InForce() *config.Config { return b.table.Config() }

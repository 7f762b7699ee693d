package actors

import (
	"fmt"
	"math/rand/v2"

	"github.com/asynkron/protoactor-go/actor"

	"postern/internal/backend"
	"postern/internal/config"
	"postern/internal/limit"
)

// backendQueue bounds the mailbox of a backend's actor beyond its own short queue: what is
// on its way there at one moment.
const backendQueue = 4096

// newBackend makes a backend and the actor with its slots. Parameters of domains take hold of
// it; when it is retired and the last of them has let go, nobody asks it any more, and it is
// closed.
func (b *Broker) newBackend(cfg config.Backend) (*backendRef, error) {
	be, err := b.make(cfg, b.hashing.run)
	if err != nil {
		return nil, fmt.Errorf("backend %s: %w", cfg.BackendRef, err)
	}
	ref := &backendRef{
		name: b.sys.unused("backend." + cfg.BackendRef.String()), backend: be, slots: int32(cfg.Slots), queue: cfg.Queue,
		breaker: backend.BreakerOptions{Failures: cfg.BreakerFailures, Cooldown: cfg.BreakerCooldown, Jitter: rand.Float64},
		rules:   limit.BudgetRules{Refusals: cfg.RefusalBudget, Window: cfg.RefusalWindow}, maxDelay: cfg.MaxDelay,
		broker: b, log: b.log,
	}
	ref.ended = func() { b.aside(func() { b.closeBackend(ref) }) }
	b.mu.Lock()
	b.backends[ref] = struct{}{}
	b.mu.Unlock()
	ref.pid, err = b.sys.spawnRoot(ref.name, backendQueue, true, func() actor.Actor { return &slots{backendRef: ref} })
	if err != nil {
		b.closeBackend(ref)
	}
	return ref, err
}

// closeBackend stops the actor of a backend that nobody asks any more, and closes it.
func (b *Broker) closeBackend(r *backendRef) {
	if r.pid != nil {
		_ = b.sys.Root.StopFuture(r.pid).Wait()
		b.sys.forget(r.name)
	}
	b.mu.Lock()
	delete(b.backends, r)
	b.mu.Unlock()
	r.close()
}

func (r *backendRef) close() {
	if err := r.backend.Close(); err != nil {
		r.log.Warn("backend could not be closed", "backend", r.name, "err", err)
	}
}

package actors

import (
	"fmt"
	"math/rand/v2"

	"github.com/asynkron/protoactor-go/actor"

	"postern/internal/backend"
	"postern/internal/config"
)

// backendQueue bounds the mailbox of a backend's actor beyond its own short queue: what is
// on its way there at one moment.
const backendQueue = 4096

// addBackend makes a backend and the actor with its slots.
func (b *Broker) addBackend(cfg config.Backend, build func(config.Backend, backend.Hashing) (backend.Backend, error)) error {
	be, err := build(cfg, b.hashing.run)
	if err != nil {
		return fmt.Errorf("backend %s: %w", cfg.BackendRef, err)
	}
	ref := &backendRef{
		name: "backend." + cfg.BackendRef.String(), backend: be, slots: int32(cfg.Slots), queue: cfg.Queue,
		breaker: backend.BreakerOptions{Failures: cfg.BreakerFailures, Cooldown: cfg.BreakerCooldown, Jitter: rand.Float64},
		broker:  b, log: b.log,
	}
	b.backends[cfg.BackendRef] = ref
	ref.pid, err = b.sys.spawnRoot(ref.name, backendQueue, true, func() actor.Actor { return &slots{backendRef: ref} })
	return err
}

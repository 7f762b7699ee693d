package actors

import (
	"context"
	"time"

	"postern/actors/domain"
	"postern/actors/memory"
	"postern/actors/slots"
	"postern/internal/token"
)

// Memory is what a broker hands to that of the next process, at an orderly restart. Its values are
// those of the packages that own the state. A change of one must raise snapshot.Format.
type Memory struct {
	Users  *memory.Saved
	Limits map[string]slots.Saved // of the backends
	Tokens token.SavedReplay
}

// saveTimeout bounds how long the actors may take to hand over their state.
const saveTimeout = 10 * time.Second

// StopForSuccessor is Stop, and returns what the broker remembers after its last answer. With an error
// there is nothing to hand over.
func (b *Broker) StopForSuccessor() (m *Memory, err error) {
	m = new(Memory)
	marks := make(map[string]domain.Mark)
	atOnce, cancel := context.WithCancel(context.Background())
	cancel()
	b.stop(atOnce, func() { // a hash may take longer than all the rest, and clients wait
		ctx, cancel := context.WithTimeout(context.Background(), saveTimeout)
		defer cancel()
		for name, d := range b.table.Domains(true) {
			marks[name] = d.MarkNow()
		}
		m.Limits, err = b.table.SaveLimits(ctx)
	}, func() {
		if err != nil {
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), saveTimeout)
		defer cancel()
		m.Tokens = b.tokens.Save()
		m.Users, err = b.shards.Save(ctx, marks)
	})
	if err != nil {
		return nil, err
	}
	return m, nil
}

// inherit takes over what a former process has handed over, before the first call.
func (b *Broker) inherit(m *Memory) {
	if m == nil || m.Users == nil {
		return
	}
	begun := time.Now()
	users, err := b.shards.Restore(m.Users)
	if err != nil {
		b.env.Log.Warn("the memory of the former process is not taken over", "err", err)
		return
	}
	b.table.InheritLimits(m.Limits)
	b.tokens.Inherit(m.Tokens)
	b.env.Log.Info("the memory of the former process is taken over", "users", users, "took", time.Since(begun).Round(time.Microsecond))
}

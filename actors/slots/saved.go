package slots

import (
	"context"
	"fmt"

	"postern/actors/supervise"
	"postern/internal/backend"
	"postern/internal/limit"
)

// Saved is what a backend's limits hand to a successor of the process.
type Saved struct {
	Seed     limit.Seed // of the numbers in the others
	Accounts limit.SavedAccounts
	Budget   limit.SavedBudget
}

// Identity stays the same over restarts while the backend is the same server: its name and its authority.
func (b *Backend) Identity() string {
	return fmt.Sprintf("%s %x", b.Block.BackendRef, b.Block.Authority("").ID)
}

// Save returns the backend's limits.
func (b *Backend) Save(ctx context.Context) (s Saved, err error) {
	err = supervise.Ask(ctx, b.Ref, func(x *limits) {
		s = Saved{Seed: b.seed, Accounts: x.accounts.Save(), Budget: x.refusals.Save()}
	})
	if err != nil {
		return Saved{}, fmt.Errorf("backend %s: %w", b.Name, err)
	}
	return s, nil
}

// Restore gives the backend the limits of a former process. It must come before the first question.
func (b *Backend) Restore(s Saved) {
	b.seed = s.Seed
	supervise.Do(b.Ref, func(x *limits) {
		x.accounts.Restore(s.Accounts)
		x.refusals.Restore(s.Budget)
	})
}

// Retry has the backend try again what it has left undone after a failure, see backend.Retrier.
func (b *Backend) Retry() {
	if r, ok := b.backend.(backend.Retrier); ok {
		r.Retry()
	}
}

// Stamp returns the state of the file that the backend answers from, see backend.Stamper; "" for others.
func (b *Backend) Stamp() string {
	if s, ok := b.backend.(backend.Stamper); ok {
		return s.Stamp()
	}
	return ""
}

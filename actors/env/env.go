// Package env is what the actors need of the process they run in.
package env

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"postern/actors/supervise"
	"postern/internal/audit"
	"postern/internal/limit"
	"postern/internal/recent"
	"postern/internal/store"
)

// Env is passed by value. Its fields are set once, before the first actor starts.
type Env struct {
	System  *supervise.System
	Log     *slog.Logger
	Audit   *audit.Log       // nil: none
	Recent  *recent.Log      // nil: decisions are not remembered
	Clock   func() time.Time // for tokens, cache and limits; tests move it
	Context context.Context  // ends when backends and rosters must stop

	disk  *atomic.Pointer[store.WriteBehind]
	peers *atomic.Pointer[limit.Peers]
}

// New returns the Env of a process, without a store.
func New(ctx context.Context, system *supervise.System, log *slog.Logger, clock func() time.Time) Env {
	return Env{System: system, Log: log, Clock: clock, Context: ctx, disk: new(atomic.Pointer[store.WriteBehind]), peers: new(atomic.Pointer[limit.Peers])}
}

// Disk returns where records are kept, or nil without a store. A reload may bring one.
func (e Env) Disk() *store.WriteBehind { return e.disk.Load() }

// SetDisk takes a store into use.
func (e Env) SetDisk(w *store.WriteBehind) { e.disk.Store(w) }

// Peers are the other processes that count refusals together with this one; nil: there are none.
func (e Env) Peers() *limit.Peers { return e.peers.Load() }

// SetPeers has refusals sent to others. It comes before the first call.
func (e Env) SetPeers(p *limit.Peers) { e.peers.Store(p) }

package actors

import (
	"context"
	"time"
)

// Drain ends the broker's work in order: no connection and no request is let in any more, and every
// request that was has its answer, or ctx ends. It reports whether all was answered. Stop must follow.
func (b *Broker) Drain(ctx context.Context) bool { return b.front.Drain(ctx) }

// stopTimeout bounds the wait for each kind of actors and goroutines at the end.
const stopTimeout = 5 * time.Second

// Stop ends everything, answered or not: what is in flight is a temporary failure. The
// store is the caller's to close. It may be called once, with or without Drain before it.
func (b *Broker) Stop() { b.stop(context.Background(), func() {}, func() {}) }

// stop is Stop. It waits for password hashes that are being computed until ctx ends, as Stop does. It calls quiet when no question is put any more, while the backends have their actors,
// and learned when nothing is learned any more, while the shards have theirs.
func (b *Broker) stop(ctx context.Context, quiet, learned func()) {
	b.gate.Drain()
	if b.front != nil {
		b.front.CloseListeners()
		b.front.CloseConnections()
	}
	b.cancel()
	within(stopTimeout, func() { // a reload, or a change of the registered domains; none begins after it
		b.reloading.Lock()
		defer b.reloading.Unlock()
		_ = b.table.Change(func() error { return nil })
	})
	if b.front != nil {
		b.front.Stop(stopTimeout)
	}
	quiet()
	if b.shards != nil {
		b.shards.Hashing.Close(ctx)
	}
	b.table.Stop()
	learned()
	if b.tokens != nil {
		b.tokens.Stop()
	}
	if b.shards != nil {
		b.shards.Stop()
	}
	b.unshare()
	if disk := b.env.Disk(); disk != nil {
		disk.Close()
	}
	b.sweeper.end()
	b.env.System.Close()
}

// within waits for fn, but not longer than timeout.
func within(timeout time.Duration, fn func()) {
	done := make(chan struct{})
	go func() { fn(); close(done) }()
	select {
	case <-done:
	case <-time.After(timeout):
	}
}

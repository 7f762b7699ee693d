package actors

import (
	"context"
	"maps"
	"slices"
	"syscall"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"golang.org/x/sys/unix"

	"postern/internal/auth"
)

// drainPoll is how often a draining broker looks whether all answers have left.
const drainPoll = 5 * time.Millisecond

// youth is how old a connection without a question may be when the drain begins and still be
// waited for: who has just been let in has a question on its way.
const youth = 100 * time.Millisecond

// Drain ends the broker's work in order: it stops accepting when whom the kernel has let in is in,
// lets those who have just connected ask, refuses new requests as unavailable, and waits until
// every request in flight has its answer or ctx ends. Then it closes the connections. It reports
// whether all was answered. Stop must follow.
func (b *Broker) Drain(ctx context.Context) bool {
	tick := time.NewTicker(drainPoll)
	defer tick.Stop()
	while := func(waits func() bool) {
		for begun := time.Now(); waits() && time.Since(begun) < youth && ctx.Err() == nil; {
			<-tick.C
		}
	}
	while(b.queued)
	b.closeListeners()
	while(b.expecting)
	b.draining.Store(true)
	clean := true
	for b.inFlight.Load() > 0 && clean {
		select {
		case <-tick.C:
		case <-ctx.Done():
			clean = false
		}
	}
	b.closeConns()
	return clean
}

// queued reports whether the kernel holds connections for a listener: it would reset them, with
// the questions that they have asked, when the socket is closed.
func (b *Broker) queued() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.ContainsFunc(b.listeners, func(l *listener) bool {
		socket, ok := l.socket.(syscall.Conn)
		if !ok || l.closed.Load() {
			return false
		}
		raw, err := socket.SyscallConn()
		if err != nil {
			return false
		}
		ready := 0
		err = raw.Control(func(fd uintptr) {
			ready, _ = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
		})
		return err == nil && ready > 0
	})
}

// expecting reports whether a connection may be about to ask its first question.
func (b *Broker) expecting() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, l := range b.listeners {
		if l.accepting.Load() {
			return true
		}
	}
	if b.arriving.Load() > 0 {
		return true
	}
	for c := range b.conns {
		if c.net != nil && c.last.Load() == 0 && time.Since(c.since) < youth {
			return true
		}
	}
	return false
}

func (b *Broker) closeListeners() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, l := range b.listeners {
		l.close()
	}
}

// closeConns ends the reading of every connection; each closes itself after its last answer.
func (b *Broker) closeConns() {
	b.closing.Store(true)
	b.mu.Lock()
	defer b.mu.Unlock()
	for c := range b.conns {
		if c.net != nil {
			_ = c.net.SetReadDeadline(time.Unix(1, 0))
		}
	}
}

// stopPatience bounds the wait for actors and goroutines at the end.
const stopPatience = 5 * time.Second

// Stop ends everything, answered or not: what is in flight is answered "cannot tell". The
// store is the caller's to close. It may be called once, with or without Drain before it.
func (b *Broker) Stop() {
	b.closeListeners()
	b.draining.Store(true)
	b.closeConns()
	b.cancel()
	within(stopPatience, b.awaitChange)
	b.closeListeners() // those that the change began
	b.mu.Lock()
	b.stopping = true
	b.mu.Unlock()
	b.burials.Wait()
	b.failInFlight()
	within(stopPatience, b.idle.Wait)
	b.hashing.close()
	var waits []func() error
	domains, backends, listeners := b.parts()
	pids := make([]*actor.PID, 0, len(domains)+len(backends)+len(listeners))
	for _, d := range domains {
		d.unwatch()
		pids = append(pids, d.supervisor)
	}
	for _, r := range backends {
		pids = append(pids, r.pid)
	}
	for _, l := range listeners {
		pids = append(pids, l.pid)
	}
	for _, pid := range pids {
		if pid != nil {
			waits = append(waits, b.sys.Root.StopFuture(pid).Wait)
		}
	}
	for _, wait := range waits {
		_ = wait() // at most 10 s, see the library
	}
	if disk := b.disk.Load(); disk != nil {
		disk.journal.Close()
	}
	for _, d := range domains {
		d.roster.close()
	}
	for _, r := range backends {
		// A question takes a moment to end with b.ctx, and Close must not run beside it.
		for end := time.Now().Add(stopPatience); r.running.Load()+r.looks.Load() > 0 && time.Now().Before(end); {
			time.Sleep(drainPoll)
		}
		r.close()
	}
	close(b.sweeper)
	<-b.swept
	b.sys.close()
}

// awaitChange waits for the end of a reload or a change of the registered domains. What it makes
// is Stop's to close, and none begins after it: draining is looked at under the same lock.
func (b *Broker) awaitChange() {
	b.reloading.Lock()
	defer b.reloading.Unlock()
}

// parts lists what has actors.
func (b *Broker) parts() (domains []*domain, backends []*backendRef, listeners []*listener) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Collect(maps.Keys(b.domains)), slices.Collect(maps.Keys(b.backends)), slices.Clone(b.listeners)
}

func (b *Broker) failInFlight() {
	b.mu.Lock()
	conns := make([]*conn, 0, len(b.conns))
	for c := range b.conns {
		conns = append(conns, c)
	}
	b.mu.Unlock()
	for _, c := range conns {
		for i := range c.ring {
			if call := c.ring[i].Load(); call != nil {
				call.Fail(auth.SourceStopping)
			}
		}
	}
}

// within waits for fn, but not longer than patience.
func within(patience time.Duration, fn func()) {
	done := make(chan struct{})
	go func() { fn(); close(done) }()
	select {
	case <-done:
	case <-time.After(patience):
	}
}

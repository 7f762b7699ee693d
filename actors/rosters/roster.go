// Package rosters keeps the shared rosters of XMPP servers up to date. Each domain block has an
// actor, the collector, that gathers logins and starts runs for their users, one at a time. A run
// asks the backends and the XMPP server on a goroutine of its own, so no login ever waits for it.
// Its questions yield to logins at the backends. When the collector is overloaded, notes of logins
// are dropped: the next login of a user brings another one.
package rosters

import (
	"errors"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"postern/actors/domain"
	"postern/actors/env"
	"postern/actors/supervise"
	"postern/internal/roster"
)

// Bounds and pauses of shared rosters.
const (
	mailboxLimit = 1024  // notes on their way to the actor
	maxWaiting   = 4096  // users that wait for a run, and as many after a failed run
	maxSeen      = 65536 // users with a remembered time of the last question
	maxTries     = 20    // runs that may fail for a user before only the next login counts
	firstPause   = 5 * time.Second
	longestPause = 5 * time.Minute
	askTimeout   = time.Minute // of one question to a backend
)

// ErrNone is wrapped when a domain has no shared rosters.
var ErrNone = errors.New("the domain has no roster block")

// errNoStore means that the state of shared rosters cannot be kept.
var errNoStore = errors.New("shared rosters need the store, which could not be opened: see the log")

// Roster is the shared rosters of a domain block. It stays the same as long as the block's name is
// in use, whatever a reload changes. Its methods are safe for concurrent use.
type Roster struct {
	Name string         // of the domain block
	Ref  *supervise.Ref // handles domain.LoginNote

	env        env.Env
	current    func() *domain.Domain
	firstPause time.Duration // after the first failure
	server     chan struct{} // full while a session is open

	droppedLog supervise.LogThrottle // of dropped logins
	failureLog supervise.LogThrottle // of runs that failed
	foreignLog supervise.LogThrottle // of accounts of other domains
	answerLog  supervise.LogThrottle // of documents that are of no use
	storeLog   supervise.LogThrottle // of the missing store
}

// Start starts the actor of a domain block under the name path. current returns the value of the
// block that is in force, or nil while it has none.
func Start(e env.Env, path, name string, current func() *domain.Domain) (*Roster, error) {
	r := &Roster{Name: name, env: e, current: current, firstPause: firstPause, server: make(chan struct{}, 1)}
	var err error
	r.Ref, err = e.System.Spawn(path, mailboxLimit, func(*supervise.Ref) actor.Actor { return newCollector(r) })
	return r, err
}

// config is the domain's configuration in force; nil while it has no shared rosters.
func (r *Roster) config() *domain.Roster {
	if d := r.current(); d != nil {
		return d.Roster
	}
	return nil
}

// Prepare writes what the XMPP server needs at its start, such as an empty groups file. Errors are
// logged.
func (r *Roster) Prepare() {
	cfg := r.config()
	if cfg == nil || r.Name == "*" {
		return
	}
	disk := r.env.Disk()
	if disk == nil {
		r.env.Log.Error("shared rosters are off: they need the store, which could not be opened", "domain", r.Name)
		return
	}
	if err := cfg.Server.Prepare(roster.State{Store: disk.Store(), Domain: r.Name}); err != nil {
		r.env.Log.Error("shared rosters could not be prepared", "domain", r.Name, "err", err)
	}
}

// logDropped logs that logins were not noted.
func (r *Roster) logDropped(why supervise.Reason) {
	if why == supervise.Stopped {
		return
	}
	if suppressed, ok := r.droppedLog.Due(time.Now()); ok {
		r.env.Log.Warn("shared rosters: logins were passed over; their next ones count", "domain", r.Name, "why", why.String(), "alike", suppressed)
	}
}

// Close waits until the open session has been released, which happens soon after the end of the
// process's context, and lets no other one begin. After the timeout it logs an error and returns.
func (r *Roster) Close(timeout time.Duration) {
	select {
	case r.server <- struct{}{}:
	case <-time.After(timeout):
		r.env.Log.Error("shared rosters did not end in time", "domain", r.Name)
	}
}

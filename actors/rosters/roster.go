// Package rosters keeps the shared rosters of XMPP servers up to date. Each domain block has an
// actor that gathers the users who log in and starts runs for them, one at a time. A run asks the
// backends and the XMPP server on a goroutine of its own, and is never in the way of a login.
package rosters

import (
	"errors"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"postern/actors/domain"
	"postern/actors/env"
	"postern/actors/supervise"
	"postern/internal/auth"
	"postern/internal/roster"
)

// Bounds and pauses of shared rosters.
const (
	mailboxLimit = 1024  // notes on their way to the actor
	maxWaiting   = 4096  // users that wait for a run, and as many that were refused
	maxSeen      = 65536 // users of whom the last question is remembered
	maxTries     = 20    // runs that may fail for a user before only the next login counts
	firstPause   = 5 * time.Second
	longestPause = 5 * time.Minute
	askTimeout   = time.Minute // of one question to a backend, for which no login waits
)

// ErrNone is wrapped when a domain has no shared rosters.
var ErrNone = errors.New("the domain has no roster block")

// errNoStore means that there is nothing to remember shared rosters with.
var errNoStore = errors.New("shared rosters need the store, which could not be opened: see the log")

// Roster is the shared rosters of a domain block as the rest of postern sees them. It stays while
// the block's name is in use, whatever a reload changes.
type Roster struct {
	Name string         // of the domain block
	Ref  *supervise.Ref // handles domain.LoginNote

	env        env.Env
	current    func() *domain.Domain
	askTimeout time.Duration
	firstPause time.Duration // after the first failure
	server     chan struct{} // held by what talks to the XMPP server: one run at a time

	dropped  supervise.LogThrottle
	failures supervise.LogThrottle
	odd      supervise.LogThrottle
	storage  supervise.LogThrottle
}

// Start starts the actor of a domain block, whose value in force current returns.
func Start(e env.Env, path, name string, current func() *domain.Domain) (*Roster, error) {
	r := &Roster{
		Name: name, env: e, current: current, askTimeout: askTimeout, firstPause: firstPause,
		server: make(chan struct{}, 1),
	}
	var err error
	r.Ref, err = e.System.Spawn(path, mailboxLimit, func(*supervise.Ref) actor.Actor { return newCollector(r) })
	return r, err
}

// rules are the domain's rules in force; nil while it has no shared rosters.
func (r *Roster) rules() *domain.Roster {
	if d := r.current(); d != nil {
		return d.Roster
	}
	return nil
}

// Prepare does what the XMPP server needs to find at its start.
func (r *Roster) Prepare() {
	rules := r.rules()
	if rules == nil || r.Name == "*" {
		return
	}
	disk := r.env.Disk()
	if disk == nil {
		r.env.Log.Error("shared rosters are off: they need the store, which could not be opened", "domain", r.Name)
		return
	}
	if err := rules.Server.Prepare(roster.State{Store: disk.Store(), Domain: r.Name}); err != nil {
		r.env.Log.Error("shared rosters could not be prepared", "domain", r.Name, "err", err)
	}
}

// request asks for the rosters of users to be brought up to date, whatever the interval says.
func (r *Roster) request(ids []auth.Identity) {
	r.Ref.Send(&domain.LoginNote{IDs: ids, Urgent: true, Lost: r.lost})
}

// lost logs that logins were passed over.
func (r *Roster) lost(why supervise.Reason) {
	if why == supervise.Stopped {
		return
	}
	if held, ok := r.dropped.Due(time.Now()); ok {
		r.env.Log.Warn("shared rosters: logins were passed over; their next ones count", "domain", r.Name, "why", why.String(), "alike", held)
	}
}

// Close waits for the end of what is under way, which ends with the process's context, and lets no
// run follow.
func (r *Roster) Close(timeout time.Duration) {
	select {
	case r.server <- struct{}{}:
	case <-time.After(timeout):
		r.env.Log.Error("shared rosters did not end in time", "domain", r.Name)
	}
}

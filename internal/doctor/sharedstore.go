package doctor

import (
	"fmt"
	"time"

	"postern/internal/config"
)

// SharedStore is what is known of the server of a store block.
type SharedStore struct {
	Name       string // as in "valkey 8.1.1"
	Major      int    // of a version of Redis that it is like
	Policy     string // maxmemory-policy
	AppendOnly bool
	RoundTrip  time.Duration
	Ahead      time.Duration // its clock, before this machine's
}

// Bounds of a shared store that does its work well.
const (
	oldestStore    = 7
	slowStore      = 10 * time.Millisecond
	storeClockSlip = 10 * time.Second
)

// sharedStore looks at the server of the store block: as a daemon does, whether or not one runs.
func (e *Env) sharedStore(cfg *config.Store) []Outcome {
	s, err := e.LookAtStore(cfg)
	if err != nil {
		return fail(fmt.Sprintf("the store at %s cannot be used: %v", cfg.Where(), cause(err)),
			"check addresses, username and password of the block store, the server, and the rights of its user (`postern help machines`)")
	}
	out := fine("%s at %s answers in %v", s.Name, cfg.Where(), s.RoundTrip.Round(time.Microsecond))
	if s.Major < oldestStore {
		out = fail(s.Name+" is too old", "install Redis 7 or Valkey 8, or newer")
	}
	if s.RoundTrip > slowStore {
		out = append(out, warn(fmt.Sprintf("the store answers after %v", s.RoundTrip.Round(time.Millisecond)), "put it nearer, or see what it is busy with: a login waits 50ms for it at most")...)
	}
	if s.Policy != "noeviction" && s.Policy != "" {
		out = append(out, warn("the store drops what it likes when it is full (maxmemory-policy "+s.Policy+"), so that machines may not agree about a refused password",
			"set maxmemory-policy noeviction in its configuration")...)
	}
	if !s.AppendOnly {
		out = append(out, warn("the store keeps no append-only file: after a restart of it every password is asked about", "set appendonly yes in its configuration")...)
	}
	if s.Ahead.Abs() > storeClockSlip {
		out = append(out, warn(fmt.Sprintf("the clock of the store is %v apart from this machine's", s.Ahead.Abs().Round(time.Second)), "run a time service, such as systemd-timesyncd, on both")...)
	}
	return out
}

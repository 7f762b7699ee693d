package doctor

import (
	"fmt"
	"strings"
	"time"

	"postern/internal/config"
)

// SharedStore is what is known of the server of a store block.
type SharedStore struct {
	Name        string // as in "valkey 8.1.1"
	Major       int    // of a version of Redis that it is like
	Policy      string // maxmemory-policy
	AppendOnly  bool
	DiskFailing bool          // it cannot write its files
	Full        int           // percent of maxmemory in use; 0 without such a bound
	Refusing    string        // why it takes no changes; "" if it does
	Denied      []string      // what its user may not do
	RoundTrip   time.Duration // of a usual command
	Heard       time.Duration // until a change by another connection is reported; 0: it is not
	Ahead       time.Duration // its clock, before this machine's
	Guided      bool          // Sentinels or nodes of a cluster say where it is
	Replicas    int
	Silent      []string // which of these do not, and why
}

// Bounds of a shared store that does its work well.
const (
	oldestStore    = 7
	slowStore      = 10 * time.Millisecond
	lateStore      = 250 * time.Millisecond // to report a change
	nearlyFull     = 90                     // percent
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
	add := func(more []Outcome) { out = append(out, more...) }
	for _, denied := range s.Denied {
		add(fail("the user of the store has not all rights: "+denied, "give it those of the manual's page, with the prefix of the keys (`postern help machines`)"))
	}
	switch {
	case s.Refusing != "" && s.Full >= 100:
		add(fail("the store is full, and takes no changes", "give it more memory (maxmemory): until then a refused password that was accepted before is a temporary failure"))
	case s.Refusing != "":
		add(fail("the store takes no changes: "+s.Refusing, "see the log of the server"))
	case s.Full >= nearlyFull:
		add(warn(fmt.Sprintf("%d%% of the store's memory are in use", s.Full), "give it more memory (maxmemory) before it is full and takes no changes"))
	}
	if s.Refusing == "" && len(s.Denied) == 0 && (s.Heard == 0 || s.Heard > lateStore) {
		text := "the store does not tell of changes"
		if s.Heard > 0 {
			text = fmt.Sprintf("the store tells of a change after %v", s.Heard.Round(time.Millisecond))
		}
		add(warn(text, "see what the server is busy with: the other machines accept a refused password until they hear of it, for at most 3 seconds"))
	}
	if s.RoundTrip > slowStore {
		add(warn(fmt.Sprintf("the store answers after %v", s.RoundTrip.Round(time.Millisecond)), "put it nearer, or see what it is busy with: a login waits 50ms for it at most"))
	}
	if s.Policy != "noeviction" && s.Policy != "" {
		add(warn("the store drops what it likes when it is full (maxmemory-policy "+s.Policy+"), so that machines may not agree about a refused password",
			"set maxmemory-policy noeviction in its configuration"))
	}
	if !s.AppendOnly {
		add(warn("the store keeps no append-only file: after a restart of it every password is asked about", "set appendonly yes in its configuration"))
	}
	if s.DiskFailing {
		add(warn("the store could not write its files when it last tried", "see its log, and whether its disk is full"))
	}
	if s.Guided && s.Replicas == 0 {
		add(warn("the store has no replica that could take over", "start one, or see in its log why it does not follow"))
	}
	if len(s.Silent) > 0 {
		add(warn("not all addresses of the store say where it is: "+strings.Join(s.Silent, "; "), "start what is missing: when most are, the store is away"))
	}
	if s.Ahead.Abs() > storeClockSlip {
		add(warn(fmt.Sprintf("the clock of the store is %v apart from this machine's", s.Ahead.Abs().Round(time.Second)), "run a time service, such as systemd-timesyncd, on both"))
	}
	return out
}

// Package status is the status page: what a broker decides, and how its parts are. It draws what a [Source] and a log
// of recent decisions say, and knows nothing of either's making.
//
// [NewView] makes the content of the page of both. The page and /status.json show the same.
package status

import (
	"context"
	"time"
)

// State is how a daemon is at the moment.
type State struct {
	Version string    `json:"version"`
	Node    string    `json:"node"` // name of the machine
	Started time.Time `json:"started"`

	Connections int   `json:"connections"`        // open
	InFlight    int64 `json:"requests_in_flight"` // without an answer
	Restarts    int64 `json:"actor_restarts"`     // each is a fault of postern

	Listeners    []Listener `json:"listeners"`
	Backends     []Backend  `json:"backends"` // of the configuration
	Domains      []Domain   `json:"domains"`  // likewise
	Registered   int        `json:"domains_registered"`
	Live         int        `json:"domains_live"` // of these
	CacheStalled bool       `json:"cache_stalled"`
	Store        Store      `json:"store"`
	Config       Config     `json:"config"`
	Limits       Limits     `json:"limits"`
}

// Listener is where servers ask.
type Listener struct {
	Name     string `json:"name"`
	Protocol string `json:"protocol"`
	Address  string `json:"address"`
}

// Backend is how a backend is.
type Backend struct {
	Name     string    `json:"name"`
	Slots    int       `json:"slots"`       // that it has at most
	Limit    int       `json:"slots_limit"` // that may be in use now
	Busy     int       `json:"slots_busy"`
	Queued   int       `json:"queued"`
	Open     bool      `json:"breaker_open"` // it is not asked
	Since    time.Time `json:"since"`        // that the breaker is as it is
	Cause    string    `json:"cause,omitempty"`
	Failed   time.Time `json:"failed,omitzero"` // the last failure
	Withheld int64     `json:"withheld"`
	Slowed   Duration  `json:"slowed_seconds"` // by how much it delays logins
}

// Domain is what the cache holds of a domain.
type Domain struct {
	Name         string `json:"name"`
	Users        int    `json:"users"`     // in memory
	Strangers    int    `json:"strangers"` // of which only refusals are known
	Hashes       uint64 `json:"hashes"`    // made since the start
	Compares     uint64 `json:"compares"`  // with hashes
	StoreFailing bool   `json:"store_failing"`
}

// Store is how the store is.
type Store struct {
	Kind   string       `json:"kind"`             // "none", "disk" or "shared"
	Failed string       `json:"failed,omitempty"` // why it does not work
	Bytes  uint64       `json:"bytes,omitempty"`
	Shared *SharedStore `json:"shared,omitempty"`
}

// SharedStore is how a store is that other machines use as well.
type SharedStore struct {
	Connected     bool     `json:"connected"`
	Lag           Duration `json:"lag_seconds"`
	RoundTrips    uint64   `json:"round_trips"`
	Invalidations uint64   `json:"invalidations"`
	Losses        uint64   `json:"losses"`
}

// Config is the configuration in force.
type Config struct {
	File     string    `json:"file"` // empty: the built-in one
	Loaded   time.Time `json:"loaded"`
	Refused  string    `json:"refused,omitempty"` // why the last reload was refused; empty: it was not
	Rejected time.Time `json:"refused_at,omitzero"`
}

// Limits are the limited users and addresses.
type Limits struct {
	Limited []Limited `json:"limited"`
	Watched int       `json:"watched"`          // with refusals, but without a pause
	Failed  string    `json:"failed,omitempty"` // why it is not known
}

// Kinds of what is limited.
const (
	User    = "user"
	Address = "address"
)

// Limited is an account or a client address that is limited.
type Limited struct {
	Kind     string    `json:"kind"` // User or Address
	Name     string    `json:"name"`
	Backend  string    `json:"backend,omitempty"` // of a user
	Refusals int       `json:"refusals"`          // within the window
	Until    time.Time `json:"until,omitzero"`
}

// Finding is one of doctor's.
type Finding struct {
	Hop    string `json:"hop"`
	Check  string `json:"check"`
	Status string `json:"status"` // ok, warning, failure or skipped
	Text   string `json:"text"`
	Cure   string `json:"cure,omitempty"`
}

// Source is the daemon, as the page asks it. Its methods are called by several goroutines.
type Source interface {
	// State describes the daemon. It waits for no backend, and not longer than ctx.
	State(ctx context.Context) State
	// Forget has passwords asked about again for what is limited. by is the account that wants it, and from the
	// address of its browser.
	Forget(ctx context.Context, l Limited, by, from string) error
	// CanExamine reports whether Examine may be called.
	CanExamine() bool
	// Examine looks at every step between a login and its answer. It takes a while, and asks the backends.
	Examine(ctx context.Context) []Finding
}

// Duration is written as seconds in JSON.
type Duration time.Duration

// MarshalJSON implements json.Marshaler.
func (d Duration) MarshalJSON() ([]byte, error) {
	return appendSeconds(nil, time.Duration(d)), nil
}

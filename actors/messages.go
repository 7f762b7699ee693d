package actors

import (
	"sync/atomic"
	"time"

	"postern/internal/auth"
	"postern/internal/backend"
	"postern/internal/cache"
)

// The stages of a call on its way through token, cache and router.
const (
	stageToken  uint8 = iota // it may be a token
	stageHot                 // not a token: ask the hot tier
	stageMissed              // not in the hot tier: join others with the same question
	stageSlow                // the first of its kind: hash, ask, remember
)

// attempts is how often a continuation is taken up again after a panic.
const attempts = 3

// task is what a call beyond the hot tier becomes: its way through hashes, backends and
// the bookkeeping that follows the answer. It outlives restarts of the shard that owns it.
type task struct {
	call  *Call
	flow  *cache.Login // auth only
	chain backend.Chain
	hop   int  // index into params.hops of the backend being asked
	known bool // the backend has accepted this secret before
	short bool // a backend was not asked, for want of a budget
	shard *shardRef
	epoch uint64 // of the shard, when the first backend was asked
	tries int

	params *params     // those with which it began, held
	holds  atomic.Bool // of params and of the shard's domain
	away   bool        // its work is somewhere else, and comes back as finished
}

// end lets go of what the task holds. What it learned has been remembered by then.
func (t *task) end() {
	if t.holds.CompareAndSwap(true, false) {
		t.params.release()
		t.shard.release()
	}
}

// finished brings the result of a task's work back to its shard.
type finished struct {
	*task
	do     cache.Do
	match  string   // Compare
	hashes []string // Compare: what was compared
	ran    bool     // Compare: the comparison was made
	hash   string   // Hash
	result backend.Result
	source auth.Source // Ask: the source of an unavailable verdict
	busy   bool        // Ask: no slot
}

var _ continuation = (*finished)(nil)

func (*finished) continues() {}

// Fail implements request: after a panic the work's result is brought again, since a refusal
// that nobody remembers would break the cache's promise.
func (f *finished) Fail(why auth.Source) {
	if why == auth.SourcePanic && f.tries < attempts {
		f.tries++
		f.shard.send(f)
		return
	}
	f.call.Fail(why)
	f.end()
}

// ask puts a task's question to a backend's slots.
type ask struct {
	*task
	query    backend.Query
	deadline time.Time // what is left for the backend: the call's own less time for grace
	known    bool      // the backend has accepted this secret before
	counted  bool      // by the backend's budget, as under way

	// quiet, if set, takes the answer to a question that no login waits for. Such a
	// question yields to those of logins, and tells neither breaker nor log.
	quiet func(backend.Result)
}

var _ request = (*ask)(nil)

// Fail implements request: a backend that cannot take the question is an outage to the
// cache, which may still serve.
func (a *ask) Fail(why auth.Source) {
	a.finish(backend.Result{Class: backend.Outage}, why, true)
}

func (a *ask) finish(r backend.Result, source auth.Source, busy bool) {
	if a.quiet != nil {
		a.quiet(r)
		return
	}
	a.shard.send(&finished{task: a.task, do: cache.Ask, result: r, source: source, busy: busy})
}

// slotDone tells a backend's actor that a slot is free again.
type slotDone struct {
	class        backend.Class
	attempts     int  // see backend.Result
	login        bool // a password was asked about
	counted      bool // see ask
	user, secret uint64
}

// landed tells the router that a call has its answer, and whether a backend has refused its
// secret.
type landed struct {
	key     cache.Key
	call    *Call
	refused bool
}

// changed tells the router that a user was changed, or perhaps was.
type changed struct {
	user uint64
	done bool // for certain
}

// tick is the time for periodic work.
type tick struct{}

// wake tells a connection that an answer may be ready.
type wake struct{}

var (
	tickMessage = &tick{}
	wakeMessage = &wake{}
)

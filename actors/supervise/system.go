package supervise

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/asynkron/protoactor-go/actor"
)

// Options are what a System is made of.
type Options struct {
	// Log takes the panics and restarts of actors. It is required.
	Log *slog.Logger
	// FirstPause is the wait before an actor's second restart within 10 s; the next ones double
	// it up to MaxPause. Zero means 10 ms and 5 s.
	FirstPause, MaxPause time.Duration
	// Inject is for tests: it is called before an actor handles a message, and may panic.
	Inject func(actor string, message any)
}

// System is an actor system with the kernel's mailbox, dispatcher and supervision for every
// actor. Its methods are safe for concurrent use.
type System struct {
	lib      *actor.ActorSystem
	log      *slog.Logger
	pool     dispatcher
	strategy *strategy
	inject   func(string, any)
	closed   sync.Once

	mu       sync.Mutex
	listed   map[string]*Ref // actors that have not ended, but for those that are Unlisted
	reserved map[string]bool // names of actors that are about to be started

	restarts atomic.Int64
}

// NewSystem returns a system without actors.
func NewSystem(o Options) *System {
	quiet := slog.New(libraryHandler{o.Log.Handler()})
	s := &System{
		lib: actor.NewActorSystem(
			actor.WithLoggerFactory(func(*actor.ActorSystem) *slog.Logger { return quiet }),
			actor.WithDeadLetterRequestLogging(false),
		),
		log:      o.Log,
		pool:     newDispatcher(),
		strategy: newStrategy(o),
		inject:   o.Inject,
		listed:   make(map[string]*Ref),
		reserved: make(map[string]bool),
	}
	s.lib.EventStream.Subscribe(func(event any) {
		// A request to a PID without an actor is answered, too.
		if dead, ok := event.(*actor.DeadLetterEvent); ok {
			if r, ok := dead.Message.(Request); ok {
				r.Fail(Stopped)
			}
		}
	})
	return s
}

// Close releases the goroutines of a system after its actors have stopped.
func (s *System) Close() {
	s.closed.Do(func() {
		s.lib.Shutdown() // panics if called twice
		s.pool.Close()
	})
}

// ErrNameTaken is wrapped by Spawn's error when an actor of that name has not ended.
var ErrNameTaken = errors.New("an actor of this name is running or stopping")

// SpawnOption changes how an actor is started.
type SpawnOption func(*Ref)

// Unlisted keeps an actor out of Tree and of Alive.
func Unlisted() SpawnOption { return func(r *Ref) { r.unlisted = true } }

// Spawn starts an actor. produce makes it, and makes it anew for every restart; the first call
// is made before Spawn returns, but Started is handled some time later. limit bounds the queue:
// what is sent to a full one is failed as Overloaded. The error wraps ErrNameTaken.
func (s *System) Spawn(name string, limit int, produce func(self *Ref) actor.Actor, opts ...SpawnOption) (*Ref, error) {
	r := &Ref{name: name, system: s, stopped: make(chan struct{})}
	r.box.init(r, limit)
	for _, opt := range opts {
		opt(r)
	}
	if !s.list(r) {
		return nil, fmt.Errorf("start actor %s: %w", name, ErrNameTaken)
	}
	props := actor.PropsFromProducer(
		func() actor.Actor { return &safe{Actor: produce(r), ref: r} },
		actor.WithMailbox(func() actor.Mailbox { return &r.box }),
		actor.WithGuardian(s.strategy),
	)
	if _, err := s.lib.Root.SpawnNamed(props, name); err != nil {
		s.unlist(r)
		if errors.Is(err, actor.ErrNameExists) {
			err = ErrNameTaken
		}
		return nil, fmt.Errorf("start actor %s: %w", name, err)
	}
	return r, nil
}

// list adds an actor to the list, unless its name is on it.
func (s *System) list(r *Ref) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.reserved, r.name)
	if s.listed[r.name] != nil {
		return false
	}
	if !r.unlisted {
		s.listed[r.name] = r
	}
	return true
}

func (s *System) unlist(r *Ref) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.listed[r.name] == r {
		delete(s.listed, r.name)
	}
}

// Refs are the listed actors.
func (s *System) Refs() []*Ref {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Values(s.listed))
}

// ReserveName returns name, or name#2 and so on if an actor of that name is listed still. It is kept
// for the next Spawn of that name, so that two callers never get the same one.
func (s *System) ReserveName(name string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	free := name
	for n := 2; s.listed[free] != nil || s.reserved[free]; n++ {
		free = fmt.Sprintf("%s#%d", name, n)
	}
	s.reserved[free] = true
	return free
}

// Go runs fn on a goroutine of the pool on which the actors run. fn may block. A panic of fn is
// logged, and ends fn only.
func (s *System) Go(fn func()) {
	s.pool.schedule(func(*Runner) {
		defer func() {
			if reason := recover(); reason != nil {
				s.log.Error("a goroutine panicked", "panic", PanicText(reason), "stack", string(debug.Stack()))
			}
		}()
		fn()
	})
}

// Restarts is how often actors were restarted, listed or not.
func (s *System) Restarts() int64 { return s.restarts.Load() }

// Tree describes every listed actor in a line of its own, sorted by name: the length of its
// queue and its restarts. A slash in a name indents the line.
func (s *System) Tree() []string {
	refs := s.Refs()
	slices.SortFunc(refs, func(a, b *Ref) int { return strings.Compare(a.name, b.name) })
	lines := make([]string, 0, len(refs))
	for _, r := range refs {
		state := ""
		if r.box.isSuspended() {
			state = " restarting"
		}
		lines = append(lines, fmt.Sprintf("%s%s%s queued=%d restarts=%d",
			strings.Repeat("  ", strings.Count(r.name, "/")), r.name, state, r.Queued(), r.Restarts()))
	}
	return lines
}

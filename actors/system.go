package actors

import (
	"fmt"
	"log/slog"
	"sort"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/asynkron/protoactor-go/actor"

	"postern/internal/auth"
)

// system is the actor system with the project's dispatcher, guard mailboxes and
// supervision on every actor.
type system struct {
	*actor.ActorSystem
	log      *slog.Logger
	pool     dispatcher
	strategy *strategy

	mu    sync.Mutex
	stats map[string]*actorStats // by name, for Tree; connections are counted, not listed

	restarts atomic.Int64 // of all actors, listed or not

	// inject, set by tests only, panics or not before a message is handled.
	inject func(name string, message any)
}

func newSystem(log *slog.Logger) *system {
	quiet := slog.New(libraryHandler{log.Handler()})
	s := &system{
		ActorSystem: actor.NewActorSystem(
			actor.WithLoggerFactory(func(*actor.ActorSystem) *slog.Logger { return quiet }),
			actor.WithDeadLetterRequestLogging(false),
		),
		log:      log,
		pool:     newDispatcher(),
		strategy: newStrategy(log),
		stats:    make(map[string]*actorStats),
	}
	s.EventStream.Subscribe(func(event any) {
		// Whatever is sent to an actor that is gone still gets its answer.
		if dead, ok := event.(*actor.DeadLetterEvent); ok {
			if r, ok := dead.Message.(request); ok {
				r.Fail(auth.SourceStopping)
			}
		}
	})
	return s
}

// close releases what the system holds once its actors have stopped.
func (s *system) close() {
	s.Shutdown()
	s.pool.close()
}

// props describes an actor made by produce whose queue holds limit messages.
func (s *system) props(name string, limit int, listed bool, produce func() actor.Actor, more ...actor.PropsOption) *actor.Props {
	stats := &actorStats{name: name, log: s.log, all: &s.restarts}
	if listed {
		s.mu.Lock()
		s.stats[name] = stats
		s.mu.Unlock()
	}
	producer := func() actor.Actor {
		a := produce()
		if s.inject != nil {
			a = &faulty{Actor: a, name: name, inject: s.inject}
		}
		return &safe{Actor: a, stats: stats}
	}
	return actor.PropsFromProducer(producer, append([]actor.PropsOption{
		actor.WithMailbox(guarded(limit, stats)),
		actor.WithDispatcher(s.pool),
		actor.WithSupervisor(s.strategy),
	}, more...)...)
}

// spawnRoot starts an actor that has no parent.
func (s *system) spawnRoot(name string, limit int, listed bool, produce func() actor.Actor) (*actor.PID, error) {
	pid, err := s.Root.SpawnNamed(s.props(name, limit, listed, produce, actor.WithGuardian(s.strategy)), name)
	if err != nil {
		s.forget(name) // else it would be waited for as one that is alive
		return nil, fmt.Errorf("start actor %s: %w", name, err)
	}
	return pid, nil
}

// boxes are the queues of the listed actors, by name.
func (s *system) boxes() map[string]*mailbox {
	s.mu.Lock()
	defer s.mu.Unlock()
	boxes := make(map[string]*mailbox, len(s.stats))
	for name, st := range s.stats {
		if box := st.box.Load(); box != nil {
			boxes[name] = box
		}
	}
	return boxes
}

// unused returns name, or name with a number if an actor of that name is listed: one that is
// on its way out.
func (s *system) unused(name string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	free := name
	for n := 2; s.stats[free] != nil; n++ {
		free = fmt.Sprintf("%s#%d", name, n)
	}
	return free
}

// forget takes actors that have stopped off the list.
func (s *system) forget(names ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, name := range names {
		delete(s.stats, name)
	}
}

// Tree describes every listed actor, sorted by name: queue length and restarts.
func (s *system) Tree() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	lines := make([]string, 0, len(s.stats))
	for name, st := range s.stats {
		queued := int32(0)
		if box := st.box.Load(); box != nil {
			queued = max(box.queued.Load(), 0)
		}
		lines = append(lines, fmt.Sprintf("%s%s queued=%d restarts=%d",
			strings.Repeat("  ", strings.Count(name, "/")), name, queued, st.restarts.Load()))
	}
	sort.Slice(lines, func(i, j int) bool { return strings.TrimSpace(lines[i]) < strings.TrimSpace(lines[j]) })
	return lines
}

// faulty runs a test's fault injection before its actor.
type faulty struct {
	actor.Actor
	name   string
	inject func(string, any)
}

// Receive implements actor.Actor.
func (f *faulty) Receive(ctx actor.Context) {
	f.inject(f.name, ctx.Message())
	f.Actor.Receive(ctx)
}

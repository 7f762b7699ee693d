package actors

import (
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"postern/internal/auth"
	"postern/internal/auth/passhash"
	"postern/internal/backend"
	"postern/internal/cache"
	"postern/internal/unixtime"
)

// flushEvery is how long a "last used" may be missing on disk.
const flushEvery = 15 * time.Second

// shardRef is a part of a domain's cache as the rest of the broker sees it. It outlives
// restarts of its actor.
type shardRef struct {
	*domain
	pid  *actor.PID
	left map[string]*shardRef // names whose users live elsewhere by now; for the shard's goroutine only

	// epoch counts what befell accounts of the shard other than by their logins, for its goroutine
	// only: what a backend was asked before is no news after. It is no time, since one millisecond
	// holds both a change and a login, and clocks are set back; and it is not the user's, who may
	// have been forgotten meanwhile.
	epoch uint64
}

func (s *shardRef) send(message any) { s.broker.sys.Root.Send(s.pid, message) }

// shard is the actor that owns the memory of its users: all decisions about one user are
// taken here, one after the other, by internal/cache. Hashing and asking are done
// elsewhere and their results come back as messages.
type shard struct {
	*shardRef
	users *users
	timer *time.Timer
	count ShardStats
}

func newShard(ref *shardRef) *shard { return &shard{shardRef: ref} }

// Receive implements actor.Actor.
func (s *shard) Receive(ctx actor.Context) {
	switch m := ctx.Message().(type) {
	case *actor.Started:
		s.users = newUsers(s.domain)
		s.arm()
	case *Call:
		s.onCall(m)
	case *finished:
		s.onFinished(m)
	case *cacheOp:
		m.run(s)
	case *order:
		m.run(s)
	case *tick:
		s.users.flush()
		s.arm()
	case *actor.Restarting, *actor.Stopping:
		if s.users != nil {
			s.users.flush()
		}
		if s.timer != nil {
			s.timer.Stop()
		}
	}
}

func (s *shard) arm() {
	ref := s.shardRef
	s.timer = time.AfterFunc(flushEvery, func() { ref.send(tickMessage) })
}

func (s *shard) onCall(c *Call) {
	if s.reroute(c) || len(s.left) > 0 && s.forward(c) {
		return
	}
	switch c.stage {
	case stageHot:
		s.onHot(c)
	case stageSlow:
		s.begin(c)
	default:
		c.Fail(auth.SourcePanic)
	}
}

// onHot answers from memory, or lets the router see whether somebody is asking the same.
func (s *shard) onHot(c *Call) {
	now := unixtime.At(s.broker.clock())
	rules := &s.params.Load().rules
	switch c.Req.Op {
	case auth.OpAuth:
		user := s.users.get(c.ID)
		if step, ok := user.Hot(c.Key, rules, now); ok {
			s.note(c, step.Answer)
			if step.Touched {
				s.users.touched[c.ID] = struct{}{}
			}
			c.Answer(step.Answer)
			return
		}
	case auth.OpIsUser:
		if a, ok := s.users.get(c.ID).IsUser(rules, now); ok {
			s.note(c, a)
			c.Answer(a)
			return
		}
	}
	s.count.Missed++
	if c.Trace != nil {
		c.Trace.Add("cache", s.users.get(c.ID).MissReason(c.Key))
	}
	if c.Key == (cache.Key{}) {
		c.Key = s.broker.keyer.Key(c.Req.Op, c.ID, auth.Secret{})
	}
	c.stage = stageMissed
	s.broker.sys.Root.Send(s.router, c)
}

// begin starts the task of a call that memory could not answer.
func (s *shard) begin(c *Call) {
	if !s.join() { // c was answered, and it was the last of a domain taken out of use
		c.Fail(auth.SourceStopping)
		return
	}
	t := &task{call: c, chain: backend.NewChain(c.Req.Op), shard: s.shardRef, params: s.acquireParams()}
	t.holds.Store(true)
	defer func() {
		if !t.away {
			t.end()
		}
	}()
	if c.Req.Op != auth.OpAuth {
		s.askFirst(t)
		return
	}
	t.flow = cache.NewLogin(c.Key)
	if c.bar != (bar{}) {
		t.flow.RequireKnown(auth.Answer{Verdict: c.bar.verdict, Source: c.bar.source})
	}
	user := s.users.get(c.ID)
	s.apply(t, user, t.flow.Start(user, &s.params.Load().rules, unixtime.At(s.broker.clock())))
}

// apply carries out what a flow decided.
func (s *shard) apply(t *task, user *cache.User, step cache.Step) {
	c := t.call
	if step.Save {
		s.users.save(c.ID, user)
	}
	if step.Touched {
		s.users.touched[c.ID] = struct{}{}
	}
	s.users.place(c.ID, user)
	if step.Answered {
		s.note(c, step.Answer)
		s.deliver(t, step)
	}
	switch step.Do {
	case cache.Nothing:
		t.end()
	case cache.Ask:
		t.chain, t.hop, t.known, t.short = backend.NewChain(c.Req.Op), 0, step.Known, false
		s.askFirst(t)
	case cache.Compare:
		s.compare(t, step.Hashes, !step.Answered)
	case cache.Hash:
		s.hash(t)
	}
}

// compare looks, on the hashing pool, for the hash that the call's secret has.
func (s *shard) compare(t *task, hashes []string, urgent bool) {
	s.count.Compares++
	t.away = true
	ref := s.shardRef
	begun := time.Now()
	job := hashJob{
		run: func() {
			match := ""
			for _, h := range hashes {
				if passhash.Match(h, t.call.Req.Secret.Reveal()) {
					match = h
					break
				}
			}
			if t.call.Trace != nil {
				t.call.Trace.Add("cache", "compared with stored hashes in "+time.Since(begun).Round(time.Millisecond).String())
			}
			ref.send(&finished{task: t, do: cache.Compare, match: match, hashes: hashes, ran: true})
		},
		failed: func() { ref.send(&finished{task: t, do: cache.Compare, hashes: hashes}) },
	}
	if !s.broker.hashing.submit(job, urgent) {
		job.failed()
	}
}

// hash makes the stored hash of a new secret.
func (s *shard) hash(t *task) {
	s.count.Hashes++
	t.away = true
	ref, cost := s.shardRef, s.params.Load().cost
	job := hashJob{
		run: func() {
			hash, err := passhash.New(t.call.Req.Secret.Reveal(), cost)
			if err != nil {
				ref.log.Error("password could not be hashed", "err", err)
			}
			ref.send(&finished{task: t, do: cache.Hash, hash: hash})
		},
		failed: func() { ref.send(&finished{task: t, do: cache.Hash}) },
	}
	if !s.broker.hashing.submit(job, false) {
		job.failed()
	}
}

// askFirst puts the task's question to the first backend of the domain.
func (s *shard) askFirst(t *task) {
	t.epoch = s.epoch
	s.askNext(t)
}

// askNext puts the task's question to the next backend of the domain.
func (s *shard) askNext(t *task) {
	c := t.call
	h := t.params.hops[t.hop]
	authDomain := h.authDomain
	if authDomain == "" {
		authDomain = c.ID.Domain
	}
	s.count.BackendAsked++
	t.away = true
	h.backend.send(&ask{
		task:     t,
		query:    backend.Query{Op: c.Req.Op, User: c.ID.User, Domain: authDomain, Secret: c.Req.Secret, Logins: t.params.logins},
		deadline: c.Deadline.Add(-graceTime(c.Deadline.Sub(c.Received))),
		known:    t.known,
	})
}

// graceTime is the part of a request's time that is kept from the backend, so that the
// cache can still serve in its place.
func graceTime(patience time.Duration) time.Duration { return min(patience/4, time.Second) }

func (s *shard) onFinished(f *finished) {
	if len(s.left) > 0 && s.forwardResult(f) {
		return
	}
	now := unixtime.At(s.broker.clock())
	rules := &s.params.Load().rules
	user := s.users.get(f.call.ID)
	switch f.do {
	case cache.Compare:
		s.apply(f.task, user, f.flow.Compared(user, f.match, f.hashes, f.ran, rules, now))
	case cache.Hash:
		s.apply(f.task, user, f.flow.Hashed(user, f.hash))
	case cache.Ask:
		s.onAsked(f, user, now)
	}
}

// onAsked takes a backend's answer: the next backend of the chain, or the end of it.
func (s *shard) onAsked(f *finished, user *cache.User, now unixtime.Time) {
	t := f.task
	t.short = t.short || f.source == auth.SourceLimitBudget
	if !t.chain.Add(f.result) && t.hop+1 < len(t.params.hops) {
		t.hop++
		s.askNext(t)
		return
	}
	result := t.chain.Result()
	if result.Class == backend.Refused {
		s.count.Refusals++
	}
	if t.flow != nil {
		s.conclude(f, user, result, now)
		return
	}
	s.finishOther(t, user, result, f.source, now)
	t.end()
}

package actors

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"postern/internal/auth"
	"postern/internal/backend"
	"postern/internal/roster"
)

// outagesInRow ends the questions of a run: the backend is asked again after a pause.
const outagesInRow = 2

// errNoGroups means that no backend of the domain knows groups.
var errNoGroups = errors.New("no backend of the domain has shared rosters of this user")

// rosterTurn is the right to talk to the XMPP server, with the rules in force: whoever has it
// releases it.
type rosterTurn struct {
	*rosterRef
	*rosterRules
	params *params // held
	disk   *disk
}

// take waits for the turn.
func (r *rosterRef) take(ctx context.Context) (*rosterTurn, error) {
	select {
	case r.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, fmt.Errorf("another run for the shared rosters of %s is under way: try again: %w", r.name, ctx.Err())
	}
	t := &rosterTurn{rosterRef: r, disk: r.broker.disk.Load()}
	for t.params = r.domain.params.Load(); !t.params.acquire(); t.params = r.domain.params.Load() {
		if r.retired() {
			<-r.turn
			return nil, fmt.Errorf("%s: %w", r.name, ErrUnknownDomain)
		}
	}
	t.rosterRules = t.params.roster
	switch {
	case t.rosterRules == nil:
		t.release()
		return nil, fmt.Errorf("%s: %w", r.name, ErrNoRoster)
	case t.disk == nil:
		t.release()
		return nil, errNoStore
	}
	return t, nil
}

// errNoStore means that there is nothing to remember shared rosters with.
var errNoStore = errors.New("shared rosters need the store, which could not be opened: see the log")

func (t *rosterTurn) release() {
	t.params.release()
	<-t.turn
}

func (t *rosterTurn) state(domain string) roster.State {
	return roster.State{Store: t.disk, Domain: domain}
}

// close ends what is under way, which ends with the broker's context, and lets no run follow.
func (r *rosterRef) close() {
	select {
	case r.turn <- struct{}{}:
		r.domain.params.Load().roster.close()
	case <-time.After(stopPatience):
		r.log.Error("shared rosters did not end in time", "domain", r.name)
	}
}

// run brings the rosters of users of one domain up to date, on a goroutine of its own.
func (r *rosterRef) run(batch []auth.Identity) {
	done := &rosterDone{batch: batch, asked: len(batch), again: batch, fault: true}
	defer func() { r.send(done) }()
	t, err := r.take(r.broker.ctx)
	if err != nil {
		if held, ok := r.storage.due(time.Now()); ok && errors.Is(err, errNoStore) {
			r.log.Error("shared rosters are off", "domain", r.name, "err", err, "alike", held)
		}
		return
	}
	defer t.release()
	defer func() {
		if reason := recover(); reason != nil {
			r.log.Error("a run for shared rosters panicked", "domain", r.name, "panic", panicText(reason))
		}
	}()
	if r.broker.ctx.Err() != nil {
		return
	}
	begun := time.Now()
	state := t.state(batch[0].Domain)
	wanted, failed, asked, err := t.gather(r.broker.ctx, state, batch, false)
	fault, steps := len(failed) == asked, 0
	if err == nil && !wanted.Empty() {
		var plan *roster.Plan
		if plan, err = roster.NewPlan(wanted); err == nil {
			steps, err = t.server.Apply(r.broker.ctx, plan)
		}
		if err != nil {
			failed = batch[:asked]
			fault = fault || !errors.Is(err, roster.ErrRefused) // which is one by a server in order
		}
	}
	done.asked, done.again, done.fault = asked, failed, fault
	r.report(state.Domain, wanted, len(batch), steps, time.Since(begun), err)
}

// report says what a run did, and complains seldom.
func (r *rosterRef) report(domain string, w *roster.Desired, users, steps int, took time.Duration, err error) {
	if err != nil && r.broker.ctx.Err() == nil {
		if held, ok := r.failures.due(time.Now()); ok {
			r.log.Warn("shared rosters could not be brought to the XMPP server; they are tried again", "domain", domain, "steps", steps, "err", err, "alike", held)
		}
	}
	if w != nil && len(w.Oversize) > 0 {
		if held, ok := r.odd.due(time.Now()); ok {
			r.log.Warn("shared rosters: groups of more than max_members were ignored", "domain", domain, "groups", len(w.Oversize), "first", w.Oversize[0], "alike", held)
		}
	}
	level := slog.LevelDebug
	if steps > 0 {
		level = slog.LevelInfo
	}
	r.log.LogAttrs(r.broker.ctx, level, "shared rosters", slog.String("domain", domain),
		slog.Int("users", users), slog.Int("steps", steps), slog.Duration("took", took))
}

// gather asks about each user and folds the answers that are new; with all, the others too. It
// stops when the backends are out of order. It returns of whom they could not tell, and how many
// of the users, the first, they were asked about.
func (r *rosterTurn) gather(ctx context.Context, state roster.State, batch []auth.Identity, all bool) (w *roster.Desired, failed []auth.Identity, asked int, err error) {
	w = roster.NewDesired(state, &r.filter)
	outages, last := 0, roster.Answer{}
	for i, id := range batch {
		if outages >= outagesInRow || ctx.Err() != nil {
			return w, failed, i, nil
		}
		document, aliases, err := r.question(ctx, id)
		if err != nil {
			r.log.Debug("shared roster not told", "domain", id.Domain, "user", id.User, "err", err)
		}
		switch {
		case errors.Is(err, errNoGroups):
			outages = 0
			continue
		case err != nil:
			outages++
			failed = append(failed, id)
			continue
		}
		outages = 0
		known, err := state.User(id)
		if err != nil {
			return w, batch, len(batch), err
		}
		hash := roster.HashOf(document, &r.filter)
		if known.Hash == hash && !all {
			continue
		}
		if hash == last.Hash { // members of the same groups are told the same
			w.Add(id, last)
			continue
		}
		answer, err := roster.Parse(document, id.Domain, aliases...)
		if err != nil {
			if held, ok := r.odd.due(time.Now()); ok {
				r.log.Warn("shared roster of the backend makes no sense", "domain", id.Domain, "user", id.User, "err", err, "alike", held)
			}
			continue
		}
		answer.Hash = hash
		w.Add(id, answer)
		last = answer
	}
	return w, failed, len(batch), nil
}

// question asks the domain's backends in turn for a user's roster, and returns the document
// and the domain's names at the backend that gave it. One that cannot answer ends it: it may be
// the user's, and the groups that a later one gives would take the place of those that it gave.
func (r *rosterTurn) question(ctx context.Context, id auth.Identity) (document []byte, aliases []string, err error) {
	chain := backend.NewChain(auth.OpRoster)
	for _, h := range r.params.hops {
		q := backend.Query{Op: auth.OpRoster, User: id.User, Domain: h.authDomain}
		aliases = nil
		if q.Domain == "" {
			q.Domain = id.Domain
		} else {
			aliases = []string{q.Domain}
		}
		result := r.askPatiently(ctx, h.backend, q)
		switch result.Class {
		case backend.Outage, backend.Throttled, backend.Misconfigured:
			return nil, nil, result.Err
		}
		if chain.Add(result) {
			break
		}
	}
	switch result := chain.Result(); {
	case result.Class == backend.Accepted:
		return result.Body, aliases, nil
	case result.Err != nil:
		return nil, nil, fmt.Errorf("%w: %w", errNoGroups, result.Err)
	}
	return nil, nil, errNoGroups
}

// A backend that is busy with logins is asked again after a moment, and after a minute of
// that counts as one that cannot answer.
const (
	busyPause = 50 * time.Millisecond
	busyTries = int(time.Minute / busyPause)
)

// errBusyBackend means that logins needed the backend for themselves.
var errBusyBackend = errors.New("the backend is busy with logins")

// askPatiently puts a question when the backend has room for it.
func (r *rosterRef) askPatiently(ctx context.Context, b *backendRef, q backend.Query) (result backend.Result) {
	for range busyTries {
		result = r.askHop(ctx, b, q)
		if result.Class != backend.Outage || result.Err != nil {
			return result
		}
		result.Err = errBusyBackend
		select {
		case <-time.After(busyPause):
		case <-ctx.Done():
			return result
		}
	}
	return result
}

// askHop puts a question to a backend's slots and waits for the answer.
func (r *rosterRef) askHop(ctx context.Context, b *backendRef, q backend.Query) backend.Result {
	answer := make(chan backend.Result, 1)
	b.send(&ask{
		task: &task{call: new(Call)}, query: q, deadline: time.Now().Add(r.patience),
		quiet: func(result backend.Result) {
			select {
			case answer <- result:
			default:
			}
		},
	})
	select {
	case result := <-answer:
		return result
	case <-ctx.Done():
		return backend.Result{Class: backend.Outage, Err: ctx.Err()}
	}
}

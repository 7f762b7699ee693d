package rosters

import (
	"errors"
	"log/slog"
	"time"

	"postern/actors/supervise"
	"postern/internal/auth"
	"postern/internal/roster"
)

// runResult is what came of a run.
type runResult struct {
	asked  int             // the first asked users of the batch were asked about
	failed []auth.Identity // those of them that were not brought up to date
	// fault: no user of the batch had an answer, or the XMPP server could not do anything. The next
	// run is made after a pause.
	fault bool
}

// run brings the rosters of users of one domain up to date. It blocks, for as long as that takes.
func (r *Roster) run(batch []auth.Identity) (result runResult) {
	result = runResult{asked: len(batch), failed: batch, fault: true}
	s, err := r.newSession(r.env.Context)
	if err != nil {
		if errors.Is(err, errNoStore) {
			if suppressed, ok := r.storeLog.Due(time.Now()); ok {
				r.env.Log.Error("shared rosters are off", "domain", r.Name, "err", err, "alike", suppressed)
			}
		}
		return result
	}
	defer s.release()
	defer func() {
		if reason := recover(); reason != nil {
			r.env.Log.Error("a run for shared rosters panicked", "domain", r.Name, "panic", supervise.PanicText(reason))
		}
	}()
	if r.env.Context.Err() != nil {
		return result
	}
	begun := time.Now()
	state := s.state(batch[0].Domain)
	f, err := s.fetch(r.env.Context, state, batch, false)
	failed, fault, steps := f.failed, len(f.failed) == f.asked, 0
	if err == nil && !f.desired.Empty() {
		var plan *roster.Plan
		if plan, err = roster.NewPlan(f.desired); err == nil {
			steps, err = s.config.Server.Apply(r.env.Context, plan)
		}
		if err != nil {
			failed = batch[:f.asked]
			fault = fault || !errors.Is(err, roster.ErrRefused) // a server that refuses a step works
		}
	}
	r.logRun(state.Domain, f.desired, len(batch), steps, time.Since(begun), err)
	return runResult{asked: f.asked, failed: failed, fault: fault}
}

// logRun logs what a run did. Warnings are throttled.
func (r *Roster) logRun(domain string, desired *roster.Desired, users, steps int, took time.Duration, err error) {
	if err != nil && r.env.Context.Err() == nil {
		if suppressed, ok := r.failureLog.Due(time.Now()); ok {
			r.env.Log.Warn("shared rosters could not be brought to the XMPP server; they are tried again", "domain", domain, "steps", steps, "err", err, "alike", suppressed)
		}
	}
	if large := desired.Oversize; len(large) > 0 {
		if suppressed, ok := r.answerLog.Due(time.Now()); ok {
			r.env.Log.Warn("shared rosters: groups of more than max_members were ignored", "domain", domain, "groups", len(large), "first", large[0], "alike", suppressed)
		}
	}
	if foreign := desired.Foreign; len(foreign) > 0 {
		if suppressed, ok := r.foreignLog.Due(time.Now()); ok {
			r.env.Log.Warn("shared rosters: accounts of other domains were left as they are; if this backend may change them, name their domains in foreign",
				"domain", domain, "domains", len(foreign), "first", foreign[0], "alike", suppressed)
		}
	}
	level := slog.LevelDebug
	if steps > 0 {
		level = slog.LevelInfo
	}
	r.env.Log.LogAttrs(r.env.Context, level, "shared rosters", slog.String("domain", domain),
		slog.Int("users", users), slog.Int("steps", steps), slog.Duration("took", took))
}

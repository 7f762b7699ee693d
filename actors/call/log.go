package call

import (
	"context"
	"log/slog"
	"sync/atomic"

	"postern/actors/metrics"
	"postern/internal/auth"
)

// Ledger counts and logs the decisions of one listener. It is safe for concurrent use.
type Ledger struct {
	front *metrics.Front
	log   *slog.Logger
	name  string
	// Handlers with the attributes that lines of equal operation, verdict and source share.
	lines [auth.Operations][auth.Verdicts][auth.Sources]atomic.Pointer[slog.Handler]
}

// NewLedger returns the ledger of a listener.
func NewLedger(name string, front *metrics.Front, log *slog.Logger) *Ledger {
	return &Ledger{front: front, log: log, name: name}
}

// Note counts an answered call and writes its line, the one line of the decision.
func (l *Ledger) Note(c *Call) {
	l.front.Note(c.Req.Op, c.answer.Verdict, c.answer.Source, c.took)
	at := &l.lines[c.Req.Op][c.answer.Verdict][c.answer.Source]
	to := at.Load()
	if to == nil {
		made := decisions(l.log, l.name, c)
		to = &made
		at.Store(to)
	}
	c.write(*to)
}

// Log writes the line of a call that no listener counts.
func (c *Call) Log(log *slog.Logger) { c.write(decisions(log, c.Front, c)) }

// decisions returns a handler for decisions that differ in their account only.
func decisions(l *slog.Logger, front string, c *Call) slog.Handler {
	return l.Handler().WithAttrs([]slog.Attr{
		slog.String("front", front),
		slog.String("op", c.Req.Op.String()),
		slog.String("verdict", c.answer.Verdict.String()),
		slog.String("source", c.answer.Source.String()),
	})
}

// write writes the line of a decision.
func (c *Call) write(to slog.Handler) {
	level := slog.LevelInfo
	switch c.answer.Source {
	case auth.SourceOverload, auth.SourceDeadline, auth.SourcePanic:
		level = slog.LevelWarn
	}
	ctx := context.Background()
	if !to.Enabled(ctx, level) {
		return
	}
	// Not by a Logger, which looks up the caller's place in the source for every line.
	line := slog.NewRecord(c.Received.Add(c.took), level, "decision", 0)
	line.AddAttrs(slog.String("domain", c.ID.Domain), slog.String("user", c.ID.User), slog.Duration("took", c.took))
	if c.Req.Client != "" {
		line.AddAttrs(slog.String("client", c.Req.Client))
	}
	_ = to.Handle(ctx, line)
}

package call

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"unicode"
	"unicode/utf8"

	"postern/actors/metrics"
	"postern/internal/audit"
	"postern/internal/auth"
	"postern/internal/recent"
)

// Ledger counts and logs the decisions of one listener. It is safe for concurrent use.
type Ledger struct {
	front *metrics.Front
	log   *slog.Logger
	audit *audit.Log
	last  *recent.Log
	name  string
	// Handlers with the attributes that lines of equal operation, verdict and source share.
	lines [auth.Operations][auth.Verdicts][auth.Sources]atomic.Pointer[slog.Handler]
}

// NewLedger returns the ledger of a listener. audit and last may be nil.
func NewLedger(name string, front *metrics.Front, log *slog.Logger, audit *audit.Log, last *recent.Log) *Ledger {
	return &Ledger{front: front, log: log, audit: audit, last: last, name: name}
}

// Peer describes the other end of the connection that a call came by.
type Peer interface {
	// Peer returns an address, or the process and its user.
	Peer() string
}

// Note counts an answered call and writes its line, the one line of the decision. from may be nil.
func (l *Ledger) Note(c *Call, from Peer) {
	l.front.Note(c.Req.Op, c.answer.Verdict, c.answer.Source, c.took)
	at := &l.lines[c.Req.Op][c.answer.Verdict][c.answer.Source]
	to := at.Load()
	if to == nil {
		made := decisions(l.log, l.name, c)
		to = &made
		at.Store(to)
	}
	c.write(*to, from)
	if l.last.On() {
		l.last.Note(c.decision(l.name))
	}
	if c.Req.Op.Changes() && l.audit.On() {
		c.noteChange(l.audit, from)
	}
}

// decision is an answered call as the status page shows it.
func (c *Call) decision(front string) recent.Decision {
	d := recent.Decision{
		At: c.Received.Add(c.took), Took: c.took, Front: front, Op: c.Req.Op, Verdict: c.answer.Verdict, Source: c.answer.Source,
		User: c.Name, Domain: c.ID.Domain, Client: c.Req.Client, Reason: c.Why(),
	}
	if c.Req.Service != c.Req.Secret.Reveal() { // a client may have mixed up the fields
		d.Service = c.Service
	}
	if d.Domain == "" { // there is no account of that name
		d.User, d.Domain = shown(c.Req.User), shown(c.Req.Domain)
	}
	return d
}

// noteChange writes to the audit log that a server has asked for a change, and what came of it.
func (c *Call) noteChange(to *audit.Log, from Peer) {
	e := audit.Event{
		Kind: audit.Change, Action: c.Req.Op.String(), Outcome: audit.Failed, Client: c.Req.Client,
		Domain: c.ID.Domain, User: c.ID.User, Front: c.Front, Reason: c.Why(),
	}
	if c.answer.Verdict == auth.Allow {
		e.Outcome = audit.Done
	}
	if from != nil {
		e.Peer = from.Peer()
	}
	to.Note(e)
}

// Log writes the line of a call that no listener counts.
func (c *Call) Log(log *slog.Logger) { c.write(decisions(log, c.Front, c), nil) }

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
func (c *Call) write(to slog.Handler, from Peer) {
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
	line.AddAttrs(slog.String("domain", c.ID.Domain), slog.String("user", c.Name), slog.Duration("took", c.took))
	if c.Req.Client != "" {
		line.AddAttrs(slog.String("client", c.Req.Client))
	}
	if c.Req.SASL != nil {
		line.AddAttrs(slog.String("mechanism", shown(c.Req.SASL.Mechanism)))
	}
	if c.answer.Verdict != auth.Allow {
		c.explain(&line, from)
	}
	_ = to.Handle(ctx, line)
}

// explain adds what an administrator needs to find out why a peer did not get a yes.
func (c *Call) explain(line *slog.Record, from Peer) {
	if from != nil {
		line.AddAttrs(slog.String("peer", from.Peer()))
	}
	if c.Req.Service != "" && c.Req.Service != c.Req.Secret.Reveal() { // a client may have mixed up the fields
		line.AddAttrs(slog.String("service", c.Req.Service))
	}
	given := shown(c.Req.User)
	if c.Req.Domain != "" {
		given += "@" + shown(c.Req.Domain)
	}
	line.AddAttrs(slog.String("given", given), slog.String("reason", c.Why()))
}

// shown is a name as it is logged. What holds control characters is no name: a peer of another
// protocol may have sent a password in its place.
func shown(name string) string {
	if !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl) {
		return fmt.Sprintf("(%d bytes that are no name)", len(name))
	}
	return name
}

// Why returns why an answered call is no yes.
func (c *Call) Why() string {
	switch a := c.answer; {
	case a.Verdict == auth.Allow:
		return ""
	case a.Reason != "":
		return a.Reason
	case a.Source == auth.SourceUnknownDomain && c.ID.Domain != "":
		return "unknown domain " + c.ID.Domain
	case a.Source == auth.SourceUnknownDomain:
		return "unknown domain " + c.Req.Domain
	case a.Source == auth.SourceBackend && a.Verdict == auth.Deny && c.Req.Op == auth.OpIsUser:
		return "no such user"
	case a.Source == auth.SourceBackend && a.Verdict == auth.Deny && c.Req.Op.NeedsSecret():
		return "the backend refuses the password, or does not know the user"
	default:
		return reasons[a.Source]
	}
}

// reasons are those of answers that do not have their own, by their source.
var reasons = [auth.Sources]string{
	auth.SourceNone:          "not known",
	auth.SourceToken:         "the token is not valid",
	auth.SourceHot:           "no such user",
	auth.SourceCache:         "no such user, as the backend said a moment ago",
	auth.SourceCoalesced:     "an identical request got this answer",
	auth.SourceBackend:       "the backend gives no answer",
	auth.SourceGrace:         "the backend gives no answer, and neither does the cache",
	auth.SourceRefusedBefore: "the backend has refused this password a moment ago",
	auth.SourceMalformed:     "not a request of this protocol",
	auth.SourceOverload:      "too many requests wait",
	auth.SourceDeadline:      "the time for an answer was over",
	auth.SourcePanic:         "a fault in postern; the log has more",
	auth.SourceStopping:      "postern is stopping",
	auth.SourceConfig:        "the configuration, or a registered domain, cannot be used; the log has more",
	auth.SourceUnsupported:   "no backend of the domain has this operation",
	auth.SourceDraining:      "postern is stopping",
	auth.SourceLimitUser:     "too many wrong passwords for this user",
	auth.SourceLimitAddress:  "too many wrong passwords from this address",
	auth.SourceLimitBudget:   "the backend has refused as many passwords as it bears",
	auth.SourceForbidden:     "changes are not allowed here",
	auth.SourceAppPassword:   "the app password is not valid",
	auth.SourceScram:         "the SCRAM exchange cannot be finished",
	auth.SourceStore:         "the shared store cannot say what must be known",
}

package roster

import (
	"context"
	"errors"
	"fmt"

	"postern/internal/store"
)

// ErrRefused is wrapped by the error of a step that the server understood and refused.
// Any other error of an executor means that no step can be carried out now.
var ErrRefused = errors.New("the XMPP server refused")

// Executor carries out single steps. It need not be safe for concurrent use.
type Executor interface {
	// Do carries out a step, possibly for the second time. For GetMembers it returns the
	// members.
	Do(ctx context.Context, s Step) (members []string, err error)
	// Close releases what the executor holds.
	Close()
}

// Server is an XMPP server with its rosters. It need not be safe for concurrent use.
type Server interface {
	// Prepare creates what the server needs before the first login.
	Prepare(s State) error
	// Apply carries out a plan and writes the resulting state. It returns the number of steps
	// carried out. If the error wraps ErrRefused, all other steps were carried out; after any
	// other error a new plan must be made.
	Apply(ctx context.Context, p *Plan) (steps int, err error)
	// Preview lists what Apply would change, in the words of the server, and changes nothing.
	Preview(ctx context.Context, p *Plan) (Preview, error)
	Close()
}

// Preview is what a plan would change.
type Preview struct {
	Lines []string // commands, or the lines of a file that change
	File  string   // that would be written; empty: the lines are commands
}

// commanded is a server that takes each step as a command.
type commanded struct{ Executor }

// NewServer returns the server behind an executor.
func NewServer(x Executor) Server { return commanded{x} }

// Prepare implements Server.
func (commanded) Prepare(State) error { return nil }

// Preview implements Server. Only the members of unknown groups are asked for, and taken to be none where
// the server does not answer.
func (c commanded) Preview(ctx context.Context, p *Plan) (v Preview, err error) {
	for {
		step, _, ok := p.Next()
		if !ok {
			return v, nil
		}
		v.Lines = append(v.Lines, step.String())
		var members []string
		if step.Command == GetMembers {
			members, _ = c.Do(ctx, step)
		}
		p.Done(members)
	}
}

// Apply implements Server.
func (c commanded) Apply(ctx context.Context, p *Plan) (steps int, err error) {
	var refused error
	for {
		step, before, ok := p.Next()
		if !ok {
			break
		}
		if err := write(p.state.Store, before, true); err != nil {
			return steps, err
		}
		members, err := c.Do(ctx, step)
		switch {
		case err == nil:
			steps++
			// A name that is lost in a crash is set again, which does no harm. So it is not
			// waited for; the next synced write makes it durable.
			if err := write(p.state.Store, p.Done(members), step.Command != SetVCard); err != nil {
				return steps, err
			}
		case errors.Is(err, ErrRefused):
			if p.Refuse() {
				refused = err
			}
		default:
			return steps, err
		}
	}
	if err := write(p.state.Store, p.Finish(), true); err != nil {
		return steps, err
	}
	if refused != nil {
		return steps, fmt.Errorf("%d steps, the last: %w", p.refused, refused)
	}
	return steps, nil
}

func write(s store.Store, ops []store.Op, sync bool) error {
	if len(ops) == 0 {
		return nil
	}
	return s.Apply(ops, sync)
}

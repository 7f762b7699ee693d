package roster

import (
	"context"
	"errors"
	"fmt"

	"postern/internal/store"
)

// ErrRefused is wrapped by the error of a step that the server understood and did not take.
// Any other error of an executor means that no step can be carried out now.
var ErrRefused = errors.New("the XMPP server refused")

// Executor carries out single steps. It need not be safe for concurrent use.
type Executor interface {
	// Do carries out a step, which may be one that was carried out before, and returns what
	// GetMembers gives.
	Do(ctx context.Context, s Step) (members []string, err error)
	// Close releases what the executor holds.
	Close()
}

// Server is an XMPP server whose rosters are kept. It need not be safe for concurrent use.
type Server interface {
	// Prepare makes what the server needs before anybody logs in.
	Prepare(s State) error
	// Apply carries out a plan and writes what is known then. The number of steps is of
	// those carried out. An error that wraps ErrRefused means that all others were, but for
	// some that nobody misses; after any other error the plan must be made anew.
	Apply(ctx context.Context, p *Plan) (steps int, err error)
	// Members lists a group as the server has it.
	Members(ctx context.Context, group, domain string) ([]string, error)
	Close()
}

// commanded is a server that is told each step as a command.
type commanded struct{ Executor }

// NewServer returns the server behind an executor.
func NewServer(x Executor) Server { return commanded{x} }

// Prepare implements Server.
func (commanded) Prepare(State) error { return nil }

// Members implements Server.
func (c commanded) Members(ctx context.Context, group, domain string) ([]string, error) {
	return c.Do(ctx, Step{Command: GetMembers, Group: group, Home: domain})
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
			// A name that is lost in a crash is told again, which does no harm: it need not
			// be waited for, and what is synced later takes it along.
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
		return steps, fmt.Errorf("%d steps, the last: %w", p.Refused(), refused)
	}
	return steps, nil
}

func write(s store.Store, ops []store.Op, sync bool) error {
	if len(ops) == 0 {
		return nil
	}
	return s.Apply(ops, sync)
}

package actors

import (
	"context"
	"time"

	"postern/internal/auth"
)

// Probe is a question put from within the process, with the record of its way.
type Probe struct {
	Answer auth.Answer
	Took   time.Duration
	Steps  []TraceStep
}

// probe is the asker of a call without a connection.
type probe struct{ done chan struct{} }

func (p *probe) answered(*Call) { close(p.done) }

// Ask puts one request as a connection would, waits for its answer at most patience, and
// tells each step of its way. The answer is never missing: at the end of patience, or of
// ctx, it is "cannot tell".
func (b *Broker) Ask(ctx context.Context, req auth.Request, patience time.Duration) Probe {
	p := &probe{done: make(chan struct{})}
	now := time.Now()
	call := &Call{
		Req: req, Received: now, Deadline: now.Add(patience), Trace: NewTrace(),
		asker: p, broker: b, front: "control",
	}
	call.counted = b.enter()
	if call.counted {
		defer b.inFlight.Add(-1)
	}
	b.admit(call, "")
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-p.done:
	case <-timer.C:
		call.Fail(auth.SourceDeadline)
		<-p.done
	case <-ctx.Done():
		call.Fail(auth.SourceStopping)
		<-p.done
	}
	call.log(decisions(b.log, call.front, call.Req.Op, call.answer.Verdict, call.answer.Source))
	return Probe{Answer: call.answer, Took: call.took, Steps: call.Trace.Steps()}
}

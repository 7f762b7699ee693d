package actors

import (
	"log/slog"
	"sync/atomic"
	"time"

	"postern/internal/auth"
)

// histogramBounds are the upper bounds of a histogram's buckets: from an answer out of memory to
// the longest deadline.
var histogramBounds = [...]time.Duration{
	100 * time.Microsecond, time.Millisecond, 5 * time.Millisecond, 25 * time.Millisecond, 100 * time.Millisecond,
	250 * time.Millisecond, time.Second, 2500 * time.Millisecond, 5 * time.Second, 10 * time.Second, 30 * time.Second,
}

// histogram counts durations. It is safe for concurrent use.
type histogram struct {
	counts [len(histogramBounds) + 1]atomic.Uint64 // the last is for what is longer than all bounds
	sum    atomic.Int64
}

func (h *histogram) observe(took time.Duration) {
	i := 0
	for i < len(histogramBounds) && took > histogramBounds[i] {
		i++
	}
	h.counts[i].Add(1)
	h.sum.Add(int64(took))
}

// Histogram is how long things took: how many there were, in all, and up to each bound.
type Histogram struct {
	Count uint64
	Sum   time.Duration
	UpTo  map[time.Duration]uint64 // cumulative
}

func (h *histogram) read() Histogram {
	out := Histogram{UpTo: make(map[time.Duration]uint64, len(histogramBounds)), Sum: time.Duration(h.sum.Load())}
	for i := range h.counts {
		out.Count += h.counts[i].Load()
		if i < len(histogramBounds) {
			out.UpTo[histogramBounds[i]] = out.Count
		}
	}
	return out
}

// counters counts the decisions of one front. It lives as long as the broker, whatever becomes of
// the listener, so that no count is lost by a reload.
type counters struct {
	front     string
	log       *slog.Logger
	decisions [auth.Operations][auth.Verdicts][auth.Sources]decisionCount
	took      histogram
}

// decisionCount counts one kind of decision.
type decisionCount struct {
	count atomic.Uint64
	lines atomic.Pointer[slog.Handler] // where they are logged; nil before the first
}

// note counts a decision and returns where to log it.
func (s *counters) note(c *Call) slog.Handler {
	a := &c.answer
	s.took.observe(c.took)
	n := &s.decisions[c.Req.Op][a.Verdict][a.Source]
	n.count.Add(1)
	lines := n.lines.Load()
	if lines == nil {
		made := decisions(s.log, s.front, c.Req.Op, a.Verdict, a.Source)
		lines = &made
		n.lines.Store(lines)
	}
	return *lines
}

// Decisions is how often a front gave one answer.
type Decisions struct {
	Op      auth.Operation
	Verdict auth.Verdict
	Source  auth.Source
	Count   uint64
}

func (s *counters) read() (list []Decisions) {
	for op := range s.decisions {
		for verdict := range s.decisions[op] {
			for source := range s.decisions[op][verdict] {
				if n := s.decisions[op][verdict][source].count.Load(); n > 0 {
					list = append(list, Decisions{auth.Operation(op), auth.Verdict(verdict), auth.Source(source), n})
				}
			}
		}
	}
	return list
}

// countersOf returns the counters of a front, by the name of its listener.
func (b *Broker) countersOf(front string) *counters {
	b.mu.Lock()
	defer b.mu.Unlock()
	t := b.counters[front]
	if t == nil {
		t = &counters{front: front, log: b.log}
		b.counters[front] = t
	}
	return t
}

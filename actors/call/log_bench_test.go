package call

import (
	"io"
	"log/slog"
	"testing"
	"time"

	"postern/actors/metrics"
	"postern/internal/auth"
)

// BenchmarkDecisionLine is the count and the line of a login.
func BenchmarkDecisionLine(b *testing.B) {
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	l := NewLedger("bench", metrics.NewDecisions().Front("bench"), log, nil, nil)
	c := &Call{Req: auth.Request{Op: auth.OpAuth}, Received: time.Now(), ID: auth.Identity{User: "joe", Domain: "dom.example"}}
	c.Answer(auth.Answer{Verdict: auth.Allow, Source: auth.SourceHot})
	b.ReportAllocs()
	for b.Loop() {
		l.Note(c, nil)
	}
}

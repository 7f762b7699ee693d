package call

import (
	"io"
	"log/slog"
	"testing"
	"time"

	"postern/actors/metrics"
	"postern/internal/auth"
	"postern/internal/recent"
)

// BenchmarkDecisionLine is the count and the line of a login, without a status page and with one.
func BenchmarkDecisionLine(b *testing.B) {
	for name, on := range map[string]bool{"plain": false, "status": true} {
		b.Run(name, func(b *testing.B) {
			log, last := slog.New(slog.NewTextHandler(io.Discard, nil)), new(recent.Log)
			last.Switch(on, time.Now())
			l := NewLedger("bench", metrics.NewDecisions().Front("bench"), log, nil, last)
			c := &Call{Req: auth.Request{Op: auth.OpAuth}, Received: time.Now(), ID: auth.Identity{User: "joe", Domain: "dom.example"}}
			c.Answer(auth.Answer{Verdict: auth.Allow, Source: auth.SourceHot})
			b.ReportAllocs()
			for b.Loop() {
				l.Note(c, nil)
			}
		})
	}
}

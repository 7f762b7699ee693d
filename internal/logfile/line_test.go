package logfile

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

// slogs are the handlers whose bytes the appended lines must have.
func slogs(to io.Writer, json bool) slog.Handler {
	if json {
		return slog.NewJSONHandler(to, &slog.HandlerOptions{Level: slog.LevelDebug, ReplaceAttr: withUnit})
	}
	return slog.NewTextHandler(to, &slog.HandlerOptions{Level: slog.LevelDebug})
}

// memory is a Sink that writes nothing.
func memory(json bool) (*Sink, slog.Handler) {
	s := &Sink{out: io.Discard}
	s.level.Set(slog.LevelDebug)
	s.json.Store(json)
	return s, &handler{sink: s, text: slogs(s, false), json: slogs(s, true)}
}

// sameLine compares a record's line with that of slog, in both formats.
func sameLine(t *testing.T, shared []slog.Attr, r slog.Record) {
	t.Helper()
	for _, json := range []bool{false, true} {
		var want bytes.Buffer
		_ = slogs(&want, json).WithAttrs(shared).Handle(context.Background(), r)
		s, h := memory(json)
		if err := h.WithAttrs(shared).Handle(context.Background(), r.Clone()); err != nil {
			t.Fatal(err)
		}
		if r.Level < slog.LevelWarn && !bytes.Equal(s.buf, want.Bytes()) {
			t.Fatalf("appended %q\nslog has  %q", s.buf, want.Bytes())
		}
	}
}

// awkward are strings that a format must quote, escape or leave alone.
var awkward = []string{"", "joe", "joe doe", "a=b", `say "hi"`, `back\slash`, "tab\tnew\nline\rend", "\x00\x01\x1b\x1f", "\x7f", "é", "日本", "\u00a0", "\u2028\u2029",
	"\u200b", "\ufeff", "\ufffd", "\xff", "ok\xc3", "\xed\xa0\x80", "😀", "a\u0301", "<&>'", "\U000e0001", "x\xf0\x9f", "0123456789012345678901234567890123456789 \n"}

// TestLinesAreThoseOfSlog: whatever a line is made of, it has the bytes of slog's handler. Appended
// or left to slog, depending on what is in it.
func TestLinesAreThoseOfSlog(t *testing.T) {
	west := time.FixedZone("west", -(3*3600 + 30*60))
	times := []time.Time{{}, time.Unix(0, 0), time.Unix(1, 1).UTC(), time.Unix(1, 120_000_000).In(west), time.Unix(1e9, 999_999_999),
		time.Unix(1e9, 999_000_000), time.Date(0, 1, 1, 0, 0, 0, 5, time.UTC), time.Date(-1, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(9999, 12, 31, 23, 59, 59, 999_999_999, time.UTC),
		time.Date(12345, 1, 1, 0, 0, 0, 0, time.UTC), time.Unix(-5, 7), time.Date(1800, 1, 1, 0, 0, 0, 0, time.FixedZone("odd", 91))}
	durations := []time.Duration{0, 1, 999, 1500, 1234567, time.Second, -time.Hour, math.MaxInt64, math.MinInt64}
	random := rand.New(rand.NewPCG(1, 2))
	pick := func() string { return awkward[random.IntN(len(awkward))] + awkward[random.IntN(len(awkward))] }
	value := func() slog.Value {
		switch random.IntN(16) {
		case 0:
			return slog.Int64Value(random.Int64() - random.Int64())
		case 1:
			return slog.Uint64Value(random.Uint64())
		case 2:
			return slog.BoolValue(random.IntN(2) == 0)
		case 3, 4:
			return slog.DurationValue(durations[random.IntN(len(durations))])
		case 5:
			return slog.AnyValue(errors.New(pick()))
		case 6:
			return slog.TimeValue(times[random.IntN(len(times))])
		case 7:
			return slog.GroupValue(slog.String(pick(), pick()))
		case 8:
			return slog.AnyValue([]byte(pick()))
		}
		return slog.StringValue(pick())
	}
	attrs := func(n int) (list []slog.Attr) {
		for range random.IntN(n) {
			list = append(list, slog.Attr{Key: pick(), Value: value()})
		}
		return list
	}
	levels := []slog.Level{slog.LevelDebug, slog.LevelInfo, slog.LevelInfo + 1}
	for range 20000 {
		r := slog.NewRecord(times[random.IntN(len(times))], levels[random.IntN(len(levels))], pick(), 0)
		r.AddAttrs(attrs(8)...)
		sameLine(t, attrs(4), r)
	}
}

// FuzzLine compares lines with arbitrary names to those of slog.
func FuzzLine(f *testing.F) {
	for i, s := range awkward {
		f.Add(s, s, int64(i)*1e17+int64(i), int64(i))
	}
	f.Fuzz(func(t *testing.T, key, text string, at, n int64) {
		r := slog.NewRecord(time.Unix(0, at), slog.LevelInfo, text, 0)
		r.AddAttrs(slog.String(key, text), slog.Int64(text, n), slog.Duration("took", time.Duration(n)))
		sameLine(t, []slog.Attr{slog.String(key, text), slog.Bool(text, n > 0)}, r)
	})
}

// TestLineOfEachSecond: what is kept between lines is that of their time, in whatever order.
func TestLineOfEachSecond(t *testing.T) {
	west := time.FixedZone("west", -3600)
	for _, json := range []bool{false, true} {
		var want bytes.Buffer
		s, h := memory(json)
		to := slogs(&want, json)
		for _, at := range []time.Time{time.Unix(5, 5), time.Unix(5, 6), time.Unix(6, 0), time.Unix(6, 1).In(west), time.Unix(5, 5).UTC(), time.Unix(0, 1)} {
			r := slog.NewRecord(at, slog.LevelInfo, "m", 0)
			_, _ = to.Handle(context.Background(), r), h.Handle(context.Background(), r)
		}
		if !bytes.Equal(s.buf, want.Bytes()) {
			t.Errorf("appended %s\nslog has  %s", s.buf, want.Bytes())
		}
	}
}

// TestDerivedLinesDoNotMix: loggers derived from one keep their own attributes.
func TestDerivedLinesDoNotMix(t *testing.T) {
	for _, json := range []bool{false, true} {
		var want bytes.Buffer
		s, h := memory(json)
		to := slogs(&want, json)
		base, baseTo := h.WithAttrs([]slog.Attr{slog.String("a", "1")}), to.WithAttrs([]slog.Attr{slog.String("a", "1")})
		r := slog.NewRecord(time.Unix(5, 5), slog.LevelInfo, "m", 0)
		var made, madeTo []slog.Handler
		for _, v := range []string{"x", "y"} {
			made = append(made, base.WithAttrs([]slog.Attr{slog.String("b", v)}), base.WithGroup("g").WithAttrs([]slog.Attr{slog.String("b", v)}))
			madeTo = append(madeTo, baseTo.WithAttrs([]slog.Attr{slog.String("b", v)}), baseTo.WithGroup("g").WithAttrs([]slog.Attr{slog.String("b", v)}))
		}
		for i := range made {
			_, _ = made[i].Handle(context.Background(), r), madeTo[i].Handle(context.Background(), r)
		}
		if !bytes.Equal(s.buf, want.Bytes()) {
			t.Errorf("appended %s\nslog has  %s", s.buf, want.Bytes())
		}
	}
}

// TestLineMakesNoGarbage: a decision's line costs no memory.
func TestLineMakesNoGarbage(t *testing.T) {
	for _, json := range []bool{false, true} {
		s, h := memory(json)
		h = h.WithAttrs([]slog.Attr{slog.String("front", "f")})
		s.buf = make([]byte, 0, 2*bufferSize)
		at := time.Now()
		if n := testing.AllocsPerRun(100, func() {
			r := slog.NewRecord(at, slog.LevelInfo, "decision", 0)
			r.AddAttrs(slog.String("domain", "dom.example"), slog.String("user", "joe"), slog.Duration("took", 12345))
			_ = h.Handle(context.Background(), r)
		}); n > 0 {
			t.Errorf("JSON %v: %v allocations", json, n)
		}
	}
}

func BenchmarkLine(b *testing.B) {
	for _, json := range []bool{false, true} {
		name := "text"
		if json {
			name = "json"
		}
		run := func(h slog.Handler) func(b *testing.B) {
			return func(b *testing.B) {
				h := h.WithAttrs([]slog.Attr{slog.String("front", "f"), slog.String("op", "auth"), slog.String("verdict", "yes"), slog.String("source", "hot")})
				at := time.Now()
				b.ReportAllocs()
				for b.Loop() {
					r := slog.NewRecord(at, slog.LevelInfo, "decision", 0)
					r.AddAttrs(slog.String("domain", "dom.example"), slog.String("user", "joe"), slog.Duration("took", 12345))
					_ = h.Handle(context.Background(), r)
				}
			}
		}
		s, h := memory(json)
		b.Run(name, run(h))
		b.Run(name+" by slog", run(slogs(s, json)))
	}
}

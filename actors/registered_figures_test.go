package actors

import (
	"fmt"
	"log/slog"
	"runtime"
	"testing"
	"time"

	"postern/internal/auth"
	"postern/internal/config"
)

func thousands(n int) []string {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("domain-%05d.customers.example", i)
	}
	return names
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// TestTenThousandRegistered: registered domains that are not used cost a name each, but no actors
// and goroutines.
func TestTenThousandRegistered(t *testing.T) {
	const n, most = 10000, 500 // bytes of each
	names := thousands(n)
	r, _, _ := newRegisteredRig(t, func(s *setup) { s.cfg.Registry.Idle = time.Hour })
	goroutines, actors := runtime.NumGoroutine(), len(r.actors())
	before := heap()
	begun := time.Now()
	r.register(registrations(names...)...)
	took := time.Since(begun)
	each := (int64(heap()) - int64(before)) / n
	if each > most {
		t.Errorf("a registered domain takes %d bytes, want at most %d", each, most)
	}
	// The dispatcher may keep some more after its start.
	if runtime.NumGoroutine() > goroutines+n/100 || len(r.actors()) != actors {
		t.Errorf("%d goroutines, %d actors; they were %d and %d", runtime.NumGoroutine(), len(r.actors()), goroutines, actors)
	}
	t.Logf("%d bytes each, %v for all", each, took)
	runtime.KeepAlive(names)
}

// BenchmarkRegistered is the first request to a registered domain that has no actors, one that
// memory answers, and the same in a domain of the file.
func BenchmarkRegistered(b *testing.B) {
	names := thousands(10000)
	begun := time.Now()
	r, _, _ := newRegisteredRig(b, func(s *setup) { s.level = slog.LevelError; s.cfg.Registry.Idle = time.Hour }, names...)
	b.Logf("10,000 registered and started in %v", time.Since(begun))
	login := func(b *testing.B, domain string) {
		if a := r.at(domain, "joe", "good"); a.Verdict != auth.Allow {
			b.Fatal(a.Verdict, a.Source)
		}
	}
	b.Run("idle", func(b *testing.B) {
		for b.Loop() {
			login(b, names[0])
			b.StopTimer()
			r.endIdle(names[0])
			b.StartTimer()
		}
	})
	login(b, names[1])
	b.Run("live", func(b *testing.B) {
		for b.Loop() {
			login(b, names[1])
		}
	})
	login(b, "dom.example")
	b.Run("configured", func(b *testing.B) {
		for b.Loop() {
			login(b, "dom.example")
		}
	})
}

// BenchmarkRegisteredStart is the start of a broker with 10,000 registered domains, and one with
// none.
func BenchmarkRegisteredStart(b *testing.B) {
	for _, n := range []int{0, 10000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			_, _, disk := newRegisteredRig(b, nil, thousands(n)...)
			cfg := rigConfig()
			cfg.Backends, cfg.Domains = nil, nil
			cfg.Registry = config.Registry{Declared: true}
			for b.Loop() {
				r, err := Start(Options{Config: cfg, Store: disk, Log: slog.New(slog.DiscardHandler)})
				if err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				r.Stop()
				b.StartTimer()
			}
		})
	}
}

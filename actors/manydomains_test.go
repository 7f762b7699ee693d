package actors

import (
	"runtime"
	"testing"
	"time"

	"postern/internal/auth"
	"postern/internal/config"
)

// TestThousandsOfBlocks: a domain block that is not in use takes little.
func TestThousandsOfBlocks(t *testing.T) {
	const n, most = 5000, 4000 // bytes of each
	names := thousands(n)
	cfg := rigConfig()
	cfg.Domains[0].Cache.Storage = config.StorageMemory
	for _, name := range names {
		d := cfg.Domains[0]
		d.Name = name
		cfg.Domains = append(cfg.Domains, d)
	}
	goroutines, before, begun := runtime.NumGoroutine(), heap(), time.Now()
	r := newRig(t, func(s *setup) { s.cfg = cfg })
	took := time.Since(begun)
	each := (int64(heap()) - int64(before)) / n
	if each > most {
		t.Errorf("a domain block takes %d bytes, want at most %d", each, most)
	}
	if now := runtime.NumGoroutine(); now > goroutines+n/10 {
		t.Errorf("%d goroutines; there were %d", now, goroutines)
	}
	r.want(r.at(names[n-1], "joe", "good"), auth.Allow, auth.SourceBackend)
	t.Logf("%d bytes each, %v for all", each, took)
	runtime.KeepAlive(names)
}

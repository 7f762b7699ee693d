package doctor

import (
	"errors"
	"strings"
	"testing"
	"time"

	"postern/internal/config"
)

// TestSharedStore: each fault of a store has its finding, with what to do about it.
func TestSharedStore(t *testing.T) {
	good := SharedStore{
		Name: "valkey 8.1.1", Major: 7, Policy: "noeviction", AppendOnly: true, Full: 50, RoundTrip: time.Millisecond, Heard: time.Millisecond,
		Guided: true, Replicas: 1,
	}
	for name, c := range map[string]struct {
		fault      func(*SharedStore)
		status     Status
		want, cure string
	}{
		"good":        {func(*SharedStore) {}, OK, "answers in 1ms", ""},
		"old":         {func(s *SharedStore) { s.Name, s.Major = "redis 6.0.16", 6 }, Failure, "redis 6.0.16 is too old", "Redis 7"},
		"evicts":      {func(s *SharedStore) { s.Policy = "allkeys-lru" }, Warning, "allkeys-lru", "noeviction"},
		"forgets":     {func(s *SharedStore) { s.AppendOnly = false }, Warning, "append-only", "appendonly yes"},
		"disk":        {func(s *SharedStore) { s.DiskFailing = true }, Warning, "could not write", "disk"},
		"denied":      {func(s *SharedStore) { s.Denied, s.Heard = []string{"no 'unlink'"}, 0 }, Failure, "no 'unlink'", "postern help machines"},
		"full":        {func(s *SharedStore) { s.Full, s.Refusing, s.Heard = 110, "OOM", 0 }, Failure, "is full", "maxmemory"},
		"nearly full": {func(s *SharedStore) { s.Full = 95 }, Warning, "95%", "maxmemory"},
		"read-only":   {func(s *SharedStore) { s.Refusing, s.Heard = "MISCONF", 0 }, Failure, "MISCONF", "log"},
		"silent":      {func(s *SharedStore) { s.Heard = 0 }, Warning, "does not tell", "3 seconds"},
		"late":        {func(s *SharedStore) { s.Heard = time.Second }, Warning, "after 1s", "3 seconds"},
		"slow":        {func(s *SharedStore) { s.RoundTrip = 20 * time.Millisecond }, Warning, "answers after 20ms", "nearer"},
		"alone":       {func(s *SharedStore) { s.Replicas = 0 }, Warning, "no replica", "start one"},
		"one server":  {func(s *SharedStore) { s.Replicas, s.Guided = 0, false }, OK, "answers in", ""},
		"a Sentinel":  {func(s *SharedStore) { s.Silent = []string{"b:1 does not answer"} }, Warning, "b:1 does not", "start"},
		"clock":       {func(s *SharedStore) { s.Ahead = -time.Hour }, Warning, "1h0m0s apart", "time service"},
	} {
		s := good
		c.fault(&s)
		e := &Env{LookAtStore: func(*config.Store) (SharedStore, error) { return s, nil }}
		worst := Outcome{Status: OK}
		var bad int
		for _, o := range e.sharedStore(&config.Store{Addresses: []string{"a:1"}}) {
			if o.Status != OK {
				bad++
			}
			if o.Status != OK || worst.Text == "" {
				worst = o
			}
		}
		if worst.Status != c.status || bad > 1 || !strings.Contains(worst.Text, c.want) || !strings.Contains(worst.Cure, c.cure) {
			t.Errorf("%s: %d findings, %+v", name, bad, worst)
		}
	}
	e := &Env{LookAtStore: func(*config.Store) (SharedStore, error) { return SharedStore{}, errors.New("WRONGPASS") }}
	if out := e.sharedStore(&config.Store{Addresses: []string{"a:1"}}); len(out) != 1 || out[0].Status != Failure || !strings.Contains(out[0].Text, "WRONGPASS") {
		t.Errorf("a store that cannot be used: %+v", out)
	}
}

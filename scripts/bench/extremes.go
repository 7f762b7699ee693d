package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"
)

// extremes measures what does not fit the table: overload, many idle connections, many users.
func (b *bench) extremes(t *table) error {
	for _, e := range []struct {
		name string
		run  func(*table) error
	}{{"overload", b.overload}, {"idle", b.idleConnections}, {"users", b.manyUsers}, {"domains", b.domainsInFile}, {"pipe", b.pipes}} {
		if !b.wants(e.name) {
			continue
		}
		if err := e.run(t); err != nil {
			return fmt.Errorf("%s: %w", e.name, err)
		}
	}
	return nil
}

// overload offers a backend that takes 20 ms twice the rate that its slots can serve: the slots
// must stay busy, and the surplus must be refused at once.
func (b *bench) overload(t *table) error {
	const capacity = slots / 0.020
	p := &path{name: "overload", protocol: generic, server: b.postern, address: b.postern.addr,
		ask: distinct("short.bench"), want: "1\n", refusal: "0\n"}
	s, err := openLoop(p, 1000, 2*capacity, max(b.length(), 2*time.Second))
	if err != nil {
		return err
	}
	t.rows = append(t.rows, row{Path: "jsxc 20 ms, queue 64, offered twice", Mode: "open", Conns: 1000, sample: s, Baseline: "64/20ms", Ratio: s.Rate / capacity})
	t.atLeast("jsxc 20 ms, offered twice its capacity: of 64/20ms", s.Rate/capacity, "", 0.95)
	t.atMost("jsxc 20 ms, offered twice its capacity: p99 of a refusal", s.P99Refused.Seconds()*1000, " ms", 10)
	return nil
}

// idleConnections opens connections, uses each once, and measures the memory that each costs.
func (b *bench) idleConnections(t *table) error {
	if b.idle == 0 {
		return nil
	}
	c, err := b.startConfigured(b.file("idle"), func(string) error { return nil })
	if err != nil {
		return err
	}
	defer c.stop()
	p := &path{protocol: generic, server: c, address: c.addr, ask: fixed("hot.bench", "password"), want: "1\n"}
	if _, err := closedLoop(p, 16, 1, time.Second); err != nil { // allocates what does not depend on their number
		return err
	}
	before := c.resident()
	for i := range b.idle {
		a, err := p.connect(i)
		if err != nil {
			return fmt.Errorf("connection %d (see ulimit -n, -idle): %w", i, err)
		}
		defer a.close()
		if err := a.ask(0, 1, time.Now(), new(record)); err != nil {
			return err
		}
	}
	each := float64(c.resident()-before) / 1024 / float64(b.idle)
	t.atMost(fmt.Sprintf("%d idle connections, each used once: resident memory of each", b.idle), each, " KiB", 12)
	return nil
}

// fewUsers is the size of the small disk cache that the large one is compared with.
const fewUsers = 1000

// manyUsers compares lookups in a large disk cache with those in a small one.
func (b *bench) manyUsers(t *table) error {
	if b.users == 0 {
		return nil
	}
	small, err := b.diskCache(fewUsers)
	if err != nil {
		return err
	}
	defer small.server.stop()
	large, err := b.diskCache(b.users)
	if err != nil {
		return err
	}
	defer large.server.stop()
	var ratios []float64
	for range max(b.rounds, 3) {
		var p99 [2]time.Duration
		for i, d := range []*diskCache{small, large} {
			s, err := closedLoop(d.path, 1, 1, b.length())
			if err != nil {
				return err
			}
			p99[i] = s.P99
		}
		ratios = append(ratios, float64(p99[1])/float64(p99[0]))
	}
	what := fmt.Sprintf("%d users on disk: ", b.users)
	t.atMost(fmt.Sprintf("%sp99 of a lookup, of that among %d", what, fewUsers), median(ratios), "", 2)
	t.atMost(what+"disk space of each", large.bytes/float64(b.users), " bytes", 300)
	t.atMost(what+"start until ready", large.start.Seconds(), " s", 1)
	return nil
}

// diskCache is a server with many users in its disk cache and few of them in memory.
type diskCache struct {
	*path
	bytes float64
	start time.Duration
}

// diskCache starts a server with a number of users in its disk cache.
func (b *bench) diskCache(users int) (*diskCache, error) {
	dir := b.file(fmt.Sprint("users", users))
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	text := fmt.Sprintf(`data_dir = %q
log { level = "warn" }
listen "generic" { address = %q }
backend "users" "local" {}
domain "many.bench" {
  backends = [backend.users.local]
  cache { hot_entries = 16 }
}
`, dir, address)
	if err := fill(dir, "many.bench", "user", users, 0); err != nil {
		return nil, err
	}
	config := dir + ".hcl"
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return nil, err
	}
	first, err := startPostern(b.binary, config, address) // which writes an authority into each record
	if err != nil {
		return nil, err
	}
	first.stop()
	begun := time.Now()
	c, err := startPostern(b.binary, config, address)
	if err != nil {
		return nil, err
	}
	d := &diskCache{start: time.Since(begun)}
	d.path = &path{protocol: generic, server: c, address: c.addr, want: "1\n", ask: func(b []byte, _, _ int) []byte {
		return fmt.Appendf(b, "isuser:user%d:many.bench\n", rand.N(users))
	}}
	d.bytes, err = diskSpace(filepath.Join(dir, "store"))
	return d, err
}

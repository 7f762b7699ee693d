package actors

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"postern/internal/config"
)

// hops records the messages that actors handle, in their order.
type hops struct {
	mu   sync.Mutex
	list []string // "actor message"
}

func (h *hops) inject(name string, message any) {
	switch message.(type) {
	case actor.SystemMessage, actor.AutoReceiveMessage:
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.list = append(h.list, name+" "+kindOf(message))
}

// take returns the messages since the last call up to the one with which a connection writes.
func (h *hops) take(t *testing.T) (list []string) {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	last := slices.IndexFunc(h.list, func(s string) bool { return strings.HasPrefix(s, "conn:") })
	if last < 0 {
		t.Fatalf("no connection has written: %q", h.list)
	}
	list, h.list = h.list[:last+1], nil
	return list
}

// TestHops counts the messages until an answer has left, and how often they enter the user's shard:
// the promise of the architecture (see the package comment). A backend's slot that becomes free
// meanwhile counts, too.
func TestHops(t *testing.T) {
	for name, c := range map[string]struct {
		storage           config.Storage
		before            []string // passwords of earlier logins
		restart           bool     // of the process, so that only the disk knows them
		later             time.Duration
		password          string
		messages, entries int
	}{
		"token":                     {config.StorageMemory, nil, false, 0, "token", 3, 0},
		"hot":                       {config.StorageMemory, []string{"good"}, false, 0, "good", 3, 1},
		"hot, on disk":              {config.StorageDisk, []string{"good"}, false, 0, "good", 3, 1},
		"cold":                      {config.StorageMemory, nil, false, 0, "good", 6, 2},
		"cold, nothing on disk":     {config.StorageDisk, nil, false, 0, "good", 6, 2},
		"refused":                   {config.StorageDisk, nil, false, 0, "bad", 6, 2},
		"refused before":            {config.StorageMemory, []string{"bad"}, false, 0, "bad", 3, 1},
		"stale in memory":           {config.StorageMemory, []string{"good"}, false, 2 * hour, "good", 6, 2},
		"compared, and fresh":       {config.StorageDisk, []string{"good"}, true, 0, "good", 8, 3},
		"compared, and another":     {config.StorageDisk, []string{"good"}, true, 0, "bad", 8, 3},
		"stale on disk, then asked": {config.StorageDisk, []string{"good"}, true, 2 * hour, "good", 8, 3},
	} {
		t.Run(name, func(t *testing.T) {
			h, l := new(hops), newRestarter(t)
			build := func() *rig {
				if l.last != nil {
					l.last.stop()
				}
				l.last = newRig(t, func(s *setup) {
					withTokens(s)
					onDisk(s, l.disk)
					s.cfg.Domains[0].Cache.Storage = c.storage
					s.inject, s.clock = h.inject, l.clock
				})
				return l.last
			}
			r := build()
			for _, password := range c.before {
				r.auth("joe", password)
				if password == "good" && c.storage == config.StorageDisk {
					r.hashed("joe", 1)
				}
			}
			if c.restart {
				r = build()
			}
			l.clock.advance(c.later)
			password := c.password
			if password == "token" {
				password = r.jsxcToken("joe", hour)
			}
			address := r.listen(listenerBlock("generic"))
			eventually(t, "rest", r.quiet)
			if err := r.shards.Settle(t.Context()); err != nil {
				t.Fatal(err)
			}
			h.mu.Lock()
			h.list = nil
			h.mu.Unlock()
			release := func() {}
			if c.messages <= 6 { // so that no bookkeeping comes before the answer has left
				release = r.busyHashing()
			}
			r.exchange(address, "auth:joe:dom.example:"+password+"\n")
			list := h.take(t)
			release()
			entries := 0
			for _, s := range list {
				if strings.HasPrefix(s, "cache") {
					entries++
				}
			}
			if len(list) > c.messages || entries > c.entries {
				t.Errorf("%d messages, %d entries into the shard; want at most %d and %d:\n%s", len(list), entries, c.messages, c.entries, strings.Join(list, "\n"))
			}
			t.Log(fmt.Sprint(len(list), " ", strings.Join(list, ", ")))
		})
	}
}

package actors

import (
	"context"
	"fmt"
	"testing"

	"postern/internal/backend"
)

// twoBackends answers as two backends of one domain, by the name under which it is asked: the first
// knows the password, the second has no users.
type twoBackends struct {
	first *scriptedBackend
	down  bool // the second
}

func (h *twoBackends) ask(ctx context.Context, q backend.Query) backend.Result {
	switch {
	case q.Domain == "first.example":
		return h.first.ask(ctx, q)
	case h.down:
		return outage(ctx, q)
	}
	return backend.Result{Class: backend.Refused}
}

// TestSuspectReachesTheDisk: a password that one backend has refused while the other had an outage
// gets no grace after a restart either, whether the broker knew it or its hash only; but the user's
// other password does.
func TestSuspectReachesTheDisk(t *testing.T) {
	for _, known := range []bool{true, false} {
		t.Run(fmt.Sprintf("known %t", known), func(t *testing.T) {
			disk, watch := openStore(t), &clock{}
			build := func(ask func(context.Context, backend.Query) backend.Result) *rig {
				return newRig(t, func(s *setup) {
					onDisk(s, disk)
					s.cfg.Domains[0].AuthDomains = []string{"first.example", "second.example"}
					s.fake.ask, s.clock = ask, watch
				})
			}
			h := &twoBackends{first: newScriptedBackend("good")}
			r := build(h.ask)
			r.want(r.auth("joe", "good"), allow, fromBackend)
			h.first.change("app")
			r.want(r.auth("joe", "app"), allow, fromBackend)
			r.hashed("joe", 2)
			if !known {
				r.stop()
				r = build(h.ask)
			}
			watch.advance(2 * hour)
			h.down = true
			r.want(r.auth("joe", "good"), unavailable, fromBackend)
			eventually(t, "the suspicion on disk", func() bool {
				suspects := 0
				for _, v := range onDiskOf(t, disk, "joe").Verifiers {
					if v.Suspect {
						suspects++
					}
				}
				return suspects == 1
			})
			r.stop()
			r = build(outage)
			r.want(r.auth("joe", "good"), unavailable, fromBackend)
			r.want(r.auth("joe", "app"), allow, grace)
			r.stop()
			h.first.change("good")
			r = build(h.ask)
			r.want(r.auth("joe", "good"), allow, fromBackend)
			h.first.always(backend.Outage)
			watch.advance(2 * hour)
			r.want(r.auth("joe", "good"), allow, grace)
		})
	}
}

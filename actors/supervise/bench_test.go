package supervise

import (
	"fmt"
	"sync"
	"testing"
)

// hop is a message that goes through a chain of actors and then comes back to its sender.
type hop struct {
	chain []*Ref
	at    int
	back  chan struct{}
}

func (h *hop) handle(c *carrier) {
	if h.at++; h.at < len(h.chain) {
		c.self.Forward(h.chain[h.at], h)
		return
	}
	h.back <- struct{}{}
}

// BenchmarkHop is the way of a message to one actor, or through a chain of three, and back by a
// channel: on goroutines of the pool, and on the sender's. Idle is one sender, busy are 64.
func BenchmarkHop(b *testing.B) {
	for _, length := range []int{1, 3} {
		for name, senders := range map[string]int{"idle": 1, "busy": 64} {
			for _, way := range []string{"pool", "inline"} {
				b.Run(fmt.Sprintf("%d/%s/%s", length, name, way), func(b *testing.B) {
					r := newRig(b, 1000, &carrier{})
					chain := []*Ref{r.ref}
					for i := range length - 1 {
						chain = append(chain, r.spawn(fmt.Sprint("link", i), 1000, &carrier{}))
					}
					r.idle(chain...)
					b.ReportAllocs()
					b.ResetTimer()
					var wg sync.WaitGroup
					for s := range senders {
						n := b.N / senders
						if s == 0 {
							n += b.N % senders
						}
						wg.Add(1)
						go func() {
							defer wg.Done()
							var run *Runner
							if way == "inline" {
								run = new(Runner)
							}
							h := &hop{chain: chain, back: make(chan struct{}, 1)}
							for range n {
								h.at = 0
								chain[0].SendBy(run, h)
								<-h.back
							}
						}()
					}
					wg.Wait()
				})
			}
		}
	}
}

// BenchmarkSpawn is the start and end of an actor.
func BenchmarkSpawn(b *testing.B) {
	r := newRig(b, 1000, &carrier{})
	b.ReportAllocs()
	for b.Loop() {
		ref := r.spawn("short", 10, &carrier{})
		ref.Stop()
		<-ref.Stopped()
	}
}

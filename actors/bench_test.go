package actors

import (
	"bufio"
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"postern/internal/auth"
)

// BenchmarkServe is a login from the hot tier over loopback, on many connections.
func BenchmarkServe(b *testing.B) {
	for _, conns := range []int{1, 16, 128} {
		b.Run(fmt.Sprint(conns), func(b *testing.B) {
			r := newRig(b, nil)
			address := r.listen(listenerBlock("generic"))
			for i := range conns {
				r.want(r.auth(fmt.Sprintf("user%d", i), "good"), auth.Allow, auth.SourceBackend)
			}
			b.ReportAllocs()
			b.ResetTimer()
			var wg sync.WaitGroup
			for i := range conns {
				c := r.dial(address)
				_ = c.SetDeadline(time.Time{})
				n := b.N / conns
				if i == 0 {
					n += b.N % conns
				}
				wg.Add(1)
				go func() {
					defer wg.Done()
					line := fmt.Appendf(nil, "auth:user%d:dom.example:good\n", i)
					in := bufio.NewReader(c)
					for range n {
						if _, err := c.Write(line); err != nil {
							b.Error(err)
							return
						}
						if _, err := in.ReadSlice('\n'); err != nil {
							b.Error(err)
							return
						}
					}
				}()
			}
			wg.Wait()
		})
	}
}

// BenchmarkRouterHop is one login through router and cache, without a connection.
func BenchmarkRouterHop(b *testing.B) {
	r := newRig(b, func(s *setup) { s.level = 100 })
	r.auth("joe", "good")
	req := auth.Request{Op: auth.OpAuth, User: "joe", Domain: "dom.example", Secret: auth.NewSecret("good")}
	b.ReportAllocs()
	for b.Loop() {
		done := &probe{make(chan struct{})}
		now := time.Now()
		call := &Call{Req: req, Received: now, Deadline: now.Add(time.Second), asker: done, broker: r.Broker, front: "bench"}
		r.admit(call, "")
		<-done.done
	}
	_ = context.Background()
}

package actors

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"postern/actors/call"
	"postern/internal/apppassword"
	"postern/internal/auth"
	"postern/internal/backend"
	"postern/internal/backend/oidctest"
	"postern/internal/config"
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

// BenchmarkOneShot is a login from the hot tier by the protocol of saslauthd, a connection for
// each, from 16 clients; beside it is the ceiling, a server that only accepts, reads, writes and closes.
func BenchmarkOneShot(b *testing.B) {
	b.Run("broker", func(b *testing.B) {
		r := newRig(b, nil)
		address := r.listenOn("unix", listenerBlock("saslauthd"))
		r.want(r.auth("joe", "good"), auth.Allow, auth.SourceBackend)
		oneShots(b, address)
	})
	b.Run("echo", func(b *testing.B) {
		l, err := net.Listen("unix", filepath.Join(b.TempDir(), "s"))
		if err != nil {
			b.Fatal(err)
		}
		defer l.Close()
		go func() {
			for c, err := l.Accept(); err == nil; c, err = l.Accept() {
				go func() {
					_, _ = c.Read(make([]byte, 1024))
					_, _ = c.Write([]byte("\x00\x0aOK success"))
					_ = c.Close()
				}()
			}
		}()
		oneShots(b, l.Addr().String())
	})
}

// oneShots logs in once per connection.
func oneShots(b *testing.B, address string) {
	b.ReportAllocs()
	b.SetParallelism(8)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		answer := make([]byte, 64)
		for pb.Next() {
			c, err := net.Dial("unix", address)
			if err != nil {
				b.Error(err)
				return
			}
			_, err = io.WriteString(c, fields("joe", "good", "smtp", "dom.example"))
			if n, readErr := c.Read(answer); err != nil || readErr != nil || string(answer[2:4]) != "OK" {
				b.Errorf("answered %q: %v, %v", answer[:n], err, readErr)
			}
			_ = c.Close()
		}
	})
}

// BenchmarkRouterHop is one login through router and cache, without a connection.
func BenchmarkRouterHop(b *testing.B) {
	r := newRig(b, func(s *setup) { s.level = 100 })
	r.auth("joe", "good")
	routerHop(b, r, "good")
}

// BenchmarkAppPassword is the same by an app password.
func BenchmarkAppPassword(b *testing.B) {
	r := appRig(b, func(s *setup) { s.level = 100 })
	text := r.add("joe", apppassword.New{Name: "phone"})
	r.auth("joe", text)
	routerHop(b, r, text)
}

// BenchmarkBearer is the same by a token that is remembered, and by one that is verified each time; beside them are the
// hot path and the check of the signature alone.
func BenchmarkBearer(b *testing.B) {
	for name, storage := range map[string]config.Storage{"remembered": config.StorageMemory, "first": config.StorageNone} {
		b.Run(name, func(b *testing.B) {
			r := newOIDCRig(b, func(s *setup, _ *backend.OIDCOptions) {
				s.level, s.cfg.Domains[0].Cache.Storage = 100, storage
			})
			token := r.token(map[string]any{"preferred_username": "joe"})
			r.auth("joe", token)
			routerHop(b, r.rig, token)
		})
	}
	b.Run("hot", BenchmarkRouterHop)
	b.Run("signature", func(b *testing.B) {
		key := oidctest.RSA(b, "a")
		p := oidctest.Provider{}
		jws, err := jose.ParseSignedCompact(key.Sign(b, p.Claims(time.Now(), nil)), []jose.SignatureAlgorithm{jose.RS256})
		if err != nil {
			b.Fatal(err)
		}
		public := key.Public()
		for b.Loop() {
			if _, err := jws.Verify(&public); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// routerHop repeats a login of joe.
func routerHop(b *testing.B, r *rig, password string) {
	req := auth.Request{Op: auth.OpAuth, User: "joe", Domain: "dom.example", Secret: auth.NewSecret(password)}
	b.ReportAllocs()
	for b.Loop() {
		done := &probe{make(chan struct{})}
		now := time.Now()
		c := &call.Call{Req: req, Received: now, Deadline: now.Add(time.Second), Asker: done, Front: "bench"}
		if d := (dispatcher{r.Broker}); d.Prepare(c, "") {
			d.Route(nil, c)
		}
		<-done.done
	}
}

package actors

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"

	"postern/actors/router"
	"postern/actors/supervise"
	"postern/internal/auth"
	"postern/internal/config"
	"postern/internal/registry"
)

// TestStopBesideChange: Stop waits for a change that has begun: the backend that it makes is closed,
// as is its listener, and nothing is changed while it is being stopped.
func TestStopBesideChange(t *testing.T) {
	var late net.Listener
	for name, change := range map[string]func(*rig) error{
		"a domain is changed": func(r *rig) error {
			return r.Registry(func(reg *registry.Registry) ([]registry.Record, []string, error) {
				put, err := reg.Put(time.Now(), registration("live.example", "new"))
				return put, nil, err
			})
		},
		"a domain is read": func(r *rig) error {
			r.at("idle.example", "joe", "good") // answered, however far it got
			return nil
		},
		"a backend comes by a reload": func(r *rig) error {
			sockets, err := r.tryReload(func(c *config.Config) {
				more := c.Backends[0]
				more.Name = "more"
				c.Backends = append(c.Backends, more)
				c.Listeners = append(c.Listeners, listenerBlock("generic"))
			})
			late = sockets["generic"]
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			var r *rig
			stopped, begun := make(chan struct{}), make(chan struct{})
			armed := false
			r, _, _ = newRegisteredRig(t, func(s *setup) {
				made := s.made
				s.made = func(c config.Backend) *fakeBackend {
					if armed {
						close(begun)
						<-r.env.Context.Done()
						select {
						case <-stopped:
							t.Error("the broker stopped beside the change")
						case <-time.After(50 * time.Millisecond): // far more than Stop takes
						}
					}
					return made(c)
				}
			}, "live.example", "idle.example")
			r.want(r.at("live.example", "joe", "good"), allow, fromBackend)
			armed = true
			go func() {
				defer close(stopped)
				<-begun
				r.stop()
			}()
			if err := change(r); err != nil && !errors.Is(err, router.ErrStopping) {
				t.Error(err)
			}
			<-stopped
		})
	}
	if late == nil || !errors.Is(late.Close(), net.ErrClosed) {
		t.Error("the new listener is open")
	}
}

// TestNoChangeAfterStop: a change of the registered domains that comes late is refused.
func TestNoChangeAfterStop(t *testing.T) {
	r, _, _ := newRegisteredRig(t, nil, "a.example")
	r.stop()
	err := r.Registry(func(*registry.Registry) ([]registry.Record, []string, error) { panic("asked") })
	if !errors.Is(err, router.ErrStopping) {
		t.Errorf("got %v", err)
	}
	if _, err := r.CachedUser(context.Background(), auth.Identity{User: "joe", Domain: "a.example"}); !errors.Is(err, supervise.ErrStopped) {
		t.Errorf("a look at the cache: %v", err)
	}
}

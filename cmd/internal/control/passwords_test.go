package control

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"postern/actors"
	"postern/internal/apppassword"
	"postern/internal/auth"
	"postern/internal/backend"
	"postern/internal/config"
	"postern/internal/store"
)

// brokered is a daemon with a broker.
type brokered struct {
	fake
	broker    *actors.Broker
	address   string // of a listener for an XMPP server
	forgotten []auth.Identity
}

func (b *brokered) Broker() *actors.Broker { return b.broker }

func (b *brokered) ForgetCached(_ context.Context, id auth.Identity) (n Forgotten, err error) {
	b.forgotten = append(b.forgotten, id)
	return n, nil
}

// breakable is a store that fails to write.
type breakable struct {
	store.Store
	fails atomic.Bool
}

func (s *breakable) Apply(ops []store.Op, sync bool) error {
	if s.fails.Load() {
		return errors.New("injected")
	}
	return s.Store.Apply(ops, sync)
}

// accepting is a backend that says yes.
type accepting struct{}

func (accepting) Ask(context.Context, backend.Query) backend.Result {
	return backend.Result{Class: backend.Accepted, Known: true}
}

func (accepting) Close() error { return nil }

func newBrokered(t *testing.T) (*brokered, *breakable) {
	t.Helper()
	pebble, err := store.OpenPebble(t.TempDir(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = pebble.Close() })
	disk := &breakable{Store: pebble}
	ref := config.BackendRef{Kind: "json", Name: "fake"}
	broker, err := actors.Start(actors.Options{
		Config: &config.Config{
			Backends: []config.Backend{{BackendRef: ref, Slots: 2, Queue: 8, BreakerFailures: 1000, BreakerCooldown: time.Second}},
			Domains: []config.Domain{{
				Name: "dom.example", Backends: []config.BackendRef{ref},
				AppPasswords: &config.AppPasswords{Key: auth.NewSecret(strings.Repeat("k", apppassword.KeySize)), UnconfirmedTTL: time.Hour},
				Cache:        config.Cache{Storage: config.StorageNone},
			}},
		},
		Store: disk, Clock: time.Now, Log: slog.New(slog.DiscardHandler),
		Backend: func(config.Backend, backend.Hashing) (backend.Backend, error) { return accepting{}, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(broker.Stop)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := broker.Listen(config.Listener{
		Name: "xmpp", Protocol: "ejabberd", DefaultDomain: "dom.example", Deadline: 20 * time.Second, FrameTimeout: 20 * time.Second,
		WriteTimeout: 20 * time.Second, MaxFrame: 65536, Pipeline: 4, MaxConnections: 8,
	}, l); err != nil {
		t.Fatal(err)
	}
	return &brokered{broker: broker, address: l.Addr().String()}, disk
}

// account is what an XMPP server is told of an account: whether it exists, and when what was issued for it
// ended last.
func (b *brokered) account(t *testing.T) string {
	t.Helper()
	c, err := net.Dial("tcp", b.address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	const question = "account:joe:dom.example"
	if _, err := c.Write(append([]byte{0, byte(len(question))}, question...)); err != nil {
		t.Fatal(err)
	}
	var size [2]byte
	if _, err := io.ReadFull(c, size[:]); err != nil {
		t.Fatal(err)
	}
	answer := make([]byte, binary.BigEndian.Uint16(size[:]))
	if _, err := io.ReadFull(c, answer); err != nil {
		t.Fatal(err)
	}
	return string(answer)
}

// TestRevocationIsNoted: XMPP servers hear that an app password for xmpp is not valid any more, also when that
// cannot be stored; one for other services does not concern them.
func TestRevocationIsNoted(t *testing.T) {
	for _, fails := range []bool{false, true} {
		for _, c := range []struct {
			path     string
			services []string
			want     bool
		}{
			{"/v1/password/revoke", nil, true}, {"/v1/password/revoke", []string{"imap", "xmpp"}, true},
			{"/v1/password/revoke", []string{"imap"}, false}, {"/v1/password/expire", nil, true},
		} {
			d, disk := newBrokered(t)
			s := &Server{daemon: d}
			r := Request{User: "joe", Domain: "dom.example", Name: "phone", Services: c.services}
			if _, err := s.password("/v1/password/add")(t.Context(), r); err != nil {
				t.Fatal(err)
			}
			before := d.account(t)
			disk.fails.Store(fails)
			now := time.Now()
			if _, err := s.password(c.path)(t.Context(), Request{User: "joe", Domain: "dom.example", Ref: "phone", Expires: &now}); (err != nil) != fails {
				t.Errorf("%+v: %v", c, err)
			}
			if got := d.account(t) != before; got != c.want {
				t.Errorf("%+v, a store that fails %t: noted %t", c, fails, got)
			}
			disk.fails.Store(false)
		}
	}
}

// TestRemovedIsForgotten: an account that was removed is forgotten, also if its app passwords cannot be removed.
func TestRemovedIsForgotten(t *testing.T) {
	d, disk := newBrokered(t)
	s := &Server{daemon: d}
	if _, err := s.password("/v1/password/add")(t.Context(), Request{User: "joe", Domain: "dom.example", Name: "phone"}); err != nil {
		t.Fatal(err)
	}
	disk.fails.Store(true)
	if _, err := s.cacheForget(t.Context(), Request{User: "joe", Domain: "dom.example", Op: Removed}); err == nil || len(d.forgotten) != 1 {
		t.Errorf("forgotten: %v, %v", d.forgotten, err)
	}
}

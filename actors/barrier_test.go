package actors

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"postern/internal/auth"
	"postern/internal/backend"
)

// barrier is a backend that holds every question until the test opens it.
type barrier struct {
	waiting atomic.Int64
	opened  chan struct{}
}

func newBarrier() *barrier { return &barrier{opened: make(chan struct{})} }

func (g *barrier) open() { close(g.opened) }

func (g *barrier) ask(ctx context.Context, q backend.Query) backend.Result {
	g.waiting.Add(1)
	select {
	case <-g.opened:
		return goodPassword(q)
	case <-ctx.Done():
		return backend.Result{Class: backend.Outage, Err: ctx.Err()}
	}
}

// reached waits until n questions have come.
func (g *barrier) reached(t testing.TB, n int64) {
	t.Helper()
	eventually(t, "a question at the backend", func() bool { return g.waiting.Load() >= n })
}

// start asks for a login, with plenty of time, and returns a channel for the answer.
func (r *rig) start(user, password string) <-chan auth.Answer {
	return r.startRequest(auth.Request{
		Op: auth.OpAuth, User: user, Domain: "dom.example", Secret: auth.NewSecret(password),
	}, time.Minute)
}

func (r *rig) startRequest(req auth.Request, timeout time.Duration) <-chan auth.Answer {
	answer := make(chan auth.Answer, 1)
	go func() { answer <- r.Ask(context.Background(), req, timeout).Answer }()
	return answer
}

package main

import (
	"context"
	"errors"
	"net/http"
	"time"

	"postern/internal/auth"
)

// rosterAnswer is how long the control socket waits for a roster command: less than its client.
const rosterAnswer = controlTimeout - 5*time.Second

// errNoStore means that the daemon has nothing on disk.
var errNoStore = errors.New("the daemon has no store, so nothing is known of shared rosters")

// rosterHandlers adds the roster commands to the control server.
func (c *controlServer) rosterHandlers(mux *http.ServeMux) {
	limited := func(do func(context.Context, controlRequest) (any, error)) http.HandlerFunc {
		return handle(func(ctx context.Context, r controlRequest) (any, error) {
			ctx, cancel := context.WithTimeout(ctx, rosterAnswer)
			defer cancel()
			return do(ctx, r)
		})
	}
	mux.HandleFunc("POST /v1/roster/plan", limited(func(ctx context.Context, r controlRequest) (any, error) {
		return planRoster(ctx, c.daemon.broker, r.Domain, r.User)
	}))
	mux.HandleFunc("POST /v1/roster/show", limited(func(_ context.Context, r controlRequest) (any, error) {
		id, err := auth.NewIdentity(r.User, r.Domain)
		if err != nil {
			return nil, err
		}
		disk := c.daemon.store.Load()
		if disk == nil {
			return nil, errNoStore
		}
		return describeRoster(disk, id)
	}))
	mux.HandleFunc("POST /v1/roster/refresh", limited(func(ctx context.Context, r controlRequest) (any, error) {
		var n int
		var err error
		if r.Domain == "" {
			n, err = c.daemon.broker.RefreshRosters(ctx)
		} else {
			n, err = c.daemon.broker.RefreshRoster(ctx, r.Domain, r.User)
		}
		return rosterCount{n}, err
	}))
	mux.HandleFunc("POST /v1/roster/forget-group", limited(func(ctx context.Context, r controlRequest) (any, error) {
		n, err := c.daemon.broker.ForgetGroup(ctx, r.Group, r.Domain)
		return rosterCount{n}, err
	}))
}

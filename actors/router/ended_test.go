package router

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"postern/actors/domain"
	"postern/actors/env"
	"postern/actors/rosters"
	"postern/actors/supervise"
	"postern/internal/config"
)

// TestListedBesideReload: what reads the table while a reload removes a block meets a router that has
// ended, and passes over it.
func TestListedBesideReload(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	system := supervise.NewSystem(supervise.Options{Log: log})
	table := NewTable(env.New(context.Background(), system, log, time.Now), nil)
	ended := &Router{Shared: &domain.Shared{Name: "dom.example"}, roster: new(rosters.Roster)}
	table.served.Store(&served{cfg: &config.Config{}, routers: map[string]*Router{"dom.example": ended}})
	if n := len(table.Domains(false)); n != 0 {
		t.Errorf("%d domains are listed", n)
	}
	if n := len(table.Rosters()); n != 0 {
		t.Errorf("%d rosters are listed", n)
	}
	if _, err := table.RosterOf("dom.example"); !errors.Is(err, rosters.ErrNone) {
		t.Errorf("the roster: %v", err)
	}
	table.Stop()
	system.Close()
}

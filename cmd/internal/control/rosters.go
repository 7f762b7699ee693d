package control

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"postern/actors"
	"postern/internal/auth"
	"postern/internal/roster"
	"postern/internal/store"
)

// rosterTimeout bounds a roster call. It is less than its client's, which then gets an answer.
const rosterTimeout = Timeout - 5*time.Second

// limited makes a call that takes at most rosterTimeout.
func limited(do call) call {
	return func(ctx context.Context, r Request) (any, error) {
		ctx, cancel := context.WithTimeout(ctx, rosterTimeout)
		defer cancel()
		return do(ctx, r)
	}
}

// errNoStore means that the daemon has nothing on disk.
var errNoStore = errors.New("the daemon has no store, so nothing is known of shared rosters")

// RosterPlan is the answer to /v1/roster/plan.
type RosterPlan struct {
	Steps   []string `json:"steps"`          // commands, or the lines of File that change
	File    string   `json:"file,omitempty"` // that Prosody reads
	Users   int      `json:"users"`
	Unasked []string `json:"unasked,omitempty"`
}

// PlanRoster describes what a broker would change in the XMPP server's shared rosters; an empty
// user stands for all of the domain.
func PlanRoster(ctx context.Context, b *actors.Broker, domain, user string) (reply RosterPlan, err error) {
	plan, err := b.PlanRoster(ctx, domain, user)
	reply.Steps, reply.File = plan.Lines, plan.File
	for _, id := range plan.Unasked {
		reply.Unasked = append(reply.Unasked, id.String())
	}
	reply.Users = plan.Users
	return reply, err
}

func (s *Server) rosterPlan(ctx context.Context, r Request) (any, error) {
	return PlanRoster(ctx, s.daemon.Broker(), r.Domain, r.User)
}

// RosterUser is the answer to /v1/roster/show: what the XMPP server has been sent about an
// account's shared roster.
type RosterUser struct {
	User     string         `json:"user"`
	FullName *string        `json:"full_name"`
	Groups   map[string]int `json:"groups"`          // and their sizes
	Own      []string       `json:"groups_at_login"` // that the account's own answers gave
	Complete bool           `json:"last_answer_carried_out"`
	Doubtful []string       `json:"groups_being_changed,omitempty"`
}

// DescribeRoster reads what a store knows of an account's shared roster. A nil store knows
// nothing.
func DescribeRoster(s store.Store, id auth.Identity) (shown RosterUser, err error) {
	id = roster.Login(id)
	shown = RosterUser{User: id.String(), Groups: map[string]int{}, Own: []string{}}
	if s == nil {
		return shown, nil
	}
	users, groups, err := roster.State{Store: s, Domain: id.Domain}.All()
	if u, ok := users[id.String()]; ok {
		if u.Named {
			shown.FullName = &u.Name
		}
		shown.Own = append(shown.Own, u.Groups...)
		shown.Complete = u.Hash != roster.Hash{}
	}
	for _, name := range slices.Sorted(maps.Keys(groups)) {
		if g := groups[name]; slices.Contains(g.Members, id.String()) {
			shown.Groups[name] = len(g.Members)
			if g.Dirty {
				shown.Doubtful = append(shown.Doubtful, name)
			}
		}
	}
	return shown, err
}

func (s *Server) rosterShow(_ context.Context, r Request) (any, error) {
	id, err := r.account()
	if err != nil {
		return nil, err
	}
	disk := s.daemon.Store()
	if disk == nil {
		return nil, errNoStore
	}
	return DescribeRoster(disk, id)
}

// RosterCount is the answer to a roster call that changes something: the number of users that are
// synchronised again, or of commands to the XMPP server.
type RosterCount struct {
	Count int  `json:"count"`
	Later bool `json:"later,omitempty"` // there is no daemon, so the users' next logins do it
}

func (s *Server) rosterRefresh(ctx context.Context, r Request) (any, error) {
	var n int
	var err error
	if r.Domain == "" {
		n, err = s.daemon.Broker().RefreshRosters(ctx)
	} else {
		n, err = s.daemon.Broker().RefreshRoster(ctx, r.Domain, r.User)
	}
	return RosterCount{Count: n}, err
}

func (s *Server) rosterForgetGroup(ctx context.Context, r Request) (any, error) {
	n, err := s.daemon.Broker().ForgetGroup(ctx, r.Group, r.Domain)
	return RosterCount{Count: n}, err
}

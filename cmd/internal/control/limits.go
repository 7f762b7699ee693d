package control

import (
	"context"

	"postern/actors"
	"postern/actors/slots"
)

// Limits is the answer to /v1/limit/show about no account and no address in particular.
type Limits struct {
	Domains  map[string]actors.DomainLimits `json:"domains"`
	Backends map[string]slots.Budget        `json:"backends"`
}

func (s *Server) limitShow(ctx context.Context, r Request) (any, error) {
	b := s.daemon.Broker()
	switch {
	case r.Address != "":
		return b.AddressLimit(r.Address), nil
	case r.User == "":
		domains, backends, err := b.Limits(ctx)
		return Limits{domains, backends}, err
	}
	id, err := r.account()
	if err != nil {
		return nil, err
	}
	return b.UserLimit(ctx, id)
}

func (s *Server) limitForget(ctx context.Context, r Request) (any, error) {
	if r.Address != "" {
		return struct{}{}, s.daemon.Broker().ForgetAddressLimit(r.Address)
	}
	id, err := r.account()
	if err != nil {
		return nil, err
	}
	return struct{}{}, s.daemon.Broker().ForgetUserLimit(ctx, id)
}

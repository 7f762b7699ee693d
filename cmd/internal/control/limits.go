package control

import "context"

func (s *Server) limitShow(ctx context.Context, r Request) (any, error) {
	b := s.daemon.Broker()
	switch {
	case r.Address != "":
		return b.AddressLimit(r.Address)
	case r.User == "":
		return b.Limits(ctx)
	}
	id, err := r.account()
	if err != nil {
		return nil, err
	}
	return b.UserLimit(ctx, id)
}

// limitForget answers with what there was to forget.
func (s *Server) limitForget(ctx context.Context, r Request) (any, error) {
	if r.Address != "" {
		return s.daemon.Broker().ForgetAddressLimit(r.Address)
	}
	id, err := r.account()
	if err != nil {
		return nil, err
	}
	return s.daemon.Broker().ForgetUserLimit(ctx, id)
}

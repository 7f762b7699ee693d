package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/spf13/cobra"

	"postern/actors"
	"postern/internal/auth"
	"postern/internal/config"
)

// limitReport is what `postern limit show` prints without a name.
type limitReport struct {
	Domains  map[string]actors.DomainLimits  `json:"domains"`
	Backends map[string]actors.BackendBudget `json:"backends"`
}

func newLimit(a *app) *cobra.Command {
	return group(
		&cobra.Command{
			Use:   "limit",
			Short: "See who is kept from guessing passwords, or let them ask again",
			Long: `Works through the running daemon's control socket: limits are kept in its memory only.
An ADDRESS is that of a client, as far as the asking servers tell it.`,
			Example: `  postern limit show
  postern limit forget alice@example.org`,
		},
		a.limitCommand("show [USER@DOMAIN|ADDRESS]", "Show all who are limited, or what is known of one", cobra.MaximumNArgs(1), a.limitShow),
		a.limitCommand("forget USER@DOMAIN|ADDRESS", "Have the passwords of a user or an address asked about again", cobra.ExactArgs(1), a.limitForget),
	)
}

func (a *app) limitCommand(use, short string, args cobra.PositionalArgs, do func(context.Context, *config.Config, []string) error) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Args: args,
		Example: "  postern limit " + strings.Fields(use)[0] + " alice@example.org\n  postern limit " + strings.Fields(use)[0] + " 192.0.2.7",
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := a.load(nil)
			if err != nil {
				return err
			}
			err = do(cmd.Context(), cfg, args)
			if errors.Is(err, errNoDaemon) {
				return fmt.Errorf("%w, and limits are kept in its memory only", err)
			}
			return err
		},
	}
}

// limitRequest is the request about a user or a client's address.
func limitRequest(name string) (controlRequest, error) {
	if addr, err := netip.ParseAddr(name); err == nil {
		return controlRequest{Address: addr.String()}, nil
	}
	id, err := parseAddress(name)
	if err != nil {
		return controlRequest{}, fmt.Errorf("%q is neither a user nor an address: write USER@DOMAIN or 192.0.2.7: %w", name, err)
	}
	return controlRequest{User: id.User, Domain: id.Domain}, nil
}

func (a *app) limitShow(ctx context.Context, cfg *config.Config, args []string) error {
	var req controlRequest
	var reply any = new(limitReport)
	if len(args) > 0 {
		var err error
		if req, err = limitRequest(args[0]); err != nil {
			return err
		}
		if reply = new(actors.Limited); req.Address != "" {
			reply = new(map[string]actors.Limited)
		}
	}
	if err := callControl(ctx, controlPath(cfg), "/v1/limit/show", req, reply); err != nil {
		return err
	}
	return a.print(reply)
}

func (a *app) limitForget(ctx context.Context, cfg *config.Config, args []string) error {
	req, err := limitRequest(args[0])
	if err != nil {
		return err
	}
	return a.forgotten(args[0], callControl(ctx, controlPath(cfg), "/v1/limit/forget", req, &struct{}{}))
}

func (c *controlServer) limitShow(ctx context.Context, r controlRequest) (any, error) {
	b := c.daemon.broker
	switch {
	case r.Address != "":
		return b.AddressLimit(ctx, r.Address)
	case r.User == "":
		domains, backends, err := b.Limits(ctx)
		return limitReport{domains, backends}, err
	}
	id, err := auth.NewIdentity(r.User, r.Domain)
	if err != nil {
		return nil, err
	}
	return b.UserLimit(ctx, id)
}

func (c *controlServer) limitForget(ctx context.Context, r controlRequest) (any, error) {
	if r.Address != "" {
		return struct{}{}, c.daemon.broker.ForgetAddressLimit(ctx, r.Address)
	}
	id, err := auth.NewIdentity(r.User, r.Domain)
	if err != nil {
		return nil, err
	}
	return struct{}{}, c.daemon.broker.ForgetUserLimit(ctx, id)
}

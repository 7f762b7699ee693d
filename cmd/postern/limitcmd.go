package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"

	"github.com/spf13/cobra"

	"postern/actors"
	"postern/cmd/internal/control"
	"postern/cmd/internal/datadir"
	"postern/internal/config"
)

func newLimit(a *app) *cobra.Command {
	shown, forgotten := &output{app: a, programs: true}, &output{app: a}
	// Without a daemon there is nothing to show or forget.
	command := func(use, short string, args cobra.PositionalArgs, do configFunc) *cobra.Command {
		word, _, _ := strings.Cut(use, " ")
		return a.command("postern limit", use, short, word+" alice@example.org\n"+word+" 192.0.2.7", args,
			func(ctx context.Context, cfg *config.Config, args []string) error {
				err := do(ctx, cfg, args)
				if errors.Is(err, control.ErrNoDaemon) {
					return fmt.Errorf("%w, and limits are kept in its memory only", err)
				}
				return err
			})
	}
	return group(
		&cobra.Command{
			Use:   "limit",
			Short: "Show which accounts and addresses are limited, or lift a limit",
			Long: `Works through the running daemon's control socket: limits are kept in its memory only.
An ADDRESS is that of a client, if the server that asks passes it on.`,
			Example: `  postern limit show
  postern limit forget alice@example.org`,
		},
		shown.with(command("show [USER@DOMAIN|ADDRESS]", "Show all limits in force, or those of a user or address", cobra.MaximumNArgs(1), shown.limits), actors.Limits{}),
		forgotten.with(command("forget USER@DOMAIN|ADDRESS", "Check passwords of a user or address with the backend again", cobra.ExactArgs(1), forgotten.limitForget), actors.Limited{}),
	)
}

// limitRequest is the request about a user or a client's address.
func limitRequest(name string) (control.Request, error) {
	if addr, err := netip.ParseAddr(name); err == nil {
		return control.Request{Address: addr.String()}, nil
	}
	id, err := parseAddress(name)
	if err != nil {
		return control.Request{}, fmt.Errorf("%q is neither a user nor an address: write USER@DOMAIN or 192.0.2.7: %w", name, err)
	}
	return control.For(id), nil
}

// limits shows all limits in force, or those of a user or address.
func (o *output) limits(ctx context.Context, cfg *config.Config, args []string) error {
	if len(args) == 0 {
		var all actors.Limits
		err := control.Call(ctx, datadir.Control(cfg.DataDir), "/v1/limit/show", control.Request{}, &all)
		return o.print(all, err, func(w io.Writer) error { return writeLimits(w, all) })
	}
	req, err := limitRequest(args[0])
	if err != nil {
		return err
	}
	var one actors.Limited
	err = control.Call(ctx, datadir.Control(cfg.DataDir), "/v1/limit/show", req, &one)
	return o.print(one, err, func(w io.Writer) error { return writeLimited(w, one) })
}

func (o *output) limitForget(ctx context.Context, cfg *config.Config, args []string) error {
	req, err := limitRequest(args[0])
	if err != nil {
		return err
	}
	var found actors.Limited
	err = control.Call(ctx, datadir.Control(cfg.DataDir), "/v1/limit/forget", req, &found)
	return o.print(found, err, func(w io.Writer) (err error) {
		if found.Refusals == 0 && found.Pauses == 0 {
			_, err = fmt.Fprintf(w, "nothing to forget: no refused password of %s is counted\n", found.Name)
			return err
		}
		_, err = fmt.Fprintf(w, "forgotten: %s, refused passwords: %d, pauses: %d\n", found.Name, found.Refusals, found.Pauses)
		return err
	})
}

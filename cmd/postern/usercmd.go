package main

import (
	"context"
	"fmt"
	"os"
	"slices"

	"github.com/spf13/cobra"

	"postern/internal/auth"
	"postern/internal/auth/passhash"
	"postern/internal/backend"
	"postern/internal/config"
)

func newUser(a *app) *cobra.Command {
	var name string
	cmd := &cobra.Command{
		Use:   "user",
		Short: "Manage the accounts of the users file",
		Long: `The running daemon sees a change at the next question. Passwords are asked for, or read
from standard input; they never stand on the command line.`,
		Args: cobra.NoArgs,
	}
	cmd.PersistentFlags().StringVar(&name, "backend", "", "`NAME` of the users backend, if there are several")
	with := func(do func(context.Context, usersFile, []string) error) func(*cobra.Command, []string) error {
		return func(cmd *cobra.Command, args []string) error {
			file, err := a.usersFile(name)
			if err != nil {
				return err
			}
			return do(cmd.Context(), file, args)
		}
	}
	cmd.AddCommand(
		&cobra.Command{
			Use: "add USER@DOMAIN", Short: "Add an account", Args: cobra.ExactArgs(1),
			Example: "  postern user add alice@example.org",
			RunE:    with(a.userAdd),
		},
		&cobra.Command{
			Use: "passwd USER@DOMAIN", Short: "Change a password", Args: cobra.ExactArgs(1),
			Example: "  postern user passwd alice@example.org",
			RunE:    with(a.userPasswd),
		},
		&cobra.Command{
			Use: "list", Short: "List the accounts", Args: cobra.NoArgs,
			Example: "  postern user list",
			RunE:    with(a.userList),
		},
		&cobra.Command{
			Use: "remove USER@DOMAIN", Short: "Remove an account", Args: cobra.ExactArgs(1),
			Example: "  postern user remove alice@example.org",
			RunE:    with(a.userRemove),
		},
	)
	return cmd
}

// usersFile is the file of a users backend and the cost of new passwords in it.
type usersFile struct {
	*backend.UsersFile
	cost int
	ref  config.BackendRef
	cfg  *config.Config
}

// forget makes the cache forget a user whose account was changed: a password that is not
// valid any more must not live on there.
func (f usersFile) forget(ctx context.Context, id auth.Identity) error {
	for _, d := range f.cfg.Domains {
		if !slices.Contains(d.Backends, f.ref) {
			continue
		}
		cached := auth.Identity{User: id.User, Domain: d.Name}
		switch {
		case len(d.AuthDomains) > 0 && !slices.Contains(d.AuthDomains, id.Domain):
			continue
		case d.Name == "*" && len(d.AuthDomains) > 0:
			// Any domain may be cached under this account; all of them ask again.
			if err := forgetCached(ctx, f.cfg, auth.Identity{}); err != nil {
				return err
			}
			continue
		case d.Name == "*":
			cached.Domain = id.Domain
		case len(d.AuthDomains) == 0 && d.Name != id.Domain:
			continue
		}
		if err := forgetCached(ctx, f.cfg, cached); err != nil {
			return err
		}
	}
	return nil
}

// usersFile opens the file of the users backend that the flags name.
func (a *app) usersFile(name string) (file usersFile, err error) {
	cfg, err := a.load(nil)
	if err != nil {
		return file, err
	}
	var found []config.Backend
	for _, b := range cfg.Backends {
		if b.Kind == "users" && (name == "" || b.Name == name) {
			found = append(found, b)
		}
	}
	switch len(found) {
	case 0:
		return file, fmt.Errorf("the configuration has no users backend %s: add `backend \"users\" \"local\" {}`", name)
	case 1:
		if err := os.MkdirAll(cfg.DataDir, 0o700); err != nil {
			return file, fmt.Errorf("data directory: %w", err)
		}
		file.cost, file.ref, file.cfg = found[0].BcryptCost, found[0].BackendRef, cfg
		file.UsersFile, err = backend.OpenUsersFile(found[0].Path)
		return file, err
	}
	return file, fmt.Errorf("the configuration has %d users backends: choose one with --backend NAME", len(found))
}

func (a *app) userAdd(ctx context.Context, file usersFile, args []string) error {
	return a.setPassword(ctx, args[0], "added", file, file.Add)
}

func (a *app) userPasswd(ctx context.Context, file usersFile, args []string) error {
	return a.setPassword(ctx, args[0], "changed", file, file.Set)
}

func (a *app) setPassword(ctx context.Context, address, done string, file usersFile, set func(context.Context, auth.Identity, string) error) error {
	id, err := parseAddress(address)
	if err != nil {
		return err
	}
	secret, err := a.readSecret("new password of "+id.String(), true)
	if err != nil {
		return err
	}
	hash, err := passhash.New(secret.Reveal(), file.cost)
	if err != nil {
		return err
	}
	if err := set(ctx, id, hash); err != nil {
		return err
	}
	return a.userDone(ctx, file, done, id)
}

func (a *app) userList(_ context.Context, file usersFile, _ []string) error {
	list, err := file.List()
	if err != nil {
		return err
	}
	for _, id := range list {
		if _, err := fmt.Fprintln(a.out, id); err != nil {
			return err
		}
	}
	return nil
}

func (a *app) userRemove(ctx context.Context, file usersFile, args []string) error {
	id, err := parseAddress(args[0])
	if err != nil {
		return err
	}
	if err := file.Remove(ctx, id); err != nil {
		return err
	}
	return a.userDone(ctx, file, "removed", id)
}

// userDone tells of a change, and lets the cache forget what it knew.
func (a *app) userDone(ctx context.Context, file usersFile, done string, id auth.Identity) error {
	if err := file.forget(ctx, id); err != nil {
		return fmt.Errorf("%s: %s; but the cache may know the old password until `postern cache forget` succeeds: %w", done, id, err)
	}
	_, err := fmt.Fprintf(a.out, "%s: %s\n", done, id)
	return err
}

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"unicode"

	"github.com/spf13/cobra"

	"postern/cmd/internal/admin"
	"postern/cmd/internal/control"
	"postern/cmd/internal/datadir"
	"postern/internal/audit"
	"postern/internal/auth"
	"postern/internal/auth/passhash"
	"postern/internal/backend"
	"postern/internal/config"
	"postern/internal/scram"
)

func newUser(a *app) *cobra.Command {
	var name string
	listed, grouped := &output{app: a}, &output{app: a}
	none := false
	cmd := &cobra.Command{
		Use:   "user",
		Short: "Manage the accounts of the users file",
		Long: `A change takes effect at the next question to the running daemon. Passwords are prompted for,
or read from standard input; they are never on the command line.`,
		Example: `  postern user add alice@example.org
  postern user passwd alice@example.org < new-password`,
	}
	cmd.PersistentFlags().StringVar(&name, "backend", "", "`NAME` of the users backend, if there are several")
	command := func(use, short, example string, args cobra.PositionalArgs, do func(context.Context, usersFile, []string) error) *cobra.Command {
		return a.command("postern user", use, short, example, args, func(ctx context.Context, cfg *config.Config, args []string) error {
			file, err := openUsersFile(cfg, name)
			if err != nil {
				return err
			}
			return do(ctx, file, args)
		})
	}
	groups := grouped.with(command("groups USER@DOMAIN [GROUP...]", "Show the groups of an account, or set them",
		"groups alice@example.org\ngroups alice@example.org mail staff\ngroups alice@example.org --none", cobra.MinimumNArgs(1), func(ctx context.Context, file usersFile, args []string) error {
			return grouped.groups(ctx, file, args, none)
		}), []string{})
	groups.Flags().BoolVar(&none, "none", false, "the account is to be in no group")
	return group(cmd,
		command("add USER@DOMAIN", "Add an account", "add alice@example.org\nadd alice@example.org < password", cobra.ExactArgs(1), func(ctx context.Context, file usersFile, args []string) error {
			if err := a.checkAccount(ctx, file, args[0]); err != nil {
				return err
			}
			return a.setPassword(ctx, args[0], "user add", added, file, file.Add)
		}),
		command("passwd USER@DOMAIN", "Change a password", "passwd alice@example.org\npasswd alice@example.org < new-password", cobra.ExactArgs(1), func(ctx context.Context, file usersFile, args []string) error {
			return a.setPassword(ctx, args[0], "user passwd", "changed", file, file.Set)
		}),
		listed.with(command("list", "List the accounts", "list\nlist --json", cobra.NoArgs, listed.users), []string{}),
		groups,
		command("remove USER@DOMAIN", "Remove an account", "remove alice@example.org\nremove bob@example.org --backend local", cobra.ExactArgs(1), a.userRemove),
	)
}

// usersFile is the file of a users backend, with the cost of new passwords.
type usersFile struct {
	*backend.UsersFile
	path string
	cost int
	seed string // see config.Backend.ScramSeed
	cfg  *config.Config
}

// openUsersFile opens the file of a users backend; an empty name stands for the only one.
func openUsersFile(cfg *config.Config, name string) (file usersFile, err error) {
	var found []config.Backend
	for _, b := range cfg.Backends {
		if b.Kind == "users" && (name == "" || b.Name == name) {
			found = append(found, b)
		}
	}
	switch {
	case len(found) == 0 && name != "":
		return file, fmt.Errorf("the configuration has no users backend named %q: correct --backend, or add `backend \"users\" %[1]q {}`", name)
	case len(found) == 0:
		return file, errors.New("the configuration has no users backend: add `backend \"users\" \"local\" {}`")
	case len(found) == 1:
		if err := os.MkdirAll(cfg.DataDir, 0o700); err != nil {
			return file, fmt.Errorf("data directory: %w", err)
		}
		// Before the file is made, which gets the owner of the directory.
		if err := datadir.GiveToOwner(cfg.DataDir); err != nil {
			return file, err
		}
		file.path, file.cost, file.seed, file.cfg = found[0].Path, found[0].BcryptCost, found[0].ScramSeed, cfg
		file.UsersFile, err = backend.OpenUsersFile(found[0].Path, found[0].FoldCase)
		return file, err
	}
	return file, fmt.Errorf("the configuration has %d users backends: choose one with --backend NAME", len(found))
}

// checkAccount refuses a new account that no front could send, and warns of one in a domain that is not
// served.
func (a *app) checkAccount(ctx context.Context, file usersFile, address string) error {
	id, err := parseAddress(address)
	if err != nil {
		return err
	}
	unescape := slices.ContainsFunc(file.cfg.Domains, func(d config.Domain) bool { return d.UnescapeJID })
	if err := auth.CheckAccount(id.User, unescape); err != nil {
		return fmt.Errorf("%q could not log in: %w: choose another name", id.User, err)
	}
	if strings.ContainsFunc(id.User, unicode.IsSpace) && !unescape {
		fmt.Fprintf(a.Err, "warning: %q has white space: mail servers can send that, XMPP only with unescape_jid in the domain\n", id.User)
	}
	if !admin.ServesAccount(ctx, file.cfg, file.path, id) {
		fmt.Fprintf(a.Err, "warning: no domain has the accounts of %s: add a domain block, or register it\n", id.Domain)
	}
	return nil
}

func (a *app) setPassword(ctx context.Context, address, command, done string, file usersFile, set func(context.Context, auth.Identity, string, *scram.Keys) error) error {
	id, err := parseAddress(address)
	if err != nil {
		return err
	}
	if id, err = file.Name(id); err != nil {
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
	keys, err := backend.NewKeys(file.seed, id, secret)
	if err != nil {
		return err
	}
	if err := set(ctx, id, hash, keys); err != nil {
		return userCure(err)
	}
	return a.userDone(ctx, file, command, done, id)
}

func (o *output) users(_ context.Context, file usersFile, _ []string) error {
	list, err := file.List()
	names := make([]string, len(list))
	for i, id := range list {
		names[i] = id.String()
	}
	return o.print(names, err, func(w io.Writer) error {
		for _, name := range names {
			if _, err := fmt.Fprintln(w, name); err != nil {
				return err
			}
		}
		return nil
	})
}

// groups shows or sets the groups of an account.
func (o *output) groups(ctx context.Context, file usersFile, args []string, none bool) error {
	id, err := parseAddress(args[0])
	if err != nil {
		return err
	}
	if id, err = file.Name(id); err != nil {
		return err
	}
	names := args[1:]
	switch {
	case none && len(names) > 0:
		return errors.New("name the groups, or write --none")
	case none || len(names) > 0:
		slices.Sort(names)
		if err := file.SetGroups(ctx, id, slices.Compact(names)); err != nil {
			return userCure(err)
		}
		return o.app.userDone(ctx, file, "user groups", "changed", id)
	}
	names, err = file.Groups(id)
	return o.print(append([]string{}, names...), userCure(err), func(w io.Writer) error {
		for _, name := range names {
			if _, err := fmt.Fprintln(w, name); err != nil {
				return err
			}
		}
		return nil
	})
}

func (a *app) userRemove(ctx context.Context, file usersFile, args []string) error {
	id, err := parseAddress(args[0])
	if err != nil {
		return err
	}
	if id, err = file.Name(id); err != nil {
		return err
	}
	if err := file.Remove(ctx, id); err != nil {
		return userCure(err)
	}
	return a.userDone(ctx, file, "user remove", removed, id)
}

// userCure adds to an error of the users file what to do about it.
func userCure(err error) error {
	switch {
	case errors.Is(err, backend.ErrExists):
		return fmt.Errorf("%w: `postern user passwd` changes its password", err)
	case errors.Is(err, backend.ErrUnknownUser):
		return fmt.Errorf("%w: `postern user list` lists the accounts, `postern user add` adds one", err)
	}
	return err
}

// removed and added are what is printed of an account that is gone, or new.
const (
	removed = "removed"
	added   = "added"
)

// userDone writes a changed account to the audit log, makes the cache forget what it knew of it, and prints the
// change. command is the one that has changed it.
func (a *app) userDone(ctx context.Context, file usersFile, command, done string, id auth.Identity) error {
	admin.Note(file.cfg, audit.Event{Kind: audit.Admin, Action: command, Outcome: audit.Done, Domain: id.Domain, User: id.User})
	op := map[string]string{removed: control.Removed, added: control.Added}[done]
	if err := admin.ForgetAccount(ctx, file.cfg, file.path, id, op); err != nil {
		return fmt.Errorf("%s: %s; but the cache may go by what was before until `postern cache forget` succeeds: %w", done, id, err)
	}
	if done == removed && admin.KeepsPasswords(file.cfg, id) {
		fmt.Fprintf(a.Err, "warning: app passwords made for %s under other domains stay: `postern password revoke %s@DOMAIN --all` for each\n", id, id.User)
	}
	_, err := fmt.Fprintf(a.Out, "%s: %s\n", done, id)
	return err
}

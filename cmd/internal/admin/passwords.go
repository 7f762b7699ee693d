package admin

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"postern/actors"
	"postern/actors/changes"
	"postern/cmd/internal/control"
	"postern/cmd/internal/datadir"
	"postern/internal/apppassword"
	"postern/internal/auth"
	"postern/internal/backend"
	"postern/internal/config"
	"postern/internal/store"
)

// Passwords makes a call about app passwords (/v1/password/...) or carries it out on the store.
func Passwords(ctx context.Context, cfg *config.Config, path string, id auth.Identity, r control.Request) (reply control.PasswordReply, err error) {
	r.User, r.Domain = id.User, id.Domain
	err = control.Call(ctx, datadir.Control(cfg.DataDir), path, r, &reply)
	if !errors.Is(err, control.ErrNoDaemon) {
		return reply, err
	}
	owner, err := appOwner(ctx, cfg, id)
	if err != nil {
		return reply, err
	}
	err = withStore(ctx, cfg, path, r, &reply, func(p store.Disk) error {
		now := time.Now()
		a, err := apppassword.Read(p, owner.ID)
		if err != nil {
			return err
		}
		changed, ended, err := control.Passwords[path](r, owner, a, now, &reply)
		if err != nil || !changed {
			return err
		}
		if err := keyPassword(cfg, owner, a, reply.Secret); err != nil {
			return err
		}
		ops := []store.Op{{Key: apppassword.RecordKey(owner.ID), Value: a.Encode()}}
		if ended {
			ops = append(ops, changes.Op(owner.ID, changes.Secret, now))
		}
		return p.Apply(ops, true)
	})
	return reply, err
}

// keyPassword makes the SCRAM keys of a new app password, where its domain has SCRAM.
func keyPassword(cfg *config.Config, owner apppassword.Owner, a *apppassword.Account, text string) error {
	d := cfg.DomainFor(owner.ID.Domain)
	secret, isNew := apppassword.Parse(text)
	if !isNew || d == nil || d.ScramSeed == "" {
		return nil
	}
	seed, err := backend.OpenSeed(d.ScramSeed)
	if err != nil {
		return err
	}
	in := owner.ID
	if len(d.AuthDomains) > 0 {
		if in.Domain, err = auth.FoldDomain(d.AuthDomains[0]); err != nil {
			return err
		}
	}
	keys, err := secret.Keys(seed.Salt(in))
	if err == nil {
		a.SetKeys(owner.Key, owner.ID.Domain, owner.ID.User, secret, keys)
	}
	return err
}

// appOwner is the owner of the app passwords of an account, as a daemon with this configuration has it.
func appOwner(ctx context.Context, cfg *config.Config, id auth.Identity) (o apppassword.Owner, err error) {
	d, registered, err := DomainFor(ctx, cfg, id.Domain)
	if err != nil {
		return o, err
	}
	if d == nil || registered || d.AppPasswords == nil {
		return o, fmt.Errorf("%s: %w", id.Domain, actors.ErrNoAppPasswords)
	}
	id, err = appAccount(cfg, d, id)
	return apppassword.Owner{ID: id, Key: apppassword.NewKey(d.AppPasswords.Key)}, err
}

// appAccount is an account as its app passwords have it.
func appAccount(cfg *config.Config, d *config.Domain, id auth.Identity) (_ auth.Identity, err error) {
	if d.UnescapeJID {
		if id.User, err = auth.UnescapeUser(id.User); err != nil {
			return id, err
		}
	}
	if whole, ok := cfg.Whole(d); ok && whole.Folds {
		id = id.Fold()
	}
	return id, nil
}

// KeepsPasswords reports whether app passwords of an account of a users file stay when it is removed: behind a
// domain "*" with an auth_domain, any domain may lead to it.
func KeepsPasswords(cfg *config.Config, id auth.Identity) bool {
	return slices.ContainsFunc(cfg.Domains, func(d config.Domain) bool {
		return d.Name == "*" && d.AppPasswords != nil && isAmong(d.AuthDomains, id.Domain)
	})
}

// dropPasswords removes the app passwords of an account that was removed or made anew. The account's domain may
// have none any more, or be a registered one now.
func dropPasswords(p store.Store, cfg *config.Config, id auth.Identity) error {
	var err error
	if d := cfg.DomainFor(id.Domain); d != nil {
		if id, err = appAccount(cfg, d, id); err != nil {
			return err
		}
	}
	a, err := apppassword.Read(p, id)
	if err != nil || !a.Drop(id.User) {
		return err
	}
	return p.Apply([]store.Op{{Key: apppassword.RecordKey(id), Value: a.Encode()}}, true)
}

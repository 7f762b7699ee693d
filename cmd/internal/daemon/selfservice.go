package daemon

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"postern/actors"
	"postern/internal/apppassword"
	"postern/internal/audit"
	"postern/internal/auth"
	"postern/internal/config"
	"postern/internal/unixtime"
	"postern/internal/web/selfservice"
	"postern/internal/web/signin"
)

// ownPage is the name of the self-service page: that of its block, and of its front in the log.
const ownPage = "self_service"

// accounts is what the self-service page does to accounts.
type accounts struct{ *Daemon }

var _ selfservice.Source = accounts{}

// appPasswords runs a function on the app passwords of an account.
func (a accounts) appPasswords(ctx context.Context, id auth.Identity, run func(apppassword.Owner, *apppassword.Account, time.Time) (bool, error)) error {
	err := a.broker.AppPasswords(ctx, id, run)
	if errors.Is(err, actors.ErrNoAppPasswords) {
		return fmt.Errorf("%w: %w", selfservice.ErrNone, err)
	}
	return err
}

// Passwords implements selfservice.Source.
func (a accounts) Passwords(ctx context.Context, id auth.Identity) (list []apppassword.Password, err error) {
	err = a.appPasswords(ctx, id, func(o apppassword.Owner, all *apppassword.Account, _ time.Time) (bool, error) {
		list = all.Of(o.ID.User)
		return false, nil
	})
	return list, err
}

// Add implements selfservice.Source.
func (a accounts) Add(ctx context.Context, id auth.Identity, n apppassword.New, from netip.Addr) (p apppassword.Password, shown auth.Secret, err error) {
	err = a.appPasswords(ctx, id, func(o apppassword.Owner, all *apppassword.Account, now time.Time) (bool, error) {
		made, secret, err := all.Add(o.Key, o.ID.Domain, o.ID.User, n, unixtime.At(now))
		p, shown = made, secret.Show()
		return err == nil, err
	})
	if err != nil {
		a.note(audit.Admin, "password add", id, from, err)
		return p, shown, err
	}
	a.note(audit.Admin, "password add", id, from, nil, p.ID)
	_ = a.broker.KeyAppPassword(ctx, id, shown) // an error has been logged, and takes nothing from the password
	return p, shown, nil
}

// Revoke implements selfservice.Source.
func (a accounts) Revoke(ctx context.Context, id auth.Identity, ref string, from netip.Addr) error {
	var ids []string
	err := a.appPasswords(ctx, id, func(o apppassword.Owner, all *apppassword.Account, now time.Time) (bool, error) {
		// An empty ID would be all of them, and a name may be that of another one.
		if !slices.ContainsFunc(all.Of(o.ID.User), func(p apppassword.Password) bool { return p.ID == ref }) {
			return false, fmt.Errorf("%w: %q", apppassword.ErrUnknown, ref)
		}
		revoked, err := all.Revoke(o.ID.User, ref, unixtime.At(now))
		for i := range revoked {
			ids = append(ids, revoked[i].ID)
			if revoked[i].For("xmpp") { // it is in force from here on, whether it can be stored or is waited for
				a.broker.NoteRevoked(o.ID)
			}
		}
		return len(revoked) > 0, err
	})
	a.note(audit.Revoke, "password revoke", id, from, err, ids...)
	return err
}

// Changes implements selfservice.Source.
func (a accounts) Changes(id auth.Identity) bool {
	cfg := a.reloads.state.Load().cfg
	d := cfg.DomainFor(id.Domain)
	return d != nil && slices.ContainsFunc(d.Backends, func(b config.BackendRef) bool {
		return b.Kind == config.KindUsers || b.Kind == config.KindNextcloud || b.Kind == config.KindAuthHTTP
	})
}

// Change implements selfservice.Source.
func (a accounts) Change(ctx context.Context, id auth.Identity, old, fresh auth.Secret, from netip.Addr) error {
	if _, err := (authority{a.Daemon, ownPage}).SignIn(ctx, signin.Question{ID: id, Password: old, Client: from}); err != nil {
		return err
	}
	answer := a.broker.ChangePassword(ctx, ownPage, auth.Request{
		User: id.User, Domain: id.Domain, Secret: fresh, Client: addressOf(from),
	}, auth.Own{Old: old}, signInTimeout)
	switch answer.Verdict {
	case auth.Allow:
		return nil
	case auth.Deny, auth.Unsupported:
		return fmt.Errorf("%w: %s", selfservice.ErrRejected, answer.Reason)
	}
	return fmt.Errorf("%w: %s", signin.ErrUnavailable, answer.Reason)
}

// note writes to the audit log what a user has done to the own account.
func (a accounts) note(kind audit.Kind, action string, id auth.Identity, from netip.Addr, err error, ids ...string) {
	e := audit.Event{
		Kind: kind, Action: action, Outcome: audit.Done, Domain: id.Domain, User: id.User, By: id.String(), Front: ownPage, Client: addressOf(from), IDs: ids,
	}
	if err != nil {
		e.Outcome = audit.Failed
	}
	a.audit.Note(e)
}

// addressOf is an address as requests have it; empty if it is not known.
func addressOf(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

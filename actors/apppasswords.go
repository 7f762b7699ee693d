package actors

import (
	"context"
	"errors"
	"fmt"
	"time"

	"postern/actors/changes"
	"postern/actors/router"
	"postern/internal/apppassword"
	"postern/internal/auth"
)

// ErrNoAppPasswords means that a domain has no app passwords.
var ErrNoAppPasswords = errors.New("the domain has no app passwords: put a backend app_passwords first into its backends")

// AppPasswords runs a function on the app passwords of an account, at the broker's time, and waits until
// what it has changed, as it reports, is on disk. It must not block.
func (b *Broker) AppPasswords(ctx context.Context, id auth.Identity, run func(apppassword.Owner, *apppassword.Account, time.Time) (changed bool, err error)) error {
	id, err := b.served(id)
	if err != nil {
		return err
	}
	d := b.table.Current(id.Domain)
	if d == nil || d.AppPasswords == nil {
		return fmt.Errorf("%s: %w", id.Domain, ErrNoAppPasswords)
	}
	owner := apppassword.Owner{ID: auth.Identity{User: d.AppAccount(id.User), Domain: id.Domain}, Key: d.AppPasswords.Key}
	return b.shards.AppPasswords(ctx, id, func(a *apppassword.Account) (bool, error) { return run(owner, a, b.env.Clock()) })
}

// DropAppPasswords removes the app passwords of an account that was removed or made anew, also if its domain has
// none any more.
func (b *Broker) DropAppPasswords(ctx context.Context, id auth.Identity) error {
	id, err := b.served(id)
	if errors.Is(err, router.ErrUnknownDomain) {
		return nil
	}
	if err != nil {
		return err
	}
	if d := b.table.Current(id.Domain); d != nil {
		return b.shards.DropAppPasswords(ctx, d, id)
	}
	return nil
}

// NoteRevoked reports to XMPP servers that what they have issued for an account may not be valid any more,
// since one of its app passwords is not.
func (b *Broker) NoteRevoked(id auth.Identity) { b.changes.Note(id, changes.Secret, true) }

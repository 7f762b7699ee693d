package apppassword

import (
	"cmp"
	"crypto/hmac"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"postern/internal/auth"
	"postern/internal/scram"
	"postern/internal/store"
	"postern/internal/unixtime"
)

// Bounds of a record.
const (
	maxAlive    = 64  // entries of an account that are not revoked
	maxRevoked  = 32  // kept beside them
	maxName     = 100 // bytes
	maxServices = 16
	maxService  = 32 // bytes
)

// revokedFor is how long a revoked entry is kept.
const revokedFor = 90 * 24 * time.Hour

// Errors that are wrapped by those of an Account.
var (
	ErrUnknown = errors.New("there is no such app password")
	ErrName    = errors.New("it cannot have that name")
	ErrFull    = errors.New("revoke some first")
)

// Account is the record of an account: its app passwords in the order in which they were made. The
// zero value has none.
type Account struct {
	Passwords []Password

	Version store.Version // of the record that it was read from, in a shared store
	Seen    uint64        // the store's term in which it was read
}

// Password is an entry of an account.
type Password struct {
	ID       string   // short, of random letters; of one account only
	Account  string   // for which it was made: folded, where the domain folds
	Name     string   // given by its owner, such as that of the device
	Services []string // it is for these alone, see auth.FoldService; none: for all
	Created  unixtime.Time
	Expires  unixtime.Time // 0: never
	Revoked  unixtime.Time // 0: it is not
	Last     Use
	Login    unixtime.Time // when the account's own password was last accepted by a backend; 0: not since it was made

	key  KeyID
	mac  MAC
	keys []*scram.Keys // of the secret as it is typed, see Secret.Keys; none: there are none yet
}

// Owner is an account that may have app passwords.
type Owner struct {
	ID  auth.Identity // the user as entries have it: folded, where the domain folds
	Key *Key
}

// Use is a login.
type Use struct {
	At      unixtime.Time // 0: there was none
	Service string        // empty: the front did not say
	Front   string        // name of the listener
	Client  string        // address; empty: the front did not say
}

// New describes an app password to be made.
type New struct {
	Name     string
	Services []string
	Expires  time.Time // zero: never
}

// Status is what is found of a secret.
type Status uint8

// The statuses of a secret.
const (
	Unknown      Status = iota // the account has no such app password
	Valid                      // alive, and for the service
	Revoked                    // it was taken back
	Expired                    // its time is over
	OtherService               // alive, but for other services
	Unknowable                 // not found, but entries are under another key
)

// Check looks a secret up that was presented for a service, which may be empty. The entry is nil for
// Unknown and Unknowable.
func (a *Account) Check(k *Key, domain, account string, s Secret, service string, now unixtime.Time) (*Password, Status) {
	status := Unknown
	sum := k.mac(domain, account, s)
	for i := range a.Passwords {
		p := &a.Passwords[i]
		switch {
		case p.key != k.id:
			if p.Revoked == 0 && p.Account == account {
				status = Unknowable
			}
		case hmac.Equal(p.mac[:], sum[:]):
			return p, p.status(service, now)
		}
	}
	return nil, status
}

// status is that of an entry for a service.
func (p *Password) status(service string, now unixtime.Time) Status {
	switch {
	case p.Revoked != 0:
		return Revoked
	case p.Expired(now):
		return Expired
	case !p.For(service):
		return OtherService
	}
	return Valid
}

// Expired reports whether the time of an entry is over.
func (p *Password) Expired(now unixtime.Time) bool { return p.Expires != 0 && now >= p.Expires }

// For reports whether the entry is for a service.
func (p *Password) For(service string) bool {
	return len(p.Services) == 0 || slices.Contains(p.Services, service)
}

// Confirmed reports whether an entry is good where no backend can be asked about the account: for a ttl
// since it was made, or since the account's last login with its own password.
func (p *Password) Confirmed(ttl time.Duration, now unixtime.Time) bool {
	return max(p.Created, p.Login).Within(ttl, now)
}

// Confirm notes that a backend has accepted the own password of the accounts that covers holds for, and reports
// whether one of them has entries. It is kept here since the cache may forget it, or not remember at all.
func (a *Account) Confirm(covers func(account string) bool, now unixtime.Time) (changed bool) {
	for i := range a.Passwords {
		if p := &a.Passwords[i]; covers(p.Account) {
			p.Login, changed = now, true
		}
	}
	return changed
}

// Alive reports whether the account, by this spelling, has an entry that is neither revoked nor expired.
func (a *Account) Alive(account string, now unixtime.Time) bool {
	return slices.ContainsFunc(a.Passwords, func(p Password) bool {
		return p.Account == account && p.Revoked == 0 && !p.Expired(now)
	})
}

// Of returns the entries of one spelling of the account.
func (a *Account) Of(account string) (list []Password) {
	for _, p := range a.Passwords {
		if p.Account == account {
			list = append(list, p)
		}
	}
	return list
}

// Add makes an app password. Its secret is returned once.
func (a *Account) Add(k *Key, domain, account string, n New, now unixtime.Time) (Password, Secret, error) {
	p := Password{Account: account, Name: n.Name, Created: now, key: k.id}
	if err := n.check(now.Go()); err != nil {
		return p, Secret{}, err
	}
	if !n.Expires.IsZero() {
		p.Expires = unixtime.At(n.Expires)
	}
	for _, service := range n.Services {
		if folded := auth.FoldService(service); !slices.Contains(p.Services, folded) {
			p.Services = append(p.Services, folded)
		}
	}
	a.tidy(now)
	alive := 0
	for i := range a.Passwords {
		if a.Passwords[i].Revoked == 0 {
			alive++
		}
	}
	if alive >= maxAlive {
		return p, Secret{}, fmt.Errorf("the account has %d app passwords: %w", alive, ErrFull)
	}
	for p.ID == "" || slices.ContainsFunc(a.Passwords, func(other Password) bool { return other.ID == p.ID }) {
		p.ID = newID()
	}
	s := NewSecret()
	p.mac = k.mac(domain, account, s)
	a.Passwords = append(a.Passwords, p)
	return p, s, nil
}

// newID draws the ID of an entry.
func newID() string {
	var b [6]byte
	_, _ = rand.Read(b[:]) // never fails, see crypto/rand
	for i := range b {
		b[i] = alphabet[int(b[i])%len(alphabet)]
	}
	return string(b[:])
}

func (n *New) check(now time.Time) error {
	control := func(r rune) bool { return unicode.IsControl(r) || r == '\u2028' || r == '\u2029' }
	switch {
	case n.Name == "":
		return fmt.Errorf("an app password needs a name, such as that of the device: %w", ErrName)
	case len(n.Name) > maxName || !utf8.ValidString(n.Name) || strings.ContainsFunc(n.Name, control):
		return fmt.Errorf("the name of an app password is one line of text, up to %d bytes: %w", maxName, ErrName)
	case len(n.Services) > maxServices:
		return fmt.Errorf("an app password is for up to %d services", maxServices)
	case !n.Expires.IsZero() && !n.Expires.After(now):
		return errors.New("the app password would have expired already")
	}
	for _, s := range n.Services {
		if s == "" || len(s) > maxService || strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' || r == ',' }) {
			return fmt.Errorf("%q is not the name of a service: write one as in imap, smtp or xmpp", clip(s))
		}
	}
	return nil
}

// clip shortens a text for a message.
func clip(text string) string {
	if len(text) > 80 {
		return text[:80] + "..."
	}
	return text
}

// Find returns the entry of an account with an ID, or else with a name that only one of those that are not
// revoked has. The error wraps ErrUnknown.
func (a *Account) Find(account, ref string) (*Password, error) {
	var named []*Password
	for i := range a.Passwords {
		p := &a.Passwords[i]
		switch {
		case p.Account != account:
		case p.ID == ref:
			return p, nil
		case p.Name == ref && p.Revoked == 0:
			named = append(named, p)
		}
	}
	switch len(named) {
	case 0:
		return nil, fmt.Errorf("%w: %q", ErrUnknown, clip(ref))
	case 1:
		return named[0], nil
	}
	return nil, fmt.Errorf("%d app passwords are named %q: write the ID of one", len(named), clip(ref))
}

// Revoke takes back the entry that ref names (see Find), or all of the account if ref is empty, and
// returns those that it has changed.
func (a *Account) Revoke(account, ref string, now unixtime.Time) (changed []Password, err error) {
	if ref != "" {
		p, err := a.Find(account, ref)
		if err != nil || p.Revoked != 0 {
			return nil, err
		}
		p.Revoked = max(now, 1)
		changed = append(changed, *p)
	} else {
		for i := range a.Passwords {
			if p := &a.Passwords[i]; p.Account == account && p.Revoked == 0 {
				p.Revoked = max(now, 1)
				changed = append(changed, *p)
			}
		}
	}
	a.tidy(now)
	return changed, nil
}

// SetExpiry gives an entry another end; the zero time is none. A revoked one stays so.
func (a *Account) SetExpiry(account, ref string, at time.Time) (Password, error) {
	p, err := a.Find(account, ref)
	switch {
	case err != nil:
		return Password{}, err
	case p.Revoked != 0:
		return Password{}, fmt.Errorf("the app password %q is revoked: make another one", p.Name)
	}
	if p.Expires = 0; !at.IsZero() {
		p.Expires = max(unixtime.At(at), 1)
	}
	return *p, nil
}

// Drop removes all entries of one spelling of the account, and reports whether there were some.
func (a *Account) Drop(account string) (dropped bool) {
	n := len(a.Passwords)
	a.Passwords = slices.DeleteFunc(a.Passwords, func(p Password) bool { return p.Account == account })
	return len(a.Passwords) < n
}

// tidy drops revoked entries that are old, or more than are kept.
func (a *Account) tidy(now unixtime.Time) {
	revoked := 0
	for i := range a.Passwords {
		if a.Passwords[i].Revoked != 0 {
			revoked++
		}
	}
	oldest := slices.Clone(a.Passwords)
	slices.SortStableFunc(oldest, func(p, q Password) int { return cmp.Compare(p.Revoked, q.Revoked) })
	drop := make(map[string]bool)
	for _, p := range oldest {
		if p.Revoked != 0 && (revoked > maxRevoked || now.Sub(p.Revoked) >= revokedFor) {
			drop[p.ID] = true
			revoked--
		}
	}
	a.Passwords = slices.DeleteFunc(a.Passwords, func(p Password) bool { return drop[p.ID] })
}

// Clone returns a copy that shares nothing that changes.
func (a *Account) Clone() Account {
	return Account{Passwords: slices.Clone(a.Passwords), Version: a.Version, Seen: a.Seen}
}

// freshFor is how long an entry may be new to a record that another process has written meanwhile.
const freshFor = 10 * time.Minute

// Merge returns what becomes of two records that were written at once: mine, and theirs, which is there. An entry that one
// of them has revoked is revoked, one that theirs has dropped stays so, unless it was made a moment ago, and of uses
// and logins the last one counts.
func Merge(mine, theirs *Account, now unixtime.Time) *Account {
	merged := theirs.Clone()
	for _, p := range mine.Passwords {
		i := slices.IndexFunc(merged.Passwords, func(o Password) bool { return o.ID == p.ID && o.mac == p.mac })
		if i < 0 {
			if p.Created.Within(freshFor, now) {
				merged.Passwords = append(merged.Passwords, p)
			}
			continue
		}
		o := &merged.Passwords[i]
		if o.Revoked == 0 {
			o.Revoked = p.Revoked
		}
		if len(o.keys) == 0 {
			o.keys = p.keys
		}
		o.takeUse(&p)
	}
	return &merged
}

// takeUse takes over the last use and login of an entry if they are later.
func (p *Password) takeUse(o *Password) {
	if o.Last.At > p.Last.At {
		p.Last = o.Last
	}
	p.Login = max(p.Login, o.Login)
}

// TakeUses takes over the last uses and logins of an older copy, which may be in no record yet.
func (a *Account) TakeUses(of *Account) {
	for i := range a.Passwords {
		for j := range of.Passwords {
			if p, o := &a.Passwords[i], &of.Passwords[j]; p.ID == o.ID && p.mac == o.mac {
				p.takeUse(o)
			}
		}
	}
}

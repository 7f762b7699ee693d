package actors

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"postern/actors/domain"
	"postern/actors/supervise"
	"postern/internal/apppassword"
	"postern/internal/auth"
	"postern/internal/scram"
	"postern/internal/unixtime"
)

// offerTTL is how long it is remembered whether a domain offers SCRAM.
const offerTTL = 2 * time.Second

// maxOffers bounds the domains of which that is remembered.
const maxOffers = 4096

// offers remembers which domains offer SCRAM. It is safe for concurrent use.
type offers struct {
	mu    sync.Mutex
	known map[offerOf]offer
	log   supervise.LogThrottle
}

// offerOf is a domain as it is configured, and a service.
type offerOf struct {
	domain        *domain.Domain
	name, service string
}

type offer struct {
	made bool
	at   time.Time
}

// offersScram reports whether all accounts of a domain that can log in for a service have SCRAM keys. A client
// does not fall back from SCRAM to a password, and servers offer it before they know the account.
func (b *Broker) offersScram(d *domain.Domain, name, service string) bool {
	of, now := offerOf{d, name, service}, time.Now()
	b.offers.mu.Lock()
	was, known := b.offers.known[of]
	b.offers.mu.Unlock()
	if known && now.Sub(was.at) < offerTTL {
		return was.made
	}
	n, err := b.keyless(d, name, service)
	if alike, due := b.offers.log.Due(now); (n > 0 || err != nil) && (!known || was.made) && due {
		b.env.Log.Warn("SCRAM is not offered: accounts have no keys for it. They are made at logins by PLAIN, and by postern user passwd",
			"domain", name, "missing", n, "err", err, "alike", alike)
	}
	b.offers.mu.Lock()
	defer b.offers.mu.Unlock()
	if b.offers.known == nil || len(b.offers.known) >= maxOffers {
		b.offers.known = make(map[offerOf]offer)
	}
	for other := range b.offers.known {
		if other.name == name && other.domain != d {
			delete(b.offers.known, other)
		}
	}
	b.offers.known[of] = offer{n == 0 && err == nil, now}
	return n == 0 && err == nil
}

// keyless returns how many users and app passwords of a domain have no SCRAM keys, of those that may log in for a
// service.
func (b *Broker) keyless(d *domain.Domain, name, service string) (n int, err error) {
	if d.Scram == nil {
		return 0, d.ScramFault
	}
	if d.AppPasswords != nil {
		n, err = b.keylessApps(d, name)
	}
	if err != nil || !d.Own(service) {
		return n, err
	}
	for _, hop := range d.Hops {
		more, err := hop.Backend.Keyless(d.Scram.Domain(name))
		if err != nil {
			return n, err
		}
		n += more
	}
	return n, nil
}

// keylessApps counts app passwords. What is on its way to the disk is not seen, which the next count corrects.
func (b *Broker) keylessApps(d *domain.Domain, name string) (n int, err error) {
	disk := b.env.Disk()
	if disk == nil {
		return 0, errors.New("the store with the app passwords is not open")
	}
	now, in := unixtime.At(b.env.Clock()), d.Scram.Domain(name)
	salt := func(account string) scram.Salt { return d.Scram.Seed.Salt(auth.Identity{User: account, Domain: in}) }
	scan := disk.Store().Scan(apppassword.RecordPrefix(name), func(_, record []byte) bool {
		var a *apppassword.Account
		if a, err = apppassword.Decode(record); err == nil {
			n += a.Keyless(salt, now)
		}
		return err == nil
	})
	return n, errors.Join(err, scan)
}

// KeylessApps returns how many app passwords have no SCRAM keys, by domain of the configuration that is to have SCRAM.
func (b *Broker) KeylessApps() (map[string]int, error) {
	all := map[string]int{}
	for _, cfg := range b.table.Config().Domains {
		d := b.table.Current(cfg.Name)
		if d == nil || d.AppPasswords == nil || cfg.ScramSeed == "" || cfg.Name == "*" {
			continue
		}
		if d.Scram == nil {
			return nil, d.ScramFault
		}
		n, err := b.keylessApps(d, cfg.Name)
		if err != nil {
			return nil, err
		}
		all[cfg.Name] = n
	}
	return all, nil
}

// KeyAppPassword makes and stores the SCRAM keys of an app password that was just made, where its domain has SCRAM. If
// that fails, which is logged, they are made at its first login as a password.
func (b *Broker) KeyAppPassword(ctx context.Context, id auth.Identity, secret auth.Secret) error {
	id, err := b.served(id)
	if err != nil {
		return err
	}
	d := b.table.Current(id.Domain)
	if d == nil || d.AppPasswords == nil || d.Scram == nil {
		return nil
	}
	if err := b.shards.StoreKeys(ctx, d, id, secret); err != nil {
		b.env.Log.Warn("app password without SCRAM keys", "domain", id.Domain, "user", id.User, "err", err)
		return fmt.Errorf("SCRAM keys of the app password: %w", err)
	}
	return nil
}

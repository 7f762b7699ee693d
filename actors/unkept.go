package actors

import (
	"postern/internal/cache"
	"postern/internal/config"
	"postern/internal/store"
)

// dropUnkept forgets on disk the users of all domains that are not kept there now: what is learnt
// of them from here on is missing, should they be kept there again after another start.
func (b *Broker) dropUnkept() {
	disk, t := b.disk.Load(), b.table.Load()
	drop := func(name string, remove func() error) {
		some, err := hasUsers(disk, name)
		if err == nil && some {
			err = remove()
		}
		b.report(name, err)
	}
	for name, d := range t.domains {
		if !d.params.Load().disk {
			drop(name, func() error { return b.deleteUsers(disk, d) })
		}
	}
	if b.cfg.Registry.Cache.Storage == config.StorageDisk {
		return
	}
	for name := range *b.tenants.names.Load() {
		if t.domains[name] == nil {
			drop(name, func() error { return disk.DeletePrefix(cache.RecordPrefix(name)) })
		}
	}
}

// hasUsers reports whether there may be records of a domain's users; of those of the fallback it
// knows only that there are some of somebody.
func hasUsers(disk store.Store, name string) (found bool, err error) {
	prefix := cache.RecordPrefix(name)
	if name == "*" {
		prefix = []byte(store.Credentials)
	}
	err = disk.Scan(prefix, func(_, _ []byte) bool { found = true; return false })
	return found, err
}

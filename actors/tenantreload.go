package actors

import (
	"reflect"

	"postern/internal/config"
)

// yieldTenants takes the tenants out of use that get a block in the configuration, and has those
// that lose theirs wait for its end. Their users have been handed over.
func (p *plan) yieldTenants(now *table) {
	for name := range p.next.domains {
		if t := p.tenants.get(name); t != nil && now.domains[name] == nil {
			if t.live.Load() == nil {
				p.quiet(t)
				p.rekey(name, p.cfg.Registry.Cache.Storage == config.StorageDisk, p.next.domains[name].params.Load().disk)
			}
			p.retiring = append(p.retiring, t)
		}
	}
	for name, d := range now.domains {
		if t := p.tenants.get(name); t != nil && p.next.domains[name] == nil {
			p.rekey(name, d.params.Load().disk, p.Config.Registry.Cache.Storage == config.StorageDisk)
			t.mu.Lock()
			t.last = d
			t.change++
			t.mu.Unlock()
		}
	}
}

// retune ends the domains of tenants that got a block, and puts changed rules of the cache, and
// limits, into effect for the others.
func (p *plan) retune(was config.Registry) {
	for _, t := range p.retiring {
		p.part(t, false)
	}
	if now := p.Config.Registry; was.Cache == now.Cache && reflect.DeepEqual(was.Limit, now.Limit) {
		return
	}
	for name, t := range *p.tenants.names.Load() {
		if p.next.domains[name] != nil {
			continue
		}
		t.mu.Lock()
		t.change++
		d := t.live.Load()
		t.mu.Unlock()
		if d == nil {
			p.rekey(name, was.Cache.Storage == config.StorageDisk, p.Config.Registry.Cache.Storage == config.StorageDisk)
			continue
		}
		record, err := p.tenants.registry.Load().Get(name)
		if err == nil {
			err = p.alter(t, record)
		}
		if err != nil {
			p.log.Error("registered domain keeps its former rules", "domain", name, "err", err)
		}
	}
}

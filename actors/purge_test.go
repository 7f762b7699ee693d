package actors

import (
	"maps"
	"slices"
	"testing"

	"postern/internal/auth"
	"postern/internal/cache"
	"postern/internal/config"
	"postern/internal/store"
)

// TestPurge: the records on disk of a domain that is kept in memory are deleted at the start. They
// miss what is learnt from here on, should the domain be kept on disk again.
func TestPurge(t *testing.T) {
	const block, fallback, registered = "dom.example", "any.example", "registered.example"
	for name, c := range map[string]struct {
		inMemory string
		want     []string
	}{
		"all on disk": {"", []string{fallback, block, registered}},
		"block":       {"dom.example", []string{fallback, registered}},
		"fallback":    {"*", []string{block, registered}},
		"registry":    {"registry", []string{fallback, block}},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, disk := newRegisteredRig(t, func(s *setup) {
				for _, name := range []string{block, fallback, registered} {
					id := auth.Identity{User: "joe", Domain: name}
					if err := s.store.Apply([]store.Op{{Key: cache.RecordKey(id), Value: []byte("x")}}, true); err != nil {
						t.Fatal(err)
					}
				}
				star := s.cfg.Domains[0]
				star.Name = "*"
				s.cfg.Domains = append(s.cfg.Domains, star)
				for i := range s.cfg.Domains {
					d := &s.cfg.Domains[i]
					d.Cache.Storage = config.StorageDisk
					if d.Name == c.inMemory {
						d.Cache.Storage = config.StorageMemory
					}
				}
				if s.cfg.Registry.Cache.Storage = config.StorageDisk; c.inMemory == "registry" {
					s.cfg.Registry.Cache.Storage = config.StorageNone
				}
			}, registered)
			kept := map[string]bool{}
			if err := disk.Scan([]byte(store.Credentials), func(key, _ []byte) bool {
				id, _ := cache.RecordIdentity(key)
				kept[id.Domain] = true
				return true
			}); err != nil {
				t.Fatal(err)
			}
			if names := slices.Sorted(maps.Keys(kept)); !slices.Equal(names, c.want) {
				t.Errorf("kept are %v, want %v", names, c.want)
			}
		})
	}
}

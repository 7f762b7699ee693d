package router

import (
	"slices"
	"testing"
	"time"

	"postern/internal/auth"
	"postern/internal/cache"
	"postern/internal/config"
	"postern/internal/store"
)

// TestStorageOf: a block stands before the registered domain of its name, and that before "*". Nothing
// is kept without a store.
func TestStorageOf(t *testing.T) {
	blocks := map[string]bool{"kept.example": true, "not.example": false}
	withStar := func(kept bool) map[string]bool {
		return map[string]bool{"kept.example": true, "not.example": false, "*": kept}
	}
	registered := map[string]*registered{"reg.example": {}, "kept.example": {}, "not.example": {}}
	for name, c := range map[string]struct {
		s            storage
		of           string
		served, kept bool
	}{
		"a block":                       {storage{true, blocks, registered, true}, "kept.example", true, true},
		"a block that is not kept":      {storage{true, blocks, registered, true}, "not.example", true, false},
		"a block, no store":             {storage{false, blocks, registered, true}, "kept.example", true, false},
		"registered":                    {storage{true, blocks, registered, true}, "reg.example", true, true},
		"registered, not kept":          {storage{true, blocks, registered, false}, "reg.example", true, false},
		"registered, before a fallback": {storage{true, withStar(true), registered, false}, "reg.example", true, false},
		"registered, no store":          {storage{false, blocks, registered, true}, "reg.example", true, false},
		"block before registered":       {storage{true, blocks, registered, false}, "kept.example", true, true},
		"unknown":                       {storage{true, blocks, registered, true}, "other.example", false, false},
		"fallback":                      {storage{true, withStar(true), registered, false}, "other.example", true, true},
		"fallback that is not kept":     {storage{true, withStar(false), registered, true}, "other.example", true, false},
		"fallback, no store":            {storage{false, withStar(true), nil, true}, "other.example", true, false},
		"nothing at all":                {storage{}, "other.example", false, false},
	} {
		if served, kept := c.s.of(c.of); served != c.served || kept != c.kept {
			t.Errorf("%s: served %t, kept %t; want %t, %t", name, served, kept, c.served, c.kept)
		}
	}
}

// record is the key of a user's record.
func record(domain string) []byte { return cache.RecordKey(auth.Identity{User: "joe", Domain: domain}) }

// stocked puts a record of each domain on disk.
func (r *rig) stocked(domains ...string) {
	r.t.Helper()
	var ops []store.Op
	for _, name := range domains {
		ops = append(ops, store.Op{Key: record(name), Value: []byte("x")})
	}
	r.must(r.disk.Apply(ops, true))
}

// onDisk lists the domains of which there are records.
func (r *rig) onDisk() []string { return r.stored(r.env.Disk()) }

// TestPurge: records are deleted of the names that are served, but not kept, in one state and kept
// in the other.
func TestPurge(t *testing.T) {
	kept := storage{disk: true, blocks: map[string]bool{"a.example": true, "b.example": true}}
	not := storage{disk: true, blocks: map[string]bool{"a.example": false, "b.example": false}}
	none := storage{disk: true, blocks: map[string]bool{}}
	noDisk := storage{blocks: map[string]bool{"a.example": true, "b.example": true}}
	all := []string{"a.example", "b.example", "b.example.org", "c.example"}
	for name, c := range map[string]struct {
		change        change
		without, with storage
		gone          []string
	}{
		"from kept to not":                {change{names: []string{"a.example"}}, not, kept, []string{"a.example"}},
		"from not to kept":                {change{names: []string{"a.example"}}, kept, not, nil},
		"kept in both":                    {change{names: []string{"a.example"}}, kept, kept, nil},
		"kept in neither":                 {change{names: []string{"a.example"}}, not, not, nil},
		"served no more":                  {change{names: []string{"a.example"}}, none, kept, nil},
		"served only in the one":          {change{names: []string{"a.example"}}, not, none, nil},
		"without a disk before":           {change{names: []string{"a.example"}}, noDisk, kept, []string{"a.example"}},
		"names that have none":            {change{names: []string{"d.example"}}, not, kept, nil},
		"every name, those of the change": {change{all: true}, not, kept, []string{"a.example", "b.example"}},
		"no other domain's by its prefix": {change{names: []string{"b.example"}}, not, kept, []string{"b.example"}},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, nil, nil, nil)
			r.stocked(all...)
			r.purge(r.env.Disk(), c.change, c.without, c.with)
			want := slices.DeleteFunc(slices.Clone(all), func(name string) bool { return slices.Contains(c.gone, name) })
			if got := r.onDisk(); !slices.Equal(got, want) {
				t.Errorf("there are records of %q, want %q", got, want)
			}
			r.purge(nil, c.change, c.without, c.with) // without a store there is nothing to do
		})
	}
}

// TestChangesPurge: what becomes of the records on disk as names move between blocks, registered
// domains and the fallback that keep their users on disk or not.
func TestChangesPurge(t *testing.T) {
	disk := func(name string) func(*config.Config) {
		return func(c *config.Config) { addBlock(c, name, config.StorageDisk) }
	}
	memory := func(name string) func(*config.Config) {
		return func(c *config.Config) { addBlock(c, name, config.StorageMemory) }
	}
	without := func(name string) func(*config.Config) { return func(c *config.Config) { removeBlock(c, name) } }
	for name, c := range map[string]struct {
		start  func(*config.Config)
		change func(r *rig)
		kept   bool
	}{
		"a block is removed, and nothing answers": {disk("a.example"), func(r *rig) { r.reload(without("a.example")) }, true},
		"a block is removed before a fallback that keeps": {
			func(c *config.Config) { disk("a.example")(c); disk("*")(c) },
			func(r *rig) { r.reload(without("a.example")) }, true,
		},
		"a block is removed before a fallback that does not": {
			func(c *config.Config) { disk("a.example")(c); memory("*")(c) },
			func(r *rig) { r.reload(without("a.example")) }, false,
		},
		"a block comes before a fallback that keeps": {disk("*"), func(r *rig) { r.reload(memory("a.example")) }, false},
		"a block that keeps comes":                   {memory("*"), func(r *rig) { r.reload(disk("a.example")) }, false},
		"both keep":                                  {disk("*"), func(r *rig) { r.reload(disk("a.example")) }, true},
		"a domain is registered": {
			func(c *config.Config) { disk("*")(c); c.Registry.Cache = cacheOf(config.StorageMemory) },
			func(r *rig) { r.must(r.register(tenancy("a.example", "good"))) }, false,
		},
		"a domain that keeps is registered": {disk("*"), func(r *rig) { r.must(r.register(tenancy("a.example", "good"))) }, true},
		"registered domains keep no more": {
			func(*config.Config) {},
			func(r *rig) {
				r.must(r.register(tenancy("a.example", "good")))
				r.stocked("a.example")
				r.reload(func(c *config.Config) { c.Registry.Cache = cacheOf(config.StorageMemory) })
			}, false,
		},
		"another domain changes": {disk("a.example"), func(r *rig) { r.reload(memory("b.example")) }, true},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, nil, nil, c.start)
			r.stocked("a.example")
			c.change(r)
			if got := slices.Contains(r.onDisk(), "a.example"); got != c.kept {
				t.Errorf("there are records: %t, want %t", got, c.kept)
			}
		})
	}
}

// TestMemoryFollows: a name that another block answers for is known there only by what that block
// was told, and what the fallback knew of it is forgotten.
func TestMemoryFollows(t *testing.T) {
	r := newRig(t, []string{"*"}, nil, nil)
	r.want(r.login("a.example", "joe", "*"), auth.Allow, auth.SourceBackend)
	r.want(r.login("b.example", "joe", "*"), auth.Allow, auth.SourceBackend)
	r.reload(ownBlock)
	r.want(r.login("a.example", "joe", "*"), auth.Deny, auth.SourceBackend)
	r.want(r.login("a.example", "joe", "a.example"), auth.Allow, auth.SourceBackend)
	r.want(r.login("b.example", "joe", "*"), auth.Allow, auth.SourceHot)
	r.reload(noBlock)
	r.want(r.login("a.example", "joe", "a.example"), auth.Deny, auth.SourceBackend)
	r.want(r.login("a.example", "joe", "*"), auth.Allow, auth.SourceBackend)
	r.want(r.login("b.example", "joe", "*"), auth.Allow, auth.SourceHot)
	r.idle()
}

// TestOldValueEnds: the value of a domain that a reload has replaced ends when its last call does,
// and its backend with it.
func TestOldValueEnds(t *testing.T) {
	r := newRig(t, []string{"a.example"}, nil, nil)
	was := r.Current("a.example")
	if !was.Acquire() {
		t.Fatal("the value in force is retired")
	}
	r.reload(func(c *config.Config) { c.Backends[0].Slots = 9 })
	eventually(t, "the end of the former value", was.Retired)
	if r.open("a.example") != 2 {
		t.Error("a backend was closed while a call held its domain")
	}
	was.Release()
	eventually(t, "the end of the former backend", func() bool { return r.open("a.example") == 1 })
	r.want(r.login("a.example", "joe", "a.example"), auth.Allow, auth.SourceBackend)
	if now := r.Current("a.example"); now == was || now.Shared != was.Shared {
		t.Error("the counts and limits of a name did not stay")
	}
}

// TestStartPurges: the records of names that are not kept any more are deleted at the start, and
// those of names that nothing serves stay.
func TestStartPurges(t *testing.T) {
	r := newRig(t, []string{"not.example"}, []string{"reg.example"}, func(c *config.Config) { addBlock(c, "kept.example", config.StorageDisk) })
	r.stocked("kept.example", "not.example", "other.example", "reg.example")
	other := NewTable(r.env, r.makeBackend)
	other.Connect(r.shards, r.tokens)
	r.must(other.Start(r.cfg))
	if got := r.onDisk(); !slices.Equal(got, []string{"kept.example", "other.example", "reg.example"}) {
		t.Errorf("there are records of %q", got)
	}
	other.Stop()
}

// TestStoreIsReadAgain: what was learnt without the store is not there, so that the names that
// are kept there begin anew, and the domains registered there are served.
func TestStoreIsReadAgain(t *testing.T) {
	r := newRig(t, nil, nil, nil)
	r.must(r.disk.Apply([]store.Op{{Key: []byte(store.Domains + "a.example"), Value: encoded("a.example")}}, true))
	if r.Serves("a.example") {
		t.Error("it is served before the store was read")
	}
	p, err := r.Prepare(r.cfg, config.Diff(r.cfg, r.cfg))
	r.must(err)
	r.must(p.Commit(t.Context(), r.env.Disk()))
	r.want(r.login("a.example", "joe", "good"), auth.Allow, auth.SourceBackend)
}

func encoded(name string) []byte {
	record := tenancy(name, "good")
	record.First, record.Latest = time.Now(), time.Now()
	return record.Encode()
}

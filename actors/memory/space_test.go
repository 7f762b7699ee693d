package memory

import (
	"fmt"
	"testing"
	"time"

	"postern/actors/slots"
	"postern/internal/auth"
	"postern/internal/cache"
	"postern/internal/config"
	"postern/internal/unixtime"
)

// stranger is known to be absent, and friend was accepted.
func stranger() *cache.User {
	return &cache.User{Exists: cache.Existence{Known: true, At: unixtime.At(time.Now())}}
}

func friend() *cache.User {
	now := unixtime.At(time.Now())
	return &cache.User{Verifiers: []cache.Verifier{{By: vouching(), Hash: "x", First: now, Verified: now, Used: now}}}
}

// TestSpaceLists: accepted users are kept apart from users with refusals only, however many of
// these there are.
func TestSpaceLists(t *testing.T) {
	r := newRig(t, config.StorageDisk)
	r.in(func(s *shard) {
		sp := s.space(r.Current("dom.example"))
		sp.place(account("joe"), friend())
		for i := range 100 {
			sp.place(account(fmt.Sprint("invented", i)), stranger())
		}
		if st := sp.stats(); st.Users != 1 || st.Strangers != 16 || sp.get(account("joe")) == nil {
			t.Errorf("%+v", st)
		}
		sp.place(account("invented99"), friend()) // accepted by now
		if st := sp.stats(); st.Users != 2 || st.Strangers != 15 {
			t.Errorf("after a login: %+v", st)
		}
		sp.touched[account("joe")] = struct{}{}
		sp.place(account("joe"), stranger()) // forgotten
		if _, touched := sp.touched[account("joe")]; touched || sp.known.Contains(account("joe")) || sp.get(account("joe")) == nil {
			t.Error("a user who was forgotten stands among those who were accepted")
		}
		for i := range 100 {
			sp.place(account(fmt.Sprint("friend", i)), friend())
		}
		if st := sp.stats(); st.Users != 16 || st.Strangers != 16 || sp.get(account("friend99")) == nil || sp.get(account("friend0")) != nil {
			t.Errorf("full: %+v", st)
		}
	})
	if r.onDisk(account("joe")) {
		t.Error("who was forgotten was written")
	}
}

// TestSpaceEvicts: what only memory knows of a user is written when the user is pushed out of it, and
// by a flush, and nothing else is.
func TestSpaceEvicts(t *testing.T) {
	r := newRig(t, config.StorageDisk)
	r.in(func(s *shard) {
		sp := s.space(r.Current("dom.example"))
		sp.place(account("touched"), friend())
		sp.place(account("untouched"), friend())
		sp.place(account("dropped"), friend())
		sp.touched[account("touched")], sp.touched[account("dropped")] = struct{}{}, struct{}{}
		sp.drop(func(id auth.Identity) bool { return id.User == "dropped" })
		for i := range 16 {
			sp.place(account(fmt.Sprint("friend", i)), friend())
		}
		sp.touched[account("friend3")] = struct{}{}
		if sp.flush(); len(sp.touched) != 0 {
			t.Errorf("after a flush there is still %v", sp.touched)
		}
	})
	for user, want := range map[string]bool{"touched": true, "untouched": false, "dropped": false, "friend3": true, "friend4": false} {
		if got := r.onDisk(account(user)); got != want {
			t.Errorf("%s is on disk: %t, want %t", user, got, want)
		}
	}
}

// TestSpaceSaves: only the block that answers for a name writes when its users were seen last.
func TestSpaceSaves(t *testing.T) {
	r := newRig(t, config.StorageDisk)
	star := r.serve("*", config.StorageDisk, nil, "*", "other.example")
	id := func(domain string) auth.Identity { return auth.Identity{User: "joe", Domain: domain} }
	r.in(func(s *shard) {
		sp := s.space(star)
		for _, name := range []string{"dom.example", "other.example", "unserved.example"} {
			sp.saveTouched(id(name), friend())
		}
	})
	for name, want := range map[string]bool{"dom.example": false, "other.example": true, "unserved.example": true} {
		if got := r.onDisk(id(name)); got != want {
			t.Errorf("%s is on disk: %t, want %t", name, got, want)
		}
	}
}

// TestSpaceAdapts: what was refused by another authority is forgotten, and all where nothing is to
// be remembered; what does not fit any more is pushed out.
func TestSpaceAdapts(t *testing.T) {
	another := config.BackendRef{Kind: "json", Name: "another"}
	for name, c := range map[string]struct {
		storage  config.Storage
		change   func(*config.Domain)
		users    int
		refusals bool
	}{
		"rules":             {config.StorageDisk, func(d *config.Domain) { d.Cache.QueryTTL = time.Minute }, 20, true},
		"another authority": {config.StorageDisk, func(d *config.Domain) { d.Backends = []config.BackendRef{another} }, 20, false},
		"less room":         {config.StorageDisk, func(d *config.Domain) { d.Cache.HotEntries = 17 }, 17, true},
		"no disk":           {config.StorageMemory, nil, 20, true},
		"no memory":         {config.StorageNone, nil, 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, config.StorageDisk)
			b, err := slots.New(r.env, config.Backend{BackendRef: another, Slots: 1}, r.fake, func(*slots.Backend) {})
			if err != nil {
				t.Fatal(err)
			}
			defer b.Close(time.Minute)
			r.backend[another] = b
			was := r.serve("dom.example", config.StorageDisk, func(d *config.Domain) { d.Cache.HotEntries = 100 })
			next := r.serve("dom.example", c.storage, func(d *config.Domain) {
				d.Cache.HotEntries = 100
				if c.change != nil {
					c.change(d)
				}
			})
			r.in(func(s *shard) {
				sp := s.space(was)
				for i := range 20 {
					user := friend()
					user.Refusals = []cache.Refusal{{Key: cache.Key{1}, At: unixtime.At(time.Now())}}
					sp.place(account(fmt.Sprint("user", i)), user)
				}
				if s.space(next) != sp {
					t.Fatal("a domain's memory was not adapted")
				}
				if n := sp.known.Len(); n != c.users {
					t.Errorf("%d users, want %d", n, c.users)
				}
				if c.users == 0 {
					return
				}
				a, held := sp.get(account("user19")).Hot(cache.Key{1}, "user19", "", &next.Rules, unixtime.At(time.Now()))
				if held != c.refusals {
					t.Errorf("a refused password is refused without a question: %t, want %t (%+v)", held, c.refusals, a)
				}
			})
		})
	}
}

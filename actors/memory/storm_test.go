package memory

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"postern/actors/call"
	"postern/actors/slots"
	"postern/internal/auth"
	"postern/internal/auth/passhash"
	"postern/internal/backend"
	"postern/internal/cache"
	"postern/internal/config"
	"postern/internal/unixtime"
)

// remember puts records of users with the password good on disk, each used a moment ago.
func (r *rig) remember(users int) (ids []auth.Identity) { return r.rememberBy(vouching(), users) }

// rememberBy is remember with another backend that has accepted the passwords.
func (r *rig) rememberBy(by auth.AuthorityID, users int) (ids []auth.Identity) {
	r.t.Helper()
	hash, err := passhash.New("good", passhash.MinCost)
	if err != nil {
		r.t.Fatal(err)
	}
	now := unixtime.At(time.Now())
	for i := range users {
		id := account(fmt.Sprint("user", i))
		u := cache.User{Verifiers: []cache.Verifier{{Name: cache.Name{Account: id.User}, By: by, Hash: hash, First: now, Verified: now, Used: now}}}
		r.stored(id, u.Encode())
		ids = append(ids, id)
	}
	return ids
}

// TestStormAsksTheBackend: after a restart, known users who come at once are answered by a healthy backend, since
// their hashes would have to wait; none gets a temporary failure.
func TestStormAsksTheBackend(t *testing.T) {
	const users = 64 // what the queue of the backend takes
	r := newRig(t, config.StorageDisk)
	r.serve("dom.example", config.StorageDisk, func(d *config.Domain) { d.Cache.HotEntries = users })
	ids := r.remember(users)
	r.Hashing.expecting(50 * time.Millisecond << (passhash.DefaultCost - passhash.MinCost))
	h := occupied(t, r.Hashing)
	calls := make([]*call.Call, users)
	for i, id := range ids {
		calls[i] = r.login(id, "good")
	}
	for _, c := range calls {
		<-c.Asker.(asker)
		if a, _ := c.Result(); a.Verdict != auth.Allow || a.Source != auth.SourceBackend {
			t.Errorf("%v: %v (%v); its way: %+v", c.ID, a.Verdict, a.Source, c.Trace.Steps())
		}
	}
	h.free()
	for _, id := range ids { // the next logins need neither
		r.want(r.login(id, "good"), auth.Allow, auth.SourceHot)
	}
}

// queued waits until so many logins wait for a worker.
func (r *rig) queued(n int) {
	r.t.Helper()
	eventually(r.t, fmt.Sprint(n, " logins in the queue"), func() bool {
		r.Hashing.mu.Lock()
		defer r.Hashing.mu.Unlock()
		return r.Hashing.urgent.size == n
	})
}

// TestStormWithoutBackend: while the backend is away, hashes decide, in the order in which the logins came. When
// it is back, those that still wait ask it.
func TestStormWithoutBackend(t *testing.T) {
	const users = 20
	r := newRig(t, config.StorageDisk)
	ids := r.remember(users + 2)
	var mu sync.Mutex
	var order []string
	r.Hashing.match = func(_, password string) bool {
		mu.Lock()
		defer mu.Unlock()
		order = append(order, password)
		return strings.HasPrefix(password, "good")
	}
	r.fake.down.Store(true)
	r.want(r.login(account("stranger"), "good"), auth.Unavailable, auth.SourceBackend)
	r.idle()
	h := occupied(t, r.Hashing)
	var calls []*call.Call
	var want []string
	for i, id := range ids[:users] {
		want = append(want, fmt.Sprint("good", i))
		calls = append(calls, r.login(id, want[i]))
		r.queued(i + 1)
	}
	asked := r.fake.asked.Load()
	h.free()
	for _, c := range calls {
		r.want(c, auth.Allow, auth.SourceCache)
	}
	if !slices.Equal(order, want) || r.fake.asked.Load() != asked {
		t.Errorf("compared in the order %v; the backend was asked %d times", order, r.fake.asked.Load()-asked)
	}
	r.Hashing.expecting(10 * time.Second) // whatever a slow machine makes of the backend, it is quicker
	h = occupied(t, r.Hashing)
	waits := r.login(ids[users], "good")
	r.queued(1)
	r.fake.down.Store(false)
	r.want(r.login(account("stranger"), "good"), auth.Allow, auth.SourceBackend)
	r.want(waits, auth.Allow, auth.SourceBackend)
	h.free()
}

// TestOutageInPlaceOfComparison: a login that asks since its hash would have to wait is compared after all if the
// backend cannot answer.
func TestOutageInPlaceOfComparison(t *testing.T) {
	r := newRig(t, config.StorageDisk)
	ids := r.remember(1)
	h := occupied(t, r.Hashing)
	r.fake.down.Store(true)
	c := r.login(ids[0], "good")
	r.queued(1)
	if n := r.fake.asked.Load(); n != 1 {
		t.Errorf("the backend was asked %d times", n)
	}
	h.free()
	r.want(c, auth.Allow, auth.SourceCache)
}

// slowBackend does not answer for the user slow until it is released.
type slowBackend struct {
	*passwordBackend
	released chan struct{}
}

func (b slowBackend) Ask(ctx context.Context, q backend.Query) backend.Result {
	if q.User == "slow" {
		<-b.released
	}
	return b.passwordBackend.Ask(ctx, q)
}

// TestStormFindsTheBackendBusy: a login that would ask in place of its comparison when too many others do waits for
// the comparison, and asks when they do not any more.
func TestStormFindsTheBackendBusy(t *testing.T) {
	r := newRig(t, config.StorageDisk)
	slow := slowBackend{r.fake, make(chan struct{})}
	// Whatever was answered lately, a question may find out how the backend is.
	b, err := slots.New(r.env, config.Backend{BackendRef: backendRef, Slots: 1, MinSlots: 8, Queue: 1, BreakerFailures: 1000}, slow, func(*slots.Backend) {})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close(time.Minute) })
	r.backend[backendRef] = b
	r.serve("dom.example", config.StorageDisk, nil)
	ids := r.remember(1)
	r.Hashing.expecting(10 * time.Second) // whatever a slow machine makes of the backend, it is quicker
	h := occupied(t, r.Hashing)
	asked, waits := r.login(account("slow"), "good"), r.login(account("slow"), "bad")
	eventually(t, "a full queue", func() bool { return b.Counts().Waiting == 1 })
	known := r.login(ids[0], "good")
	eventually(t, "two attempts to ask", func() bool {
		n := 0
		for _, step := range known.Trace.Steps() {
			n += strings.Count(step.Note, "the backend is asked")
		}
		return n > 1
	})
	close(slow.released)
	r.want(known, auth.Allow, auth.SourceBackend)
	r.want(asked, auth.Allow, auth.SourceBackend)
	r.want(waits, auth.Deny, auth.SourceBackend)
	h.free()
}

// TestStormSparesTheBudget: no question takes the place of a comparison while the backend's budget of refusals is
// strained.
func TestStormSparesTheBudget(t *testing.T) {
	r := newRig(t, config.StorageDisk)
	b, err := slots.New(r.env, config.Backend{BackendRef: backendRef, Slots: 8, Queue: 64, BreakerFailures: 1000, RefusalBudget: 2, RefusalWindow: time.Hour},
		r.fake, func(*slots.Backend) {})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close(time.Minute) })
	r.backend[backendRef] = b
	r.serve("dom.example", config.StorageDisk, nil)
	ids := r.remember(2)
	r.want(r.login(ids[0], "bad"), auth.Deny, auth.SourceBackend)
	eventually(t, "the strain", func() bool { _, ok := b.Expect(); return !ok })
	r.idle()
	h, asked := occupied(t, r.Hashing), r.fake.asked.Load()
	c := r.login(ids[1], "good")
	r.queued(1)
	h.free()
	r.want(c, auth.Allow, auth.SourceCache)
	if n := r.fake.asked.Load() - asked; n != 0 {
		t.Errorf("the backend was asked %d times", n)
	}
}

// TestStormCountsGuesses: a guess that the backend gets in place of a comparison counts as any other does. When the
// account is limited, the next ones are not put, and the right password is let in by its hash.
func TestStormCountsGuesses(t *testing.T) {
	r := newRig(t, config.StorageDisk)
	r.serve("dom.example", config.StorageDisk, func(d *config.Domain) {
		d.Limit = config.Limit{UserRefusals: 3, Window: time.Hour, FirstPause: time.Hour, LongestPause: time.Hour}
	})
	id := r.remember(1)[0]
	h := occupied(t, r.Hashing)
	for i := range 3 {
		r.want(r.login(id, fmt.Sprint("guess", i)), auth.Deny, auth.SourceBackend)
	}
	right := r.login(id, "good")
	r.queued(1)
	guess := r.login(id, "guess")
	h.free()
	r.want(right, auth.Allow, auth.SourceCache)
	r.want(guess, auth.Unavailable, auth.SourceLimitUser)
	if n := r.fake.asked.Load(); n != 3 {
		t.Errorf("the backend was asked %d times", n)
	}
}

// TestStormOfSeveralBackends: where a domain has several backends, the first is asked in place of a comparison if
// it has accepted the password. If it cannot answer, the others are asked only if the comparison does not let the
// user in: the refusal of one that does not know the user would be held against the password.
func TestStormOfSeveralBackends(t *testing.T) {
	const accepts, refuses, fails = backend.Accepted, backend.Refused, backend.Outage
	for name, c := range map[string]struct {
		by            string
		first, second backend.Class
		password      string
		waits         bool
		verdict       auth.Verdict
		source        auth.Source
		asked         int64
	}{
		"the first accepts":                     {"first", accepts, refuses, "good", false, auth.Allow, auth.SourceBackend, 1},
		"the first refuses":                     {"first", refuses, refuses, "good", false, auth.Deny, auth.SourceBackend, 2},
		"the first refuses, the second is away": {"first", refuses, fails, "good", false, auth.Unavailable, auth.SourceBackend, 2},
		"the first is away":                     {"first", fails, refuses, "good", true, auth.Allow, auth.SourceCache, 1},
		"a password of the second":              {"first", fails, accepts, "other", true, auth.Allow, auth.SourceBackend, 3},
		"a wrong one, the first is away":        {"first", fails, refuses, "other", true, auth.Unavailable, auth.SourceBackend, 3},
		"the second vouches":                    {"second", fails, fails, "good", true, auth.Allow, auth.SourceCache, 0},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, config.StorageDisk)
			r.serve("dom.example", config.StorageDisk, func(d *config.Domain) { d.AuthDomains = []string{"first", "second"} })
			r.fake.classes = map[string]backend.Class{"first": c.first, "second": c.second}
			ids := r.rememberBy((&config.Backend{BackendRef: backendRef}).Authority(c.by).ID, 1)
			h := occupied(t, r.Hashing)
			login := r.login(ids[0], c.password)
			if c.waits {
				r.queued(1)
				h.free()
			}
			r.want(login, c.verdict, c.source)
			if n := r.fake.asked.Load(); n != c.asked {
				t.Errorf("asked %d times, want %d", n, c.asked)
			}
			h.free()
			r.idle()
		})
	}
}

// TestSealedNeedsNoWorker: with a key for the verifiers at rest, a login after a restart waits for no worker. Under
// another key its verifier is not known, and the backend decides.
func TestSealedNeedsNoWorker(t *testing.T) {
	r := newRig(t, config.StorageDisk)
	with := func(key string) {
		r.serve("dom.example", config.StorageDisk, func(d *config.Domain) { d.Cache.Key = auth.NewSecret(strings.Repeat(key, cache.SealKeySize)) })
		r.in(func(s *shard) { s.spaces = make(map[string]*space) })
	}
	with("k")
	h := occupied(t, r.Hashing)
	r.want(r.login(account("joe"), "good"), auth.Allow, auth.SourceBackend)
	r.idle()
	with("k")
	r.fake.down.Store(true)
	r.want(r.login(account("joe"), "good"), auth.Allow, auth.SourceCache)
	r.idle()
	with("l")
	r.want(r.login(account("joe"), "good"), auth.Unavailable, auth.SourceBackend)
	r.fake.down.Store(false)
	r.want(r.login(account("joe"), "good"), auth.Allow, auth.SourceBackend)
	r.idle()
	h.free()
}

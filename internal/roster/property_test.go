package roster

import (
	"fmt"
	"maps"
	"math/rand"
	"slices"
	"strings"
	"testing"

	"postern/internal/auth"
)

// world is the membership of groups at the backend.
type world struct {
	users, groups int
	called        int                        // names that a user may have
	in            map[string]map[string]bool // group -> user
	names         map[string]string
	// seen are the memberships that the user's own logins have shown and not yet undone: no
	// answer lists the others of a group that has lost all its members.
	seen map[string]bool
}

func newWorld() *world {
	w := &world{users: 6, groups: 4, called: 5, in: map[string]map[string]bool{}, names: map[string]string{}, seen: map[string]bool{}}
	for g := range w.groups {
		w.in[fmt.Sprintf("g%d", g)] = map[string]bool{}
	}
	return w
}

func (w *world) change(r *rand.Rand) {
	user := fmt.Sprintf("u%d", r.Intn(w.users))
	group := w.in[fmt.Sprintf("g%d", r.Intn(w.groups))]
	if group[user] {
		delete(group, user)
	} else {
		group[user] = true
	}
	w.names[user] = fmt.Sprintf("name %d", r.Intn(w.called))
}

// document is the answer for a user. Each user is in a group that is never synchronised, so
// that the document has one account at least.
func (w *world) document(user string) string {
	accounts := map[string][]string{user: {"hidden\u200b"}}
	for group, members := range w.in {
		if members[user] {
			for member := range members {
				accounts[member] = append(accounts[member], group)
			}
		}
	}
	var parts []string
	for _, account := range slices.Sorted(maps.Keys(accounts)) {
		slices.Sort(accounts[account])
		parts = append(parts, account+"="+w.names[account]+":"+strings.Join(accounts[account], ","))
	}
	return document(strings.Join(parts, ";"))
}

func (w *world) loggedIn(user string) {
	for group, members := range w.in {
		w.seen[group+user] = members[user]
	}
}

// last lists the users that log in at the end: all, or only as many as show each group once. No
// answer shows the groups that the others have left.
func (w *world) last(r *rand.Rand, every bool) (users []string) {
	shown := map[string]bool{}
	for _, u := range r.Perm(w.users) {
		user, needed := fmt.Sprintf("u%d", u), every
		for group, members := range w.in {
			if members[user] && !shown[group] {
				needed, shown[group] = true, true
			}
		}
		if needed {
			users = append(users, user)
			continue
		}
		delete(w.names, user)
		for group := range w.in {
			delete(w.seen, group+user)
		}
	}
	return users
}

// Whatever answers come, whatever fails and whenever the process dies: when every user, or one
// member of each group, has logged in once more, undisturbed, the server has what the backend has.
func TestConvergence(t *testing.T) {
	for seed := range int64(320) {
		r := rand.New(rand.NewSource(seed))
		w, mem, fake := newWorld(), newMemory(), newFake()
		server, state := NewServer(fake), State{mem, "d.example"}
		every := seed%2 == 0
		if !every { // a small world, where answers come again as they were
			w.users, w.groups, w.called = 3, 1, 1
		}
		trouble := r.Intn(4)
		for range 40 {
			for range r.Intn(3) {
				w.change(r)
			}
			fake.fail, mem.fail = faults(r, trouble)
			user := fmt.Sprintf("u%d", r.Intn(w.users))
			if err := logsIn(server, state, &Filter{}, user, w.document(user)); err == nil {
				w.loggedIn(user)
			}
		}
		fake.fail, mem.fail = nil, nil
		documents := map[string]string{}
		for u := range w.users {
			user := fmt.Sprintf("u%d", u)
			documents[user] = w.document(user)
		}
		last := w.last(r, every)
		for range 2 {
			for _, user := range last {
				if err := logsIn(server, state, &Filter{}, user, documents[user]); err != nil {
					t.Fatal(err)
				}
			}
		}
		w.compare(t, fake, seed)
		count := len(fake.steps)
		for _, user := range last {
			_ = logsIn(server, state, &Filter{}, user, documents[user])
		}
		if len(fake.steps) != count {
			t.Errorf("seed %d: %d commands though nothing has changed", seed, len(fake.steps)-count)
		}
	}
}

// faults is the trouble of one login: none, commands that are refused, a server that goes
// before or after a command, a store that cannot be written (as if the process had died).
func faults(r *rand.Rand, trouble int) (func(Step) (error, error), func() error) {
	after := r.Intn(8)
	due := func() bool { after--; return after == 0 }
	switch trouble {
	case 1:
		return func(Step) (error, error) {
			if due() {
				return fmt.Errorf("%w: no", ErrRefused), nil
			}
			return nil, nil
		}, nil
	case 2:
		return func(Step) (error, error) {
			if !due() {
				return nil, nil
			}
			if r.Intn(2) == 0 {
				return errDown, nil
			}
			return nil, errDown
		}, nil
	case 3:
		return nil, func() error {
			if due() {
				return errDown
			}
			return nil
		}
	}
	return nil, nil
}

func (w *world) compare(t *testing.T, fake *fakeServer, seed int64) {
	t.Helper()
	for group, members := range w.in {
		var want []string
		for member := range members {
			want = append(want, member+"@d.example")
		}
		slices.Sort(want)
		got := fake.groups[group+"@d.example"]
		if len(want) == 0 {
			got = slices.DeleteFunc(slices.Clone(got), func(m string) bool {
				_, known := w.seen[group+strings.TrimSuffix(m, "@d.example")]
				return !known || !w.seen[group+strings.TrimSuffix(m, "@d.example")]
			})
		}
		if !slices.Equal(got, want) {
			t.Errorf("seed %d: %s has %v, want %v", seed, group, got, want)
		}
	}
	for user, name := range w.names {
		if got := fake.names[user+"@d.example"]; got != name && fake.names[user+"@d.example"] != "" {
			t.Errorf("seed %d: %s is named %q, want %q", seed, user, got, name)
		}
	}
}

// Answers that are applied in one run have the same result as one by one, with no more commands.
func TestFolding(t *testing.T) {
	fewer := 0
	for seed := range int64(80) {
		r := rand.New(rand.NewSource(seed))
		w, filter := newWorld(), &Filter{}
		one, all := newFake(), newFake()
		state, folded := State{newMemory(), "d.example"}, State{newMemory(), "d.example"}
		for round := range 8 {
			wanted := NewDesired(folded, filter)
			for u := range w.users {
				if round < 7 {
					w.change(r)
				}
				user := fmt.Sprintf("u%d", u)
				doc := w.document(user)
				if err := logsIn(NewServer(one), state, filter, user, doc); err != nil {
					t.Fatal(err)
				}
				a, err := Parse([]byte(doc), "d.example")
				if err != nil {
					t.Fatal(err)
				}
				a.Hash = HashOf([]byte(doc), filter)
				wanted.Add(auth.Identity{User: user, Domain: "d.example"}, a)
			}
			p, err := NewPlan(wanted)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := NewServer(all).Apply(t.Context(), p); err != nil {
				t.Fatal(err)
			}
		}
		for group, members := range w.in {
			if key := group + "@d.example"; len(members) > 0 && !slices.Equal(one.groups[key], all.groups[key]) {
				t.Errorf("seed %d: %s has %v, and %v when folded", seed, group, one.groups[key], all.groups[key])
			}
		}
		if len(all.steps) < len(one.steps) {
			fewer++
		}
	}
	if fewer < 60 {
		t.Errorf("folding spared commands in %d of 80 cases only", fewer)
	}
}

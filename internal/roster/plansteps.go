package roster

import (
	"slices"
	"strings"

	"postern/internal/auth"
	"postern/internal/store"
)

// nameTask gives a user a full name.
type nameTask struct {
	p    *Plan
	id   auth.Identity
	name string
	over bool
}

func (t *nameTask) next() (Step, bool) {
	return Step{Command: SetVCard, User: t.id.User, Host: t.id.Domain, Name: t.name}, !t.over
}

// before forgets the old name: should the store not learn of the new one, it is told again.
func (t *nameTask) before() []store.Op {
	u := t.p.users[t.id]
	if !u.Named {
		return nil
	}
	u.Named, u.Name = false, ""
	return []store.Op{t.p.state.putUser(t.id, u)}
}

func (t *nameTask) done([]string) []store.Op {
	t.over = true
	u := t.p.users[t.id]
	// The user's own answer, if it comes once more as it was, may bring the old name back.
	u.Named, u.Name, u.Hash = true, t.name, Hash{}
	return []store.Op{t.p.state.putUser(t.id, u)}
}

// skip misses the names of the domain's own users only. Others may be on no XMPP server at all,
// such as guests of Nextcloud, whose names are their mail addresses.
func (t *nameTask) skip() (missed bool) {
	t.over = true
	return t.id.Domain == t.p.state.Domain
}

// groupTask makes the members of a group those that are wanted. Of a group that is not known,
// or not surely, the server is asked first.
type groupTask struct {
	p       *Plan
	name    string
	wanted  []string // addresses in the order of the answer
	drop    bool     // the group is to be emptied and forgotten
	ask     []Command
	steps   []Step
	opened  bool // the store says that the group is being changed
	refused bool
	over    bool
}

func newGroupTask(p *Plan, name string, wanted []auth.Identity) *groupTask {
	t := &groupTask{p: p, name: name}
	for _, id := range wanted {
		t.wanted = append(t.wanted, id.String())
	}
	if g := p.groups[name]; g == nil || g.Dirty {
		t.ask = []Command{Create, GetMembers}
	} else {
		t.compare(g.Members)
		t.over = len(t.steps) == 0
	}
	return t
}

// compare lists the additions and then the removals that lead from what is there.
func (t *groupTask) compare(there []string, maybe ...string) {
	have, want := set(there), set(t.wanted)
	var removals []Step
	for _, address := range slices.Concat(there, maybe) {
		if want[address] {
			continue
		}
		removal := t.p.member(UserDel, address, t.name)
		if folded := fold(address); want[folded] {
			// A member in another letter case. Where ejabberd keeps the two apart, it still
			// tells clients, who do not, that the member is gone; where it does not, the member
			// is. So this goes first, and the member is added after it, there already or not.
			t.steps, have[folded] = append(t.steps, removal), false
			continue
		}
		removals = append(removals, removal)
	}
	for _, address := range t.wanted {
		if !have[address] {
			t.steps = append(t.steps, t.p.member(UserAdd, address, t.name))
		}
	}
	t.steps = append(t.steps, removals...)
}

func set(list []string) map[string]bool {
	m := make(map[string]bool, len(list))
	for _, text := range list {
		m[text] = true
	}
	return m
}

func (t *groupTask) next() (Step, bool) {
	switch {
	case t.over:
		return Step{}, false
	case len(t.ask) > 0:
		return Step{Command: t.ask[0], Group: t.name, Home: t.p.state.Domain}, true
	}
	return t.steps[0], true
}

// before marks a known group as being changed before its first change: should the store not
// learn of a change that was made, the server will be asked.
func (t *groupTask) before() []store.Op {
	if t.opened || len(t.ask) > 0 {
		return nil
	}
	return t.open()
}

// open writes that the group has its old members, its new ones, or some of both, and that none
// of their answers may be passed over.
func (t *groupTask) open() (ops []store.Op) {
	t.opened = true
	var members []string
	if g := t.p.groups[t.name]; g != nil {
		members = slices.Clone(g.Members)
	}
	members = append(members, t.wanted...)
	slices.Sort(members)
	g := &Group{Members: slices.Compact(members), Dirty: true}
	t.p.groups[t.name] = g
	ops = append(ops, t.p.state.putGroup(t.name, g))
	ops = append(ops, t.p.doubt(g.Members)...)
	for _, l := range t.p.logins {
		u := t.p.users[l.id]
		if slices.Contains(l.given, t.name) && !slices.Contains(u.Groups, t.name) {
			u.Groups = with(u.Groups, t.name)
			ops = append(ops, t.p.state.putUser(l.id, u))
		}
	}
	return ops
}

func (t *groupTask) done(members []string) (ops []store.Op) {
	switch {
	case len(t.ask) == 0:
		t.steps = t.steps[1:]
	case t.ask[0] == Create:
		t.ask = t.ask[1:]
		return t.open()
	default:
		t.ask = nil
		t.compare(members, t.unlisted(members)...)
	}
	if len(t.steps) == 0 {
		t.over = true
		return t.close()
	}
	return nil
}

// unlisted are members of other domains, which ejabberd may have and not list (PROTOCOLS 6,
// fact 4).
func (t *groupTask) unlisted(listed []string) (maybe []string) {
	g := t.p.groups[t.name]
	if g == nil {
		return nil
	}
	have := set(listed)
	for _, address := range g.Members {
		if !have[address] && !strings.HasSuffix(address, "@"+t.p.state.Domain) {
			maybe = append(maybe, address)
		}
	}
	return maybe
}

// close writes that the group has the members that were wanted.
func (t *groupTask) close() []store.Op {
	if t.refused {
		return nil
	}
	if t.drop {
		t.p.groups[t.name] = nil
		return []store.Op{{Key: t.p.state.groupKey(t.name)}}
	}
	g := &Group{Members: slices.Sorted(slices.Values(t.wanted))}
	t.p.groups[t.name] = g
	return []store.Op{t.p.state.putGroup(t.name, g)}
}

func (t *groupTask) skip() (missed bool) {
	t.refused = true
	if len(t.ask) > 0 {
		t.over = true
		return true
	}
	t.steps = t.steps[1:]
	t.over = len(t.steps) == 0
	return true
}

// leaveTask takes a user out of a group that the user's own answer does not give any more.
type leaveTask struct {
	p     *Plan
	id    auth.Identity
	group string
	sure  bool // the group was not being changed before
	over  bool
}

func (t *leaveTask) next() (Step, bool) {
	return t.p.member(UserDel, t.id.String(), t.group), !t.over
}

// before marks the group, as for any change of its members.
func (t *leaveTask) before() (ops []store.Op) {
	g := t.p.groups[t.group]
	if g == nil {
		return nil
	}
	if !g.Dirty {
		t.sure, g.Dirty = true, true
		ops = append(ops, t.p.state.putGroup(t.group, g))
	}
	if !slices.Contains(g.Members, t.id.String()) {
		return ops
	}
	for _, l := range t.p.logins { // an answer of this plan that gave the group to the user
		if slices.Contains(l.given, t.group) {
			l.hash = Hash{}
		}
	}
	return append(ops, t.p.doubt(g.Members)...)
}

func (t *leaveTask) done([]string) (ops []store.Op) {
	t.over = true
	u := t.p.users[t.id]
	u.Groups = without(u.Groups, t.group)
	ops = append(ops, t.p.state.putUser(t.id, u))
	if g := t.p.groups[t.group]; g != nil {
		g.Members = without(g.Members, t.id.String())
		g.Dirty = g.Dirty && !t.sure
		ops = append(ops, t.p.state.putGroup(t.group, g))
	}
	return ops
}

func (t *leaveTask) skip() (missed bool) {
	t.over = true
	return true
}

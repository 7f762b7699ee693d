package roster

import (
	"cmp"
	"slices"
	"strings"

	"postern/internal/auth"
	"postern/internal/store"
)

// Plan leads from the known state to the desired one: its steps in order, and the changes to write
// to the store around each, so that the store never claims a step that was not carried out. After a
// failure or a crash a new plan is made: the store shows where the old one stopped.
type Plan struct {
	state  State
	users  map[auth.Identity]*User // working copies of the records
	groups map[string]*Group       // nil: not known
	logins []*login

	removed   string          // the group that is removed for good
	forgotten []auth.Identity // its users

	actions []action // the first one is next
	begun   bool
	refused int   // steps
	err     error // the first one while records were read
}

// action is a step with the changes of the store that belong to it.
type action struct {
	step Step
	// before lists what must be durable before the step. It may be nil.
	before func() []store.Op
	// done lists what to write after the step, with the members that GetMembers gave.
	done func(members []string) []store.Op
	// refuse notes that the server rejects the step. It is false if that does no harm.
	refuse func() bool
}

func newPlan(s State) *Plan {
	return &Plan{state: s, users: map[auth.Identity]*User{}, groups: map[string]*Group{}}
}

// NewPlan compares the desired state with the known one.
func NewPlan(d *Desired) (*Plan, error) {
	p := newPlan(d.state)
	p.logins = d.logins
	for _, id := range d.names {
		if u, name := p.user(id), d.name[id]; !u.Named || u.Name != name {
			p.setName(id, name)
		}
	}
	for _, name := range d.groups {
		c := &groupChange{p: p, name: name}
		for _, id := range d.member[name] {
			c.desired = append(c.desired, id.String())
		}
		if c.plan() {
			p.loadMembers(name, c.desired)
		}
	}
	for _, l := range p.logins {
		for _, name := range p.user(l.id).Groups {
			if !slices.Contains(l.given, name) {
				p.loadMembers(name, nil)
				p.leave(l.id, name)
			}
		}
	}
	return p.loaded()
}

// NewRemoval plans to take every member out of a group and to forget it. The next answers of its
// users are applied anew.
func NewRemoval(s State, group string) (*Plan, error) {
	p := newPlan(s)
	p.removed = group
	(&groupChange{p: p, name: group, remove: true}).query(GetMembers)
	p.group(group)
	ids, err := s.Logins()
	if err != nil {
		return nil, err
	}
	for _, id := range ids {
		if slices.Contains(p.user(id).Groups, group) {
			p.forgotten = append(p.forgotten, id)
		}
	}
	return p.loaded()
}

// Next returns the next step and what must be durable before it is carried out; false when
// none is left. Each step is followed by Done or Refuse.
func (p *Plan) Next() (s Step, before []store.Op, ok bool) {
	if len(p.actions) == 0 {
		return Step{}, nil, false
	}
	next := p.actions[0]
	if next.before != nil {
		before = next.before()
	}
	if !p.begun {
		p.begun = true
		before = append(before, p.forgetHashes()...)
	}
	return next.step, before, true
}

// Done notes that the last step was carried out, with the members that GetMembers gave, and returns
// what to write.
func (p *Plan) Done(members []string) []store.Op { return p.pop().done(members) }

// Refuse notes that the server rejects the last step. The plan goes on with the steps that do not
// need it. It is false if the refusal does no harm.
func (p *Plan) Refuse() (missed bool) {
	if missed = p.pop().refuse(); missed {
		p.refused++
	}
	return missed
}

func (p *Plan) pop() action {
	a := p.actions[0]
	p.actions = p.actions[1:]
	return a
}

// Finish returns what to write when no step is left. The hashes of answers are kept only if no step
// was refused, so that the next login tries again, and not for answers that a later one of the plan
// has overruled.
func (p *Plan) Finish() (ops []store.Op) {
	for _, l := range p.logins {
		u := p.users[l.id]
		hash, old := u.Hash, len(u.Groups)
		for _, group := range l.given {
			if p.groups[group] != nil {
				u.Groups = with(u.Groups, group)
			}
		}
		if p.refused == 0 {
			u.Hash = l.hash
		}
		if u.Hash != hash || len(u.Groups) != old {
			ops = append(ops, p.state.putUser(l.id, u))
		}
	}
	for _, id := range p.forgotten {
		if p.refused == 0 {
			u := p.users[id]
			u.Groups, u.Hash = without(u.Groups, p.removed), Hash{}
			ops = append(ops, p.state.putUser(id, u))
		}
	}
	return ops
}

// user returns the working copy of a user's record.
func (p *Plan) user(id auth.Identity) *User {
	u := p.users[id]
	if u == nil {
		u = new(User)
		p.users[id] = u
		var err error
		*u, err = p.state.User(id)
		p.err = cmp.Or(p.err, err)
	}
	return u
}

// group returns the working copy of a group's record, nil if the group is not known.
func (p *Plan) group(name string) *Group {
	g, loaded := p.groups[name]
	if !loaded {
		read, known, err := p.state.Group(name)
		if known {
			g = &read
		}
		p.groups[name] = g
		p.err = cmp.Or(p.err, err)
	}
	return g
}

// loadMembers makes the working copies of a group's known and desired members.
func (p *Plan) loadMembers(group string, desired []string) {
	if g := p.group(group); g != nil {
		desired = slices.Concat(g.Members, desired)
	}
	for _, address := range desired {
		p.user(identity(address))
	}
}

// loaded returns the plan if all records could be read.
func (p *Plan) loaded() (*Plan, error) {
	if p.err != nil {
		return nil, p.err
	}
	return p, nil
}

// forgetHash makes the next answer of a user be applied, even if it is the same as before.
func (p *Plan) forgetHash(id auth.Identity) (ops []store.Op) {
	if u := p.users[id]; u != nil && u.Hash != (Hash{}) {
		u.Hash = Hash{}
		ops = append(ops, p.state.putUser(id, u))
	}
	return ops
}

// forgetHashes does so for the users of the plan: should it stop halfway, and the backend then give
// an earlier answer again, that must not count as applied.
func (p *Plan) forgetHashes() (ops []store.Op) {
	for _, l := range p.logins {
		ops = append(ops, p.forgetHash(l.id)...)
	}
	return ops
}

// doubt forgets the hashes of the members of a group that changes: their answers described the
// group as it was.
func (p *Plan) doubt(members []string) (ops []store.Op) {
	for _, address := range members {
		ops = append(ops, p.forgetHash(identity(address))...)
	}
	return ops
}

// setName plans to give a user a full name. The old one is forgotten first: if the store does not
// learn of the new one, it is set again.
func (p *Plan) setName(id auth.Identity, name string) {
	p.actions = append(p.actions, action{
		step: Step{Command: SetVCard, User: id.User, Host: id.Domain, Name: name},
		before: func() []store.Op {
			u := p.users[id]
			if !u.Named {
				return nil
			}
			u.Named, u.Name = false, ""
			return []store.Op{p.state.putUser(id, u)}
		},
		done: func([]string) []store.Op {
			u := p.users[id]
			// The user's own answer, if it comes once more as it was, may bring the old name back.
			u.Named, u.Name, u.Hash = true, name, Hash{}
			return []store.Op{p.state.putUser(id, u)}
		},
		// Users of other domains may be on no XMPP server at all: a guest of Nextcloud has a mail
		// address for a name.
		refuse: func() bool { return id.Domain == p.state.Domain },
	})
}

// leave plans to take a user out of a group that the user's own answer no longer gives.
func (p *Plan) leave(id auth.Identity, group string) {
	address := id.String()
	wasDirty := true
	p.actions = append(p.actions, action{
		step: p.memberStep(UserDel, address, group),
		before: func() (ops []store.Op) {
			g := p.groups[group]
			if g == nil {
				return nil
			}
			if wasDirty = g.Dirty; !wasDirty {
				g.Dirty = true
				ops = append(ops, p.state.putGroup(group, g))
			}
			if !slices.Contains(g.Members, address) {
				return ops
			}
			for _, l := range p.logins { // an answer of this plan that gave the group to the user
				if slices.Contains(l.given, group) {
					l.hash = Hash{}
				}
			}
			return append(ops, p.doubt(g.Members)...)
		},
		done: func([]string) (ops []store.Op) {
			u := p.users[id]
			u.Groups = without(u.Groups, group)
			ops = append(ops, p.state.putUser(id, u))
			if g := p.groups[group]; g != nil {
				g.Members, g.Dirty = without(g.Members, address), wasDirty
				ops = append(ops, p.state.putGroup(group, g))
			}
			return ops
		},
		refuse: func() bool { return true },
	})
}

// memberStep is the step that adds an address to a group or removes it.
func (p *Plan) memberStep(c Command, address, group string) Step {
	id := identity(address)
	return Step{Command: c, User: id.User, Host: id.Domain, Group: group, Home: p.state.Domain}
}

// with returns a sorted list with a text added.
func with(list []string, text string) []string {
	i, found := slices.BinarySearch(list, text)
	if found {
		return list
	}
	return slices.Insert(slices.Clone(list), i, text)
}

// without returns a list without a text.
func without(list []string, text string) []string {
	return slices.DeleteFunc(slices.Clone(list), func(t string) bool { return t == text })
}

// identity splits an address.
func identity(address string) auth.Identity {
	if i := strings.LastIndexByte(address, '@'); i >= 0 {
		return auth.Identity{User: address[:i], Domain: address[i+1:]}
	}
	return auth.Identity{User: address}
}

// fold is an address with its user in lower case.
func fold(address string) string { return Login(identity(address)).String() }
